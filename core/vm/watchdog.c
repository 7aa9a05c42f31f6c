// SPDX-License-Identifier: MIT
#include "vm/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/thread.h"
#include "vm/vm_impl.h"

// A thread publishes a number that changes with every entry into Lua (mw_vm_gate). The watchdog looks at it now and then; the time
// since it first saw the same odd number is how long the thread has been inside. So the thread itself reads no clock, and a limit is
// exact to one look.

#define SIGNAL SIGURG
#define STUCK_LOOK_MS 10
#define ABORT_GRACE_MS 1000

typedef struct slot {
  mw_list node;
  int index;
  pthread_t thread;
  mw_vm_gate *gate;
  uint_fast64_t seen;
  int64_t since_ms;
  bool stuck;
} slot;

struct mw_watchdog {
  mw_watchdog_conf conf;
  mw_thread thread;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  mw_list slots;
  bool stopping;
};

static void say(const char *text) {
  ssize_t n = write(STDERR_FILENO, text, strlen(text));
  (void)n;
}

// In the signal handler of a thread whose C call never returned: lua_getstack and lua_getinfo("Sl") only read.
static void write_stack(lua_State *L) {
  lua_Debug ar;
  char line[200];
  for (int level = 0; level < 30 && lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sl", &ar)) continue;
    snprintf(line, sizeof line, "    %s:%d\n", ar.short_src, ar.currentline);
    say(line);
  }
}

static void on_signal(int number) {
  int saved = errno;
  mw_vm_gate *gate = &mw_gate;
  mw_vm *vm = atomic_load(&gate->vm);
  uint_fast64_t seq = atomic_load(&gate->seq);
  if (atomic_load(&gate->abort)) {
    say("moonwatch: a C call inside Lua does not return; the server ends itself. Lua was at:\n");
    if (vm) write_stack(vm->current ? vm->current->co : vm->L);
    abort();
  }
  if ((seq & 1) && seq == atomic_load(&gate->target) && vm) mw_vm_arm_hook(vm);
  errno = saved;
}

static void tell(mw_watchdog *w, slot *s, bool stuck) {
  s->stuck = stuck;
  if (w->conf.on_stuck) w->conf.on_stuck(s->index, stuck, w->conf.arg);
}

// Returns true while the thread needs a closer look.
static bool look(mw_watchdog *w, slot *s, int64_t now_ms) {
  uint_fast64_t seq = atomic_load_explicit(&s->gate->seq, memory_order_acquire);
  if (seq != s->seen || !(seq & 1)) {
    s->seen = seq;
    s->since_ms = now_ms;
    if (s->stuck) tell(w, s, false);
    return false;
  }
  int64_t inside = now_ms - s->since_ms;
  if (inside >= w->conf.stuck_ms && !s->stuck) tell(w, s, true);
  if (inside < w->conf.soft_ms) return s->stuck;
  if (inside >= w->conf.hard_ms + ABORT_GRACE_MS) {
    say("moonwatch: a worker does not even take signals; the server ends itself\n");
    abort();
  }
  if (inside >= w->conf.hard_ms) atomic_store(&s->gate->abort, true);
  atomic_store(&s->gate->target, seq);
  pthread_kill(s->thread, SIGNAL);
  return true;
}

static void wait_ms(mw_watchdog *w, int64_t ms) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  at.tv_nsec += (long)(ms % 1000) * 1000000;
  at.tv_sec += ms / 1000 + at.tv_nsec / 1000000000;
  at.tv_nsec %= 1000000000;
  pthread_cond_timedwait(&w->wake, &w->lock, &at);
}

static void watch(void *arg) {
  mw_watchdog *w = arg;
  int64_t calm_ms = (w->conf.soft_ms < w->conf.stuck_ms * 4 ? w->conf.soft_ms : w->conf.stuck_ms * 4) / 20;
  if (calm_ms < 2) calm_ms = 2;
  pthread_mutex_lock(&w->lock);
  while (!w->stopping) {
    bool stuck = false;
    int64_t now = mw_clock_mono_ms();
    MW_LIST_EACH(&w->slots, node) stuck |= look(w, MW_CONTAINER(node, slot, node), now);
    wait_ms(w, stuck && calm_ms > STUCK_LOOK_MS ? STUCK_LOOK_MS : calm_ms);
  }
  pthread_mutex_unlock(&w->lock);
}

static void install_handler(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigfillset(&action.sa_mask);
  sigaction(SIGNAL, &action, NULL);
}

mw_watchdog *mw_watchdog_start(const mw_watchdog_conf *conf) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, install_handler);
  mw_watchdog *w = MW_NEW(mw_watchdog);
  w->conf = *conf;
  if (w->conf.soft_ms <= 0) w->conf.soft_ms = 1000;
  if (w->conf.hard_ms <= 0) w->conf.hard_ms = 10000;
  if (w->conf.stuck_ms <= 0) w->conf.stuck_ms = w->conf.soft_ms;
  mw_list_init(&w->slots);
  pthread_mutex_init(&w->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&w->wake, &attr);
  pthread_condattr_destroy(&attr);
  if (mw_thread_start(&w->thread, "watchdog", watch, w)) {
    mw_log(MW_LOG_FATAL, "vm", "the watchdog's thread cannot be started");
    abort();
  }
  return w;
}

void mw_watchdog_stop(mw_watchdog *watchdog) {
  if (!watchdog) return;
  pthread_mutex_lock(&watchdog->lock);
  watchdog->stopping = true;
  pthread_cond_signal(&watchdog->wake);
  pthread_mutex_unlock(&watchdog->lock);
  mw_thread_join(&watchdog->thread);
  for (slot *s; (s = MW_LIST_POP(&watchdog->slots, slot, node));) mw_free(s);
  pthread_cond_destroy(&watchdog->wake);
  pthread_mutex_destroy(&watchdog->lock);
  mw_free(watchdog);
}

void mw_watchdog_add_thread(mw_watchdog *watchdog, int index) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGNAL);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  slot *s = MW_NEW(slot);
  s->index = index;
  s->thread = pthread_self();
  s->gate = &mw_gate;
  pthread_mutex_lock(&watchdog->lock);
  mw_list_push(&watchdog->slots, &s->node);
  pthread_mutex_unlock(&watchdog->lock);
}

void mw_watchdog_remove_thread(mw_watchdog *watchdog) {
  pthread_mutex_lock(&watchdog->lock);
  MW_LIST_EACH(&watchdog->slots, node) {
    slot *s = MW_CONTAINER(node, slot, node);
    if (s->gate != &mw_gate) continue;
    mw_list_remove(node);
    mw_free(s);
  }
  pthread_mutex_unlock(&watchdog->lock);
}
