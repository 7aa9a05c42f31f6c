// SPDX-License-Identifier: MIT

// Generations: all plugins loaded together into fresh states, one a worker, on the loader thread; then swapped in on every worker, or
// nothing changes. One build at a time; requests that come meanwhile share the next one.

#include <lauxlib.h>
#include <stdio.h>

#include "app/runtime_impl.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "bind/bind.h"
#include "bind/bind_runtime.h"
#include "bind/plugin_files.h"
#include "vm/watchdog.h"

typedef struct build {
  mw_runtime *rt;
  uint64_t number;
  int status;
  int64_t took_us;
  mw_err err;
  mw_vm *vms[MW_MAX_WORKERS];
  mw_buf report; // of the plugins, also when they failed
  mw_buf failed; // set when they failed and the built-in surfaces alone are served
} build;

static void add_failure(mw_buf *report, uint64_t generation, const mw_err *err) {
  mw_buf_printf(report, "{\"generation\":%llu,\"plugins\":[],\"errors\":[{\"plugin\":null,\"code\":", (unsigned long long)generation);
  mw_json_add_string(report, mw_str_from(mw_err_code(err->code)));
  mw_buf_add_cstr(report, ",\"message\":");
  mw_json_add_string(report, mw_str_from(err->text));
  mw_buf_add_cstr(report, "}]}");
}

int mw_runtime_push_boot(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "mw.boot");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, lua_touserdata(L, 1));
  return 1;
}

// Calls boot.<function>(), which returns whether all is well and a text.
static int call_boot(mw_vm *vm, const char *function, mw_buf *text, mw_err *err) {
  lua_State *L = mw_vm_lua(vm);
  lua_pushcfunction(L, mw_runtime_push_boot);
  lua_pushlightuserdata(L, (void *)function);
  int rc = mw_vm_call(vm, 1, 1, err);
  if (rc) return rc;
  if ((rc = mw_vm_call(vm, 0, 2, err))) return rc;
  mw_str result;
  result.ptr = lua_tolstring(L, -1, &result.len);
  mw_buf_reset(text, SIZE_MAX);
  mw_buf_add_str(text, result);
  if (!lua_toboolean(L, -2)) rc = mw_err_set(err, MW_ELUA, "a plugin did not load");
  lua_pop(L, 2);
  return rc;
}

int mw_runtime_load_vm(const mw_config *conf, mw_host *host, uint64_t generation, const mw_plugin_files *files,
                       const char *function, mw_vm **out, mw_buf *text, mw_err *err) {
  char name[32];
  mw_vm *vm;
  snprintf(name, sizeof name, "worker-%d", host->worker);
  mw_vm_conf vm_conf = {.name = name, .worker = host->worker, .generation = generation, .memory_bytes = (size_t)conf->lua_memory,
                        .modules = mw_bind_modules, .user = host};
  int rc = mw_vm_new(&vm_conf, &vm, err);
  if (rc) return rc;
  mw_vm_set_loading(vm, true);
  mw_bind_runtime_set_files(vm, files);
  mw_buf_reset(text, SIZE_MAX);
  rc = call_boot(vm, function, text, err);
  mw_bind_runtime_set_files(vm, NULL);
  mw_vm_set_loading(vm, false);
  if (rc) mw_vm_free(vm);
  else *out = vm;
  return rc;
}

static int load_worker(build *b, int worker, const mw_plugin_files *files) {
  int rc = mw_runtime_load_vm(b->rt->conf, &b->rt->worker[worker].host, b->number, files, "load", &b->vms[worker], &b->report, &b->err);
  if (rc && !b->report.len) { // not a plugin's fault alone: no report was made
    add_failure(&b->report, b->number, &b->err);
    mw_log(MW_LOG_ERROR, "plugins", "loading the plugins failed", MW_LOG_S("error", b->err.text));
  }
  return rc;
}

static int load_all(build *b, const mw_plugin_files *files) {
  for (int i = 0; i < b->rt->workers; i++) {
    int rc = load_worker(b, i, files);
    if (!rc) continue;
    while (i--) mw_vm_free(b->vms[i]), b->vms[i] = NULL;
    return rc;
  }
  return 0;
}

// On the loader thread. When the very first load fails there is nothing to keep serving, so the built-in surfaces are served alone:
// the operator sees what is wrong, and mending the file is enough.
static void do_build(void *arg) {
  build *b = arg;
  mw_plugin_files *files = NULL;
  int64_t from = mw_clock_mono_ns();
  mw_watchdog_add_thread(b->rt->watchdog, b->rt->workers);
  b->status = mw_plugin_files_read(b->rt->conf->plugins, &files, &b->err);
  if (b->status) {
    add_failure(&b->report, b->number, &b->err);
    mw_log(MW_LOG_ERROR, "plugins", "the plugins cannot be read", MW_LOG_S("error", b->err.text));
  } else b->status = load_all(b, files);
  if (b->status && !atomic_load(&b->rt->loaded)) {
    b->failed = b->report;
    b->report = (mw_buf)MW_BUF_INIT;
    b->status = load_all(b, NULL);
  }
  mw_plugin_files_unref(files);
  mw_watchdog_remove_thread(b->rt->watchdog);
  b->took_us = (mw_clock_mono_ns() - from) / 1000;
}

/* ---- telling ---- */

static void tell_on_worker(void *arg) {
  mw_reload_waiter *waiter = arg;
  waiter->cb(waiter->status, mw_buf_str(&waiter->report), waiter->arg);
  mw_buf_deinit(&waiter->report);
  mw_free(waiter);
}

static void tell_waiters(mw_runtime *rt, int status, mw_str report) {
  mw_reload_waiter *waiter;
  while ((waiter = MW_LIST_POP(&rt->reload.waiting, mw_reload_waiter, node))) {
    waiter->status = status;
    if (rt->workers_gone) { // and with them whoever waited
      mw_free(waiter);
      continue;
    }
    mw_buf_add_str(&waiter->report, report);
    if (waiter->worker >= 0) mw_loop_post(rt->worker[waiter->worker].loop, tell_on_worker, waiter);
    else mw_free(waiter);
  }
}

static void keep_report(mw_runtime *rt, const build *b) {
  bool failed = b->status || b->failed.len;
  const mw_buf *why = b->failed.len ? &b->failed : &b->report;
  pthread_mutex_lock(&rt->report_lock);
  if (!b->status) {
    mw_buf_reset(&rt->report, SIZE_MAX);
    mw_buf_add_str(&rt->report, mw_buf_str(&b->report));
  }
  mw_buf_reset(&rt->failed, SIZE_MAX);
  if (failed) mw_buf_add_str(&rt->failed, mw_buf_str(why));
  pthread_mutex_unlock(&rt->report_lock);
}

/* ---- swapping ---- */

typedef struct install {
  mw_worker *worker;
  mw_vm *vm;
  build *b;
} install;

static void finish_build(mw_runtime *rt, build *b);

static void on_installed(void *arg) {
  install *job = arg;
  build *b = job->b;
  mw_runtime *rt = b->rt;
  mw_free(job);
  if (++rt->installed < rt->workers) return;
  atomic_store(&rt->serving, true);
  mw_log(MW_LOG_INFO, "plugins", "generation serves", MW_LOG_I("generation", b->number), MW_LOG_F("load_ms", (double)b->took_us / 1e3));
  mw_runtime_open_doors(rt);
  finish_build(rt, b);
}

static void do_install(void *arg) {
  install *job = arg;
  mw_worker_install(job->worker, job->vm);
  mw_loop_post(job->worker->rt->main, on_installed, job);
}

static void swap_in(mw_runtime *rt, build *b) {
  rt->installed = 0;
  for (int i = 0; i < rt->workers; i++) {
    install *job = MW_NEW(install);
    *job = (install){&rt->worker[i], b->vms[i], b};
    mw_loop_post(rt->worker[i].loop, do_install, job);
  }
}

static void start_build(mw_runtime *rt);

static void finish_build(mw_runtime *rt, build *b) {
  mw_str shown = b->failed.len ? mw_buf_str(&b->failed) : mw_buf_str(&b->report);
  tell_waiters(rt, b->failed.len ? MW_ELUA : b->status, shown);
  mw_buf_deinit(&b->report);
  mw_buf_deinit(&b->failed);
  mw_free(b);
  rt->reload.building = false;
  mw_list_splice(&rt->reload.waiting, &rt->reload.waiting_next);
  if (rt->reload.again) start_build(rt);
}

// A build that ended after the workers did.
static void discard(mw_runtime *rt, build *b) {
  for (int i = 0; i < rt->workers; i++)
    if (b->vms[i]) mw_vm_free(b->vms[i]);
  b->status = MW_ECANCELED;
  rt->reload.again = false;
  finish_build(rt, b);
}

static void on_built(void *arg, int status) {
  build *b = arg;
  mw_runtime *rt = b->rt;
  if (rt->workers_gone) {
    discard(rt, b);
    return;
  }
  if (status) b->status = status;
  keep_report(rt, b);
  if (b->status) {
    if (atomic_load(&rt->serving))
      mw_log(MW_LOG_WARN, "plugins", "the generation before keeps serving", MW_LOG_I("generation", b->number),
             MW_LOG_S("fix", "mend the file and save, or run `moonwatch check`"));
    finish_build(rt, b);
    return;
  }
  atomic_store(&rt->loaded, true);
  swap_in(rt, b);
}

static void start_build(mw_runtime *rt) {
  mw_reload *reload = &rt->reload;
  reload->again = false;
  if (atomic_load(&rt->draining)) {
    tell_waiters(rt, MW_ECANCELED, MW_STR("{\"plugins\":[],\"errors\":[{\"message\":\"the server is stopping\"}]}"));
    return;
  }
  build *b = MW_NEW(build);
  b->rt = rt;
  b->number = ++reload->last;
  reload->building = true;
  int rc = mw_work_submit(reload->loader, rt->main, do_build, on_built, b);
  if (!rc) return;
  mw_log(MW_LOG_ERROR, "plugins", "the thread that loads plugins cannot be started", MW_LOG_S("error", mw_err_text(rc)));
  b->status = rc;
  finish_build(rt, b);
  if (!atomic_load(&rt->serving)) { // nothing would ever be served
    mw_err_set(&rt->err, rc, "plugins cannot be loaded: %s", mw_err_text(rc));
    mw_runtime_drain(rt, rc);
  }
}

void mw_runtime_reload(mw_runtime *rt, mw_reload_waiter *waiter) {
  mw_reload *reload = &rt->reload;
  if (waiter) mw_list_push(reload->building ? &reload->waiting_next : &reload->waiting, &waiter->node);
  if (reload->building) reload->again = true;
  else start_build(rt);
}

static void do_reload(void *arg) { mw_runtime_reload(arg, NULL); }

void mw_runtime_ask_reload(mw_runtime *rt) { mw_loop_post(rt->main, do_reload, rt); }

/* ---- the end of a vm ---- */

static void free_vm(void *arg) { mw_vm_free(arg); }
static void on_vm_freed(void *arg, int status) {
  if (status) mw_vm_free(arg); // the pool ended first
}

void mw_runtime_dispose_vm(mw_runtime *rt, mw_vm *vm) {
  if (mw_work_submit(rt->reload.loader, rt->main, free_vm, on_vm_freed, vm)) mw_vm_free(vm);
}
