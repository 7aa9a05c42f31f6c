// SPDX-License-Identifier: MIT
#include "loop/loop_impl.h"
#include "loop/virtual.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#define DRAIN_MS 1000     // how long mw_loop_free waits for close callbacks and work jobs
#define DEFER_ROUNDS 16   // deferred calls may defer again; after so many rounds the loop polls in between
#define KEPT_CALLS 4096   // arrays larger than this are freed when they run empty

static const char *uv_name(int code) {
  switch (code) {
#define CASE(name, text) case UV_##name: return #name;
    UV_ERRNO_MAP(CASE)
#undef CASE
  }
  return "unknown";
}

static const char *uv_text(int code) {
  switch (code) {
#define CASE(name, text) case UV_##name: return text;
    UV_ERRNO_MAP(CASE)
#undef CASE
  }
  return "an unknown error";
}

// Before main, so that codes have names even where no loop was ever made (binding, the command line).
__attribute__((constructor)) static void register_errors(void) { mw_err_register(uv_name, uv_text); }

static void ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }

static void add_call(mw_loop_calls *calls, mw_loop_cb cb, void *arg) {
  if (calls->count == calls->cap) {
    calls->cap = calls->cap ? calls->cap * 2 : 64;
    calls->items = mw_realloc(calls->items, calls->cap * sizeof *calls->items);
  }
  calls->items[calls->count++] = (mw_loop_call){cb, arg};
}

static void empty_calls(mw_loop_calls *calls) {
  calls->count = 0;
  if (calls->cap <= KEPT_CALLS) return;
  mw_free(calls->items);
  *calls = (mw_loop_calls){0};
}

static void run_posted(mw_loop *loop) {
  pthread_mutex_lock(&loop->lock);
  mw_loop_calls batch = loop->posted;
  loop->posted = loop->running;
  loop->running = batch;
  pthread_mutex_unlock(&loop->lock);
  for (size_t i = 0; i < batch.count; i++) batch.items[i].cb(batch.items[i].arg);
  empty_calls(&loop->running);
}

static void on_async(uv_async_t *async) {
  mw_loop *loop = async->data;
  if (atomic_load(&loop->stopping)) uv_stop(&loop->uv);
  run_posted(loop);
}

static void run_deferred(mw_loop *loop) {
  for (int round = 0; loop->deferred.count; round++) {
    if (round == DEFER_ROUNDS) {
      uv_async_send(&loop->async);
      return;
    }
    mw_loop_calls batch = loop->deferred;
    loop->deferred = loop->deferring;
    loop->deferring = batch;
    for (size_t i = 0; i < batch.count; i++) batch.items[i].cb(batch.items[i].arg);
    empty_calls(&loop->deferring);
  }
  uv_unref((uv_handle_t *)&loop->prepare);
}

// The last thing before the loop waits. What passed since the last time, less what was spent waiting, was the turn.
static void on_prepare(uv_prepare_t *prepare) {
  mw_loop *loop = prepare->data;
  if (loop->deferred.count) run_deferred(loop);
  uint64_t now = uv_hrtime(), idle = uv_metrics_idle_time(&loop->uv);
  int64_t busy_us = ((int64_t)(now - loop->turn_started_ns) - (int64_t)(idle - loop->turn_idle_ns)) / 1000;
  if (loop->turn_started_ns && busy_us > loop->lag_us) loop->lag_us = busy_us;
  loop->turn_started_ns = now;
  loop->turn_idle_ns = idle;
}

static void must(int rc, const char *what) {
  if (rc == 0) return;
  mw_log(MW_LOG_FATAL, "loop", what, MW_LOG_S("error", uv_text(rc)));
  abort();
}

mw_loop *mw_loop_new(const char *name) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, ignore_sigpipe);
  mw_loop *loop = MW_NEW(mw_loop);
  loop->name = mw_strdup(name);
  atomic_store(&loop->owner, pthread_self());
  pthread_mutex_init(&loop->lock, NULL);
  must(uv_loop_init(&loop->uv), "cannot make an event loop");
  loop->uv.data = loop;
  uv_loop_configure(&loop->uv, UV_METRICS_IDLE_TIME);
  must(uv_async_init(&loop->uv, &loop->async, on_async), "cannot make an event loop's doorbell");
  loop->async.data = loop;
  uv_unref((uv_handle_t *)&loop->async);
  uv_prepare_init(&loop->uv, &loop->prepare);
  loop->prepare.data = loop;
  uv_prepare_start(&loop->prepare, on_prepare);
  uv_unref((uv_handle_t *)&loop->prepare);
  mw_wheel_open(loop);
  return loop;
}

static bool has_posted(mw_loop *loop) {
  pthread_mutex_lock(&loop->lock);
  bool some = loop->posted.count > 0;
  pthread_mutex_unlock(&loop->lock);
  return some;
}

void mw_loop_run(mw_loop *loop) {
  atomic_store(&loop->owner, pthread_self());
  loop->turn_started_ns = 0;
  while (!atomic_load(&loop->stopping)) {
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    if (atomic_load(&loop->stopping)) break;
    if (has_posted(loop)) run_posted(loop);
    else if (!uv_loop_alive(&loop->uv)) break;
  }
  atomic_store(&loop->stopping, false);
}

bool mw_loop_turn(mw_loop *loop, bool wait) {
  atomic_store(&loop->owner, pthread_self());
  if (!uv_loop_alive(&loop->uv)) wait = false;
  uv_run(&loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
  // Without an active handle libuv does not even look at the doorbell.
  if (!uv_loop_alive(&loop->uv) && has_posted(loop)) run_posted(loop);
  return uv_loop_alive(&loop->uv) || has_posted(loop);
}

void mw_loop_stop(mw_loop *loop) {
  atomic_store(&loop->stopping, true);
  uv_async_send(&loop->async);
}

void mw_loop_post(mw_loop *loop, mw_loop_cb cb, void *arg) {
  pthread_mutex_lock(&loop->lock);
  bool first = loop->posted.count == 0;
  add_call(&loop->posted, cb, arg);
  // Inside the lock: once the owner has seen this call it may free the loop, and the doorbell with it.
  if (first) uv_async_send(&loop->async);
  pthread_mutex_unlock(&loop->lock);
}

void mw_loop_defer(mw_loop *loop, mw_loop_cb cb, void *arg) {
  MW_ASSERT_LOOP(loop);
  if (loop->deferred.count == 0) uv_ref((uv_handle_t *)&loop->prepare);
  add_call(&loop->deferred, cb, arg);
}

void mw_loop_hold(mw_loop *loop) {
  if (loop->holds++ == 0) uv_ref((uv_handle_t *)&loop->async);
}

void mw_loop_unhold(mw_loop *loop) {
  if (--loop->holds == 0) uv_unref((uv_handle_t *)&loop->async);
}

int64_t mw_loop_now_ms(const mw_loop *loop) {
  return loop->is_virtual ? mw_clock_mono_ms() : (int64_t)uv_now(&loop->uv);
}

bool mw_loop_is_quiet(mw_loop *loop) {
  return !has_posted(loop) && loop->deferred.count == 0 && mw_list_is_empty(&loop->wheel.ready) && atomic_load(&loop->jobs) == 0;
}

static void on_turn_over(uv_timer_t *timer) {}

void mw_loop_turn_for(mw_loop *loop, int64_t real_ms) {
  uv_timer_start(&loop->wheel.timer, on_turn_over, (uint64_t)real_ms, 0);
  uv_ref((uv_handle_t *)&loop->wheel.timer);
  mw_loop_turn(loop, true);
  uv_timer_stop(&loop->wheel.timer);
  if (loop->wheel.count == 0) uv_unref((uv_handle_t *)&loop->wheel.timer);
}

struct uv_loop_s *mw_loop_uv(mw_loop *loop) { return &loop->uv; }

char *mw_loop_read_buffer(mw_loop *loop, size_t *size) {
  *size = sizeof loop->read_buffer;
  return loop->read_buffer;
}

bool mw_loop_is_here(const mw_loop *loop) {
  return pthread_equal(atomic_load(&((mw_loop *)loop)->owner), pthread_self());
}

int64_t mw_loop_take_lag_us(mw_loop *loop) {
  int64_t lag = loop->lag_us;
  loop->lag_us = 0;
  return lag;
}

typedef struct survey {
  mw_loop *loop;
  int closing, left;
  bool close_them;
} survey;

static bool is_own(const mw_loop *loop, const uv_handle_t *handle) {
  return handle == (const uv_handle_t *)&loop->async || handle == (const uv_handle_t *)&loop->prepare ||
         handle == (const uv_handle_t *)&loop->wheel.timer || handle == (const uv_handle_t *)&loop->wheel.idle;
}

static void look_at(uv_handle_t *handle, void *arg) {
  survey *s = arg;
  if (is_own(s->loop, handle)) return;
  if (uv_is_closing(handle)) {
    s->closing++;
    return;
  }
  s->left++;
  if (!s->close_them) return;
  mw_log(MW_LOG_WARN, "loop", "a handle was left open", MW_LOG_S("loop", s->loop->name),
         MW_LOG_S("kind", uv_handle_type_name(handle->type)));
  uv_close(handle, NULL);
}

// Close callbacks and posted answers still come; what is merely open is not waited for.
static void drain(mw_loop *loop) {
  uint64_t until = uv_hrtime() + (uint64_t)DRAIN_MS * 1000000;
  for (;;) {
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    survey s = {.loop = loop};
    uv_walk(&loop->uv, look_at, &s);
    bool busy = s.closing || loop->deferred.count || has_posted(loop);
    bool waits = atomic_load(&loop->jobs) > 0;
    if ((!busy && !waits) || uv_hrtime() > until) return;
    if (!busy) uv_sleep(1);
  }
}

static void free_calls(mw_loop_calls *calls) { mw_free(calls->items); }

void mw_loop_free(mw_loop *loop) {
  if (!loop) return;
  atomic_store(&loop->owner, pthread_self());
  drain(loop);
  if (atomic_load(&loop->jobs) > 0) {
    mw_log(MW_LOG_WARN, "loop", "work is still running for a loop that ends", MW_LOG_S("loop", loop->name));
    return; // the job will post to it; a leak at exit is better than a crash
  }
  survey s = {.loop = loop, .close_them = true};
  uv_walk(&loop->uv, look_at, &s);
  if (loop->free_dns_cache) loop->free_dns_cache(loop->dns_cache);
  mw_wheel_close(loop);
  uv_close((uv_handle_t *)&loop->async, NULL);
  uv_close((uv_handle_t *)&loop->prepare, NULL);
  while (uv_run(&loop->uv, UV_RUN_NOWAIT)) {}
  int rc = uv_loop_close(&loop->uv);
  if (rc) mw_log(MW_LOG_ERROR, "loop", "an event loop did not close", MW_LOG_S("loop", loop->name));
  pthread_mutex_lock(&loop->lock); // a poster may still be between its send and its unlock
  pthread_mutex_unlock(&loop->lock);
  pthread_mutex_destroy(&loop->lock);
  free_calls(&loop->posted);
  free_calls(&loop->running);
  free_calls(&loop->deferred);
  free_calls(&loop->deferring);
  mw_free(loop->name);
  mw_free(loop);
}
