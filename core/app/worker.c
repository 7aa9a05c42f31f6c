// SPDX-License-Identifier: MIT
#include "app/worker.h"

#include <lauxlib.h>
#include <stdio.h>
#include <unistd.h>

#include "app/certificates.h"
#include "app/runtime_impl.h"
#include "app/server_conf.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "bind/bind_http.h"
#include "http/client.h"
#include "store/databases.h"
#include "store/redis.h"
#include "store/store.h"
#include "vm/task.h"
#include "vm/watchdog.h"

enum { TICK_MS = 1000, QUIET_LOOK_MS = 10, LAST_MS = 2000 };

/* ---- calling lua/mw/boot.lua ---- */

static void on_boot_done(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg) {
  if (status && status != MW_ECANCELED)
    mw_log(MW_LOG_ERROR, "engine", "the workflow engine failed", MW_LOG_S("call", arg), MW_LOG_S("error", err->text));
}

// Runs boot.<name>(text), or boot.<name>(number) when there is none, as a task of the vm.
static void call_boot_with(mw_vm *vm, const char *name, const char *text, lua_Number number) {
  mw_err err;
  lua_State *L = mw_vm_lua(vm);
  lua_pushcfunction(L, mw_runtime_push_boot);
  lua_pushlightuserdata(L, (void *)name);
  if (mw_vm_call(vm, 1, 1, &err)) {
    mw_log(MW_LOG_ERROR, "engine", "the workflow engine failed", MW_LOG_S("call", name), MW_LOG_S("error", err.text));
    return;
  }
  if (text) lua_pushstring(L, text); // short: within what the state keeps for us
  else lua_pushnumber(L, number);
  mw_task_start(vm, 1, &(mw_task_opts){.what = "workflow engine", .done = on_boot_done, .arg = (void *)name});
}

static void call_boot(mw_vm *vm, const char *name, lua_Number number) { call_boot_with(vm, name, NULL, number); }

/* ---- generations ---- */

static void maybe_finish(mw_worker *worker);

static void on_retired(mw_vm *vm, void *arg) {
  mw_worker *worker = arg;
  mw_http_host_remove(worker->http, vm);
  mw_runtime_dispose_vm(worker->rt, vm);
  worker->retiring--;
  maybe_finish(worker);
}

static void retire(mw_worker *worker, mw_vm *vm, int64_t bound_ms) {
  worker->retiring++;
  mw_vm_retire(vm, bound_ms, on_retired, worker);
}

static void listen_on(mw_worker *worker, int tag, int fd) {
  mw_err err;
  mw_tls_context *tls = mw_runtime_is_tls(worker->rt, tag) ? mw_certificates_context(worker->rt->certificates) : NULL;
  if (mw_http_host_listen(worker->http, fd, tls, tag, &err))
    mw_log(MW_LOG_ERROR, "http", "cannot listen", MW_LOG_S("error", err.text));
}

void mw_worker_listen(mw_worker *worker) {
  if (worker->listening || worker->draining) return;
  worker->listening = true;
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = worker->index; i < MW_MAX_WORKERS; i += worker->rt->workers) {
      int *fd = &worker->rt->fds.listeners[tag][i];
      if (*fd >= 0) listen_on(worker, tag, *fd);
      *fd = -1; // taken
    }
}

void mw_worker_install(mw_worker *worker, mw_vm *vm) {
  mw_vm *old = worker->vm;
  if (worker->draining) { // it never ran anything
    mw_runtime_dispose_vm(worker->rt, vm);
    return;
  }
  mw_vm_adopt(vm, worker->loop);
  worker->vm = vm;
  if (old) call_boot(old, "unload", 0);
  if (old && worker->engine_started) call_boot(old, "stop", 0); // its claim loop would keep the state alive until it looks up
  worker->engine_started = false;
  worker->rebuild_asked = false;
  mw_http_host_install(worker->http, vm);
  if (old) retire(worker, old, worker->rt->conf->drain_timeout);
  mw_worker_start_engine(worker);
}

void mw_worker_start_engine(mw_worker *worker) {
  if (!worker->vm || worker->engine_started || worker->leaving || !mw_runtime_store_is_ready(worker->rt)) return;
  worker->engine_started = true;
  call_boot(worker->vm, "start", 0);
}

void mw_worker_wake_engine(mw_worker *worker, int64_t due_us) {
  if (worker->vm && worker->engine_started && !worker->leaving) call_boot(worker->vm, "wake", (lua_Number)due_us);
}

void mw_worker_tell_control(mw_worker *worker, const char *id) {
  if (worker->vm && worker->engine_started) call_boot_with(worker->vm, "control", id, 0);
}

static void on_notice(mw_store_notice notice, mw_str id, void *arg) {
  mw_worker *worker = arg;
  char text[MW_ID_TEXT];
  if (notice == MW_NOTICE_WORK) mw_worker_wake_engine(worker, -1);
  else if (id.len < sizeof text) {
    snprintf(text, sizeof text, "%.*s", MW_STR_FMT(id));
    mw_worker_tell_control(worker, text);
  }
}

/* ---- the end ---- */

static void on_detached(void *arg) {
  mw_worker *worker = arg;
  worker->host.store = NULL;
  mw_timer_stop(&worker->tick);
  mw_loop_stop(worker->loop);
}

static void on_databases_detached(void *arg) {
  mw_worker *worker = arg;
  worker->host.databases = NULL;
  mw_store_detach(worker->host.store, on_detached, worker);
}

static void on_redis_closed(void *arg) {
  mw_worker *worker = arg;
  worker->host.redis = NULL;
  if (worker->host.databases) mw_databases_detach(worker->host.databases, on_databases_detached, worker);
  else on_databases_detached(worker);
}

static void maybe_finish(mw_worker *worker) {
  if (!worker->draining || !worker->http_drained || worker->retiring) return;
  mw_http_host_free(worker->http);
  worker->http = NULL;
  mw_http_client_free(worker->host.client);
  worker->host.client = NULL;
  if (worker->host.redis) mw_redis_close(worker->host.redis, on_redis_closed, worker);
  else on_redis_closed(worker);
}

static void on_http_drained(void *arg) {
  mw_worker *worker = arg;
  worker->http_drained = true;
  if (worker->vm) {
    mw_vm *vm = worker->vm;
    int64_t left_ms = worker->drain_until_ms - mw_clock_mono_ms();
    worker->vm = NULL;
    retire(worker, vm, left_ms > 0 ? left_ms : 0);
    return;
  }
  maybe_finish(worker);
}

static void stop_engine(mw_worker *worker) {
  if (worker->leaving) return;
  worker->leaving = true;
  mw_timer_stop(&worker->start_retry);
  if (worker->vm && worker->engine_started) call_boot(worker->vm, "stop", 0);
}

void mw_worker_wind_down(mw_worker *worker) {
  if (!worker->draining) mw_http_host_wind_down(worker->http);
}

// Clients had time to leave, no request is older than that, and no task runs but those of requests.
static bool is_quiet(const mw_worker *worker, int64_t now_ms) {
  const mw_server *server = mw_http_host_server(worker->http);
  mw_server_stats stats;
  mw_server_stats_get(server, &stats);
  if (stats.connections && now_ms - worker->left_at_ms < MW_SERVER_IDLE_GRACE_MS + QUIET_LOOK_MS) return false;
  if (worker->retiring || (worker->vm && mw_vm_task_count(worker->vm) > stats.requests_active)) return false;
  return !mw_server_has_older(server, worker->left_at_ms * 1000000);
}

static void on_leave(mw_timer *timer, void *arg) {
  mw_worker *worker = arg;
  int64_t now = mw_clock_mono_ms();
  if (now < worker->accept_until_ms && !is_quiet(worker, now)) mw_timer_start(worker->loop, timer, QUIET_LOOK_MS);
  else mw_runtime_worker_quiet(worker->rt);
}

void mw_worker_hand_over(mw_worker *worker, int64_t bound_ms) {
  if (worker->draining || worker->leaving) return;
  worker->left_at_ms = mw_clock_mono_ms();
  worker->drain_until_ms = worker->left_at_ms + bound_ms;
  worker->accept_until_ms = worker->drain_until_ms - (bound_ms / 4 < LAST_MS ? bound_ms / 4 : LAST_MS);
  stop_engine(worker);
  mw_worker_wind_down(worker);
  mw_timer_init(&worker->leave, on_leave, worker);
  mw_timer_start(worker->loop, &worker->leave, 0);
}

void mw_worker_finish_hand_over(mw_worker *worker) {
  int64_t left_ms = worker->drain_until_ms - mw_clock_mono_ms();
  mw_worker_drain(worker, left_ms > 0 ? left_ms : 0);
}

void mw_worker_drain(mw_worker *worker, int64_t bound_ms) {
  if (worker->draining) return;
  if (worker->vm) call_boot(worker->vm, "unload", 0);
  stop_engine(worker);
  worker->draining = true;
  worker->drain_until_ms = mw_clock_mono_ms() + bound_ms;
  mw_timer_stop(&worker->leave);
  mw_http_host_drain(worker->http, bound_ms, on_http_drained, worker);
}

/* ---- the thread ---- */

static void close_unused(mw_worker *worker) {
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = worker->index; i < MW_MAX_WORKERS; i += worker->rt->workers) {
      int *fd = &worker->rt->fds.listeners[tag][i];
      if (*fd >= 0) close(*fd);
      *fd = -1;
    }
}

static void run(void *arg) {
  mw_worker *worker = arg;
  mw_watchdog_add_thread(worker->rt->watchdog, worker->index);
  mw_loop_run(worker->loop);
  mw_watchdog_remove_thread(worker->rt->watchdog);
  close_unused(worker);
  for (int i = 0; i < MW_MAX_WORKERS; i++) mw_free(worker->help[i]);
  // Others may still post here until all, and the main thread, have come this far.
  mw_runtime_worker_ended(worker->rt);
  pthread_barrier_wait(&worker->rt->all_ended);
  mw_loop_free(worker->loop);
}

// Keeps the loop alive before it listens, and asks for a fresh generation when the serving one cannot come back below its
// memory mark.
static void on_tick(mw_timer *timer, void *arg) {
  mw_worker *worker = arg;
  mw_timer_start(worker->loop, timer, TICK_MS);
  if (!worker->vm || worker->rebuild_asked || !mw_vm_is_over_budget(worker->vm)) return;
  worker->rebuild_asked = true;
  mw_log(MW_LOG_WARN, "plugins", "a state stays above its memory mark; loading a fresh generation",
         MW_LOG_I("worker", worker->index), MW_LOG_I("bytes", mw_vm_memory(worker->vm)));
  mw_runtime_ask_reload(worker->rt);
}

static void open_redis(mw_worker *worker) {
  const mw_config *conf = worker->rt->conf;
  mw_err err;
  if (!*conf->redis_url) return;
  mw_redis_conf redis = {.url = conf->redis_url, .ca_file = conf->redis_ca_file, .timeout_ms = conf->redis_timeout};
  if (mw_redis_new(worker->loop, &redis, &worker->host.redis, &err)) // the configuration was checked
    mw_log(MW_LOG_ERROR, "redis", "Redis cannot be used", MW_LOG_S("error", err.text));
}

// Opens what lives on the loop, on the loop's own thread.
static void on_open(void *arg) {
  mw_worker *worker = arg;
  mw_timer_init(&worker->leave, on_leave, worker);
  mw_timer_init(&worker->tick, on_tick, worker);
  mw_timer_start(worker->loop, &worker->tick, TICK_MS);
  const mw_config *conf = worker->rt->conf;
  worker->host.store = mw_store_attach(worker->rt->store, worker->loop);
  mw_store_on_notice(worker->host.store, on_notice, worker);
  worker->host.client = mw_http_client_new(worker->loop, NULL);
  if (worker->rt->databases) worker->host.databases = mw_databases_attach(worker->rt->databases, worker->loop);
  open_redis(worker);
  mw_http_host_opts opts = mw_server_configured(conf, &worker->rt->proxies);
  opts.server.access_log = worker->rt->access_log;
  worker->http = mw_http_host_new(worker->loop, &opts);
  mw_runtime_worker_opened(worker->rt, worker);
}

int mw_worker_start(mw_worker *worker, mw_runtime *rt, int index) {
  char name[16];
  snprintf(name, sizeof name, "worker-%d", index);
  worker->rt = rt;
  worker->index = index;
  worker->loop = mw_loop_new(name);
  worker->host = (mw_host){.ops = rt->host_ops, .program = rt, .worker = index, .kv = rt->kv, .late = rt->late};
  mw_loop_post(worker->loop, on_open, worker);
  return mw_thread_start(&worker->thread, name, run, worker);
}

void mw_worker_join(mw_worker *worker) { mw_thread_join(&worker->thread); }
