// SPDX-License-Identifier: MIT
#pragma once

// Whether the machine lets a file be written: told by every group that is committed or refused, asked by readiness. While it does not,
// the writer tries again by itself twice a second, so that a server that gets no more work notices that the disk has room again. A
// damaged file stays so until the server is started anew. Private to sqlite*.c.

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

typedef struct mw_sqlite_conn mw_sqlite_conn;

#define MW_SQLITE_PROBE_NS ((int64_t)500 * 1000000)

typedef struct mw_sqlite_health {
  _Atomic bool is_ill;
  bool is_damaged; // the writer's
  pthread_mutex_t lock;
  char why[500]; // under lock
} mw_sqlite_health;

void mw_sqlite_health_init(mw_sqlite_health *health);
void mw_sqlite_health_deinit(mw_sqlite_health *health);
/** The writer committed. */
void mw_sqlite_health_passed(mw_sqlite_health *health, const char *path);
/** The machine refused a write with `rc`. */
void mw_sqlite_health_failed(mw_sqlite_health *health, const char *path, int rc, const mw_err *err);
/** Writes a little, on the writer's connection; tells the outcome itself. */
void mw_sqlite_health_probe(mw_sqlite_health *health, mw_sqlite_conn *conn);
/** Thread-safe. */
bool mw_sqlite_health_is_ill(const mw_sqlite_health *health);
/** Copies the reason, "" when there is none. Thread-safe. */
void mw_sqlite_health_why(mw_sqlite_health *health, char *text, size_t size);
