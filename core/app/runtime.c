// SPDX-License-Identifier: MIT
#include "app/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/certificates.h"
#include "app/pair.h"
#include "app/proxies.h"
#include "app/runtime_impl.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/fswatch.h"
#include "loop/listener.h"
#include "loop/poll.h"
#include "loop/signal.h"
#include "vm/watchdog.h"

enum { KV_BYTES = 64 << 20, LATE_MS = 50, SETTLE_MS = 60, DOORS_MS = 2000, STUCK_MS = 150 };

/* ---- start ---- */

// On the main thread, once a worker has opened what lives on its loop.
static void on_worker_opened(void *arg) {
  mw_runtime *rt = arg;
  if (++rt->opened < rt->workers) return;
  mw_runtime_prepare_database(rt);
  mw_runtime_reload(rt, NULL);
}

void mw_runtime_worker_opened(mw_runtime *rt, mw_worker *worker) {
  (void)worker;
  mw_loop_post(rt->main, on_worker_opened, rt);
}

bool mw_runtime_is_tls(const mw_runtime *rt, int tag) {
  mw_listen_address to;
  return mw_listen_is_set(rt->conf, tag) && !mw_listen_configured(rt->conf, tag, &to, NULL) && to.is_tls;
}

static void note_dashboard(mw_runtime *rt, int tag, const mw_listen_address *to) {
  char address[MW_ADDRESS_TEXT];
  mw_address_format(&to->address, address);
  if ((tag != MW_LISTENER_MAIN && tag != MW_LISTENER_OPS) || strncmp(address, "unix:", 5) == 0) return;
  const char *port = strrchr(address, ':');
  bool is_any = strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0;
  snprintf(rt->dashboard, sizeof rt->dashboard, "%s://%s%s", to->is_tls ? "https" : "http", is_any ? "localhost" : "",
           is_any && port ? port : address);
}

static void write_addresses(mw_runtime *rt) {
  mw_buf path = MW_BUF_INIT, text = MW_BUF_INIT, temporary = MW_BUF_INIT;
  mw_buf_printf(&path, "%s/addresses", rt->conf->data);
  mw_buf_printf(&temporary, "%s.new", path.ptr);
  for (int tag = 0; tag < MW_LISTENERS; tag++) {
    mw_listen_address to = {.is_tls = mw_runtime_is_tls(rt, tag)};
    char shown[MW_LISTEN_TEXT];
    if (rt->fds.listeners[tag][0] < 0 || mw_listener_address(rt->fds.listeners[tag][0], &to.address)) continue;
    mw_listen_format(&to, shown);
    note_dashboard(rt, tag, &to);
    mw_buf_printf(&text, "%s %s\n", mw_listen_kinds[tag].name, shown);
    mw_log(MW_LOG_INFO, "http", "listening", MW_LOG_S("listener", mw_listen_kinds[tag].name), MW_LOG_S("address", shown));
  }
  FILE *file = fopen(temporary.ptr, "w");
  if (file) {
    fwrite(text.ptr, 1, text.len, file);
    if (fclose(file) == 0) rename(temporary.ptr, path.ptr);
  }
  mw_buf_deinit(&path);
  mw_buf_deinit(&text);
  mw_buf_deinit(&temporary);
}

static int open_control(mw_runtime *rt, mw_err *err) {
  mw_buf text = MW_BUF_INIT;
  mw_address address;
  mw_buf_printf(&text, "unix:%s/moonwatch.sock", rt->conf->data);
  int rc = mw_address_parse(mw_buf_str(&text), &address, err);
  if (!rc) rc = mw_listener_bind(&address, NULL, &rt->fds.listeners[MW_LISTENER_CONTROL][0], err);
  mw_buf_deinit(&text);
  return rc;
}

/* ---- leaving ---- */

typedef struct ending {
  mw_worker *worker;
  int64_t bound_ms;
} ending;

static void do_drain(void *arg) {
  ending *job = arg;
  mw_worker_drain(job->worker, job->bound_ms);
  mw_free(job);
}

static void do_hand_over(void *arg) {
  ending *job = arg;
  mw_worker_hand_over(job->worker, job->bound_ms);
  mw_free(job);
}

static void do_finish_hand_over(void *arg) { mw_worker_finish_hand_over(arg); }

static void on_worker_quiet(void *arg) {
  mw_runtime *rt = arg;
  if (++rt->quiet < rt->workers) return;
  for (int i = 0; i < rt->workers; i++) mw_loop_post(rt->worker[i].loop, do_finish_hand_over, &rt->worker[i]);
}

void mw_runtime_worker_quiet(mw_runtime *rt) { mw_loop_post(rt->main, on_worker_quiet, rt); }

static void do_wind_down(void *arg) { mw_worker_wind_down(arg); }

static void end_all(mw_runtime *rt, int status, mw_loop_cb how) {
  if (atomic_exchange(&rt->draining, true)) return;
  rt->status = status;
  mw_runtime_close_shared(rt);
  for (int i = 0; i < rt->workers; i++) {
    ending *job = MW_NEW(ending);
    *job = (ending){&rt->worker[i], rt->conf->drain_timeout};
    mw_loop_post(rt->worker[i].loop, how, job);
  }
}

void mw_runtime_drain(mw_runtime *rt, int status) {
  atomic_store(&rt->leaving, true);
  mw_timer_stop(&rt->leave);
  end_all(rt, status, do_drain);
}

static void on_leave(mw_timer *timer, void *arg) { mw_runtime_drain(arg, 0); }

void mw_runtime_leave(mw_runtime *rt) {
  if (atomic_exchange(&rt->leaving, true)) return;
  if (!rt->conf->drain_delay || !atomic_load(&rt->serving)) {
    mw_runtime_drain(rt, 0);
    return;
  }
  mw_log(MW_LOG_INFO, "runtime", "not ready any more; draining soon", MW_LOG_I("in_ms", rt->conf->drain_delay));
  for (int i = 0; i < rt->workers; i++) mw_loop_post(rt->worker[i].loop, do_wind_down, &rt->worker[i]);
  mw_timer_start(rt->main, &rt->leave, rt->conf->drain_delay);
}

/* ---- what it is told ---- */

static void on_stop_signal(int signum, void *arg) {
  mw_runtime *rt = arg;
  const char *name = signum == SIGINT ? "SIGINT" : "SIGTERM";
  if (atomic_load(&rt->leaving) && rt->fds.supervisor < 0) { // with a supervisor it is that one's to say
    mw_log(MW_LOG_WARN, "runtime", "asked twice: ending at once", MW_LOG_S("signal", name));
    _exit(1);
  }
  mw_log(MW_LOG_INFO, "runtime", "stopping", MW_LOG_S("signal", name));
  mw_runtime_leave(rt);
}

static void on_upgrade_signal(int signum, void *arg) {
  mw_runtime *rt = arg;
  mw_log(MW_LOG_WARN, "runtime", rt->fds.supervisor < 0
    ? "SIGUSR2 needs the supervisor, which keeps the sockets: restart this process instead, or run it without --no-supervisor"
    : "SIGUSR2 is for the supervisor, the process that started this one");
}

static void on_hangup(int signum, void *arg) {
  mw_runtime *rt = arg;
  mw_access_log_reopen(rt->access_log);
  mw_certificates_reload(rt->certificates);
  mw_runtime_reload(rt, NULL);
}

static void on_files_changed(void *arg) { mw_runtime_reload(arg, NULL); }

static void on_beat(void *arg) {
  mw_runtime *rt = arg;
  if (--rt->beats > 0 || rt->fds.supervisor < 0) return;
  if (write(rt->fds.supervisor, &(char){MW_PAIR_ALIVE}, 1) < 0) return; // it has not read the last one either
}

static void do_beat(void *arg) {
  mw_runtime *rt = arg;
  mw_loop_post(rt->main, on_beat, rt);
}

// The answer is given when every worker has come by.
static void on_ping(mw_runtime *rt) {
  if (rt->beats > 0 || rt->workers_gone || rt->ended) return;
  rt->beats = rt->workers;
  for (int i = 0; i < rt->workers; i++) mw_loop_post(rt->worker[i].loop, do_beat, rt);
}

static void hear(mw_runtime *rt, char what) {
  if (what == MW_PAIR_PING) on_ping(rt);

  if (what == MW_PAIR_HAND_OVER || what == MW_PAIR_LEAVE) {
    mw_log(MW_LOG_INFO, "runtime", "another server takes over");
    rt->handing_over = true;
    end_all(rt, 0, what == MW_PAIR_HAND_OVER ? do_hand_over : do_drain);
  }
}

static void on_supervisor(mw_poll *poll, int status, int events, void *arg) {
  mw_runtime *rt = arg;
  char bytes[16];
  ssize_t got = read(rt->fds.supervisor, bytes, sizeof bytes);
  if (got > 0) {
    for (ssize_t i = 0; i < got; i++) hear(rt, bytes[i]);
    return;
  }
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  mw_log(MW_LOG_WARN, "runtime", "the supervisor is gone; draining");
  mw_poll_close(rt->supervisor);
  rt->supervisor = NULL;
  mw_runtime_drain(rt, 0);
}

static void watch_plugins(mw_runtime *rt) {
  mw_err err;
  if (!rt->conf->watch) return;
  if (access(rt->conf->plugins, F_OK) != 0) {
    mw_log(MW_LOG_WARN, "plugins", "there is no plugins folder; `moonwatch init` makes a project with one", MW_LOG_S("folder", rt->conf->plugins));
    return;
  }
  if (mw_fswatch_open(rt->main, rt->conf->plugins, SETTLE_MS, on_files_changed, rt, &rt->watch, &err))
    mw_log(MW_LOG_WARN, "plugins", "the plugins folder is not watched; send SIGHUP or run `moonwatch reload` after a change",
           MW_LOG_S("error", err.text));
}

static void do_listen(void *arg) { mw_worker_listen(arg); }

static void open_doors(mw_runtime *rt) {
  if (rt->doors_open) return;
  rt->doors_open = true;
  mw_timer_stop(&rt->doors);
  mw_runtime_share_sockets(rt);
  for (int i = 0; i < rt->workers; i++) mw_loop_post(rt->worker[i].loop, do_listen, &rt->worker[i]);
}

static void tell_ready(mw_runtime *rt) {
  if (rt->told_ready || rt->fds.supervisor < 0) return;
  rt->told_ready = true;
  if (write(rt->fds.supervisor, &(char){MW_PAIR_READY}, 1) < 0) mw_log(MW_LOG_WARN, "runtime", "the supervisor does not listen");
}

void mw_runtime_open_doors(mw_runtime *rt) {
  bool database_known = atomic_load(&rt->store_ready) || rt->database_failures > 0;
  if (!atomic_load(&rt->serving) || atomic_load(&rt->draining)) return;
  if (database_known) {
    open_doors(rt);
    tell_ready(rt);
  } else if (!rt->fds.takes_over && !rt->doors_open) {
    mw_timer_start(rt->main, &rt->doors, DOORS_MS); // a long migration: probes must be answered
  }
}

static void on_doors(mw_timer *timer, void *arg) {
  mw_runtime *rt = arg;
  if (!atomic_load(&rt->draining)) open_doors(rt);
}

static void on_keep_alive(mw_timer *timer, void *arg) { mw_timer_start(((mw_runtime *)arg)->main, timer, 3600 * 1000); }

static int open_access_log(mw_runtime *rt, mw_err *err) {
  const mw_config *conf = rt->conf;
  if (strcmp(conf->http_access_log, "off") == 0) return 0;
  mw_access_format format = strcmp(conf->http_access_format, "json") == 0 ? MW_ACCESS_JSON : MW_ACCESS_COMBINED;
  return mw_access_log_open(conf->http_access_log, format, &rt->access_log, err);
}

static int open_all(mw_runtime *rt, mw_err *err) {
  const mw_config *conf = rt->conf;
  mw_store_conf store = {.database_url = conf->database, .app_url = conf->app_database[0] ? conf->app_database : NULL,
                         .data_dir = conf->data, .schema = conf->postgres_schema, .pg_pool_size = (int)conf->postgres_pool,
                         .pg_lease_ms = conf->postgres_lease, .max_payload_bytes = (size_t)conf->workflow_max_payload, .exclusive = true};
  int rc = mw_store_open(&store, &rt->store, err);
  if (!rc) rc = mw_proxies_configured(conf, &rt->proxies, err);
  if (!rc) rc = open_access_log(rt, err);
  if (!rc) rc = mw_certificates_open(conf, &rt->certificates, err);
  if (!rc) rc = open_control(rt, err);
  if (rc) return rc;
  rt->kv = mw_kv_new(KV_BYTES);
  if (conf->databases.count)
    rt->databases = mw_databases_new(&(mw_databases_conf){.data_dir = conf->data, .names = conf->databases.names, .urls = conf->databases.values,
                                                          .count = conf->databases.count, .pg_pool_size = (int)conf->postgres_pool});
  rt->main = mw_loop_new("main");
  rt->watchdog = mw_watchdog_start(&(mw_watchdog_conf){.soft_ms = conf->lua_soft_limit, .hard_ms = conf->lua_hard_limit,
                                                    .stuck_ms = STUCK_MS, .on_stuck = mw_runtime_on_stuck, .arg = rt});
  rt->late = mw_late_open(rt->store, rt->main, LATE_MS);
  rt->reload.loader = mw_work_pool_new("loader", 1, 1024);
  rt->database_pool = mw_work_pool_new("database", 1, 8);
  mw_timer_init(&rt->leave, on_leave, rt);
  mw_timer_init(&rt->doors, on_doors, rt);
  mw_timer_init(&rt->keep_alive, on_keep_alive, rt);
  mw_timer_start(rt->main, &rt->keep_alive, 3600 * 1000);
  mw_signal_open(rt->main, SIGTERM, on_stop_signal, rt, &rt->signals[0]);
  mw_signal_open(rt->main, SIGINT, on_stop_signal, rt, &rt->signals[1]);
  mw_signal_open(rt->main, SIGHUP, on_hangup, rt, &rt->signals[2]);
  mw_signal_open(rt->main, SIGUSR2, on_upgrade_signal, rt, &rt->signals[3]);
  if (rt->fds.supervisor >= 0) {
    fcntl(rt->fds.supervisor, F_SETFL, O_NONBLOCK);
    if (!mw_poll_open(rt->main, rt->fds.supervisor, on_supervisor, rt, &rt->supervisor)) mw_poll_set(rt->supervisor, MW_POLL_READ);
  }
  mw_certificates_watch(rt->certificates, rt->main, rt->reload.loader);
  watch_plugins(rt);
  write_addresses(rt);
  return 0;
}

static void start_workers(mw_runtime *rt) {
  for (int i = 0; i < rt->workers; i++) {
    int rc = mw_worker_start(&rt->worker[i], rt, i);
    if (!rc) continue;
    mw_log(MW_LOG_FATAL, "runtime", "a worker thread cannot start; raise the limit on threads (ulimit -u)", MW_LOG_S("error", mw_err_text(rc)));
    _exit(1); // half a server is none, and the others already run
  }
}

/* ---- the end ---- */

static void on_worker_ended(void *arg) {
  mw_runtime *rt = arg;
  if (++rt->ended == rt->workers) mw_loop_stop(rt->main);
}

void mw_runtime_worker_ended(mw_runtime *rt) { mw_loop_post(rt->main, on_worker_ended, rt); }

static void close_fds(mw_runtime_fds *fds) {
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = 0; i < MW_MAX_WORKERS; i++)
      if (fds->listeners[tag][i] >= 0) close(fds->listeners[tag][i]);
  if (fds->supervisor >= 0) close(fds->supervisor);
}

// While the data folder is still ours: afterwards it may be the next server's file.
static void remove_addresses(mw_runtime *rt) {
  mw_buf path = MW_BUF_INIT;
  mw_buf_printf(&path, "%s/addresses", rt->conf->data);
  unlink(path.ptr);
  mw_buf_deinit(&path);
}

static void on_late_closed(void *arg) { *(bool *)arg = true; }

static void close_late(mw_runtime *rt) {
  bool closed = false;
  mw_late_close(rt->late, on_late_closed, &closed);
  while (!closed) mw_loop_turn(rt->main, true);
}

static void close_all(mw_runtime *rt) {
  for (int i = 0; i < 4; i++)
    if (rt->signals[i]) mw_signal_close(rt->signals[i]);
  signal(SIGUSR2, SIG_IGN);
  if (rt->watch) mw_fswatch_close(rt->watch);
  if (rt->supervisor) mw_poll_close(rt->supervisor);
  if (rt->main) {
    mw_timer_stop(&rt->doors);
    mw_timer_stop(&rt->database_retry);
    mw_timer_stop(&rt->leave);
    close_late(rt);
    mw_timer_stop(&rt->keep_alive);
    mw_certificates_stop(rt->certificates);
    mw_work_pool_free(rt->reload.loader);
    mw_work_pool_free(rt->database_pool);
    while (mw_loop_turn(rt->main, false)) {}
    mw_loop_free(rt->main);
  }
  mw_certificates_free(rt->certificates);
  mw_access_log_close(rt->access_log);
  mw_proxies_deinit(&rt->proxies);
  if (rt->watchdog) mw_watchdog_stop(rt->watchdog);
  if (rt->store && !rt->handing_over) remove_addresses(rt);
  if (rt->store) mw_store_close(rt->store);
  mw_databases_free(rt->databases);
  mw_kv_free(rt->kv);
  mw_work_shutdown();
  mw_buf_deinit(&rt->report);
  mw_buf_deinit(&rt->failed);
  pthread_mutex_destroy(&rt->report_lock);
  pthread_barrier_destroy(&rt->all_ended);
}

int mw_runtime_run(const mw_config *conf, const mw_runtime_fds *fds, mw_err *err) {
  mw_runtime *rt = MW_NEW(mw_runtime);
  rt->conf = conf;
  rt->fds = *fds;
  for (int i = 0; i < MW_MAX_WORKERS; i++) rt->fds.listeners[MW_LISTENER_CONTROL][i] = -1;
  rt->host_ops = &mw_runtime_host_ops;
  rt->workers = fds->workers;
  memset(rt->shared, -1, sizeof rt->shared);
  rt->started_ns = mw_clock_mono_ns();
  pthread_mutex_init(&rt->report_lock, NULL);
  pthread_barrier_init(&rt->all_ended, NULL, (unsigned)rt->workers + 1);
  mw_list_init(&rt->reload.waiting);
  mw_list_init(&rt->reload.waiting_next);

  int rc = open_all(rt, err);
  if (!rc) {
    start_workers(rt);
    mw_loop_run(rt->main);
    rt->workers_gone = true;
    pthread_barrier_wait(&rt->all_ended); // their loops are freed after this, and no one posts to them any more
    for (int i = 0; i < rt->workers; i++) mw_worker_join(&rt->worker[i]);
    rc = rt->status;
    if (rc && err) *err = rt->err;
  }
  close_all(rt);
  if (rc != MW_ELOCKED) close_fds(&rt->fds);
  mw_free(rt);
  return rc;
}
