// SPDX-License-Identifier: MIT
#include "store/postgres.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "loop/loop.h"
#include "loop/work.h"
#include "store/pg_notice.h"
#include "store/pg_writer.h"

// A worker has up to seven connections: one for durable engine writes, kept open; two for engine reads and
// tools and a few for APP, opened when they are needed.

#define ENGINE_POOL 2
#define SETTLE_LOOK_MS 5
#define SETTLE_MS 1000 /* For which a client that closes waits for writes handed over before. */

/** Schema names go into SQL between double quotes. */
static int check_schema(const char *schema, mw_err *err) {
  size_t len = strlen(schema);
  size_t good = strspn(schema, "abcdefghijklmnopqrstuvwxyz0123456789_");
  if (len >= 1 && len <= 63 && good == len && !(schema[0] >= '0' && schema[0] <= '9') &&
      strncmp(schema, "pg_", 3))
    return 0;
  return mw_err_set(
      err, MW_ECONFIG,
      "the PostgreSQL schema \"%s\" is not usable: small letters, digits and _, up to 63, not beginning with a "
      "digit or pg_",
      schema);
}

static int open_store(mw_store *base, mw_err *err) {
  mw_pg_store *store = (mw_pg_store *)base;
  pthread_mutex_init(&store->lock, NULL);
  snprintf(store->why, sizeof store->why, "not connected yet");
  int rc = base->is_single ? 0 : check_schema(base->schema, err);
  if (rc) return rc;
  store->cancel_pool = mw_work_pool_new("pg-cancel", 2, 256);
  if (base->is_single) return mw_pg_target_new(base->app_url, store->cancel_pool, NULL, &store->app, err);
  // Writes are small and by key: a plan that scans, made while a table was young, would stay for long. No
  // compilation of plans either, it takes longer than they run.
  char engine[256], writer[512];
  snprintf(engine, sizeof engine,
           "SELECT set_config('search_path', '\"%s\"', false), set_config('jit', 'off', false)", base->schema);
  snprintf(writer, sizeof writer,
           "%s, set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false), "
           "set_config('enable_mergejoin', 'off', false), set_config('plan_cache_mode', 'force_generic_plan', "
           "false)",
           engine);
  if ((rc = mw_pg_target_new(base->database_url, store->cancel_pool, engine, &store->engine, err))) return rc;
  if ((rc = mw_pg_target_new(base->database_url, store->cancel_pool, writer, &store->writer, err))) return rc;
  return mw_pg_target_new(base->app_url, store->cancel_pool, NULL, &store->app, err);
}

static void close_store(mw_store *base) {
  mw_pg_store *store = (mw_pg_store *)base;
  if (store->cancel_pool) mw_work_pool_free(store->cancel_pool);
  mw_pg_target_free(store->engine);
  mw_pg_target_free(store->writer);
  mw_pg_target_free(store->app);
  pthread_mutex_destroy(&store->lock);
}

/** A node whose lease has run out is down whatever its connections say: the database has not answered for so long. */
static bool has_lease(const mw_store *base) {
  return atomic_load(&base->epoch) == 0 || mw_clock_mono_ms() < atomic_load(&base->lease_until_ms);
}

static bool is_up(const mw_store *base) {
  return atomic_load(&((mw_pg_store *)base)->writers_up) > 0 && has_lease(base);
}

static void why_down(const mw_store *base, char *text, size_t size) {
  mw_pg_store *store = (mw_pg_store *)base;
  pthread_mutex_lock(&store->lock);
  if (atomic_load(&store->writers_up) > 0) snprintf(text, size, "PostgreSQL does not answer: this node's lease has run out");
  else snprintf(text, size, "%s", store->why);
  pthread_mutex_unlock(&store->lock);
}

static mw_store_client *attach(mw_store *base, mw_loop *loop) {
  mw_pg_store *store = (mw_pg_store *)base;
  mw_pg_client *client = MW_NEW(mw_pg_client);
  client->base.store = base;
  client->base.loop = loop;
  mw_list_init(&client->queries);
  mw_list_init(&client->txs);
  client->app = mw_pg_pool_new(loop, store->app, base->pg_pool_size);
  if (base->is_single) return &client->base;
  client->engine = mw_pg_pool_new(loop, store->engine, ENGINE_POOL);
  client->writer = mw_pg_writer_new(client);
  return &client->base;
}

static void on_part_gone(void *arg) {
  mw_pg_client *client = arg;
  if (--client->closing) return;
  if (client->gone) client->gone(client->gone_arg);
  mw_free(client);
}

static void close_parts(mw_pg_client *client) {
  bool is_single = client->base.store->is_single;
  mw_pg_pool_close(client->app, on_part_gone, client);
  if (is_single) return;
  mw_pg_pool_close(client->engine, on_part_gone, client);
  mw_pg_writer_close(client->writer, on_part_gone, client);
}

/** What drained runs wrote last is worth a moment: without it their steps count as interrupted. */
static void settle(mw_pg_client *client) {
  if (client->base.store->is_single || mw_pg_writer_is_settled(client->writer) || mw_clock_mono_ms() >= client->settle_until_ms)
    close_parts(client);
  else
    mw_timer_start(client->base.loop, &client->settle, SETTLE_LOOK_MS);
}

static void on_settle(mw_timer *timer, void *arg) { settle(arg); }

static void close_client(void *arg) {
  mw_pg_client *client = arg;
  mw_pg_query_cancel_all(client);
  mw_pg_tx_cancel_all(client);
  mw_timer_init(&client->settle, on_settle, client);
  client->settle_until_ms = mw_clock_mono_ms() + SETTLE_MS;
  settle(client);
}

/** In the next turn, because the owner may call from within a callback of a part. */
static void detach(mw_store_client *base, void (*cb)(void *arg), void *arg) {
  mw_pg_client *client = (mw_pg_client *)base;
  client->gone = cb;
  client->gone_arg = arg;
  client->closing = base->store->is_single ? 1 : 3;
  base->on_state = NULL;
  mw_loop_post(base->loop, close_client, client);
}

const mw_engine mw_engine_postgres = {
    .name = "postgres",
    .store_size = sizeof(mw_pg_store),
    .open = open_store,
    .close = close_store,
    .is_up = is_up,
    .why_down = why_down,
    .attach = attach,
    .detach = detach,
    .query = mw_pg_query_start,
    .query_cancel = mw_pg_query_cancel,
    .begin = mw_pg_tx_begin,
    .tx_query = mw_pg_tx_query,
    .tx_end = mw_pg_tx_end,
    .write = mw_pg_write,
    .register_node = mw_pg_register_node,
    .claim = mw_pg_claim,
    .notify = mw_pg_notify,
    .put_code = mw_pg_put_code,
    .add_change = mw_pg_add_change,
    .admin = &mw_admin_postgres,
};
