// SPDX-License-Identifier: MIT

// A worker that is stuck in a plugin's Lua accepts nothing, and the kernel goes on giving its sockets their share of the connections. So
// while it is stuck the others accept on them, through duplicates of the descriptors; who helped once keeps its listeners, paused.

#include <fcntl.h>
#include <unistd.h>

#include "app/certificates.h"
#include "app/runtime_impl.h"
#include "base/alloc.h"
#include "base/log.h"
#include "bind/bind_http.h"

void mw_runtime_share_sockets(mw_runtime *rt) {
  if (rt->workers < 2) return;
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = 0; i < MW_MAX_WORKERS; i++)
      if (rt->fds.listeners[tag][i] >= 0) rt->shared[tag][i] = fcntl(rt->fds.listeners[tag][i], F_DUPFD_CLOEXEC, 0);
}

void mw_runtime_close_shared(mw_runtime *rt) {
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = 0; i < MW_MAX_WORKERS; i++) {
      if (rt->shared[tag][i] >= 0) close(rt->shared[tag][i]);
      rt->shared[tag][i] = -1;
    }
}

/* ---- on the worker that helps ---- */

typedef struct help { // with worker `whom`, from now on or no more
  mw_worker *helper;
  int whom;
  bool on;
  int count; // of sockets, the first time
  struct {
    int tag, fd;
  } sockets[];
} help;

static void open_help(const help *job) {
  mw_worker *helper = job->helper;
  int *list = helper->help[job->whom] = mw_alloc(((size_t)job->count + 1) * sizeof *list), count = 0;
  for (int i = 0; i < job->count; i++) {
    int tag = job->sockets[i].tag, fd = job->sockets[i].fd;
    mw_err err;
    mw_tls_context *tls = mw_runtime_is_tls(helper->rt, tag) ? mw_certificates_context(helper->rt->certificates) : NULL;
    if (mw_http_host_listen(helper->http, fd, tls, tag, &err)) close(fd);
    else list[count++] = fd;
  }
  list[count] = -1;
}

static void do_help(void *arg) {
  help *job = arg;
  mw_worker *helper = job->helper;
  if (helper->draining) {
    for (int i = 0; i < job->count; i++) close(job->sockets[i].fd);
  } else if (job->count) {
    open_help(job);
  } else if (helper->help[job->whom]) {
    for (int *fd = helper->help[job->whom]; *fd >= 0; fd++) mw_server_set_accepting(mw_http_host_server(helper->http), *fd, job->on);
  }
  mw_free(job);
}

/* ---- on the main thread ---- */

static void add_sockets(mw_runtime *rt, help *job) {
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = job->whom; i < MW_MAX_WORKERS; i += rt->workers) {
      int fd = rt->shared[tag][i] < 0 ? -1 : fcntl(rt->shared[tag][i], F_DUPFD_CLOEXEC, 0);
      if (fd < 0) continue; // without a descriptor they wait, as they would have
      job->sockets[job->count].tag = tag;
      job->sockets[job->count++].fd = fd;
    }
}

static void send_help(mw_runtime *rt, int helper, int whom, bool on) {
  bool first = !(rt->helped[helper] >> whom & 1);
  if (first && !on) return;
  size_t room = first ? MW_LISTENERS * MW_MAX_WORKERS : 0;
  help *job = mw_calloc(1, sizeof *job + room * sizeof job->sockets[0]);
  job->helper = &rt->worker[helper];
  job->whom = whom;
  job->on = on;
  if (first) {
    rt->helped[helper] |= UINT64_C(1) << whom;
    add_sockets(rt, job);
  }
  mw_loop_post(rt->worker[helper].loop, do_help, job);
}

typedef struct news {
  mw_runtime *rt;
  int worker;
  bool stuck;
} news;

static void on_news(void *arg) {
  news n = *(news *)arg;
  mw_runtime *rt = n.rt;
  mw_free(arg);
  if (rt->workers_gone || !rt->doors_open || atomic_load(&rt->draining)) return;
  if (n.stuck) mw_log(MW_LOG_DEBUG, "runtime", "a worker is stuck; others accept its connections", MW_LOG_I("worker", n.worker));
  for (int i = 0; i < rt->workers; i++)
    if (i != n.worker) send_help(rt, i, n.worker, n.stuck);
}

void mw_runtime_on_stuck(int worker, bool stuck, void *arg) {
  mw_runtime *rt = arg;
  if (worker >= rt->workers) return; // the loader
  news *n = MW_NEW(news);
  *n = (news){rt, worker, stuck};
  mw_loop_post(rt->main, on_news, n);
}
