// SPDX-License-Identifier: MIT
#pragma once

// What the files of mw.core.store share (bind_store.c, store_tx.c, store_run.c): reading arguments, and operations. An operation is what
// a task waits for in the store. When the task is cancelled the operation goes on without it, and its callback frees it.
//
//   mw_store_op *op = mw_store_op_start(L, "put_code");
//   return mw_store_op_suspend(L, op, mw_store_put_code(client, list, count, mw_store_op_on_written, op));

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/id.h"
#include "store/journal.h"
#include "store/store.h"
#include "vm/task.h"

typedef struct mw_store_op {
  mw_task *task;    /**< NULL: nobody waits any more. */
  mw_query *query;  /**< To be cancelled with the task. */
  bool ids;         /**< Blobs of 16 bytes come out as ids. */
  int status;
  const mw_rows *rows;
  const mw_err *err;
  const char *sqlstate;
  mw_id id;
  const mw_id *existing;
  const mw_claimed *claimed;
  size_t count;
  int64_t next_due_us;
  struct tx_box *box; /**< Of store_tx.c. */
  int control;      /**< Of an append with more. */
  bool *delivered;    /**< Set once the task has the answer; what it does not get to know of must not stay its own. */
} mw_store_op;

/** Begins an operation of the running task; raises where it cannot wait. */
mw_store_op *mw_store_op_start(lua_State *L, const char *what);
/** Suspends the task, or frees the operation and returns nil, err when `rc` says that it did not begin. */
int mw_store_op_suspend(lua_State *L, mw_store_op *op, int rc);
/** Resumes the task, if it still waits, with what `push(L, op)` pushes, and frees the operation. */
void mw_store_op_finish(mw_store_op *op, int (*push)(lua_State *L, void *arg));
/** Keeps a query's answer for the push. */
void mw_store_op_take_rows(mw_store_op *op, int status, const mw_rows *rows, const mw_err *err, const char *sqlstate);
/** Push functions: true, or the rows; both answer a failed status with nil, err. */
int mw_store_op_push_true(lua_State *L, void *arg);
int mw_store_op_push_rows(lua_State *L, void *arg);
/** Ends an operation whose answer is true. An mw_write_cb. */
void mw_store_op_on_written(int status, const mw_id *existing, const mw_err *err, void *arg);

/** Arguments; a missing optional one is `.ptr` NULL, or 0. They raise for what is wrong. */
mw_str mw_store_opt_str(lua_State *L, int index);
mw_str mw_store_check_str(lua_State *L, int index);
/** Seconds to milliseconds. */
int64_t mw_store_opt_ms(lua_State *L, int index);
mw_id mw_store_check_id(lua_State *L, int index);
/** "engine", "app", or the name of a further database that is open; raises for any other. Which of its client's databases it is goes to
 *  `db`. */
mw_store_client *mw_store_check_target(lua_State *L, int index, mw_db *db);
/** The worker's door; raises where there is no server. */
mw_store_client *mw_store_check_client(lua_State *L);
/** True when ids of the engine's tables are 16-byte blobs. */
bool mw_store_is_sqlite(lua_State *L);
/** Replaces `{{schema}}.` by our schema; pushes a buffer that holds the text. */
mw_str mw_store_expand_schema(lua_State *L, mw_str sql);
/** Pushes an arena that the collector frees, whatever is raised meanwhile. */
mw_arena *mw_store_push_arena(lua_State *L);

/** store_tx.c: begin(db, timeout_s), and the metatable of what it gives. */
int mw_store_l_begin(lua_State *L);
void mw_store_open_tx(lua_State *L);
/** store_run.c: create append append_late take_late claim, for luaL_register. */
extern const luaL_Reg mw_store_run_functions[];
