// SPDX-License-Identifier: MIT
#pragma once

// What a backup says of itself: its first member, manifest.json.
//
//   {"format": 1, "moonwatch": "0.3.0", "created_at": "2026-11-25T…Z", "engine": "sqlite", "schema": 1, "host": "…",
//    "files": [{"name": "moonwatch.db", "bytes": 8192, "sha256": "…"}]}

#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "store/snapshot.h"

#define MW_MANIFEST_NAME "manifest.json"
#define MW_MANIFEST_FORMAT 1
#define MW_MANIFEST_MAX_BYTES (64 * 1024)

typedef struct mw_manifest {
  int format;
  char moonwatch[32];                /**< Version of the program that made it. */
  char created_at[MW_CLOCK_TEXT];
  int schema;                        /**< Version of the schema of moonwatch.db. */
  struct {
    char name[32], sha256[65];
    int64_t bytes;
  } files[MW_SNAPSHOT_MAX];
  int count;
} mw_manifest;

void mw_manifest_write(const mw_manifest *manifest, mw_buf *out);
/** MW_EINVALID: not a manifest; MW_EVERSION: of a newer format. Members it does not know are passed over. */
int mw_manifest_read(mw_manifest *manifest, mw_str text, mw_err *err);
/** Returns the bytes of all files. */
int64_t mw_manifest_bytes(const mw_manifest *manifest);
/** Returns the place of a file, or -1. */
int mw_manifest_find(const mw_manifest *manifest, const char *name);
