// SPDX-License-Identifier: MIT
#include "bind/bind_store.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "bind/host.h"
#include "bind/store_values.h"
#include "state/late.h"
#include "store/journal.h"
#include "store/store.h"
#include "vm/scratch.h"
#include "vm/task.h"

#define TX_META "mw.store.tx"

static mw_str opt_str(lua_State *L, int index) {
  mw_str text = {NULL, 0};
  if (!lua_isnoneornil(L, index)) text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

static mw_str check_str(lua_State *L, int index) {
  mw_str text;
  text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

static int64_t opt_ms(lua_State *L, int index) {
  lua_Number seconds = luaL_optnumber(L, index, 0);
  return seconds > 0 ? (int64_t)fmax(1, fmin(seconds * 1000, 1e12)) : 0;
}

static mw_id check_id(lua_State *L, int index) {
  mw_id id;
  if (!mw_id_parse(check_str(L, index), &id)) luaL_argerror(L, index, "an execution's id expected");
  return id;
}

static mw_store_client *check_client(lua_State *L) {
  mw_host *host = mw_host_of(L);
  if (!host || !host->store) luaL_error(L, "the database needs a running server");
  return host->store;
}

static mw_store *store_of(lua_State *L) { return mw_store_client_store(check_client(L)); }

static bool is_sqlite(lua_State *L) { return mw_store_schema(store_of(L))[0] == 0; }

/* ---- operations: a task waits for one; when it is cancelled the operation goes on without it ---- */

typedef struct store_op {
  mw_task *task; // NULL: nobody waits any more
  mw_query *query;
  bool ids;
  int status;
  const mw_rows *rows;
  const mw_err *err;
  const char *sqlstate;
  mw_id id;
  const mw_id *existing;
  const mw_claimed *claimed;
  size_t count;
  int64_t next_due_us;
  struct tx_box *box;
  bool *delivered; // set once the task has the answer; what it does not get to know of must not stay its own
} store_op;

static store_op *start_op(lua_State *L, const char *what) {
  mw_task_check_yieldable(L, what);
  store_op *op = MW_NEW(store_op);
  op->task = mw_task_current(L);
  return op;
}

static void cancel_op(void *arg) {
  store_op *op = arg;
  op->task = NULL;
  if (op->query) mw_query_cancel(op->query);
  op->query = NULL;
}

static void finish_op(store_op *op, int (*push)(lua_State *L, void *arg)) {
  if (op->task) mw_task_resume_with(op->task, push, op);
  mw_free(op);
}

static int suspend_or_fail(lua_State *L, store_op *op, int rc) {
  if (!rc) return mw_task_suspend(L, cancel_op, op);
  mw_free(op);
  return mw_vm_push_failure(L, rc, NULL);
}

static int push_true(lua_State *L, void *arg) {
  store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- queries ---- */

static int push_rows(lua_State *L, void *arg) {
  store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  mw_store_push_rows(L, op->rows, op->ids);
  return 1;
}

static void take_rows(store_op *op, int status, const mw_rows *rows, const mw_err *err, const char *sqlstate) {
  op->query = NULL;
  op->status = status;
  op->rows = rows;
  op->err = err;
  op->sqlstate = sqlstate;
}

static void on_rows(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  take_rows(arg, status, rows, err, sqlstate);
  finish_op(arg, push_rows);
}

static mw_db check_db(lua_State *L, int index) {
  static const char *const names[] = {"engine", "app", NULL};
  return luaL_checkoption(L, index, NULL, names) == 0 ? MW_DB_ENGINE : MW_DB_APP;
}

// Replaces `{{schema}}.` by our schema; pushes a buffer that holds the text.
static mw_str expand_schema(lua_State *L, mw_str sql) {
  static const char mark[] = "{{schema}}.";
  const char *schema = mw_store_schema(store_of(L)), *at = sql.ptr, *end = sql.ptr + sql.len, *found;
  mw_buf *out = mw_scratch_buf(L);
  while ((found = memmem(at, (size_t)(end - at), mark, sizeof mark - 1))) {
    mw_buf_add(out, at, (size_t)(found - at));
    if (schema[0]) mw_buf_printf(out, "\"%s\".", schema);
    at = found + sizeof mark - 1;
  }
  mw_buf_add(out, at, (size_t)(end - at));
  return mw_buf_str(out);
}

// An arena that the collector frees, whatever is raised meanwhile.
static int gc_arena(lua_State *L) {
  mw_arena_deinit(lua_touserdata(L, 1));
  return 0;
}

static mw_arena *push_arena(lua_State *L) {
  mw_arena *arena = lua_newuserdata(L, sizeof *arena);
  mw_arena_init(arena);
  if (luaL_newmetatable(L, "mw.store.arena")) {
    lua_pushcfunction(L, gc_arena);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return arena;
}

static int l_query(lua_State *L) {
  mw_store_client *client = check_client(L);
  mw_db db = check_db(L, 1);
  mw_str sql = check_str(L, 2);
  size_t count;
  lua_settop(L, 4);
  mw_arena *arena = push_arena(L);
  const mw_value *params = mw_store_read_params(L, 3, arena, is_sqlite(L) && db == MW_DB_ENGINE, &count);
  if (db == MW_DB_ENGINE) sql = expand_schema(L, sql);
  store_op *op = start_op(L, "mw.query");
  op->ids = db == MW_DB_ENGINE;
  mw_query_opts opts = {.sql = sql, .params = params, .nparams = count, .timeout_ms = opt_ms(L, 4)};
  int rc = mw_store_query(client, db, &opts, on_rows, op, &op->query);
  mw_arena_deinit(arena);
  return suspend_or_fail(L, op, rc);
}

/* ---- transactions ---- */

// Shared by the userdata and the operation under way; freed when both are done.
typedef struct tx_box {
  mw_tx *tx;      // NULL: ended
  mw_task_hold hold; // on the task that began it: with the task it ends, also when a kill lets no Lua code run any more
  int refs;
  bool busy;      // an operation is under way
  bool abandoned; // to be rolled back as soon as it is not busy
} tx_box;

static void on_rolled_back(int status, mw_tx *tx, const mw_err *err, void *arg) {}

static void end_box(tx_box *box) {
  mw_tx *tx = box->tx;
  box->tx = NULL;
  mw_task_hold_remove(&box->hold);
  if (tx) mw_tx_end(tx, false, on_rolled_back, NULL);
}

static void unref_box(tx_box *box) {
  if (--box->refs) return;
  end_box(box);
  mw_free(box);
}

static void abandon_box(tx_box *box) {
  box->abandoned = true;
  if (!box->busy) end_box(box);
}

static void cancel_tx_op(void *arg) {
  store_op *op = arg;
  op->task = NULL;
  op->box->abandoned = true;
}

static void on_task_over(mw_task_hold *hold) { abandon_box(MW_CONTAINER(hold, tx_box, hold)); }

static store_op *start_tx_op(lua_State *L, tx_box *box, const char *what) {
  store_op *op = start_op(L, what);
  op->box = box;
  box->refs++;
  box->busy = true;
  return op;
}

static void finish_tx_op(store_op *op, int (*push)(lua_State *L, void *arg)) {
  tx_box *box = op->box;
  box->busy = false;
  if (box->abandoned) end_box(box);
  finish_op(op, push); // may end the userdata's share
  unref_box(box);
}

static int suspend_tx(lua_State *L, store_op *op, int rc) {
  if (!rc) return mw_task_suspend(L, cancel_tx_op, op);
  op->box->busy = false;
  unref_box(op->box);
  mw_free(op);
  return mw_vm_push_failure(L, rc, NULL);
}

static int push_tx(lua_State *L, void *arg) {
  store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  tx_box **slot = lua_newuserdata(L, sizeof *slot);
  *slot = op->box;
  op->box->refs++;
  luaL_getmetatable(L, TX_META);
  lua_setmetatable(L, -2);
  return 1;
}

static void on_begun(int status, mw_tx *tx, const mw_err *err, void *arg) {
  store_op *op = arg;
  op->status = status;
  op->err = err;
  op->box->tx = status ? NULL : tx;
  if (op->task && !status) mw_task_hold_add(op->task, &op->box->hold, on_task_over);
  finish_tx_op(op, push_tx);
}

static int l_begin(lua_State *L) {
  mw_store_client *client = check_client(L);
  mw_db db = check_db(L, 1);
  int64_t timeout_ms = opt_ms(L, 2);
  mw_task_check_yieldable(L, "mw.transaction");
  tx_box *box = MW_NEW(tx_box);
  mw_list_init(&box->hold.node);
  store_op *op = start_tx_op(L, box, "mw.transaction"); // the operation holds the only reference so far
  return suspend_tx(L, op, mw_store_begin(client, db, timeout_ms, on_begun, op));
}

static tx_box *check_tx(lua_State *L) {
  tx_box *box = *(tx_box **)luaL_checkudata(L, 1, TX_META);
  if (box->busy) luaL_error(L, "another statement of this transaction is still running; a transaction runs one at a time");
  if (!box->tx) luaL_error(L, "the transaction is over");
  return box;
}

static void on_tx_rows(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  take_rows(arg, status, rows, err, sqlstate);
  finish_tx_op(arg, push_rows);
}

static int l_tx_query(lua_State *L) {
  tx_box *box = check_tx(L);
  mw_str sql = check_str(L, 2);
  size_t count;
  lua_settop(L, 4);
  mw_arena *arena = push_arena(L);
  const mw_value *params = mw_store_read_params(L, 3, arena, false, &count);
  store_op *op = start_tx_op(L, box, "tx:query");
  mw_query_opts opts = {.sql = sql, .params = params, .nparams = count, .timeout_ms = opt_ms(L, 4)};
  int rc = mw_tx_query(box->tx, &opts, on_tx_rows, op);
  mw_arena_deinit(arena);
  return suspend_tx(L, op, rc);
}

static void on_tx_ended(int status, mw_tx *tx, const mw_err *err, void *arg) {
  store_op *op = arg;
  op->status = status;
  op->err = err;
  finish_tx_op(op, push_true);
}

static int l_tx_finish(lua_State *L) {
  tx_box *box = check_tx(L);
  bool commit = lua_toboolean(L, 2);
  store_op *op = start_tx_op(L, box, "the end of mw.transaction");
  mw_tx *tx = box->tx;
  box->tx = NULL; // mw_tx_end frees it in any case
  mw_task_hold_remove(&box->hold);
  return suspend_tx(L, op, mw_tx_end(tx, commit, on_tx_ended, op));
}

static int gc_tx(lua_State *L) {
  tx_box *box = *(tx_box **)lua_touserdata(L, 1);
  abandon_box(box);
  unref_box(box);
  return 0;
}

/* ---- executions ---- */

static int push_created(lua_State *L, void *arg) {
  store_op *op = arg;
  char text[MW_ID_TEXT];
  bool exists = op->status == MW_EEXISTS && op->existing;
  if (op->status && !exists) return mw_store_push_failure(L, op->status, op->err, NULL);
  mw_id_format(exists ? op->existing : &op->id, text);
  lua_pushlstring(L, text, MW_ID_TEXT - 1);
  lua_pushboolean(L, !exists);
  *op->delivered = true;
  return 2;
}

static void on_appended_unattended(int status, const mw_id *existing, const mw_err *err, void *arg) {
  if (status && status != MW_ESTALE && status != MW_ECANCELED)
    mw_log(MW_LOG_ERROR, "workflow", "a journal row could not be stored; the execution goes on from the row before, after the next start",
           MW_LOG_S("error", err ? err->text : mw_err_text(status)));
}

// Nobody runs it: up for claiming.
static void give_back(mw_store_client *client, const mw_id *id, int64_t fence) {
  int64_t now_us = mw_clock_wall_us();
  mw_write write = {.kind = MW_WRITE_APPEND, .id = *id, .fence = fence, .status = MW_STATUS_QUEUED, .now_us = now_us, .due_us = now_us};
  int rc = mw_store_write(client, &write, on_appended_unattended, NULL);
  if (rc) on_appended_unattended(rc, NULL, NULL, NULL);
}

typedef struct create_op {
  store_op op;
  mw_store_client *client;
  bool owned; // created as running, by the task that waits
} create_op;

static void on_created(int status, const mw_id *existing, const mw_err *err, void *arg) {
  create_op *create = arg;
  create->op.status = status;
  create->op.existing = existing;
  create->op.err = err;
  mw_store_client *client = create->client;
  mw_id id = create->op.id;
  bool owned = create->owned && !status, delivered = false;
  create->op.delivered = &delivered;
  finish_op(&create->op, push_created);
  if (owned && !delivered) give_back(client, &id, 1);
}

static int l_create(lua_State *L) {
  mw_store_client *client = check_client(L);
  mw_write write = {
      .kind = MW_WRITE_CREATE, .id = mw_id_new(), .now_us = mw_clock_wall_us(), .workflow = check_str(L, 1), .input = opt_str(L, 2),
      .bundle = opt_str(L, 3), .seed = opt_str(L, 4), .status = (mw_status)luaL_checkint(L, 5), .due_us = (int64_t)luaL_optnumber(L, 6, 0),
      .external_id = opt_str(L, 7), .key = opt_str(L, 8), .request_hash = opt_str(L, 9), .app = opt_str(L, 10),
      .api_level = luaL_optint(L, 11, 1)};
  write.fence = write.status == MW_STATUS_RUNNING ? 1 : 0;
  mw_task_check_yieldable(L, "mw.trigger");
  create_op *create = MW_NEW(create_op);
  create->op.task = mw_task_current(L);
  create->op.id = write.id;
  create->client = client;
  create->owned = write.status == MW_STATUS_RUNNING;
  return suspend_or_fail(L, &create->op, mw_store_write(client, &write, on_created, create));
}

static void on_appended(int status, const mw_id *existing, const mw_err *err, void *arg) {
  store_op *op = arg;
  if (!status && op->task) { // the most frequent answer of all; pushing it cannot fail
    mw_task *task = op->task;
    mw_free(op);
    lua_pushboolean(mw_task_lua(task), 1);
    mw_task_resume(task, 1);
    return;
  }
  op->status = status;
  op->err = err;
  finish_op(op, push_true);
}

static int l_append(lua_State *L) {
  mw_store_client *client = check_client(L);
  mw_write write = {
      .kind = MW_WRITE_APPEND, .id = check_id(L, 1), .fence = (int64_t)luaL_checknumber(L, 2), .number = (int64_t)luaL_checknumber(L, 3),
      .data = opt_str(L, 4), .status = (mw_status)luaL_optint(L, 5, 0), .due_us = (int64_t)luaL_optnumber(L, 6, 0), .output = opt_str(L, 7),
      .error = opt_str(L, 8), .patience_ms = opt_ms(L, 9), .now_us = mw_clock_wall_us()};
  mw_task *task = mw_task_current(L);
  if (!task || mw_task_is_cancelled(task)) {
    int rc = mw_store_write(client, &write, on_appended_unattended, NULL);
    if (rc) return mw_vm_push_failure(L, rc, NULL);
    lua_pushboolean(L, 1);
    return 1;
  }
  store_op *op = start_op(L, "a journal row");
  return suspend_or_fail(L, op, mw_store_write(client, &write, on_appended, op));
}

// append_late(id, fence, number, data) -> a ticket: the row is written by itself unless take_late(ticket) comes first.
static int l_append_late(lua_State *L) {
  mw_host *host = mw_host_of(L);
  mw_write write = {.kind = MW_WRITE_APPEND, .id = check_id(L, 1), .fence = (int64_t)luaL_checknumber(L, 2),
                    .number = (int64_t)luaL_checknumber(L, 3), .data = check_str(L, 4), .now_us = mw_clock_wall_us()};
  if (!host || !host->late) return 0;
  lua_pushnumber(L, (lua_Number)mw_late_add(host->late, &write));
  return 1;
}

// True when the row is the caller's to write; false when it has gone to the store as it was.
static int l_take_late(lua_State *L) {
  mw_host *host = mw_host_of(L);
  lua_pushboolean(L, !host || !host->late || mw_late_remove(host->late, (uint64_t)luaL_checknumber(L, 1)));
  return 1;
}

static void set_str(lua_State *L, const char *name, mw_str text) {
  if (!text.ptr) return;
  lua_pushlstring(L, text.ptr, text.len);
  lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, int64_t number) {
  lua_pushnumber(L, (lua_Number)number);
  lua_setfield(L, -2, name);
}

static void push_claimed(lua_State *L, const mw_claimed *row) {
  char text[MW_ID_TEXT];
  lua_createtable(L, 0, 10);
  mw_id_format(&row->id, text);
  lua_pushlstring(L, text, MW_ID_TEXT - 1);
  lua_setfield(L, -2, "id");
  set_number(L, "fence", row->fence);
  set_number(L, "created_us", row->created_us);
  set_number(L, "api_level", row->api_level);
  lua_pushboolean(L, row->interrupted);
  lua_setfield(L, -2, "interrupted");
  set_str(L, "workflow", row->workflow);
  if (row->input.len) set_str(L, "input", row->input);
  set_str(L, "bundle", row->bundle);
  set_str(L, "seed", row->seed);
  set_str(L, "app", row->app);
}

static int push_claim(lua_State *L, void *arg) {
  store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, NULL);
  lua_createtable(L, (int)op->count, 0);
  for (size_t i = 0; i < op->count; i++) {
    push_claimed(L, &op->claimed[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  if (op->next_due_us == INT64_MAX) lua_pushnil(L);
  else lua_pushnumber(L, (lua_Number)op->next_due_us);
  *op->delivered = true;
  return 2;
}

typedef struct claim_op {
  store_op op;
  mw_store_client *client;
} claim_op;

static void on_claimed(int status, const mw_claimed *list, size_t count, int64_t next_due_us, const mw_err *err, void *arg) {
  claim_op *claim = arg;
  claim->op.status = status;
  claim->op.claimed = list;
  claim->op.count = count;
  claim->op.next_due_us = next_due_us;
  claim->op.err = err;
  mw_store_client *client = claim->client;
  bool delivered = false;
  claim->op.delivered = &delivered;
  finish_op(&claim->op, push_claim);
  for (size_t i = 0; !delivered && !status && i < count; i++) give_back(client, &list[i].id, list[i].fence);
}

static int l_claim(lua_State *L) {
  mw_store_client *client = check_client(L);
  int limit = luaL_checkint(L, 1);
  mw_task_check_yieldable(L, "claim");
  claim_op *claim = MW_NEW(claim_op);
  claim->op.task = mw_task_current(L);
  claim->client = client;
  return suspend_or_fail(L, &claim->op, mw_store_claim(client, mw_clock_wall_us(), limit, on_claimed, claim));
}

/* ---- code, reading, changes ---- */

static int l_put_code(lua_State *L) {
  mw_store_client *client = check_client(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  size_t count = lua_objlen(L, 1);
  mw_code *list = lua_newuserdata(L, (count ? count : 1) * sizeof *list);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 1, (int)i + 1);
    lua_getfield(L, -1, "hash");
    list[i].hash = check_str(L, -1);
    lua_getfield(L, -2, "text");
    list[i].text = check_str(L, -1);
    lua_pop(L, 3); // the tables still hold the strings
  }
  store_op *op = start_op(L, "put_code");
  return suspend_or_fail(L, op, mw_store_put_code(client, list, count, on_appended, op));
}

static int run_query(lua_State *L, const char *sql, const mw_value *param, mw_query_cb cb) {
  mw_store_client *client = check_client(L);
  store_op *op = start_op(L, "a read");
  op->ids = true;
  mw_str text = expand_schema(L, mw_str_from(sql));
  mw_query_opts opts = {.sql = text, .params = param, .nparams = 1};
  return suspend_or_fail(L, op, mw_store_query(client, MW_DB_ENGINE, &opts, cb, op, &op->query));
}

// The first row, or nil.
static int push_first(lua_State *L, void *arg) {
  store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  if (!op->rows->count) return lua_pushnil(L), 1;
  mw_store_push_rows(L, op->rows, true);
  lua_rawgeti(L, -1, 1);
  return 1;
}

static void on_first(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  take_rows(arg, status, rows, err, sqlstate);
  finish_op(arg, push_first);
}

// The only value of the only row, or nil.
static int push_only(lua_State *L, void *arg) {
  store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  if (!op->rows->count) return lua_pushnil(L), 1;
  lua_pushlstring(L, op->rows->values[0].str.ptr, op->rows->values[0].str.len);
  return 1;
}

static void on_only(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  take_rows(arg, status, rows, err, sqlstate);
  finish_op(arg, push_only);
}

static int l_get_code(lua_State *L) {
  mw_value hash = MW_VALUE_OF_TEXT(check_str(L, 1));
  return run_query(L, "SELECT text FROM {{schema}}.code WHERE hash = $1", &hash, on_only);
}

static mw_value id_param(lua_State *L, mw_id *id, char text[MW_ID_TEXT]) {
  *id = check_id(L, 1);
  mw_id_format(id, text);
  if (is_sqlite(L)) return MW_VALUE_OF_BLOB(mw_str_of((const char *)id->bytes, 16));
  return MW_VALUE_OF_TEXT(mw_str_of(text, MW_ID_TEXT - 1));
}

static int l_get(lua_State *L) {
  mw_id id;
  char text[MW_ID_TEXT];
  mw_value param = id_param(L, &id, text);
  return run_query(L, "SELECT id, app, workflow, external_id, status, owner, fence, due_us, priority, bundle, api_level, seed, input, output, error,"
                      " created_us, started_us, finished_us FROM {{schema}}.executions WHERE id = $1", &param, on_first);
}

static int l_journal(lua_State *L) {
  mw_id id;
  char text[MW_ID_TEXT];
  mw_value param = id_param(L, &id, text);
  return run_query(L, "SELECT number, data, at_us FROM {{schema}}.journal WHERE execution = $1 ORDER BY number", &param, on_rows);
}

static int l_add_change(lua_State *L) {
  mw_store_client *client = check_client(L);
  mw_str app = check_str(L, 1), kind = check_str(L, 2), subject = check_str(L, 3), actor = check_str(L, 4), detail = opt_str(L, 5);
  store_op *op = start_op(L, "add_change");
  return suspend_or_fail(L, op, mw_store_add_change(client, app, kind, subject, actor, detail, on_appended, op));
}

/* ---- what does not wait ---- */

static int l_is_up(lua_State *L) {
  char why[300];
  mw_store *store = store_of(L);
  bool up = mw_store_is_up(store);
  lua_pushboolean(L, up);
  if (up) return 1;
  mw_store_why_down(store, why, sizeof why);
  lua_pushstring(L, why);
  return 2;
}

static int l_engine(lua_State *L) {
  lua_pushstring(L, mw_store_engine(store_of(L)));
  return 1;
}

static int l_epoch(lua_State *L) {
  lua_pushnumber(L, (lua_Number)mw_store_epoch(store_of(L)));
  return 1;
}

static int l_lease_left(lua_State *L) {
  int64_t until = mw_store_lease_until_ms(store_of(L));
  lua_pushnumber(L, until == INT64_MAX ? HUGE_VAL : (lua_Number)(until - mw_clock_mono_ms()) / 1000);
  return 1;
}

static const luaL_Reg functions[] = {
    {"query", l_query},       {"begin", l_begin},       {"create", l_create},         {"append", l_append},
    {"claim", l_claim},       {"put_code", l_put_code}, {"get_code", l_get_code},     {"get", l_get},
    {"journal", l_journal},   {"engine", l_engine},     {"add_change", l_add_change}, {"is_up", l_is_up},
    {"epoch", l_epoch},       {"lease_left", l_lease_left},
    {"append_late", l_append_late}, {"take_late", l_take_late}, {NULL, NULL},
};

static const luaL_Reg tx_methods[] = {{"query", l_tx_query}, {"finish", l_tx_finish}, {NULL, NULL}};

static int open_module(lua_State *L) {
  luaL_newmetatable(L, TX_META);
  lua_newtable(L);
  luaL_register(L, NULL, tx_methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc_tx);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_store(lua_State *L) {
  mw_vm_add_module(L, "mw.core.store", open_module);
  return 0;
}
