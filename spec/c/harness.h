// SPDX-License-Identifier: MIT
#pragma once

// For spec/c/*_test.c: checks that say file and line, a list of tests, and a loop that runs until something holds.
//
//   static void test_it_works(void) { CHECK(1 + 1 == 2); }
//   int main(int argc, char **argv) { const test tests[] = {TEST(test_it_works)}; return RUN_TESTS(argc, argv, tests); }

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "loop/loop.h"
#include "loop/timer.h"

typedef struct test {
  const char *name;
  void (*run)(void);
} test;

#define TEST(fn) {#fn, fn}

#define CHECK(condition)                                                                                       \
  do {                                                                                                         \
    if (!(condition)) {                                                                                        \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                           \
      exit(1);                                                                                                 \
    }                                                                                                          \
  } while (0)

#define CHECK_INT(actual, expected)                                                                            \
  do {                                                                                                         \
    long long a_ = (long long)(actual), e_ = (long long)(expected);                                            \
    if (a_ != e_) {                                                                                            \
      fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #actual, a_, e_);                   \
      exit(1);                                                                                                 \
    }                                                                                                          \
  } while (0)

#define CHECK_STR(actual, expected)                                                                            \
  do {                                                                                                         \
    const char *a_ = (actual), *e_ = (expected);                                                               \
    if (strcmp(a_, e_) != 0) {                                                                                 \
      fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #actual, a_, e_);               \
      exit(1);                                                                                                 \
    }                                                                                                          \
  } while (0)

static inline void harness_on_timer(mw_timer *timer, void *arg) { *(bool *)arg = true; }

/** Turns the loop until `condition` holds; fails after ten seconds. */
#define RUN_UNTIL(loop, condition)                                                                             \
  do {                                                                                                         \
    bool late_ = false;                                                                                        \
    mw_timer timer_;                                                                                           \
    mw_timer_init(&timer_, harness_on_timer, &late_);                                                          \
    mw_timer_start((loop), &timer_, 10000);                                                                    \
    while (!(condition) && !late_) mw_loop_turn((loop), true);                                                 \
    mw_timer_stop(&timer_);                                                                                    \
    if (!(condition)) {                                                                                        \
      fprintf(stderr, "%s:%d: never came: %s\n", __FILE__, __LINE__, #condition);                              \
      exit(1);                                                                                                 \
    }                                                                                                          \
  } while (0)

#ifdef MW_DEBUG
/** Makes the `nth` allocation (0: the next) that a Lua state asks for inside an entry fail, that one alone. */
static inline void fail_lua_allocation(int nth) {
  char text[64];
  snprintf(text, sizeof text, "lua_alloc=after=%d,times=1", nth);
  CHECK_INT(mw_fault_arm(text, 0, NULL), 0);
}

/** True when that allocation came; disarms. */
static inline bool did_lua_allocation_fail(void) {
  bool failed = mw_fault_fired("lua_alloc") > 0;
  mw_fault_disarm();
  return failed;
}
#endif

/** Runs all tests, or those whose name contains argv[1]. */
static inline int run_tests(int argc, char **argv, const test *tests, size_t count) {
  size_t ran = 0;
  for (size_t i = 0; i < count; i++) {
    if (argc > 1 && !strstr(tests[i].name, argv[1])) continue;
    int64_t started = mw_clock_mono_ms();
    tests[i].run();
    printf("ok %s (%lld ms)\n", tests[i].name, (long long)(mw_clock_mono_ms() - started));
    fflush(stdout);
    ran++;
  }
  if (ran == 0) fprintf(stderr, "no test matches\n");
  return ran ? 0 : 1;
}

#define RUN_TESTS(argc, argv, tests) run_tests(argc, argv, tests, sizeof(tests) / sizeof *(tests))
