// SPDX-License-Identifier: MIT

// Transactions for mw.core.store: a userdata that is rolled back when the task that began it ends without finishing it.

#include "base/alloc.h"
#include "bind/store_op.h"
#include "bind/store_values.h"

#define TX_META "mw.store.tx"

// Shared by the userdata and the operation under way; freed when both are done.
typedef struct tx_box {
  mw_tx *tx;      // NULL: ended
  mw_task_hold hold; // on the task that began it: with the task it ends, also when a kill lets no Lua code run any more
  int refs;
  bool is_engine; // ids are ids, {{schema}}. stands for our schema
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
  mw_store_op *op = arg;
  op->task = NULL;
  op->box->abandoned = true;
}

static void on_task_over(mw_task_hold *hold) { abandon_box(MW_CONTAINER(hold, tx_box, hold)); }

static mw_store_op *start_tx_op(lua_State *L, tx_box *box, const char *what) {
  mw_store_op *op = mw_store_op_start(L, what);
  op->box = box;
  box->refs++;
  box->busy = true;
  return op;
}

static void finish_tx_op(mw_store_op *op, int (*push)(lua_State *L, void *arg)) {
  tx_box *box = op->box;
  box->busy = false;
  if (box->abandoned) end_box(box);
  mw_store_op_finish(op, push); // may end the userdata's share
  unref_box(box);
}

static int suspend_tx(lua_State *L, mw_store_op *op, int rc) {
  if (!rc) return mw_task_suspend(L, cancel_tx_op, op);
  op->box->busy = false;
  unref_box(op->box);
  mw_free(op);
  return mw_vm_push_failure(L, rc, NULL);
}

static int push_tx(lua_State *L, void *arg) {
  mw_store_op *op = arg;
  if (op->status) return mw_store_push_failure(L, op->status, op->err, op->sqlstate);
  tx_box **slot = lua_newuserdata(L, sizeof *slot);
  *slot = op->box;
  op->box->refs++;
  luaL_getmetatable(L, TX_META);
  lua_setmetatable(L, -2);
  return 1;
}

static void on_begun(int status, mw_tx *tx, const mw_err *err, void *arg) {
  mw_store_op *op = arg;
  op->status = status;
  op->err = err;
  op->box->tx = status ? NULL : tx;
  if (op->task && !status) mw_task_hold_add(op->task, &op->box->hold, on_task_over);
  finish_tx_op(op, push_tx);
}

int mw_store_l_begin(lua_State *L) {
  mw_db db;
  mw_store_client *client = mw_store_check_target(L, 1, &db);
  int64_t timeout_ms = mw_store_opt_ms(L, 2);
  mw_task_check_yieldable(L, "mw.transaction");
  tx_box *box = MW_NEW(tx_box);
  mw_list_init(&box->hold.node);
  box->is_engine = db == MW_DB_ENGINE;
  mw_store_op *op = start_tx_op(L, box, "mw.transaction"); // the operation holds the only reference so far
  return suspend_tx(L, op, mw_store_begin(client, db, timeout_ms, on_begun, op));
}

static tx_box *check_tx(lua_State *L) {
  tx_box *box = *(tx_box **)luaL_checkudata(L, 1, TX_META);
  if (box->busy) luaL_error(L, "another statement of this transaction is still running; a transaction runs one at a time");
  if (!box->tx) luaL_error(L, "the transaction is over");
  return box;
}

static void on_tx_rows(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  mw_store_op_take_rows(arg, status, rows, err, sqlstate);
  finish_tx_op(arg, mw_store_op_push_rows);
}

static int l_tx_query(lua_State *L) {
  tx_box *box = check_tx(L);
  mw_str sql = mw_store_check_str(L, 2);
  size_t count;
  lua_settop(L, 4);
  mw_arena *arena = mw_store_push_arena(L);
  const mw_value *params = mw_store_read_params(L, 3, arena, box->is_engine && mw_store_is_sqlite(L), &count);
  if (box->is_engine) sql = mw_store_expand_schema(L, sql);
  mw_store_op *op = start_tx_op(L, box, "tx:query");
  op->ids = box->is_engine;
  mw_query_opts opts = {.sql = sql, .params = params, .nparams = count, .timeout_ms = mw_store_opt_ms(L, 4)};
  int rc = mw_tx_query(box->tx, &opts, on_tx_rows, op);
  mw_arena_deinit(arena);
  return suspend_tx(L, op, rc);
}

static void on_tx_ended(int status, mw_tx *tx, const mw_err *err, void *arg) {
  mw_store_op *op = arg;
  op->status = status;
  op->err = err;
  finish_tx_op(op, mw_store_op_push_true);
}

static int l_tx_finish(lua_State *L) {
  tx_box *box = check_tx(L);
  bool commit = lua_toboolean(L, 2);
  mw_store_op *op = start_tx_op(L, box, "the end of mw.transaction");
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

static const luaL_Reg methods[] = {{"query", l_tx_query}, {"finish", l_tx_finish}, {NULL, NULL}};

void mw_store_open_tx(lua_State *L) {
  luaL_newmetatable(L, TX_META);
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc_tx);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}
