// SPDX-License-Identifier: MIT
#include "bind/store_more.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "bind/store_op.h"
#include "bind/store_values.h"

#define MAX_SIGNAL_BYTES 300   // of a name, and of an id
#define MAX_SIGNALS "10000"    // of an execution, those that were taken included: they are remembered by their ids

int64_t mw_store_opt_us(lua_State *L, int index) {
  lua_Number us = luaL_optnumber(L, index, 0);
  return us >= 9223372036854775807.0 ? INT64_MAX : (int64_t)us;
}

// ---- the table ----

/** The string stays the table's. */
static mw_str text_field(lua_State *L, int index, const char *name) {
  mw_str text = {NULL, 0};
  lua_getfield(L, index, name);
  if (lua_type(L, -1) == LUA_TSTRING) text.ptr = lua_tolstring(L, -1, &text.len);
  else if (!lua_isnil(L, -1)) luaL_error(L, "%s: a string expected", name);
  lua_pop(L, 1);
  return text;
}

static int64_t int_field(lua_State *L, int index, const char *name, int64_t otherwise) {
  lua_getfield(L, index, name);
  if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TNUMBER) luaL_error(L, "%s: a number expected", name);
  int64_t number = lua_isnil(L, -1) ? otherwise : (int64_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
  return number;
}

static bool id_field(lua_State *L, int index, const char *name, mw_id *id) {
  mw_str text = text_field(L, index, name);
  if (!text.ptr) return false;
  if (!mw_id_parse(text, id)) luaL_error(L, "%s: an execution's id expected", name);
  return true;
}

/** Joins a list of names by line feeds, with one before and after when `framed`; leaves the text on the stack. */
static mw_str list_field(lua_State *L, int index, const char *name, bool framed) {
  lua_getfield(L, index, name);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return (mw_str){NULL, 0};
  }
  if (!lua_istable(L, -1)) luaL_error(L, "%s: a list expected", name);
  int list = lua_gettop(L);
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  if (framed) luaL_addchar(&out, '\n');
  for (int i = 1, count = (int)lua_objlen(L, list); i <= count; i++) {
    lua_rawgeti(L, list, i);
    if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "%s: strings expected", name);
    if (memchr(lua_tostring(L, -1), '\n', lua_objlen(L, -1))) luaL_error(L, "%s: no line feeds in names", name);
    luaL_addvalue(&out);
    if (framed || i < count) luaL_addchar(&out, '\n');
  }
  luaL_pushresult(&out);
  lua_remove(L, list);
  mw_str text;
  text.ptr = lua_tolstring(L, -1, &text.len);
  return text;
}

bool mw_store_read_more(lua_State *L, int index, mw_write_more *out, mw_id *own_id) {
  *out = (mw_write_more){0};
  if (lua_isnoneornil(L, index)) return false;
  luaL_checktype(L, index, LUA_TTABLE);
  luaL_checkstack(L, 10, "no room");
  out->group = text_field(L, index, "group");
  out->group_slots = (int)int_field(L, index, "slots", 1);
  out->group_every_us = int_field(L, index, "every_us", 0);
  out->group_burst = (int)int_field(L, index, "burst", 1);
  out->priority = (int)int_field(L, index, "priority", 0);
  out->tags = text_field(L, index, "tags");
  out->has_parent = id_field(L, index, "parent", &out->parent);
  out->parent_key = text_field(L, index, "parent_key");
  out->own_id = id_field(L, index, "id", own_id);
  out->state = text_field(L, index, "state");
  out->waits = list_field(L, index, "waits", true);
  out->take = list_field(L, index, "take", false);
  return true;
}

// ---- signals ----

typedef struct signal_op {
  mw_store_op op;
  mw_store_client *client;
  mw_err err;
  char why[400]; // the second question, with our schema
  char id[MW_ID_TEXT], signal[MAX_SIGNAL_BYTES + 1];
  bool sqlite;
} signal_op;

static mw_value id_value(const signal_op *s) {
  if (s->sqlite) return MW_VALUE_OF_BLOB(mw_str_of((const char *)s->op.id.bytes, sizeof s->op.id.bytes));
  return MW_VALUE_OF_TEXT(mw_str_from(s->id));
}

static void finish(signal_op *s, int status, const char *text) {
  s->op.status = status;
  if (status) mw_err_set(&s->err, status, "%s", text);
  s->op.err = &s->err;
  mw_store_op_finish(&s->op, mw_store_op_push_true);
}

static void on_why(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  signal_op *s = arg;
  s->op.query = NULL;
  if (status) finish(s, status, err->text);
  else if (!rows->count) finish(s, MW_ENOTFOUND, "there is no such execution");
  else if (rows->values[0].i > 0) finish(s, 0, NULL); // sent before
  else if (rows->values[1].i < MW_STATUS_COMPLETED) finish(s, MW_ELIMIT, "the execution has had " MAX_SIGNALS " signals, and takes no more");
  else finish(s, MW_ECONFLICT, "the execution has ended");
}

static void on_sent(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  signal_op *s = arg;
  s->op.query = NULL;
  if (status || rows->count || !s->op.task) {
    finish(s, status, err ? err->text : NULL);
    return;
  }
  mw_value params[] = {id_value(s), MW_VALUE_OF_TEXT(mw_str_from(s->signal))};
  mw_query_opts opts = {.sql = mw_str_from(s->why), .params = params, .nparams = 2};
  int rc = mw_store_query(s->client, MW_DB_ENGINE, &opts, on_why, s, &s->op.query);
  if (rc) finish(s, rc, mw_err_text(rc));
}

#define WHY                                                                                                       \
  "SELECT (SELECT count(*) FROM {{schema}}.signals s WHERE s.execution = e.id AND s.id = $2), status"             \
  " FROM {{schema}}.executions e WHERE e.id = $1"
#define SEND                                                                                                      \
  "INSERT INTO {{schema}}.signals (execution, id, name, data, sent_us, actor)"                                    \
  " SELECT id, CAST($2 AS text), CAST($3 AS text), CAST($4 AS text), CAST($5 AS bigint), CAST($6 AS text)"        \
  " FROM {{schema}}.executions WHERE id = $1 AND status < 8"                                                      \
  " AND (SELECT count(*) FROM (SELECT 1 FROM {{schema}}.signals WHERE execution = $1 LIMIT " MAX_SIGNALS ") few) < " MAX_SIGNALS

static mw_value text_or_null(mw_str text) { return text.ptr ? MW_VALUE_OF_TEXT(text) : MW_VALUE_OF_NULL; }

static int l_signal(lua_State *L) {
  mw_store_client *client = mw_store_check_client(L);
  mw_id id = mw_store_check_id(L, 1), made = mw_id_new();
  mw_str name = mw_store_check_str(L, 2), data = mw_store_opt_str(L, 3), own = mw_store_opt_str(L, 4), actor = mw_store_opt_str(L, 5);
  luaL_argcheck(L, name.len > 0 && name.len <= MAX_SIGNAL_BYTES && !memchr(name.ptr, '\n', name.len), 2, "a name of at most 300 bytes");
  luaL_argcheck(L, !own.ptr || (own.len > 0 && own.len <= MAX_SIGNAL_BYTES && !memchr(own.ptr, '\n', own.len)), 4, "an id of at most 300 bytes");
  bool sqlite = mw_store_is_sqlite(L);
  mw_task_check_yieldable(L, "mw.signal");
  char why[sizeof ((signal_op *)0)->why];
  mw_str text = mw_store_expand_schema(L, MW_STR(WHY));
  snprintf(why, sizeof why, "%.*s", MW_STR_FMT(text));
  // On PostgreSQL the row is locked, so that it does not end before the signal is there.
  text = mw_store_expand_schema(L, sqlite ? MW_STR(SEND " ON CONFLICT DO NOTHING RETURNING 1")
                                          : MW_STR(SEND " FOR NO KEY UPDATE ON CONFLICT DO NOTHING RETURNING 1"));
  signal_op *s = MW_NEW(signal_op);
  s->op.task = mw_task_current(L);
  s->op.id = id;
  s->client = client;
  s->sqlite = sqlite;
  memcpy(s->why, why, sizeof why);
  mw_id_format(&id, s->id);
  if (own.ptr) snprintf(s->signal, sizeof s->signal, "%.*s", MW_STR_FMT(own));
  else mw_id_format(&made, s->signal);
  mw_value params[] = {id_value(s), MW_VALUE_OF_TEXT(mw_str_from(s->signal)), MW_VALUE_OF_TEXT(name), text_or_null(data),
                       MW_VALUE_OF_INT(mw_clock_wall_us()), text_or_null(actor)};
  mw_query_opts opts = {.sql = text, .params = params, .nparams = sizeof params / sizeof *params};
  return mw_store_op_suspend(L, &s->op, mw_store_query(client, MW_DB_ENGINE, &opts, on_sent, s, &s->op.query));
}

static void on_signals(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  mw_store_op_take_rows(arg, status, rows, err, sqlstate);
  mw_store_op_finish(arg, mw_store_op_push_rows);
}

// A run may have 10,000 signals of a megabyte: only what is small comes with its name.
#define ALL_SIGNALS                                                                                               \
  "SELECT id, name, sent_us, CASE WHEN length(data) <= 256 THEN data END AS data,"                                \
  " CASE WHEN length(data) > 256 THEN 1 END AS is_large"                                                          \
  " FROM {{schema}}.signals WHERE execution = $1 AND taken_us IS NULL ORDER BY sent_us, id"
#define ONE_SIGNAL "SELECT id, name, sent_us, data FROM {{schema}}.signals WHERE execution = $1 AND id = $2"

static int l_signals(lua_State *L) {
  mw_store_client *client = mw_store_check_client(L);
  mw_id id = mw_store_check_id(L, 1);
  mw_str one = mw_store_opt_str(L, 2);
  char text[MW_ID_TEXT];
  mw_id_format(&id, text);
  mw_value params[] = {mw_store_is_sqlite(L) ? MW_VALUE_OF_BLOB(mw_str_of((const char *)id.bytes, sizeof id.bytes))
                                             : MW_VALUE_OF_TEXT(mw_str_from(text)),
                       text_or_null(one)};
  mw_str sql = mw_store_expand_schema(L, one.ptr ? MW_STR(ONE_SIGNAL) : MW_STR(ALL_SIGNALS));
  mw_store_op *op = mw_store_op_start(L, "signals");
  mw_query_opts opts = {.sql = sql, .params = params, .nparams = one.ptr ? 2 : 1};
  return mw_store_op_suspend(L, op, mw_store_query(client, MW_DB_ENGINE, &opts, on_signals, op, &op->query));
}

const luaL_Reg mw_store_signal_functions[] = {{"signal", l_signal}, {"signals", l_signals}, {NULL, NULL}};
