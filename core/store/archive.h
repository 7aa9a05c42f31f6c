// SPDX-License-Identifier: MIT
#pragma once

// A tar archive (POSIX ustar, sizes beyond 8 GiB as GNU tar writes them) of plain files, written and read as a stream, so that `tar tf` can
// list it and pipes work. Every byte that goes through is hashed. Blocking; one thread.
//
//   mw_archive_put(out, "a.db", from_fd, size, sum, &err); mw_archive_end(out, &err);
//   mw_archive_next(in, &member, &err); mw_archive_get(in, &member, to_fd, sum, &err);

#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"

/** Reads until `len` bytes or the end of file, over interruptions. Returns how many, or -errno. */
long long mw_archive_read(int fd, void *bytes, size_t len);
/** Writes all of it. Returns 0 or -errno. */
int mw_archive_write(int fd, const void *bytes, size_t len);

/** Adds a member from memory. */
int mw_archive_put_text(int fd, const char *name, mw_str text, mw_err *err);
/** Adds a member of `size` bytes from a file; `sum` gets its SHA-256. A file that ends earlier is MW_EIO. */
int mw_archive_put(int fd, const char *name, int from, int64_t size, uint8_t sum[MW_SHA256_LEN], mw_err *err);
/** Ends the archive. */
int mw_archive_end(int fd, mw_err *err);

typedef struct mw_archive_member {
  char name[101];
  int64_t size;
} mw_archive_member;

/** Reads the next header; `name` is empty at the archive's end. MW_EINVALID: no archive, or damaged; MW_EIO: truncated. */
int mw_archive_next(int fd, mw_archive_member *member, mw_err *err);
/** Reads a member's bytes into `to` (-1: nowhere); `sum` gets their SHA-256. */
int mw_archive_get(int fd, const mw_archive_member *member, int to, uint8_t sum[MW_SHA256_LEN], mw_err *err);
/** Reads a small member into memory; more than `max` bytes is MW_EINVALID. */
int mw_archive_get_text(int fd, const mw_archive_member *member, size_t max, mw_buf *out, mw_err *err);
