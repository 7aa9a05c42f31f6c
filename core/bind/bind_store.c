// SPDX-License-Identifier: MIT
#include "bind/bind_store.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "bind/host.h"
#include "bind/store_more.h"
#include "bind/store_op.h"
#include "bind/store_values.h"
#include "store/databases.h"
#include "vm/scratch.h"

static mw_store *store_of(lua_State *L) { return mw_store_client_store(mw_store_check_client(L)); }

/* ---- queries ---- */

static void on_rows(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  mw_store_op_take_rows(arg, status, rows, err, sqlstate);
  mw_store_op_finish(arg, mw_store_op_push_rows);
}

static int l_query(lua_State *L) {
  mw_db db;
  mw_store_client *client = mw_store_check_target(L, 1, &db);
  mw_str sql = mw_store_check_str(L, 2);
  size_t count;
  lua_settop(L, 4);
  mw_arena *arena = mw_store_push_arena(L);
  const mw_value *params = mw_store_read_params(L, 3, arena, mw_store_is_sqlite(L) && db == MW_DB_ENGINE, &count);
  if (db == MW_DB_ENGINE) sql = mw_store_expand_schema(L, sql);
  mw_query_opts opts = {.sql = sql, .params = params, .nparams = count, .timeout_ms = mw_store_opt_ms(L, 4)};
  mw_store_op *op = mw_store_op_start(L, "mw.query");
  op->ids = db == MW_DB_ENGINE;
  int rc = mw_store_query(client, db, &opts, on_rows, op, &op->query);
  mw_arena_deinit(arena);
  return mw_store_op_suspend(L, op, rc);
}

/* ---- code, reading, changes ---- */

static int l_put_code(lua_State *L) {
  mw_store_client *client = mw_store_check_client(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  size_t count = lua_objlen(L, 1);
  mw_code *list = lua_newuserdata(L, (count ? count : 1) * sizeof *list);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 1, (int)i + 1);
    lua_getfield(L, -1, "hash");
    list[i].hash = mw_store_check_str(L, -1);
    lua_getfield(L, -2, "text");
    list[i].text = mw_store_check_str(L, -1);
    lua_pop(L, 3); // the tables still hold the strings
  }
  mw_store_op *op = mw_store_op_start(L, "put_code");
  return mw_store_op_suspend(L, op, mw_store_put_code(client, list, count, mw_store_op_on_written, op));
}

static int run_query(lua_State *L, const char *sql, const mw_value *param, mw_query_cb cb) {
  mw_store_client *client = mw_store_check_client(L);
  mw_str text = mw_store_expand_schema(L, mw_str_from(sql)); // may raise, so before the operation is made
  mw_store_op *op = mw_store_op_start(L, "a read");
  op->ids = true;
  mw_query_opts opts = {.sql = text, .params = param, .nparams = 1};
  return mw_store_op_suspend(L, op, mw_store_query(client, MW_DB_ENGINE, &opts, cb, op, &op->query));
}

// The first row, or nil.
static int push_first(lua_State *L, void *arg) {
  mw_store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  if (!op->rows->count) return lua_pushnil(L), 1;
  mw_store_push_rows(L, op->rows, true);
  lua_rawgeti(L, -1, 1);
  return 1;
}

static void on_first(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  mw_store_op_take_rows(arg, status, rows, err, sqlstate);
  mw_store_op_finish(arg, push_first);
}

// The only value of the only row, or nil.
static int push_only(lua_State *L, void *arg) {
  mw_store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  if (!op->rows->count) return lua_pushnil(L), 1;
  lua_pushlstring(L, op->rows->values[0].str.ptr, op->rows->values[0].str.len);
  return 1;
}

static void on_only(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  mw_store_op_take_rows(arg, status, rows, err, sqlstate);
  mw_store_op_finish(arg, push_only);
}

static int l_get_code(lua_State *L) {
  mw_value hash = MW_VALUE_OF_TEXT(mw_store_check_str(L, 1));
  return run_query(L, "SELECT text FROM {{schema}}.code WHERE hash = $1", &hash, on_only);
}

static mw_value id_param(lua_State *L, mw_id *id, char text[MW_ID_TEXT]) {
  *id = mw_store_check_id(L, 1);
  mw_id_format(id, text);
  if (mw_store_is_sqlite(L)) return MW_VALUE_OF_BLOB(mw_str_of((const char *)id->bytes, 16));
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
  mw_store_client *client = mw_store_check_client(L);
  mw_str app = mw_store_check_str(L, 1), kind = mw_store_check_str(L, 2), subject = mw_store_check_str(L, 3), actor = mw_store_check_str(L, 4), detail = mw_store_opt_str(L, 5);
  mw_store_op *op = mw_store_op_start(L, "add_change");
  return mw_store_op_suspend(L, op, mw_store_add_change(client, app, kind, subject, actor, detail, mw_store_op_on_written, op));
}

/* ---- what does not wait ---- */

// notify() says to all nodes that there is work; notify(id) that somebody wants something of that execution.
static int l_notify(lua_State *L) {
  mw_store_client *client = mw_store_check_client(L);
  mw_str id = mw_store_opt_str(L, 1);
  mw_store_notify(client, id.ptr ? MW_NOTICE_CONTROL : MW_NOTICE_WORK, id);
  return 0;
}

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

// The schema of our tables, when a transaction on the application database can reach them; else nil.
static int l_app_schema(lua_State *L) {
  mw_store *store = store_of(L);
  if (!mw_store_shares_database(store)) return 0;
  lua_pushstring(L, mw_store_schema(store));
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

/* ---- further databases ---- */

typedef struct open_op {
  mw_task *task;
  mw_databases_wait *wait;
} open_op;

static void cancel_open(void *arg) {
  open_op *op = arg;
  mw_databases_cancel(op->wait);
  mw_free(op);
}

static void on_database_open(int status, const mw_err *err, void *arg) {
  mw_task *task = ((open_op *)arg)->task;
  mw_free(arg);
  if (status) {
    mw_task_resume_error(task, status, err->text);
    return;
  }
  lua_pushboolean(mw_task_lua(task), 1);
  mw_task_resume(task, 1);
}

static mw_databases_door *check_door(lua_State *L) {
  mw_host *host = mw_host_of(L);
  if (!host || !host->databases) luaL_error(L, "a database of mw.db needs a running server");
  return host->databases;
}

static int l_is_open(lua_State *L) {
  lua_pushboolean(L, mw_databases_find(check_door(L), luaL_checkstring(L, 1)) != NULL);
  return 1;
}

static int l_open_database(lua_State *L) {
  mw_databases_door *door = check_door(L);
  const char *name = luaL_checkstring(L, 1);
  mw_task_check_yieldable(L, "mw.db");
  open_op *op = MW_NEW(open_op);
  op->task = mw_task_current(L);
  int rc = mw_databases_open(door, name, on_database_open, op, &op->wait);
  if (!rc) return mw_task_suspend(L, cancel_open, op);
  mw_free(op);
  return mw_vm_push_failure(L, rc, NULL);
}

static const luaL_Reg functions[] = {
    {"query", l_query},       {"begin", mw_store_l_begin}, {"put_code", l_put_code}, {"get_code", l_get_code},
    {"get", l_get},           {"journal", l_journal},      {"engine", l_engine},     {"notify", l_notify},     {"add_change", l_add_change},
    {"is_up", l_is_up},       {"epoch", l_epoch},          {"lease_left", l_lease_left}, {"is_open", l_is_open},
    {"open_database", l_open_database}, {"app_schema", l_app_schema}, {NULL, NULL},
};

static int open_module(lua_State *L) {
  mw_store_open_tx(L);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  luaL_register(L, NULL, mw_store_run_functions);
  luaL_register(L, NULL, mw_store_signal_functions);
  return 1;
}

int mw_open_store(lua_State *L) {
  mw_vm_add_module(L, "mw.core.store", open_module);
  return 0;
}
