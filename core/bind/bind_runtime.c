// SPDX-License-Identifier: MIT
#include "bind/bind_runtime.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/duration.h"
#include "base/id.h"
#include "base/log.h"
#include "base/rand.h"
#include "base/size.h"
#include "bind/host.h"
#include "bind/plugin_files.h"
#include "http/date.h"
#include "state/kv.h"
#include "vm/scratch.h"
#include "vm/task.h"

static char files_key;

static mw_str check_str(lua_State *L, int index) {
  mw_str text;
  text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

static void push_str(lua_State *L, mw_str text) { lua_pushlstring(L, text.ptr ? text.ptr : "", text.len); }

static mw_host *check_host(lua_State *L) {
  mw_host *host = mw_host_of(L);
  if (!host || !host->ops) luaL_error(L, "this needs a running server");
  return host;
}

/* ---- clocks, ids, randomness ---- */

static int l_now_us(lua_State *L) {
  lua_pushnumber(L, (lua_Number)mw_clock_wall_us());
  return 1;
}

static int l_mono(lua_State *L) {
  lua_pushnumber(L, (lua_Number)mw_clock_mono_ns() / 1e9);
  return 1;
}

static int l_uuid(lua_State *L) {
  mw_id id = mw_id_new();
  char text[MW_ID_TEXT];
  mw_id_format(&id, text);
  lua_pushlstring(L, text, MW_ID_TEXT - 1);
  return 1;
}

static int l_random(lua_State *L) {
  lua_pushnumber(L, mw_rand_unit());
  return 1;
}

static int l_format_time(lua_State *L) {
  char text[MW_CLOCK_TEXT];
  int len = mw_clock_format((int64_t)luaL_checknumber(L, 1), text);
  lua_pushlstring(L, text, (size_t)len);
  return 1;
}

// parse_time(text) -> microseconds since 1970, or nil: RFC 3339, or a date as HTTP has it.
static int l_parse_time(lua_State *L) {
  mw_str text = check_str(L, 1);
  int64_t us, seconds;
  if (mw_clock_parse(text, &us)) lua_pushnumber(L, (lua_Number)us);
  else if (mw_date_parse(text, mw_clock_wall_us() / 1000000, &seconds)) lua_pushnumber(L, (lua_Number)seconds * 1e6);
  else lua_pushnil(L);
  return 1;
}

/* ---- words ---- */

static int l_duration(lua_State *L) {
  mw_err err;
  int64_t us;
  int rc = lua_type(L, 1) == LUA_TNUMBER ? mw_duration_from_seconds(lua_tonumber(L, 1), &us, &err)
                                         : mw_duration_parse(check_str(L, 1), &us, &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  lua_pushnumber(L, (lua_Number)us / 1e6);
  return 1;
}

static int l_size(lua_State *L) {
  mw_err err;
  uint64_t bytes;
  int rc = mw_size_parse(check_str(L, 1), &bytes, &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  lua_pushnumber(L, (lua_Number)bytes);
  return 1;
}

static int l_distance(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)mw_str_distance(check_str(L, 1), check_str(L, 2), 64));
  return 1;
}

/* ---- log ---- */

static int l_log(lua_State *L) {
  mw_log_level level;
  if (!mw_log_level_parse(check_str(L, 1), &level)) return luaL_argerror(L, 1, "debug, info, warn or error expected");
  if (!mw_log_is_on(level)) return 0;
  const char *area = luaL_checkstring(L, 2), *message = luaL_checkstring(L, 3), *plugin = luaL_optstring(L, 4, NULL);
  mw_str trace = mw_str_from(luaL_optstring(L, 5, "")), fields = mw_str_from(luaL_optstring(L, 6, ""));
  mw_log_field list[4];
  int n = 0;
  if (plugin) list[n++] = MW_LOG_S("plugin", plugin);
  if (trace.len) list[n++] = MW_LOG_STR("trace_id", trace);
  if (fields.len) list[n++] = MW_LOG_JSON("fields", fields);
  list[n] = (mw_log_field){0};
  mw_log_write(level, area, message, list);
  return 0;
}

/* ---- the program ---- */

static int l_worker(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  lua_pushinteger(L, vm ? mw_vm_worker(vm) : 0);
  return 1;
}

static int l_generation(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  lua_pushinteger(L, vm ? (lua_Integer)mw_vm_generation(vm) : 0);
  return 1;
}

static int l_set_loading(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  if (vm) mw_vm_set_loading(vm, lua_toboolean(L, 1));
  return 0;
}

static int l_config(lua_State *L) {
  mw_host *host = mw_host_of(L);
  if (!host || !host->ops || !host->ops->config) return 0;
  mw_str name = check_str(L, 1);
  mw_buf *out = mw_scratch_buf(L);
  if (!host->ops->config(host->program, name, out)) return 0;
  push_str(L, mw_buf_str(out));
  mw_scratch_free(L, out);
  return 1;
}

static int l_env(lua_State *L) {
  mw_host *host = mw_host_of(L);
  bool allowed = false;
  const char *value = NULL, *name = luaL_checkstring(L, 1);
  if (host && host->ops && host->ops->env) value = host->ops->env(host->program, name, &allowed);
  lua_pushstring(L, value); // nil when NULL
  lua_pushboolean(L, allowed);
  return 2;
}

static int l_token_matches(lua_State *L) {
  mw_host *host = check_host(L);
  bool is_set = false;
  bool matches = host->ops->token_matches(host->program, check_str(L, 1), &is_set);
  lua_pushboolean(L, matches);
  lua_pushboolean(L, is_set);
  return 2;
}

static int l_access_version(lua_State *L) {
  mw_host *host = mw_host_of(L);
  bool has = host && host->ops && host->ops->access_version;
  lua_pushnumber(L, has ? (lua_Number)host->ops->access_version(host->program, lua_toboolean(L, 1)) : 0);
  return 1;
}

static int l_say(lua_State *L) {
  lua_pushboolean(L, mw_log_say(luaL_checkstring(L, 1)));
  return 1;
}

static int push_report(lua_State *L, void (*report)(void *program, mw_buf *out), void *program) {
  mw_buf *out = mw_scratch_buf(L);
  report(program, out);
  push_str(L, mw_buf_str(out));
  mw_scratch_free(L, out);
  return 1;
}

static int l_plugins(lua_State *L) {
  mw_host *host = check_host(L);
  return push_report(L, host->ops->plugins, host->program);
}

static int l_status(lua_State *L) {
  mw_host *host = check_host(L);
  return push_report(L, host->ops->status, host->program);
}

static int l_is_draining(lua_State *L) {
  mw_host *host = mw_host_of(L);
  lua_pushboolean(L, host && host->ops && host->ops->is_draining(host->program));
  return 1;
}

static int l_wake_engines(lua_State *L) {
  mw_host *host = mw_host_of(L);
  if (host && host->ops) host->ops->wake_engines(host->program, (int64_t)luaL_optnumber(L, 1, 0));
  return 0;
}

static int l_tell_control(lua_State *L) {
  mw_host *host = mw_host_of(L);
  const char *id = luaL_checkstring(L, 1);
  luaL_argcheck(L, lua_objlen(L, 1) < MW_ID_TEXT, 1, "an execution's id expected");
  if (host && host->ops && host->ops->tell_control) host->ops->tell_control(host->program, id);
  return 0;
}

/* ---- reload ---- */

typedef struct reload_op {
  mw_task *task; // NULL once cancelled
  int status;
  mw_str report;
} reload_op;

static void cancel_reload(void *arg) { ((reload_op *)arg)->task = NULL; }

static int push_reload(lua_State *L, void *arg) {
  reload_op *op = arg;
  lua_pushboolean(L, op->status == 0);
  push_str(L, op->report);
  return 2;
}

static void on_reloaded(int status, mw_str report, void *arg) {
  reload_op *op = arg;
  op->status = status;
  op->report = report;
  if (op->task) mw_task_resume_with(op->task, push_reload, op);
  mw_free(op);
}

static int l_reload(lua_State *L) {
  mw_host *host = check_host(L);
  mw_task_check_yieldable(L, "reload");
  reload_op *op = MW_NEW(reload_op);
  op->task = mw_task_current(L);
  host->ops->reload(host->program, host->worker, on_reloaded, op);
  return mw_task_suspend(L, cancel_reload, op);
}

/* ---- plugin files ---- */

void mw_bind_runtime_set_files(mw_vm *vm, const mw_plugin_files *files) {
  lua_State *L = mw_vm_lua(vm);
  lua_pushlightuserdata(L, &files_key);
  if (files) lua_pushlightuserdata(L, (void *)files);
  else lua_pushnil(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

static const mw_plugin_files *get_files(lua_State *L) {
  lua_pushlightuserdata(L, &files_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  const mw_plugin_files *files = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return files;
}

static int l_files(lua_State *L) {
  const mw_plugin_files *files = get_files(L);
  size_t count = files ? mw_plugin_files_count(files) : 0;
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    push_str(L, mw_plugin_files_at(files, i)->path);
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_pushstring(L, files ? mw_plugin_files_dir(files) : "plugins");
  return 2;
}

static int l_read(lua_State *L) {
  const mw_plugin_files *files = get_files(L);
  const mw_plugin_file *file = files ? mw_plugin_files_find(files, check_str(L, 1)) : NULL;
  if (!file) return 0;
  push_str(L, file->text);
  return 1;
}

/* ---- key-value store ---- */

static mw_kv *check_kv(lua_State *L) {
  mw_host *host = mw_host_of(L);
  if (!host || !host->kv) luaL_error(L, "mw.kv needs a running server");
  return host->kv;
}

static int64_t ttl_ms(lua_State *L, int index) {
  lua_Number seconds = luaL_optnumber(L, index, 0);
  return seconds > 0 ? (int64_t)fmax(1, fmin(seconds * 1000, 1e15)) : 0;
}

static int l_kv_get(lua_State *L) {
  mw_kv *kv = check_kv(L);
  mw_str key = check_str(L, 1);
  mw_buf *out = mw_scratch_buf(L);
  if (!mw_kv_get(kv, key, out, mw_clock_mono_ms())) return 0;
  push_str(L, mw_buf_str(out));
  mw_scratch_free(L, out);
  return 1;
}

// kv_set(key, value, ttl_s, only_if_absent) -> true | false when it was there | nil, err
static int l_kv_set(lua_State *L) {
  mw_kv_when when = lua_toboolean(L, 4) ? MW_KV_IF_ABSENT : MW_KV_ALWAYS;
  mw_kv *kv = check_kv(L);
  int rc = mw_kv_set(kv, check_str(L, 1), check_str(L, 2), ttl_ms(L, 3), when, mw_clock_mono_ms());
  if (rc && rc != MW_EEXISTS) return mw_vm_push_failure(L, rc, "the key or the value is too large for mw.kv");
  lua_pushboolean(L, rc == 0);
  return 1;
}

static int l_kv_remove(lua_State *L) {
  mw_kv *kv = check_kv(L);
  lua_pushboolean(L, mw_kv_remove(kv, check_str(L, 1), mw_clock_mono_ms()));
  return 1;
}

static int l_kv_add(lua_State *L) {
  int64_t sum = 0;
  mw_kv *kv = check_kv(L);
  int rc = mw_kv_add(kv, check_str(L, 1), (int64_t)luaL_checknumber(L, 2), ttl_ms(L, 3), &sum, mw_clock_mono_ms());
  if (rc)
    return mw_vm_push_failure(L, rc, rc == MW_EINVALID ? "the value under this key is not an integer, or the sum is too large"
                                                       : "the key is too large for mw.kv");
  lua_pushnumber(L, (lua_Number)sum);
  return 1;
}

static const luaL_Reg functions[] = {
    {"now_us", l_now_us},
    {"mono", l_mono},
    {"uuid", l_uuid},
    {"random", l_random},
    {"format_time", l_format_time},
    {"parse_time", l_parse_time},
    {"duration", l_duration},
    {"size", l_size},
    {"distance", l_distance},
    {"log", l_log},
    {"worker", l_worker},
    {"generation", l_generation},
    {"set_loading", l_set_loading},
    {"config", l_config},
    {"env", l_env},
    {"token_matches", l_token_matches},
    {"access_version", l_access_version},
    {"say", l_say},
    {"plugins", l_plugins},
    {"status", l_status},
    {"is_draining", l_is_draining},
    {"wake_engines", l_wake_engines},
    {"tell_control", l_tell_control},
    {"reload", l_reload},
    {"files", l_files},
    {"read", l_read},
    {"kv_get", l_kv_get},
    {"kv_set", l_kv_set},
    {"kv_remove", l_kv_remove},
    {"kv_add", l_kv_add},
    {NULL, NULL},
};

static int open_module(lua_State *L) {
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  lua_pushliteral(L, MW_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}

int mw_open_runtime(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open_module);
  lua_setfield(L, -2, "mw.core.runtime");
  lua_pop(L, 2);
  return 0;
}
