// SPDX-License-Identifier: MIT
// What both engines share: which one it is, the data directory with its lock and node id, checks of arguments.
#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/data_dir.h"
#include "store/engine.h"

#define DEFAULT_PAYLOAD_BYTES (1024 * 1024)
#define JOURNAL_EXTRA_BYTES (64 * 1024) // what a journal row may have around one result
#define DEFAULT_QUERY_MS 30000
#define DEFAULT_TX_MS 10000
#define DEFAULT_LEASE_MS 10000
#define DEFAULT_MAX_ROWS 100000
#define DEFAULT_PATIENCE_MS 60000
#define UNATTENDED_MS ((int64_t)24 * 3600 * 1000)
#define MAX_CLAIM 10000

// ---- the data directory ----

static int prepare_dir(mw_store *store, mw_err *err) {
  int code = store->exclusive ? mw_data_dir_make(store->data_dir, err) : 0;
  if (!code && access(store->data_dir, R_OK | X_OK))
    code = mw_err_set(err, MW_ENOTFOUND, "cannot open the data directory %s: %s", store->data_dir, strerror(errno));
  if (!code && store->exclusive) code = mw_data_dir_lock(store->data_dir, &store->lock_fd, err);
  if (!code) code = mw_data_dir_check_restored(store->data_dir, err);
  return code ? code : mw_data_dir_node_id(store->data_dir, store->exclusive, &store->node_id, err);
}

// ---- open and close ----

static int choose_engine(const char *url, const mw_engine **out, mw_err *err) {
  mw_str text = mw_str_from(url);
  *out = &mw_engine_sqlite;
  if (text.len == 0 || mw_str_eq(text, MW_STR("sqlite"))) return 0;
  *out = &mw_engine_postgres;
  if (mw_str_starts_with(text, MW_STR("postgres://")) || mw_str_starts_with(text, MW_STR("postgresql://"))) return 0;
  return mw_err_set(err, MW_ECONFIG, "the database URL must be \"sqlite\" or begin with postgres://");
}

static int check_schema(const char *schema, mw_err *err) {
  size_t len = strlen(schema);
  bool ok = len > 0 && len < 64 && !(schema[0] >= '0' && schema[0] <= '9');
  for (size_t i = 0; ok && i < len; i++)
    ok = schema[i] == '_' || (schema[i] >= 'a' && schema[i] <= 'z') || (schema[i] >= '0' && schema[i] <= '9');
  return ok ? 0 : mw_err_set(err, MW_ECONFIG, "the schema name \"%s\" is not of a-z, 0-9 and _ (at most 63)", schema);
}

static void free_store(mw_store *store) {
  store->engine->close(store);
  if (store->lock_fd >= 0) close(store->lock_fd);
  mw_free(store->database_url);
  mw_free(store->app_url);
  mw_free(store->data_dir);
  mw_free(store->schema);
  mw_free(store->single_name);
  mw_free(store);
}

static char *copy_or_null(const char *text) { return text ? mw_strdup(text) : NULL; }

int mw_store_open(const mw_store_conf *conf, mw_store **out, mw_err *err) {
  const mw_engine *engine;
  const char *schema = conf->schema ? conf->schema : "moonwatch";
  int code = choose_engine(conf->database_url, &engine, err);
  if (!code) code = check_schema(schema, err);
  if (code) return code;
  if (!conf->data_dir || !*conf->data_dir || strlen(conf->data_dir) > MW_DATA_DIR_MAX)
    return mw_err_set(err, MW_ECONFIG, "the data directory is not set, or its path is too long");
  bool postgres = engine == &mw_engine_postgres;
  mw_store *store = mw_calloc(1, engine->store_size);
  store->engine = engine;
  store->database_url = postgres ? mw_strdup(conf->database_url) : NULL;
  store->app_url = postgres ? copy_or_null(conf->app_url ? conf->app_url : conf->database_url) : NULL;
  store->data_dir = mw_strdup(conf->data_dir);
  store->schema = mw_strdup(schema);
  store->pg_pool_size = conf->pg_pool_size ? conf->pg_pool_size : 4;
  store->pg_lease_ms = conf->pg_lease_ms ? conf->pg_lease_ms : DEFAULT_LEASE_MS;
  store->sqlite_readers = conf->sqlite_readers ? conf->sqlite_readers : 2;
  store->max_payload_bytes = conf->max_payload_bytes ? conf->max_payload_bytes : DEFAULT_PAYLOAD_BYTES;
  store->exclusive = conf->exclusive;
  store->inline_loop = conf->inline_loop;
  store->lock_fd = -1;
  if (gethostname(store->node_name, sizeof store->node_name - 1)) strcpy(store->node_name, "unknown");
  code = prepare_dir(store, err);
  if (!code) code = engine->open(store, err);
  if (code) free_store(store);
  else *out = store;
  return code;
}

int mw_store_open_single(const char *url, int pg_pool_size, mw_loop *inline_loop, mw_store **out, mw_err *err) {
  mw_str text = mw_str_from(url);
  bool postgres = mw_str_starts_with(text, MW_STR("postgres://")) || mw_str_starts_with(text, MW_STR("postgresql://"));
  const char *slash = strrchr(url, '/');
  if (!postgres && (!slash || !slash[1])) return mw_err_set(err, MW_ECONFIG, "%s is not the path of a file", url);
  const mw_engine *engine = postgres ? &mw_engine_postgres : &mw_engine_sqlite;
  mw_store *store = mw_calloc(1, engine->store_size);
  store->engine = engine;
  store->is_single = store->exclusive = true;
  store->inline_loop = inline_loop;
  store->app_url = postgres ? mw_strdup(url) : NULL;
  store->data_dir = postgres ? NULL : mw_strndup(url, (size_t)(slash - url));
  store->single_name = postgres ? NULL : mw_strdup(slash + 1);
  store->pg_pool_size = pg_pool_size > 0 ? pg_pool_size : 4;
  store->sqlite_readers = 2;
  store->lock_fd = -1;
  int code = engine->open(store, err);
  if (code) free_store(store);
  else *out = store;
  return code;
}

void mw_store_close(mw_store *store) {
  if (store) free_store(store);
}

mw_store *mw_store_client_store(const mw_store_client *client) { return client->store; }

const char *mw_store_schema(const mw_store *store) { return store->database_url ? store->schema : ""; }

bool mw_store_shares_database(const mw_store *store) {
  return store->database_url && store->app_url && !strcmp(store->database_url, store->app_url);
}

const char *mw_store_engine(const mw_store *store) { return store->engine->name; }
bool mw_store_is_up(const mw_store *store) { return store->engine->is_up(store); }
void mw_store_why_down(const mw_store *store, char *text, size_t size) { store->engine->why_down(store, text, size); }
int64_t mw_store_epoch(const mw_store *store) { return atomic_load(&store->epoch); }
int64_t mw_store_lease_until_ms(const mw_store *store) { return atomic_load(&store->lease_until_ms); }

mw_store_client *mw_store_attach(mw_store *store, mw_loop *loop) { return store->engine->attach(store, loop); }

void mw_store_detach(mw_store_client *client, void (*cb)(void *arg), void *arg) {
  client->store->engine->detach(client, cb, arg);
}

void mw_store_on_state(mw_store_client *client, void (*cb)(bool up, void *arg), void *arg) {
  client->on_state = cb;
  client->on_state_arg = arg;
}

// ---- statements ----

static int check_query(const mw_query_opts *opts, mw_query_opts *out) {
  *out = *opts;
  if (opts->sql.len == 0 || opts->nparams > 32766) return MW_EINVALID;
  if (opts->sql.len > MW_MAX_SQL_BYTES) return MW_ELIMIT;
  if (!mw_str_is_utf8(opts->sql)) return MW_EUTF8;
  if (memchr(opts->sql.ptr, 0, opts->sql.len)) return MW_EINVALID;
  for (size_t i = 0; i < opts->nparams; i++) {
    if (opts->params[i].kind != MW_VALUE_TEXT) continue;
    mw_str text = opts->params[i].str;
    if (!mw_str_is_utf8(text) || (text.len && memchr(text.ptr, 0, text.len))) return MW_EUTF8;
  }
  if (out->timeout_ms <= 0) out->timeout_ms = DEFAULT_QUERY_MS;
  if (out->max_rows == 0) out->max_rows = DEFAULT_MAX_ROWS;
  return 0;
}

int mw_store_query(mw_store_client *client, mw_db db, const mw_query_opts *opts, mw_query_cb cb, void *arg, mw_query **out) {
  mw_query_opts checked;
  int code = check_query(opts, &checked);
  return code ? code : client->store->engine->query(client, db, &checked, cb, arg, out);
}

void mw_query_cancel(mw_query *query) { query->client->store->engine->query_cancel(query); }

int mw_store_begin(mw_store_client *client, mw_db db, int64_t timeout_ms, mw_tx_cb cb, void *arg) {
  return client->store->engine->begin(client, db, timeout_ms > 0 ? timeout_ms : DEFAULT_TX_MS, cb, arg);
}

int mw_tx_query(mw_tx *tx, const mw_query_opts *opts, mw_query_cb cb, void *arg) {
  mw_query_opts checked;
  int code = check_query(opts, &checked);
  return code ? code : tx->client->store->engine->tx_query(tx, &checked, cb, arg);
}

int mw_tx_end(mw_tx *tx, bool commit, mw_tx_cb cb, void *arg) { return tx->client->store->engine->tx_end(tx, commit, cb, arg); }

// ---- engine writes ----

/** Text that both engines store as it is. */
static int check_text(mw_str text, size_t max_bytes) {
  if (text.len == 0) return 0;
  if (text.len > max_bytes) return MW_ELIMIT;
  if (memchr(text.ptr, 0, text.len)) return MW_EUTF8;
  return mw_str_is_utf8(text) ? 0 : MW_EUTF8;
}

static int check_texts(const mw_str *texts, size_t count, size_t max_bytes) {
  for (size_t i = 0; i < count; i++) {
    int code = check_text(texts[i], max_bytes);
    if (code) return code;
  }
  return 0;
}

static int check_more_of_create(mw_write *w, const mw_write_more *more) {
  if (more->priority < -MW_MAX_PRIORITY || more->priority > MW_MAX_PRIORITY) return MW_EINVALID;
  if (more->parent_key.len && !more->has_parent) return MW_EINVALID;
  if (more->group.len) {
    if (more->group_slots < 1 || w->status == MW_STATUS_RUNNING) return MW_EINVALID;
    if (w->status == MW_STATUS_QUEUED) w->status = MW_STATUS_BLOCKED; // until it has a slot, which may be at once
  }
  int code = check_texts((mw_str[]){more->group, more->parent_key}, 2, MW_MAX_KEY_BYTES);
  return code ? code : check_text(more->tags, MW_MAX_TAGS_BYTES);
}

static int check_create(const mw_store *store, mw_write *w) {
  if (w->app.len == 0) w->app = MW_STR("default");
  if (w->workflow.len == 0 || w->status < MW_STATUS_QUEUED || w->status > MW_STATUS_SLEEPING)
    return MW_EINVALID;
  int code = check_texts((mw_str[]){w->app, w->workflow, w->bundle, w->seed, w->request_hash}, 5, MW_MAX_NAME_BYTES);
  if (!code) code = check_texts((mw_str[]){w->external_id, w->key}, 2, MW_MAX_KEY_BYTES);
  if (!code) code = check_text(w->input, store->max_payload_bytes);
  return code || !w->more ? code : check_more_of_create(w, w->more);
}

static int check_append(const mw_store *store, mw_write *w) {
  if (w->number < 0 || w->status < MW_STATUS_NONE || w->status > MW_STATUS_CANCELLED) return MW_EINVALID;
  bool says_state = w->more && w->more->state.len;
  if (w->number > 0 ? w->data.len == 0 : w->status == MW_STATUS_NONE && !says_state) return MW_EINVALID;
  if (w->unattended) w->patience_ms = UNATTENDED_MS;
  if (w->patience_ms <= 0) w->patience_ms = DEFAULT_PATIENCE_MS;
  int code = check_text(w->data, store->max_payload_bytes + JOURNAL_EXTRA_BYTES);
  if (!code) code = check_texts((mw_str[]){w->output, w->error}, 2, store->max_payload_bytes);
  if (w->more && w->more->take.len && w->number == 0) return MW_EINVALID;
  if (!code && w->more) code = check_text(w->more->state, store->max_payload_bytes);
  return code || !w->more ? code : check_texts((mw_str[]){w->more->waits, w->more->take}, 2, MW_MAX_WAITS_BYTES);
}

void mw_store_on_notice(mw_store_client *client, mw_store_notice_cb cb, void *arg) {
  client->on_notice = cb;
  client->on_notice_arg = arg;
}

void mw_store_notify(mw_store_client *client, mw_store_notice notice, mw_str id) {
  if (client->store->engine->notify) client->store->engine->notify(client, notice, id);
}

int mw_store_write(mw_store_client *client, const mw_write *write, mw_write_cb cb, void *arg) {
  const mw_store *store = client->store;
  mw_write w = *write;
  int code = w.kind == MW_WRITE_CREATE ? check_create(store, &w) : check_append(store, &w);
  if (code) return code;
  bool owns = w.kind == MW_WRITE_APPEND || w.status == MW_STATUS_RUNNING;
  if (owns && atomic_load_explicit(&store->epoch, memory_order_relaxed) == 0) return MW_EUNAVAILABLE;
  return store->engine->write(client, &w, cb, arg);
}

int mw_store_register_node(mw_store_client *client, void (*cb)(int status, const mw_err *err, void *arg), void *arg) {
  return client->store->engine->register_node(client, cb, arg);
}

int mw_store_claim(mw_store_client *client, int64_t now_us, int limit, mw_claim_cb cb, void *arg) {
  if (limit < 1 || limit > MAX_CLAIM) return MW_EINVALID;
  if (atomic_load(&client->store->epoch) == 0) return MW_EUNAVAILABLE;
  return client->store->engine->claim(client, now_us, limit, cb, arg);
}

int mw_store_put_code(mw_store_client *client, const mw_code *list, size_t count, mw_write_cb cb, void *arg) {
  if (count == 0) return MW_EINVALID;
  for (size_t i = 0; i < count; i++) {
    if (list[i].hash.len == 0) return MW_EINVALID;
    int code = check_text(list[i].hash, MW_MAX_NAME_BYTES);
    if (!code) code = check_text(list[i].text, MW_MAX_CODE_BYTES);
    if (code) return code;
  }
  return client->store->engine->put_code(client, list, count, cb, arg);
}

int mw_store_add_change(mw_store_client *client, mw_str app, mw_str kind, mw_str subject, mw_str actor, mw_str detail,
                        mw_write_cb cb, void *arg) {
  if (app.len == 0) app = MW_STR("default");
  int code = check_texts((mw_str[]){app, kind, subject, actor}, 4, MW_MAX_NAME_BYTES);
  if (!code) code = check_text(detail, client->store->max_payload_bytes);
  return code ? code : client->store->engine->add_change(client, app, kind, subject, actor, detail, cb, arg);
}
