// SPDX-License-Identifier: MIT
#include "bind/store_op.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "bind/host.h"
#include "bind/store_values.h"
#include "store/databases.h"
#include "vm/scratch.h"

mw_str mw_store_opt_str(lua_State *L, int index) {
  mw_str text = {NULL, 0};
  if (!lua_isnoneornil(L, index)) text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

mw_str mw_store_check_str(lua_State *L, int index) {
  mw_str text;
  text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

int64_t mw_store_opt_ms(lua_State *L, int index) {
  lua_Number seconds = luaL_optnumber(L, index, 0);
  return seconds > 0 ? (int64_t)fmax(1, fmin(seconds * 1000, 1e12)) : 0;
}

mw_id mw_store_check_id(lua_State *L, int index) {
  mw_id id;
  if (!mw_id_parse(mw_store_check_str(L, index), &id)) luaL_argerror(L, index, "an execution's id expected");
  return id;
}

mw_store_client *mw_store_check_client(lua_State *L) {
  mw_host *host = mw_host_of(L);
  if (!host || !host->store) luaL_error(L, "the database needs a running server");
  return host->store;
}

mw_store_client *mw_store_check_target(lua_State *L, int index, mw_db *db) {
  const char *name = luaL_checkstring(L, index);
  mw_host *host = mw_host_of(L);
  *db = strcmp(name, "engine") == 0 ? MW_DB_ENGINE : MW_DB_APP;
  if (*db == MW_DB_ENGINE || strcmp(name, "app") == 0) return mw_store_check_client(L);
  mw_store_client *client = host && host->databases ? mw_databases_find(host->databases, name) : NULL;
  if (!client) luaL_error(L, "the database %s is not open", name);
  return client;
}

// An arena that the collector frees, whatever is raised meanwhile.
static int gc_arena(lua_State *L) {
  mw_arena_deinit(lua_touserdata(L, 1));
  return 0;
}

mw_arena *mw_store_push_arena(lua_State *L) {
  mw_arena *arena = lua_newuserdata(L, sizeof *arena);
  mw_arena_init(arena);
  if (luaL_newmetatable(L, "mw.store.arena")) {
    lua_pushcfunction(L, gc_arena);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return arena;
}

/* ---- operations ---- */

bool mw_store_is_sqlite(lua_State *L) {
  return mw_store_schema(mw_store_client_store(mw_store_check_client(L)))[0] == 0;
}

mw_str mw_store_expand_schema(lua_State *L, mw_str sql) {
  static const char mark[] = "{{schema}}.";
  const char *schema = mw_store_schema(mw_store_client_store(mw_store_check_client(L)));
  const char *at = sql.ptr, *end = sql.ptr + sql.len, *found;
  mw_buf *out = mw_scratch_buf(L);
  while ((found = memmem(at, (size_t)(end - at), mark, sizeof mark - 1))) {
    mw_buf_add(out, at, (size_t)(found - at));
    if (schema[0]) mw_buf_printf(out, "\"%s\".", schema);
    at = found + sizeof mark - 1;
  }
  mw_buf_add(out, at, (size_t)(end - at));
  return mw_buf_str(out);
}

mw_store_op *mw_store_op_start(lua_State *L, const char *what) {
  mw_task_check_yieldable(L, what);
  mw_store_op *op = MW_NEW(mw_store_op);
  op->task = mw_task_current(L);
  return op;
}

static void cancel_op(void *arg) {
  mw_store_op *op = arg;
  op->task = NULL;
  if (op->query) mw_query_cancel(op->query);
  op->query = NULL;
}

void mw_store_op_finish(mw_store_op *op, int (*push)(lua_State *L, void *arg)) {
  if (op->task) mw_task_resume_with(op->task, push, op);
  mw_free(op);
}

int mw_store_op_suspend(lua_State *L, mw_store_op *op, int rc) {
  if (!rc) return mw_task_suspend(L, cancel_op, op);
  mw_free(op);
  return mw_vm_push_failure(L, rc, NULL);
}

int mw_store_op_push_true(lua_State *L, void *arg) {
  mw_store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  lua_pushboolean(L, 1);
  return 1;
}

int mw_store_op_push_rows(lua_State *L, void *arg) {
  mw_store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  mw_store_push_rows(L, op->rows, op->ids);
  return 1;
}

void mw_store_op_take_rows(mw_store_op *op, int status, const mw_rows *rows, const mw_err *err, const char *sqlstate) {
  op->query = NULL;
  op->status = status;
  op->rows = rows;
  op->err = err;
  op->sqlstate = sqlstate;
}

void mw_store_op_on_written(int status, const mw_id *existing, const mw_err *err, void *arg) {
  mw_store_op *op = arg;
  if (!status && op->task) { // the most frequent answer of all; pushing it cannot fail
    mw_task *task = op->task;
    mw_free(op);
    lua_pushboolean(mw_task_lua(task), 1);
    mw_task_resume(task, 1);
    return;
  }
  op->status = status;
  op->err = err;
  mw_store_op_finish(op, mw_store_op_push_true);
}
