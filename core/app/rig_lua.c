// SPDX-License-Identifier: MIT

// mw.core.rig, for specs:
//
//   open { plugins =, migrations =, from =, config_file =, config = {name = text}, env = {name = text}, now_us =, seed =, world =,
//          prelude =, answer = function(kind, text, bytes) … return text, bytes end } -> rig | nil, why
//   rig:load() -> true, report | false, report | nil, why         rig:restart() -> the same
//   rig:settle() -> "calm" | "crashed" | nil, why
//   rig:now() -> us        rig:next_due() -> us | nil        rig:move(us)
//   rig:call(name, text) -> true | nil, why
//   rig:connect(listener, ip) -> number | nil     rig:send(number, bytes)     rig:receive(number) -> bytes, ended     rig:hang_up(number)
//   rig:logs() -> JSON lines       rig:dir()       rig:world() -> text, for `world` of another       rig:option(name) -> JSON | nil
//   rig:close()
//
// and mw.core.rig_link, which the rig's own states have:
//
//   call(kind, text | nil, bytes | nil) -> text | nil, bytes | nil     calls `answer` in the spec's state; raises what it raised
//   crash()            the process dies here; wait for ever after it
//   outside(count)     so many more (or fewer) things wait for the real network

#include "app/rig_lua.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "app/config_file.h"
#include "app/listen.h"
#include "app/rig.h"
#include "base/alloc.h"
#include "base/rand.h"
#include "vm/scratch.h"
#include "vm/vm.h"

#define RIG "mw.core.rig"

typedef struct box {
  mw_rig *rig;
  lua_State *L; // who is inside now; NULL: nobody, and nothing is answered
  int answer;
} box;

/* ---- inside: what the plugin's side asks of the spec ---- */

static mw_str opt_str(lua_State *L, int index) {
  mw_str text = {NULL, 0};
  if (!lua_isnoneornil(L, index)) text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

static void push_or_nil(lua_State *L, mw_str text) {
  if (text.ptr) lua_pushlstring(L, text.ptr, text.len);
  else lua_pushnil(L);
}

// Of what the answer returned, or raised, to the other state. A copy, so that nothing is left on the spec's stack if that raises.
static void take(lua_State *from, int index, mw_buf *to, bool *is_nil) {
  mw_str text;
  text.ptr = lua_tolstring(from, index, &text.len);
  *is_nil = !text.ptr;
  if (text.ptr) mw_buf_add_str(to, text);
}

static int l_link_call(lua_State *L) {
  box *b = mw_rig_user(L);
  mw_str kind = opt_str(L, 1), text = opt_str(L, 2), bytes = opt_str(L, 3);
  if (!b || !b->L || mw_rig_is_crashed(b->rig)) return luaL_error(L, "the spec is not listening");
  mw_buf *first = mw_scratch_buf(L), *second = mw_scratch_buf(L);
  bool first_nil = true, second_nil = true;
  lua_State *spec = b->L;
  if (!lua_checkstack(spec, 8)) return luaL_error(L, "the spec's stack is full");
  lua_rawgeti(spec, LUA_REGISTRYINDEX, b->answer);
  push_or_nil(spec, kind);
  push_or_nil(spec, text);
  push_or_nil(spec, bytes);
  int status = lua_pcall(spec, 3, 2, 0);
  take(spec, status ? -1 : -2, first, &first_nil);
  if (!status) take(spec, -1, second, &second_nil);
  lua_pop(spec, status ? 1 : 2);
  if (status) return luaL_error(L, "%s", first_nil ? "the spec raised an error" : mw_buf_cstr(first));
  push_or_nil(L, first_nil ? (mw_str){NULL, 0} : mw_str_of(first->ptr ? first->ptr : "", first->len));
  push_or_nil(L, second_nil ? (mw_str){NULL, 0} : mw_str_of(second->ptr ? second->ptr : "", second->len));
  return 2;
}

static int l_link_crash(lua_State *L) {
  mw_rig *rig = mw_rig_of(L);
  if (rig) mw_rig_crash(rig);
  return 0;
}

static int l_link_outside(lua_State *L) {
  mw_rig *rig = mw_rig_of(L);
  if (rig) mw_rig_add_outside(rig, (int)luaL_checkinteger(L, 1));
  return 0;
}

static int open_link(lua_State *L) {
  static const luaL_Reg functions[] = {{"call", l_link_call}, {"crash", l_link_crash}, {"outside", l_link_outside}, {NULL, NULL}};
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

static int open_link_module(lua_State *L) {
  mw_vm_add_module(L, "mw.core.rig_link", open_link);
  return 0;
}

/* ---- outside: open ---- */

static const char *opt_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  const char *text = lua_isnil(L, -1) ? NULL : luaL_checkstring(L, -1);
  lua_pop(L, 1); // the table holds it
  return text;
}

static int read_config(lua_State *L, mw_config *conf, mw_err *err) {
  const char *file = opt_field(L, "config_file");
  mw_config_init(conf);
  int rc = file ? mw_config_read_file(conf, file, err) : 0;
  if (rc == MW_ENOTFOUND) rc = 0;
  lua_getfield(L, 1, "config");
  for (lua_pushnil(L); lua_istable(L, -2) && lua_next(L, -2); lua_pop(L, 1)) {
    mw_str name, value;
    if (rc || lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING) continue;
    name.ptr = lua_tolstring(L, -2, &name.len);
    value.ptr = lua_tolstring(L, -1, &value.len);
    rc = mw_config_set_named(conf, name, value, "the spec", err);
  }
  lua_settop(L, 3);
  return rc;
}

static void read_env(lua_State *L, mw_map *env) {
  mw_map_init(env);
  lua_getfield(L, 1, "env");
  for (lua_pushnil(L); lua_istable(L, -2) && lua_next(L, -2); lua_pop(L, 1)) {
    mw_str name;
    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING) continue;
    name.ptr = lua_tolstring(L, -2, &name.len);
    mw_free(mw_map_set(env, name, mw_strdup(lua_tostring(L, -1))));
  }
  lua_settop(L, 3);
}

static mw_world read_world(lua_State *L) {
  mw_world world = {.mono_ns = 1000000000};
  const char *text = opt_field(L, "world");
  lua_getfield(L, 1, "now_us");
  lua_getfield(L, 1, "seed");
  world.wall_us = (int64_t)lua_tonumber(L, -2);
  world.rand_state = (uint64_t)lua_tonumber(L, -1);
  lua_settop(L, 1);
  long long wall, mono;
  unsigned long long state, last, counter;
  if (text && sscanf(text, "%lld %lld %llu %llu %llu", &wall, &mono, &state, &last, &counter) == 5)
    world = (mw_world){wall, mono, state, {.last_ms = last, .counter = counter}};
  return world;
}

static int fail(lua_State *L, const mw_err *err) {
  lua_pushnil(L);
  lua_pushstring(L, err->text);
  return 2;
}

static int l_open(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  mw_rig_opts opts = {.plugins = opt_field(L, "plugins"), .migrations = opt_field(L, "migrations"), .from = opt_field(L, "from"),
                      .prelude = opt_field(L, "prelude"), .world = read_world(L), .module = open_link_module};
  mw_err err = {0};
  lua_getfield(L, 1, "answer"); // options, answer
  luaL_checktype(L, 2, LUA_TFUNCTION);
  box *b = lua_newuserdata(L, sizeof *b);
  *b = (box){.answer = LUA_NOREF};
  luaL_getmetatable(L, RIG);
  lua_setmetatable(L, 3);
  lua_pushvalue(L, 2);
  b->answer = luaL_ref(L, LUA_REGISTRYINDEX);
  opts.user = b;
  opts.conf = MW_NEW(mw_config);
  int rc = read_config(L, opts.conf, &err);
  if (rc) {
    mw_config_deinit(opts.conf);
    mw_free(opts.conf);
    return fail(L, &err);
  }
  read_env(L, &opts.env);
  if (mw_rig_open(&opts, &b->rig, &err)) return fail(L, &err);
  lua_settop(L, 3);
  return 1;
}

/* ---- outside: methods ---- */

static box *check_box(lua_State *L) {
  box *b = luaL_checkudata(L, 1, RIG);
  if (!b->rig) luaL_error(L, "the app is closed");
  if (b->L) luaL_error(L, "the app is running: a stub's function cannot drive it");
  return b;
}

static int push_report(lua_State *L, int rc, mw_buf *report, const mw_err *err) {
  if (rc && rc != MW_ELUA) return fail(L, err);
  if (rc && !report->len) return fail(L, err);
  lua_pushboolean(L, rc == 0);
  lua_pushlstring(L, report->ptr ? report->ptr : "", report->len);
  return 2;
}

static int run_load(lua_State *L, int (*load)(mw_rig *rig, mw_buf *report, mw_err *err)) {
  box *b = check_box(L);
  mw_buf *report = mw_scratch_buf(L);
  mw_err err = {0};
  b->L = L;
  int rc = load(b->rig, report, &err);
  b->L = NULL;
  return push_report(L, rc, report, &err);
}

static int l_load(lua_State *L) { return run_load(L, mw_rig_load); }
static int l_restart(lua_State *L) { return run_load(L, mw_rig_restart); }

static int l_settle(lua_State *L) {
  box *b = check_box(L);
  mw_err err = {0};
  b->L = L;
  int rc = mw_rig_settle(b->rig, &err);
  b->L = NULL;
  if (rc) return fail(L, &err);
  lua_pushstring(L, mw_rig_is_crashed(b->rig) ? "crashed" : "calm");
  return 1;
}

static int l_now(lua_State *L) {
  box *b = luaL_checkudata(L, 1, RIG);
  if (!b->rig) return 0;
  lua_pushnumber(L, (lua_Number)mw_rig_now_us(b->rig));
  return 1;
}

static int l_next_due(lua_State *L) {
  int64_t due_us = mw_rig_next_due_us(check_box(L)->rig);
  if (due_us == INT64_MAX) lua_pushnil(L);
  else lua_pushnumber(L, (lua_Number)due_us);
  return 1;
}

static int l_move(lua_State *L) {
  box *b = check_box(L);
  int64_t us = (int64_t)luaL_checknumber(L, 2);
  b->L = L;
  mw_rig_move(b->rig, us);
  b->L = NULL;
  return 0;
}

static int l_call(lua_State *L) {
  box *b = check_box(L);
  const char *name = luaL_checkstring(L, 2);
  mw_str text;
  text.ptr = luaL_checklstring(L, 3, &text.len);
  mw_err err = {0};
  b->L = L;
  int rc = mw_rig_call(b->rig, name, text, &err);
  b->L = NULL;
  if (rc) return fail(L, &err);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_connect(lua_State *L) {
  box *b = check_box(L);
  int tag = mw_listen_find(mw_str_from(luaL_checkstring(L, 2)));
  const char *ip = luaL_checkstring(L, 3);
  int number = tag < 0 ? 0 : mw_rig_connect(b->rig, tag, ip);
  if (!number) return 0;
  lua_pushinteger(L, number);
  return 1;
}

static int l_send(lua_State *L) {
  box *b = check_box(L);
  int number = (int)luaL_checkinteger(L, 2);
  mw_str bytes;
  bytes.ptr = luaL_checklstring(L, 3, &bytes.len);
  mw_rig_send(b->rig, number, bytes);
  return 0;
}

static int l_receive(lua_State *L) {
  box *b = check_box(L);
  int number = (int)luaL_checkinteger(L, 2);
  mw_buf *bytes = mw_scratch_buf(L);
  bool ended = mw_rig_receive(b->rig, number, bytes);
  lua_pushlstring(L, bytes->ptr ? bytes->ptr : "", bytes->len);
  lua_pushboolean(L, ended);
  return 2;
}

static int l_hang_up(lua_State *L) {
  box *b = luaL_checkudata(L, 1, RIG);
  if (b->rig) mw_rig_hang_up(b->rig, (int)luaL_checkinteger(L, 2));
  return 0;
}

static int l_logs(lua_State *L) {
  box *b = luaL_checkudata(L, 1, RIG);
  mw_str lines = b->rig ? mw_rig_take_logs(b->rig) : MW_STR("");
  lua_pushlstring(L, lines.ptr ? lines.ptr : "", lines.len);
  return 1;
}

static int l_dir(lua_State *L) {
  lua_pushstring(L, mw_rig_dir(check_box(L)->rig));
  return 1;
}

static int l_world(lua_State *L) {
  const mw_world *world = mw_rig_world(check_box(L)->rig);
  char text[160];
  snprintf(text, sizeof text, "%lld %lld %llu %llu %llu", (long long)world->wall_us, (long long)world->mono_ns,
           (unsigned long long)world->rand_state, (unsigned long long)world->ids.last_ms, (unsigned long long)world->ids.counter);
  lua_pushstring(L, text);
  return 1;
}

static int l_option(lua_State *L) {
  box *b = check_box(L);
  const mw_config_option *option = mw_config_find(mw_str_from(luaL_checkstring(L, 2)));
  if (!option) return 0;
  mw_buf *out = mw_scratch_buf(L);
  mw_rig_config_json(b->rig, option, out);
  lua_pushlstring(L, out->ptr ? out->ptr : "", out->len);
  return 1;
}

static int l_close(lua_State *L) {
  box *b = luaL_checkudata(L, 1, RIG);
  if (b->L) return luaL_error(L, "the app is running: a stub's function cannot close it");
  mw_rig *rig = b->rig;
  b->rig = NULL;
  mw_rig_free(rig);
  luaL_unref(L, LUA_REGISTRYINDEX, b->answer);
  b->answer = LUA_NOREF;
  return 0;
}

static int open_module(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"load", l_load},       {"restart", l_restart}, {"settle", l_settle}, {"now", l_now},         {"next_due", l_next_due},
      {"move", l_move},       {"call", l_call},       {"connect", l_connect}, {"send", l_send},     {"receive", l_receive},
      {"hang_up", l_hang_up}, {"logs", l_logs},       {"dir", l_dir},       {"world", l_world},     {"option", l_option},
      {"close", l_close},     {NULL, NULL},
  };
  luaL_newmetatable(L, RIG);
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, l_close);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushcfunction(L, l_open);
  lua_setfield(L, -2, "open");
  return 1;
}

int mw_open_rig(lua_State *L) {
  mw_vm_add_module(L, "mw.core.rig", open_module);
  return 0;
}
