// SPDX-License-Identifier: MIT
#include "loop/timer.h"

#include "base/clock.h"
#include "loop/loop_impl.h"
#include "loop/virtual.h"

// The wheel. Time is cut into digits of 6 bits. A timer sits at the level of the highest digit in which its due time
// differs from the wheel's time, in the slot of that digit. So all of one level-0 slot is due in the same millisecond,
// and a slot of a higher level is spread over lower ones when time reaches its start:
//
//   level 1   [..][..][ 3 ][..]     due in 192…255: looked at again at 192
//   level 0   [..][17][..][..]      due at 17
//
// Starting and stopping touch one slot. The libuv timer is armed for the first slot; it is moved when an earlier one is
// filled and left alone when that one empties, because most deadlines are stopped and firing for nothing once is cheaper.

#define MAX_AFTER_MS (100LL * 366 * 24 * 3600 * 1000)

static void on_uv_timer(uv_timer_t *timer);

static void arm(mw_loop *loop, int64_t at_ms) {
  mw_wheel *w = &loop->wheel;
  if (loop->is_virtual) return; // whoever moves the time looks for what is due (loop/virtual.h)
  int64_t now = (int64_t)uv_now(&loop->uv);
  w->armed_ms = at_ms;
  uv_timer_start(&w->timer, on_uv_timer, at_ms > now ? (uint64_t)(at_ms - now) : 0, 0);
}

// Puts a timer with due_ms > now_ms where it belongs; returns when its slot must be looked at.
static int64_t place(mw_wheel *w, mw_timer *timer) {
  int high = 63 - __builtin_clzll((uint64_t)(timer->due_ms ^ w->now_ms));
  int level = high / 6, shift = level * 6;
  int slot = (int)(timer->due_ms >> shift) & 63;
  mw_list_push(&w->slots[level][slot], &timer->node);
  w->used[level] |= 1ULL << slot;
  return (timer->due_ms >> shift) << shift;
}

// The first slot to look at: every slot of a lower level comes before those of a higher one.
static bool first_slot(const mw_wheel *w, int *level, int *slot, int64_t *at_ms) {
  for (int l = 0; l < MW_WHEEL_LEVELS; l++) {
    if (!w->used[l]) continue;
    int s = __builtin_ctzll(w->used[l]), shift = 6 * l;
    *level = l;
    *slot = s;
    *at_ms = ((w->now_ms >> (shift + 6)) << (shift + 6)) | ((int64_t)s << shift);
    return true;
  }
  return false;
}

static void advance(mw_wheel *w, int64_t to_ms) {
  int level, slot;
  int64_t at;
  while (first_slot(w, &level, &slot, &at) && at <= to_ms) {
    w->now_ms = at;
    w->used[level] &= ~(1ULL << slot);
    mw_list batch;
    mw_list_init(&batch);
    mw_list_splice(&batch, &w->slots[level][slot]);
    MW_LIST_EACH(&batch, node) {
      mw_timer *timer = MW_CONTAINER(node, mw_timer, node);
      mw_list_remove(node);
      if (timer->due_ms <= at) mw_list_push(&w->expired, node);
      else place(w, timer);
    }
  }
  if (to_ms > w->now_ms) w->now_ms = to_ms;
}

static void forget(mw_loop *loop, mw_timer *timer) {
  timer->loop = NULL;
  if (--loop->wheel.count == 0) uv_unref((uv_handle_t *)&loop->wheel.timer);
}

static void fire(mw_loop *loop, mw_list *timers) {
  for (mw_timer *t; (t = MW_LIST_POP(timers, mw_timer, node));) {
    forget(loop, t);
    t->cb(t, t->arg);
  }
}

static void on_uv_timer(uv_timer_t *uv) {
  mw_loop *loop = uv->data;
  mw_wheel *w = &loop->wheel;
  w->armed_ms = INT64_MAX;
  advance(w, (int64_t)uv_now(&loop->uv));
  fire(loop, &w->expired);
  int level, slot;
  int64_t at;
  if (first_slot(w, &level, &slot, &at) && at < w->armed_ms) arm(loop, at);
}

// What was started with 0 ms inside these callbacks waits for the next turn.
static void on_idle(uv_idle_t *idle) {
  mw_loop *loop = idle->data;
  mw_list batch;
  mw_list_init(&batch);
  mw_list_splice(&batch, &loop->wheel.ready);
  fire(loop, &batch);
  if (mw_list_is_empty(&loop->wheel.ready)) uv_idle_stop(idle);
}

void mw_timer_init(mw_timer *timer, mw_timer_cb cb, void *arg) {
  *timer = (mw_timer){.cb = cb, .arg = arg};
  mw_list_init(&timer->node);
}

void mw_timer_start(mw_loop *loop, mw_timer *timer, int64_t after_ms) {
  MW_ASSERT_LOOP(loop);
  mw_timer_stop(timer);
  mw_wheel *w = &loop->wheel;
  timer->loop = loop;
  if (w->count++ == 0) uv_ref((uv_handle_t *)&w->timer);
  if (after_ms <= 0) {
    timer->due_ms = w->now_ms;
    if (mw_list_is_empty(&w->ready)) uv_idle_start(&w->idle, on_idle);
    mw_list_push(&w->ready, &timer->node);
    return;
  }
  // The turn may have been long: count from the clock, rounded up, so that it never fires early.
  int64_t now = (mw_clock_mono_ns() + 999999) / 1000000, turn = mw_loop_now_ms(loop);
  timer->due_ms = now + (after_ms < MAX_AFTER_MS ? after_ms : MAX_AFTER_MS);
  if (turn > w->now_ms && turn < w->armed_ms && !loop->is_virtual) w->now_ms = turn; // nothing in between to look at
  int64_t at = place(w, timer);
  if (at < w->armed_ms) arm(loop, at);
}

void mw_timer_stop(mw_timer *timer) {
  mw_loop *loop = timer->loop;
  if (!loop) return;
  MW_ASSERT_LOOP(loop);
  mw_wheel *w = &loop->wheel;
  mw_list *next = timer->node.next;
  mw_list_remove(&timer->node);
  // A neighbour that is alone now is the head of an emptied list; the wheel's heads have a bit each.
  mw_list *heads = &w->slots[0][0];
  if (mw_list_is_empty(next) && next >= heads && next < heads + MW_WHEEL_LEVELS * 64) {
    ptrdiff_t i = next - heads;
    w->used[i / 64] &= ~(1ULL << (i % 64));
  }
  forget(loop, timer);
}

// ---- virtual time ----

void mw_loop_go_virtual(mw_loop *loop) {
  loop->is_virtual = true;
  loop->wheel.now_ms = mw_loop_now_ms(loop);
}

int64_t mw_loop_next_due_ms(const mw_loop *loop) {
  const mw_wheel *w = &loop->wheel;
  int level, slot;
  int64_t at, due = INT64_MAX;
  if (!mw_list_is_empty(&w->ready)) return mw_loop_now_ms(loop);
  if (!first_slot(w, &level, &slot, &at)) return due;
  MW_LIST_EACH(&w->slots[level][slot], node) {
    int64_t one = MW_CONTAINER(node, mw_timer, node)->due_ms;
    if (one < due) due = one;
  }
  return due;
}

void mw_loop_fire_due(mw_loop *loop) {
  advance(&loop->wheel, mw_loop_now_ms(loop));
  fire(loop, &loop->wheel.expired);
}

void mw_wheel_open(mw_loop *loop) {
  mw_wheel *w = &loop->wheel;
  for (int l = 0; l < MW_WHEEL_LEVELS; l++)
    for (int s = 0; s < 64; s++) mw_list_init(&w->slots[l][s]);
  mw_list_init(&w->ready);
  mw_list_init(&w->expired);
  w->now_ms = (int64_t)uv_now(&loop->uv);
  w->armed_ms = INT64_MAX;
  uv_timer_init(&loop->uv, &w->timer);
  uv_idle_init(&loop->uv, &w->idle);
  w->timer.data = w->idle.data = loop;
  uv_unref((uv_handle_t *)&w->timer);
}

void mw_wheel_close(mw_loop *loop) {
  uv_close((uv_handle_t *)&loop->wheel.timer, NULL);
  uv_close((uv_handle_t *)&loop->wheel.idle, NULL);
}
