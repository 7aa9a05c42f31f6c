// SPDX-License-Identifier: MIT

// What bindings may ask of the program (bind/host.h).

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/certificates.h"
#include "app/runtime_impl.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"

static bool host_config(void *program, mw_str name, mw_buf *out) { return mw_config_add_public_json(((mw_runtime *)program)->conf, name, out); }

static const char *host_env(void *program, const char *name, bool *allowed) {
  mw_runtime *rt = program;
  *allowed = mw_config_allows_env(rt->conf, name);
  return *allowed ? getenv(name) : NULL;
}

static bool host_token_matches(void *program, mw_str token, bool *is_set) {
  mw_runtime *rt = program;
  mw_str own = mw_str_from(rt->conf->token);
  *is_set = own.len > 0;
  return own.len > 0 && mw_digest_equal(own, token);
}

static uint64_t host_access_version(void *program, bool changed) {
  mw_runtime *rt = program;
  return changed ? atomic_fetch_add(&rt->access_version, 1) + 1 : atomic_load(&rt->access_version);
}

static void do_reload(void *arg) {
  mw_reload_waiter *waiter = arg;
  mw_certificates_reload(waiter->rt->certificates);
  mw_runtime_reload(waiter->rt, waiter);
}

static void host_reload(void *program, int worker, mw_host_reload_cb cb, void *arg) {
  mw_runtime *rt = program;
  mw_reload_waiter *waiter = MW_NEW(mw_reload_waiter);
  mw_list_init(&waiter->node);
  waiter->worker = worker;
  waiter->cb = cb;
  waiter->rt = rt;
  waiter->arg = arg;
  mw_loop_post(rt->main, do_reload, waiter);
}

static void host_plugins(void *program, mw_buf *out) {
  mw_runtime *rt = program;
  pthread_mutex_lock(&rt->report_lock);
  mw_buf_add_cstr(out, "{\"serving\":");
  mw_buf_add_str(out, rt->report.len ? mw_buf_str(&rt->report) : MW_STR("null"));
  mw_buf_add_cstr(out, ",\"failed\":");
  mw_buf_add_str(out, rt->failed.len ? mw_buf_str(&rt->failed) : MW_STR("null"));
  mw_buf_add_cstr(out, "}");
  pthread_mutex_unlock(&rt->report_lock);
}

static void add_reason(mw_buf *out, bool *first, const char *reason) {
  if (!*first) mw_buf_add_cstr(out, ",");
  *first = false;
  mw_json_add_string(out, mw_str_from(reason));
}

static void add_reasons(mw_runtime *rt, mw_buf *out) {
  bool first = true;
  char why[300], text[400];
  if (atomic_load(&rt->leaving)) add_reason(out, &first, "the server is stopping");
  if (!atomic_load(&rt->serving)) add_reason(out, &first, "the plugins are being loaded");
  if (!mw_store_is_up(rt->store)) {
    mw_store_why_down(rt->store, why, sizeof why);
    bool is_local = strcmp(mw_store_engine(rt->store), "sqlite") == 0; // then it is not away, and the reason names the file
    snprintf(text, sizeof text, "%s%s", is_local ? "" : "the database is away: ", why);
    add_reason(out, &first, text);
  } else if (!atomic_load(&rt->store_ready)) add_reason(out, &first, "the database is being prepared");
  pthread_mutex_lock(&rt->report_lock);
  bool nothing = rt->failed.len && !rt->report.len;
  pthread_mutex_unlock(&rt->report_lock);
  if (nothing) add_reason(out, &first, "the plugins did not load");
}

static void host_status(void *program, mw_buf *out) {
  mw_runtime *rt = program;
  mw_buf reasons = MW_BUF_INIT;
  add_reasons(rt, &reasons);
  mw_buf_printf(out, "{\"ready\":%s,\"reasons\":[", reasons.len ? "false" : "true");
  mw_buf_add_str(out, mw_buf_str(&reasons));
  mw_buf_printf(out, "],\"version\":\"%s\",\"engine\":\"%s\",\"database_up\":%s,\"workers\":%d,\"pid\":%d,\"draining\":%s,",
                MW_VERSION, mw_store_engine(rt->store), mw_store_is_up(rt->store) ? "true" : "false", rt->workers, (int)getpid(),
                atomic_load(&rt->draining) ? "true" : "false");
  mw_buf_add_cstr(out, "\"dashboard\":");
  mw_json_add_string(out, mw_str_from(rt->dashboard));
  mw_buf_printf(out, ",\"uptime_seconds\":%.3f}", (double)(mw_clock_mono_ns() - rt->started_ns) / 1e9);
  mw_buf_deinit(&reasons);
}

static bool host_is_draining(void *program) { return atomic_load(&((mw_runtime *)program)->draining); }

typedef struct wake {
  mw_worker *worker;
  int64_t due_us;
} wake;

static void do_wake(void *arg) {
  wake *job = arg;
  mw_worker_wake_engine(job->worker, job->due_us);
  mw_free(job);
}

static void host_wake_engines(void *program, int64_t due_us) {
  mw_runtime *rt = program;
  if (atomic_load(&rt->draining)) return;
  for (int i = 0; i < rt->workers; i++) {
    wake *job = MW_NEW(wake);
    *job = (wake){&rt->worker[i], due_us};
    mw_loop_post(rt->worker[i].loop, do_wake, job);
  }
}

typedef struct control {
  mw_worker *worker;
  char id[MW_ID_TEXT];
} control;

static void do_tell(void *arg) {
  control *job = arg;
  mw_worker_tell_control(job->worker, job->id);
  mw_free(job);
}

static void host_tell_control(void *program, const char *id) {
  mw_runtime *rt = program;
  for (int i = 0; i < rt->workers; i++) {
    control *job = MW_NEW(control);
    job->worker = &rt->worker[i];
    snprintf(job->id, sizeof job->id, "%s", id);
    mw_loop_post(rt->worker[i].loop, do_tell, job);
  }
}

const mw_host_ops mw_runtime_host_ops = {
    .config = host_config,
    .env = host_env,
    .token_matches = host_token_matches,
    .access_version = host_access_version,
    .reload = host_reload,
    .plugins = host_plugins,
    .status = host_status,
    .is_draining = host_is_draining,
    .wake_engines = host_wake_engines,
    .tell_control = host_tell_control,
};
