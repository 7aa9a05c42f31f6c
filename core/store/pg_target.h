// SPDX-License-Identifier: MIT
#pragma once

// mw_pg_target: where and how to connect: a parsed URL, immutable, shared by all threads. A place is one host
// of it, picked in turn at every attempt, so that a URL with several hosts finds the one that answers.

#include <stdbool.h>

#include "base/err.h"
#include "loop/address.h"
#include "store/pq.h"

typedef struct mw_work_pool mw_work_pool;

typedef struct mw_pg_target {
  PQconninfoOption *options;
  mw_work_pool *cancel_pool; /**< Runs cancel requests, which block. */
  char *setup;               /**< A statement that every connection runs before it is up; NULL: none. */
  unsigned turn;             /**< Atomic. */
} mw_pg_target;

typedef struct mw_pg_place {
  char *host, *port;
  char *hostaddr; /**< Numeric addresses; NULL while not looked up. */
  bool resolved;  /**< The URL gave them. */
} mw_pg_place;

/** Parses postgres://… or "host=… dbname=…". `cancel_pool` must outlive all connections; `setup` is copied.
 * MW_ECONFIG when it does not parse. */
int mw_pg_target_new(const char *url, mw_work_pool *cancel_pool, const char *setup, mw_pg_target **out,
                     mw_err *err);
void mw_pg_target_free(mw_pg_target *target);

/** Picks the next host. Thread-safe. */
void mw_pg_place_pick(mw_pg_target *target, mw_pg_place *place);
void mw_pg_place_deinit(mw_pg_place *place);
/** True when the host is a name that has to be looked up (not a socket directory, not left out). */
bool mw_pg_place_needs_name(const mw_pg_place *place);
void mw_pg_place_set_addresses(mw_pg_place *place, const mw_address *addresses, size_t count);
/** Starts connecting without blocking (PQconnectStart). Never NULL but for lack of memory. */
PGconn *mw_pg_target_start(const mw_pg_target *target, const mw_pg_place *place);
/** Opens a blocking connection; for migrations. The caller PQfinishes it. MW_EUNAVAILABLE with the reason. */
int mw_pg_target_connect(const mw_pg_target *target, PGconn **out, mw_err *err);
