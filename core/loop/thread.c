// SPDX-License-Identifier: MIT
#include "loop/thread.h"

#include <signal.h>
#include <stdio.h>

#include "base/alloc.h"

#ifdef MW_SANITIZE
#define STACK_BYTES (16 * 1024 * 1024)
#else
#define STACK_BYTES (2 * 1024 * 1024)
#endif

typedef struct start {
  char name[16];
  void (*fn)(void *arg);
  void *arg;
} start;

static void *run(void *arg) {
  start s = *(start *)arg;
  mw_free(arg);
  pthread_setname_np(pthread_self(), s.name);
  s.fn(s.arg);
  return NULL;
}

// A thread inherits the mask of its maker, so no signal can reach it before it has blocked them itself.
static void block_signals(sigset_t *before) {
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
  sigset_t all;
  sigfillset(&all);
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
  pthread_sigmask(SIG_SETMASK, &all, before);
}

int mw_thread_start(mw_thread *thread, const char *name, void (*fn)(void *arg), void *arg) {
  start *s = MW_NEW(start);
  snprintf(s->name, sizeof s->name, "%s", name);
  s->fn = fn;
  s->arg = arg;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  sigset_t before;
  block_signals(&before);
  int rc = pthread_create(&thread->id, &attr, run, s);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  if (rc) mw_free(s);
  return -rc; // errno's numbers are libuv's codes
}

void mw_thread_join(mw_thread *thread) { pthread_join(thread->id, NULL); }
