// SPDX-License-Identifier: MIT
#pragma once

// mw_redis_target: where a Redis is and who we are to it, from a URL:
//
//   redis://[user[:password]]@host[:port][/db]      port 6379, database 0, the user "default" when none is named
//   rediss://…                                      the same over TLS
//   unix://[user[:password]@]/path/to.sock[?db=2]   a Unix socket
//
// User and password may be percent-encoded; "redis://:secret@host" has a password only. `?db=` works everywhere. Pure and immutable.
//
//   mw_redis_target *target; mw_redis_target_new(mw_str_from(url), &target, &err);

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/* ffi-begin */
typedef struct mw_redis_target {
  char *host;     /* a name or an address without brackets; NULL for a Unix socket */
  char *path;     /* of the Unix socket; NULL else */
  char *user;     /* NULL: none */
  char *password; /* NULL: none; never shown */
  int port;
  int db;
  bool is_tls;
  char shown[300]; /* "host:6379" or "unix:/path", for messages */
} mw_redis_target;
int mw_redis_target_new(mw_str url, mw_redis_target **out, mw_err *err);
void mw_redis_target_free(mw_redis_target *target);
/* ffi-end */

/** Parses. Returns 0, or MW_ECONFIG with a sentence that continues "redis.url …" and never holds a part of the URL. */
int mw_redis_target_new(mw_str url, mw_redis_target **out, mw_err *err);
void mw_redis_target_free(mw_redis_target *target);
