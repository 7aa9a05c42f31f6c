// SPDX-License-Identifier: MIT

// Executions for mw.core.store: creating, appending to the journal, claiming. What a task does not get to know of is given back.

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "bind/host.h"
#include "bind/store_more.h"
#include "bind/store_op.h"
#include "bind/store_values.h"
#include "state/late.h"

static int push_created(lua_State *L, void *arg) {
  mw_store_op *op = arg;
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
  mw_write write = {.kind = MW_WRITE_APPEND, .id = *id, .fence = fence, .status = MW_STATUS_QUEUED, .now_us = now_us, .due_us = now_us,
                    .unattended = true};
  int rc = mw_store_write(client, &write, on_appended_unattended, NULL);
  if (rc) on_appended_unattended(rc, NULL, NULL, NULL);
}

typedef struct create_op {
  mw_store_op op;
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
  mw_store_op_finish(&create->op, push_created);
  if (owned && !delivered) give_back(client, &id, 1);
}

static int l_create(lua_State *L) {
  mw_store_client *client = mw_store_check_client(L);
  mw_write write = {
      .kind = MW_WRITE_CREATE, .id = mw_id_new(), .now_us = mw_clock_wall_us(), .workflow = mw_store_check_str(L, 1), .input = mw_store_opt_str(L, 2),
      .bundle = mw_store_opt_str(L, 3), .seed = mw_store_opt_str(L, 4), .status = (mw_status)luaL_checkint(L, 5), .due_us = mw_store_opt_us(L, 6),
      .external_id = mw_store_opt_str(L, 7), .key = mw_store_opt_str(L, 8), .request_hash = mw_store_opt_str(L, 9), .app = mw_store_opt_str(L, 10),
      .api_level = luaL_optint(L, 11, 1)};
  mw_write_more more;
  if (mw_store_read_more(L, 12, &more, &write.id)) write.more = &more;
  write.fence = write.status == MW_STATUS_RUNNING ? 1 : 0;
  mw_task_check_yieldable(L, "mw.trigger");
  create_op *create = MW_NEW(create_op);
  create->op.task = mw_task_current(L);
  create->op.id = write.id;
  create->client = client;
  create->owned = write.status == MW_STATUS_RUNNING;
  return mw_store_op_suspend(L, &create->op, mw_store_write(client, &write, on_created, create));
}

static int push_appended(lua_State *L, void *arg) {
  mw_store_op *op = arg;
  int count = mw_store_op_push_true(L, op);
  if (op->status || op->control == 0) return count;
  lua_pushinteger(L, op->control);
  return 2;
}

static void on_appended_more(int status, const mw_id *existing, const mw_err *err, void *arg) {
  mw_store_op *op = arg;
  op->status = status;
  op->err = err;
  mw_store_op_finish(op, push_appended);
}

static int l_append(lua_State *L) {
  mw_store_client *client = mw_store_check_client(L);
  mw_write write = {
      .kind = MW_WRITE_APPEND, .id = mw_store_check_id(L, 1), .fence = (int64_t)luaL_checknumber(L, 2), .number = (int64_t)luaL_checknumber(L, 3),
      .data = mw_store_opt_str(L, 4), .status = (mw_status)luaL_optint(L, 5, 0), .due_us = mw_store_opt_us(L, 6), .output = mw_store_opt_str(L, 7),
      .error = mw_store_opt_str(L, 8), .patience_ms = mw_store_opt_ms(L, 9), .now_us = mw_clock_wall_us()};
  mw_write_more more;
  mw_id unused;
  if (mw_store_read_more(L, 10, &more, &unused)) write.more = &more;
  mw_task *task = mw_task_current(L);
  if (!task || mw_task_is_cancelled(task)) {
    write.unattended = true;
    int rc = mw_store_write(client, &write, on_appended_unattended, NULL);
    if (rc) return mw_vm_push_failure(L, rc, NULL);
    lua_pushboolean(L, 1);
    return 1;
  }
  mw_store_op *op = mw_store_op_start(L, "a journal row");
  if (write.more) {
    more.control = &op->control;
    return mw_store_op_suspend(L, op, mw_store_write(client, &write, on_appended_more, op));
  }
  return mw_store_op_suspend(L, op, mw_store_write(client, &write, mw_store_op_on_written, op));
}

// append_late(id, fence, number, data) -> a ticket: the row is written by itself unless take_late(ticket) comes first.
static int l_append_late(lua_State *L) {
  mw_host *host = mw_host_of(L);
  mw_write write = {.kind = MW_WRITE_APPEND, .id = mw_store_check_id(L, 1), .fence = (int64_t)luaL_checknumber(L, 2),
                    .number = (int64_t)luaL_checknumber(L, 3), .data = mw_store_check_str(L, 4), .now_us = mw_clock_wall_us()};
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
  if (row->priority) set_number(L, "priority", row->priority);
  if (row->control) set_number(L, "control", row->control);
  if (row->group.len) set_str(L, "group", row->group);
  if (row->parent_key.len) set_str(L, "parent_key", row->parent_key);
  if (row->tags.len) set_str(L, "tags", row->tags);
  if (row->state.len) set_str(L, "state", row->state);
  if (!row->has_parent) return;
  mw_id_format(&row->parent, text);
  lua_pushlstring(L, text, MW_ID_TEXT - 1);
  lua_setfield(L, -2, "parent");
}

static int push_claim(lua_State *L, void *arg) {
  mw_store_op *op = arg;
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
  mw_store_op op;
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
  mw_store_op_finish(&claim->op, push_claim);
  for (size_t i = 0; !delivered && !status && i < count; i++) give_back(client, &list[i].id, list[i].fence);
}

static int l_claim(lua_State *L) {
  mw_store_client *client = mw_store_check_client(L);
  int limit = luaL_checkint(L, 1);
  mw_task_check_yieldable(L, "claim");
  claim_op *claim = MW_NEW(claim_op);
  claim->op.task = mw_task_current(L);
  claim->client = client;
  return mw_store_op_suspend(L, &claim->op, mw_store_claim(client, mw_clock_wall_us(), limit, on_claimed, claim));
}

const luaL_Reg mw_store_run_functions[] = {
    {"create", l_create},       {"append", l_append}, {"append_late", l_append_late},
    {"take_late", l_take_late}, {"claim", l_claim},   {NULL, NULL},
};
