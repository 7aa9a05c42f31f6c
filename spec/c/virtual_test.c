// SPDX-License-Identifier: MIT

// A loop in virtual time (loop/virtual.h): nothing fires before its time is made to come, and then in order, however far away.

#include "base/world.h"
#include "harness.h"
#include "loop/virtual.h"

enum { MANY = 500 };

typedef struct fixture {
  mw_world world;
  mw_loop *loop;
} fixture;

static void setup(fixture *f) {
  *f = (fixture){.world = {.wall_us = 1767225600000000, .mono_ns = 1000000000, .rand_state = 3}};
  mw_world_use(&f->world);
  f->loop = mw_loop_new("virtual");
  mw_loop_go_virtual(f->loop);
}

static void stop(fixture *f) {
  mw_loop_free(f->loop);
  mw_world_use(NULL);
}

static void settle(fixture *f) {
  do mw_loop_turn(f->loop, false);
  while (!mw_loop_is_quiet(f->loop));
}

static bool step(fixture *f) {
  int64_t due_ms = mw_loop_next_due_ms(f->loop);
  if (due_ms == INT64_MAX) return false;
  CHECK(due_ms * 1000000 >= f->world.mono_ns);
  f->world.mono_ns = due_ms * 1000000;
  mw_loop_fire_due(f->loop);
  settle(f);
  return true;
}

typedef struct entry {
  mw_timer timer;
  fixture *f;
  int64_t due_ms;
  bool fired;
} entry;

static int64_t last_ms;

static void on_fire(mw_timer *timer, void *arg) {
  entry *e = arg;
  e->fired = true;
  CHECK_INT(mw_loop_now_ms(e->f->loop), e->due_ms); // to the millisecond
  CHECK(e->due_ms >= last_ms);
  last_ms = e->due_ms;
}

static void test_timers_fire_in_order_at_their_very_time(void) {
  fixture f;
  setup(&f);
  static entry entries[MANY];
  last_ms = 0;
  for (int i = 0; i < MANY; i++) {
    int64_t after_ms = 1 + (int64_t)(mw_world_draw(&f.world) >> (24 + i % 40)) % (40LL * 366 * 24 * 3600 * 1000); // all levels of the wheel
    entries[i] = (entry){.f = &f, .due_ms = mw_loop_now_ms(f.loop) + after_ms};
    mw_timer_init(&entries[i].timer, on_fire, &entries[i]);
    mw_timer_start(f.loop, &entries[i].timer, after_ms);
  }
  for (int i = 0; i < MANY; i += 7) mw_timer_stop(&entries[i].timer);
  settle(&f);
  CHECK_INT(last_ms, 0); // the machine's clock moves, this one does not
  while (step(&f)) {}
  for (int i = 0; i < MANY; i++) CHECK_INT(entries[i].fired, i % 7 != 0);
  stop(&f);
}

typedef struct chain {
  mw_timer timer;
  mw_loop *loop;
  int left;
} chain;

static void on_chain(mw_timer *timer, void *arg) {
  chain *c = arg;
  if (--c->left) mw_timer_start(c->loop, timer, c->left % 3 ? 86400000 : 0);
}

static void test_timers_start_others_also_for_the_same_moment(void) {
  fixture f;
  setup(&f);
  chain c = {.loop = f.loop, .left = 1000};
  mw_timer_init(&c.timer, on_chain, &c);
  mw_timer_start(f.loop, &c.timer, 0);
  CHECK(!mw_loop_is_quiet(f.loop));
  settle(&f);
  while (step(&f)) {}
  CHECK_INT(c.left, 0);
  CHECK_INT((f.world.mono_ns - 1000000000) / 86400000000000, 666);
  stop(&f);
}

static void on_post(void *arg) { ++*(int *)arg; }

static void test_a_turn_in_real_time_ends(void) {
  fixture f;
  setup(&f);
  int count = 0;
  int64_t from_ns = mw_clock_real_ns();
  mw_loop_hold(f.loop); // something outside may come
  mw_loop_turn_for(f.loop, 20);
  CHECK((mw_clock_real_ns() - from_ns) / 1000000 >= 15);
  mw_loop_post(f.loop, on_post, &count);
  CHECK(!mw_loop_is_quiet(f.loop));
  settle(&f);
  CHECK_INT(count, 1);
  mw_loop_unhold(f.loop);
  stop(&f);
}

int main(int argc, char **argv) {
  const test tests[] = {
      TEST(test_timers_fire_in_order_at_their_very_time),
      TEST(test_timers_start_others_also_for_the_same_moment),
      TEST(test_a_turn_in_real_time_ends),
  };
  return RUN_TESTS(argc, argv, tests);
}
