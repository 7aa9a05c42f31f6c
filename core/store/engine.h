// SPDX-License-Identifier: MIT
#pragma once

// mw_engine: what stands behind mw_store, one table of functions a database. Private to this layer: store.c picks the engine by
// `database_url`, checks what is the same for both (sizes, UTF-8, NUL, defaults) and forwards; sqlite.c and postgres.c do the
// rest. The base structs below are the first member of each engine's own.
//
//   struct mw_pg_store { mw_store base; … };
//   const mw_engine mw_engine_postgres = {.name = "postgres", .store_size = sizeof(mw_pg_store), .open = open_store, …};

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "store/admin.h"
#include "store/journal.h"
#include "store/store.h"

typedef struct mw_engine mw_engine;

struct mw_store {
  const mw_engine *engine;
  char *database_url; /**< NULL on SQLite. */
  char *app_url;      /**< Never NULL on PostgreSQL. */
  char *data_dir;
  char *schema;
  int pg_pool_size;
  int64_t pg_lease_ms;
  int sqlite_readers;
  size_t max_payload_bytes;
  bool exclusive;
  bool is_single;     /**< A further database (mw_store_open_single): APP alone. */
  char *single_name;  /**< Of its file in `data_dir`; SQLite. */
  mw_loop *inline_loop; /**< See mw_store_conf. */
  int lock_fd;        /**< DATA/moonwatch.lock, -1 when not exclusive. */
  mw_id node_id;      /**< Of DATA/node.id; made on first use. All zero when not exclusive and there is none. */
  char node_name[256];  /**< The host's name. */
  _Atomic int64_t epoch;          /**< 0 until registered. */
  _Atomic int64_t lease_until_ms; /**< Monotonic; the engine sets it. Starts at INT64_MAX on SQLite, else 0. */
};

struct mw_store_client {
  mw_store *store;
  mw_loop *loop;
  void (*on_state)(bool up, void *arg); /**< The engine calls it on the client's loop. NULL: nobody asked. */
  void *on_state_arg;
  mw_store_notice_cb on_notice; /**< NULL: nobody asked. */
  void *on_notice_arg;
};

struct mw_query {
  mw_store_client *client;
};

struct mw_tx {
  mw_store_client *client;
};

/** One function an operation of store.h and journal.h, with the same contract. All arguments have been checked: `opts` and `write`
 *  have their defaults filled in (no 0 for "the default"), texts are UTF-8 without NUL, sizes are below their limits. */
struct mw_engine {
  const char *name;
  size_t store_size; /**< store.c allocates this, zeroed, fills the base and calls `open`. */
  int (*open)(mw_store *store, mw_err *err);
  /** Frees what `open` made, also after a failed open; store.c frees the base and the memory. */
  void (*close)(mw_store *store);
  bool (*is_up)(const mw_store *store);
  void (*why_down)(const mw_store *store, char *text, size_t size);
  mw_store_client *(*attach)(mw_store *store, mw_loop *loop);
  void (*detach)(mw_store_client *client, void (*cb)(void *arg), void *arg);

  int (*query)(mw_store_client *client, mw_db db, const mw_query_opts *opts, mw_query_cb cb, void *arg, mw_query **out);
  void (*query_cancel)(mw_query *query);
  int (*begin)(mw_store_client *client, mw_db db, int64_t timeout_ms, mw_tx_cb cb, void *arg);
  int (*tx_query)(mw_tx *tx, const mw_query_opts *opts, mw_query_cb cb, void *arg);
  int (*tx_end)(mw_tx *tx, bool commit, mw_tx_cb cb, void *arg);

  int (*write)(mw_store_client *client, const mw_write *write, mw_write_cb cb, void *arg);
  int (*register_node)(mw_store_client *client, void (*cb)(int status, const mw_err *err, void *arg), void *arg);
  int (*claim)(mw_store_client *client, int64_t now_us, int limit, mw_claim_cb cb, void *arg);
  int (*put_code)(mw_store_client *client, const mw_code *list, size_t count, mw_write_cb cb, void *arg);
  int (*add_change)(mw_store_client *client, mw_str app, mw_str kind, mw_str subject, mw_str actor, mw_str detail,
                    mw_write_cb cb, void *arg);
  void (*notify)(mw_store_client *client, mw_store_notice notice, mw_str id); /**< NULL: there is one node. */

  /** A blocking connection to the engine database for migrations and the command line (store/admin.h). */
  const mw_admin_ops *admin;
};

extern const mw_engine mw_engine_sqlite;
extern const mw_engine mw_engine_postgres;

#define MW_JOURNAL_VERSION 1 /**< executions.journal_version that this program writes. */
#define MW_IDEMPOTENCY_US ((int64_t)24 * 3600 * 1000000)
#define MW_MAX_KEY_BYTES 512    /**< Of external ids and idempotency keys. */
#define MW_MAX_PRIORITY 100
#define MW_MAX_TAGS_BYTES 8192
#define MW_MAX_WAITS_BYTES (256 * 1024) /**< Names of signals waited for, or ids of signals taken. */
#define MW_MAX_NAME_BYTES 256   /**< Of workflow and app names, kinds and subjects. */
#define MW_MAX_CODE_BYTES (16 * 1024 * 1024) /**< Of one source or manifest. */
#define MW_MAX_SQL_BYTES (1024 * 1024)
