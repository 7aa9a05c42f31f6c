// SPDX-License-Identifier: MIT
#include "app/rig.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/rig_impl.h"
#include "app/server_conf.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "bind/bind.h"
#include "bind/bind_runtime.h"
#include "bind/plugin_files.h"
#include "http/client.h"
#include "loop/virtual.h"
#include "store/journal.h"
#include "store/throwaway.h"
#include "vm/task.h"
#include "vm/watchdog.h"

enum { KV_BYTES = 16 << 20, REST_MS = 10000, OUTSIDE_MS = 60000, GONE_MS = 5000, MAX_LOG = 4 << 20 };

/* ---- in and out of the rig's world ---- */

static void on_line(mw_str line, void *arg) {
  mw_rig *rig = arg;
  if (rig->silent || rig->log.len + line.len > MAX_LOG) return;
  mw_buf_add_str(&rig->log, line);
  mw_buf_add_byte(&rig->log, '\n');
}

typedef struct visit {
  mw_world *before;
} visit;

static visit enter(mw_rig *rig) {
  mw_log_divert(on_line, rig);
  return (visit){mw_world_use(&rig->world)};
}

static void leave(visit v) {
  mw_world_use(v.before);
  mw_log_divert(NULL, NULL);
}

static mw_watchdog *watchdog; // one for all rigs, of the limits that the first has

static void end_watchdog(void) {
  mw_watchdog_stop(watchdog);
  mw_throwaway_end();
}

static void watch(const mw_config *conf) {
  if (watchdog) return;
  watchdog = mw_watchdog_start(&(mw_watchdog_conf){.soft_ms = conf->lua_soft_limit, .hard_ms = conf->lua_hard_limit});
  mw_watchdog_add_thread(watchdog, 0);
  atexit(end_watchdog);
}

/* ---- calling into the state ---- */

static int push_function(lua_State *L) {
  const char *const *names = lua_touserdata(L, 1); // module, function
  lua_getglobal(L, "require");
  lua_pushstring(L, names[0]);
  lua_call(L, 1, 1);
  lua_getfield(L, -1, names[1]); // nil for "": only the require was wanted
  return 1;
}

// Pushes module.function; the stack is as before when it fails.
static int get_function(mw_vm *vm, const char *module, const char *function, mw_err *err) {
  const char *names[] = {module, function};
  lua_State *L = mw_vm_lua(vm);
  lua_pushcfunction(L, push_function);
  lua_pushlightuserdata(L, names);
  return mw_vm_call(vm, 1, 1, err);
}

static void on_boot_done(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg) {
  if (status && status != MW_ECANCELED) mw_log(MW_LOG_ERROR, "engine", "the workflow engine failed", MW_LOG_S("error", err->text));
}

static void call_boot(mw_rig *rig, const char *function, lua_Number number) {
  mw_err err;
  if (!rig->vm || rig->crashed || get_function(rig->vm, "mw.boot", function, &err)) return;
  lua_pushnumber(mw_vm_lua(rig->vm), number);
  mw_task_start(rig->vm, 1, &(mw_task_opts){.what = "workflow engine", .done = on_boot_done});
}

static void do_wake(void *arg) {
  mw_rig *rig = arg;
  rig->waking = false;
  call_boot(rig, "wake", (lua_Number)rig->wake_us);
}

void mw_rig_wake(mw_rig *rig, int64_t due_us) {
  if (!rig->waking || due_us < rig->wake_us) rig->wake_us = due_us;
  if (!rig->waking) mw_loop_post(rig->loop, do_wake, rig);
  rig->waking = true;
}

/* ---- the server's parts ---- */

static int open_parts(mw_rig *rig, mw_err *err) {
  const mw_config *conf = rig->conf;
  rig->loop = mw_loop_new("rig");
  mw_loop_go_virtual(rig->loop);
  mw_store_conf store = {.data_dir = rig->dir, .max_payload_bytes = (size_t)conf->workflow_max_payload, .exclusive = true,
                         .inline_loop = rig->loop};
  int rc = mw_store_open(&store, &rig->store, err);
  if (rc) return rc;
  rig->kv = mw_kv_new(KV_BYTES);
  rig->host = (mw_host){.ops = &mw_rig_host_ops, .program = rig, .kv = rig->kv, .store = mw_store_attach(rig->store, rig->loop),
                        .client = mw_http_client_new(rig->loop, NULL)};
  rig->client = rig->host.store;
  if (conf->databases.count) {
    mw_databases_conf further = {.data_dir = rig->dir, .names = conf->databases.names, .urls = conf->databases.values,
                                 .count = conf->databases.count, .inline_loop = rig->loop};
    rig->databases = mw_databases_new(&further);
    rig->host.databases = mw_databases_attach(rig->databases, rig->loop);
  }
  mw_http_host_opts opts = mw_server_configured(conf, &rig->proxies);
  rig->http = mw_http_host_new(rig->loop, &opts);
  return 0;
}

static void on_flag(void *arg) { *(bool *)arg = true; }
static void on_retired(mw_vm *vm, void *arg) { *(bool *)arg = true; }

// Runs until `*flag`; time may run ahead, for nobody looks at it any more.
static void run_until(mw_rig *rig, const bool *flag) {
  int64_t give_up_ns = mw_clock_real_ns() + (int64_t)GONE_MS * 1000000;
  while (!*flag && mw_clock_real_ns() < give_up_ns) {
    mw_loop_turn(rig->loop, false);
    if (*flag || !mw_loop_is_quiet(rig->loop)) continue;
    int64_t due_ms = mw_loop_next_due_ms(rig->loop);
    if (due_ms == INT64_MAX) continue;
    if (due_ms * 1000000 > rig->world.mono_ns) rig->world.mono_ns = due_ms * 1000000;
    mw_loop_fire_due(rig->loop);
  }
}

// In this order nothing is called on what is gone; the clock comes back to where it was.
static void close_parts(mw_rig *rig) {
  bool drained = !rig->http, retired = !rig->vm, detached = !rig->client, closed = !rig->host.databases;
  mw_world before = rig->world;
  rig->silent = rig->crashed = true;
  rig->host.store = NULL;
  mw_rig_close_connections(rig);
  if (rig->http) mw_http_host_drain(rig->http, 0, on_flag, &drained);
  if (rig->vm) mw_vm_retire(rig->vm, 0, on_retired, &retired);
  run_until(rig, &retired);
  run_until(rig, &drained);
  if (rig->vm && rig->http) mw_http_host_remove(rig->http, rig->vm);
  if (rig->http && drained) mw_http_host_free(rig->http);
  if (rig->vm && retired) mw_vm_free(rig->vm);
  if (rig->host.client) mw_http_client_free(rig->host.client);
  if (rig->host.databases) mw_databases_detach(rig->host.databases, on_flag, &closed);
  run_until(rig, &closed);
  if (rig->client) mw_store_detach(rig->client, on_flag, &detached);
  run_until(rig, &detached);
  for (int i = 0; i < 100 && !mw_loop_is_quiet(rig->loop); i++) mw_loop_turn(rig->loop, false);
  if (closed) mw_databases_free(rig->databases);
  rig->databases = NULL;
  if (rig->store) mw_store_close(rig->store);
  mw_kv_free(rig->kv);
  mw_loop_free(rig->loop);
  rig->loop = NULL, rig->store = NULL, rig->client = NULL, rig->http = NULL, rig->vm = NULL, rig->kv = NULL;
  rig->host = (mw_host){0};
  rig->waking = false;
  rig->outside = 0;
  rig->world.wall_us = before.wall_us;
  rig->world.mono_ns = before.mono_ns;
}

/* ---- loading ---- */

static int require_prelude(mw_rig *rig, mw_vm *vm, mw_err *err) {
  if (!rig->prelude) return 0;
  int rc = get_function(vm, rig->prelude, "", err);
  if (!rc) lua_pop(mw_vm_lua(vm), 1);
  return rc;
}

static int call_load(mw_vm *vm, mw_buf *report, mw_err *err) {
  lua_State *L = mw_vm_lua(vm);
  int rc = get_function(vm, "mw.boot", "load", err);
  if (!rc) rc = mw_vm_call(vm, 0, 2, err);
  if (rc) return rc;
  mw_str text;
  text.ptr = lua_tolstring(L, -1, &text.len);
  mw_buf_reset(report, SIZE_MAX);
  if (text.ptr) mw_buf_add_str(report, text);
  if (!lua_toboolean(L, -2)) rc = mw_err_set(err, MW_ELUA, "a plugin did not load");
  lua_pop(L, 2);
  return rc;
}

static int build(mw_rig *rig, mw_vm **out, mw_err *err) {
  size_t n = 0;
  while (mw_bind_modules[n]) n++;
  lua_CFunction modules[n + 2];
  memcpy(modules, mw_bind_modules, n * sizeof *modules);
  modules[n] = rig->module;
  modules[n + (rig->module != NULL)] = NULL;
  mw_vm_conf conf = {.name = "rig", .generation = ++rig->generation, .memory_bytes = (size_t)rig->conf->lua_memory, .modules = modules,
                     .user = &rig->host};
  mw_plugin_files *files = NULL;
  mw_vm *vm;
  int rc = rig->plugins ? mw_plugin_files_read(rig->plugins, &files, err) : 0;
  if (!rc) rc = mw_vm_new(&conf, &vm, err);
  if (!rc) {
    mw_vm_set_loading(vm, true);
    mw_bind_runtime_set_files(vm, files);
    rc = require_prelude(rig, vm, err);
    if (!rc) rc = call_load(vm, &rig->report, err);
    mw_bind_runtime_set_files(vm, NULL);
    mw_vm_set_loading(vm, false);
    if (rc) mw_vm_free(vm);
    else *out = vm;
  }
  mw_plugin_files_unref(files);
  return rc;
}

static void on_registered(int status, const mw_err *err, void *arg) { *(int *)arg = status; }

static int start(mw_rig *rig, mw_err *err) {
  int status = 1;
  mw_vm_adopt(rig->vm, rig->loop);
  mw_http_host_install(rig->http, rig->vm);
  int rc = mw_store_register_node(rig->client, on_registered, &status);
  for (int i = 0; !rc && status == 1 && i < 1000; i++) mw_loop_turn(rig->loop, false);
  if (!rc) rc = status;
  if (rc) return mw_err_set(err, rc < 0 ? rc : MW_EIO, "the spec's database does not answer");
  call_boot(rig, "start", 0);
  return 0;
}

int mw_rig_load(mw_rig *rig, mw_buf *report, mw_err *err) {
  visit v = enter(rig);
  mw_buf_reset(&rig->report, SIZE_MAX);
  int rc = build(rig, &rig->vm, err);
  mw_buf_add_str(report, mw_buf_str(&rig->report));
  if (!rc) rc = start(rig, err);
  leave(v);
  return rc;
}

int mw_rig_restart(mw_rig *rig, mw_buf *report, mw_err *err) {
  visit v = enter(rig);
  close_parts(rig);
  rig->silent = rig->crashed = false;
  int rc = open_parts(rig, err);
  leave(v);
  return rc ? rc : mw_rig_load(rig, report, err);
}

/* ---- running ---- */

int mw_rig_settle(mw_rig *rig, mw_err *err) {
  visit v = enter(rig);
  int64_t from_ns = mw_clock_real_ns();
  int rc = 0;
  for (int calm = 0; calm < 2 && !rig->crashed && !rc;) {
    bool moved = mw_rig_pump(rig);
    mw_loop_turn(rig->loop, false);
    moved |= mw_rig_pump(rig);
    bool waits = rig->outside > 0;
    calm = moved || waits || !mw_loop_is_quiet(rig->loop) ? 0 : calm + 1;
    int64_t spent_ms = (mw_clock_real_ns() - from_ns) / 1000000;
    if (waits && spent_ms > OUTSIDE_MS) rc = mw_err_set(err, MW_ETIMEOUT, "the network did not answer within %d s", OUTSIDE_MS / 1000);
    else if (!waits && spent_ms > REST_MS)
      rc = mw_err_set(err, MW_ETIMEOUT, "the app did not come to rest within %d s: something goes on and on without waiting", REST_MS / 1000);
    else if (!moved && !calm) mw_loop_turn_for(rig->loop, waits ? 50 : 1);
  }
  leave(v);
  return rc;
}

int64_t mw_rig_now_us(const mw_rig *rig) { return rig->world.wall_us; }

int64_t mw_rig_next_due_us(const mw_rig *rig) {
  visit v = enter((mw_rig *)rig);
  int64_t due_ms = mw_loop_next_due_ms(rig->loop);
  leave(v);
  if (due_ms == INT64_MAX) return due_ms;
  int64_t left_us = due_ms * 1000 - rig->world.mono_ns / 1000;
  return rig->world.wall_us + (left_us > 0 ? left_us : 0);
}

void mw_rig_move(mw_rig *rig, int64_t us) {
  if (us > rig->world.wall_us) {
    rig->world.mono_ns += (us - rig->world.wall_us) * 1000;
    rig->world.wall_us = us;
  }
  visit v = enter(rig);
  mw_loop_fire_due(rig->loop);
  leave(v);
}

static void on_call_done(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg) {
  if (status && status != MW_ECANCELED) mw_log(MW_LOG_ERROR, "rig", "a call into the app failed", MW_LOG_S("error", err->text));
}

static int push_text(lua_State *L) {
  const mw_str *text = lua_touserdata(L, 1);
  lua_pushlstring(L, text->ptr ? text->ptr : "", text->len);
  return 1;
}

int mw_rig_call(mw_rig *rig, const char *name, mw_str text, mw_err *err) {
  if (!rig->vm || rig->crashed) return mw_err_set(err, MW_ECLOSED, "the app has crashed");
  visit v = enter(rig);
  lua_State *L = mw_vm_lua(rig->vm);
  int top = lua_gettop(L), rc = get_function(rig->vm, rig->prelude, name, err);
  if (!rc) {
    lua_pushcfunction(L, push_text);
    lua_pushlightuserdata(L, &text);
    rc = mw_vm_call(rig->vm, 1, 1, err);
  }
  if (!rc) mw_task_start(rig->vm, 1, &(mw_task_opts){.what = "the spec", .done = on_call_done});
  else lua_settop(L, top);
  leave(v);
  return rc;
}

void mw_rig_crash(mw_rig *rig) {
  rig->crashed = true;
  rig->host.store = NULL;
}

bool mw_rig_is_crashed(const mw_rig *rig) { return rig->crashed; }
void mw_rig_add_outside(mw_rig *rig, int count) { rig->outside += count; }

mw_str mw_rig_take_logs(mw_rig *rig) {
  mw_buf_reset(&rig->taken, SIZE_MAX);
  mw_buf before = rig->taken;
  rig->taken = rig->log;
  rig->log = before;
  return mw_buf_str(&rig->taken);
}

void mw_rig_config_json(const mw_rig *rig, const mw_config_option *option, mw_buf *out) {
  mw_config_add_json(rig->conf, option, out);
}

const char *mw_rig_dir(const mw_rig *rig) { return rig->dir; }
const mw_world *mw_rig_world(const mw_rig *rig) { return &rig->world; }

mw_rig *mw_rig_of(lua_State *L) {
  mw_host *host = mw_host_of(L);
  return host && host->ops == &mw_rig_host_ops ? host->program : NULL;
}

void *mw_rig_user(lua_State *L) {
  mw_rig *rig = mw_rig_of(L);
  return rig ? rig->user : NULL;
}

/* ---- life ---- */

int mw_rig_open(const mw_rig_opts *opts, mw_rig **out, mw_err *err) {
  mw_rig *rig = MW_NEW(mw_rig);
  rig->conf = opts->conf;
  rig->env = opts->env;
  rig->world = opts->world;
  rig->module = opts->module;
  rig->user = opts->user;
  rig->prelude = opts->prelude ? mw_strdup(opts->prelude) : NULL;
  rig->plugins = opts->plugins ? mw_strdup(opts->plugins) : NULL;
  mw_list_init(&rig->connections);
  watch(rig->conf);
  visit v = enter(rig);
  rig->silent = true; // the first one also hears of the schema
  int rc = mw_proxies_configured(rig->conf, &rig->proxies, err);
  if (!rc) rc = mw_throwaway_make(opts->migrations, opts->from, &rig->dir, err);
  rig->silent = false;
  if (!rc) rc = open_parts(rig, err);
  leave(v);
  if (rc) mw_rig_free(rig);
  else *out = rig;
  return rc;
}

void mw_rig_free(mw_rig *rig) {
  if (!rig) return;
  visit v = enter(rig);
  if (rig->loop) close_parts(rig);
  leave(v);
  mw_throwaway_remove(rig->dir);
  size_t i = 0;
  mw_str key;
  for (void *value; mw_map_next(&rig->env, &i, &key, &value);) mw_free(value);
  mw_map_deinit(&rig->env);
  mw_proxies_deinit(&rig->proxies);
  mw_config_deinit(rig->conf);
  mw_free(rig->conf);
  mw_free(rig->prelude);
  mw_free(rig->plugins);
  mw_buf_deinit(&rig->log);
  mw_buf_deinit(&rig->taken);
  mw_buf_deinit(&rig->report);
  mw_free(rig);
}
