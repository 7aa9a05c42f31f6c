// SPDX-License-Identifier: MIT

// Feeds: a subscription with a bounded queue that a task reads. When the queue is full the oldest message goes and is counted; the count
// comes with the next message that is read. Events only fill the queue; the reader is woken at the end of the turn, because Lua code may
// subscribe and unsubscribe, which those who deliver events must not see.

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "bind/host.h"
#include "bind/redis_values.h"
#include "bind/store_op.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "store/redis_sub.h"
#include "vm/task.h"

#define FEED "mw.redis.feed"
#define FEEDS "mw.redis.feeds" // in the registry: every feed of the state, weak
#define MAX_QUEUED_BYTES ((size_t)8 << 20)
#define MAX_NAMES 1000

typedef struct entry {
  mw_list node;
  bool is_gap;
  size_t bytes;
  mw_str channel, payload, pattern; // behind this struct
} entry;

typedef struct feed {
  int refs; // the userdata, and a wake on its way
  mw_loop *loop;
  mw_redis_sub *sub; // NULL: over
  mw_task_hold hold;
  mw_list queue;
  size_t count, bytes, max;
  uint64_t dropped; // not told yet
  bool is_ready, wake_due;
  mw_err why; // code: it failed
  mw_task *task; // waits for `next`, or for `ready`
  bool wants_ready;
  mw_timer timer;
} feed;

/* ---- the queue ---- */

static void drop_oldest(feed *f) {
  entry *e = MW_LIST_POP(&f->queue, entry, node);
  f->count--;
  f->bytes -= e->bytes;
  mw_free(e);
}

static mw_str pack(char **at, mw_str text) {
  if (!text.ptr) return text;
  memcpy(*at, text.ptr, text.len);
  mw_str packed = {*at, text.len};
  *at += text.len;
  return packed;
}

static void add_entry(feed *f, const mw_redis_message *message) {
  size_t bytes = sizeof(entry) + (message ? message->channel.len + message->payload.len + message->pattern.len : 0);
  while (f->count && (f->count >= f->max || f->bytes + bytes > MAX_QUEUED_BYTES)) {
    entry *oldest = MW_CONTAINER(f->queue.next, entry, node);
    if (!oldest->is_gap) f->dropped++;
    drop_oldest(f);
  }
  entry *e = mw_alloc(bytes);
  *e = (entry){.bytes = bytes, .is_gap = !message};
  char *at = (char *)(e + 1);
  if (message) {
    e->channel = pack(&at, message->channel);
    e->payload = pack(&at, message->payload);
    e->pattern = pack(&at, message->pattern);
  }
  mw_list_push(&f->queue, &e->node);
  f->count++;
  f->bytes += bytes;
}

/* ---- waking the reader ---- */

static void unref(feed *f) {
  if (--f->refs) return;
  while (f->count) drop_oldest(f);
  mw_free(f);
}

// Stack effect: nothing is taken from the queue before its values are pushed, because pushing may run out of memory.
static int push_next(lua_State *L, void *arg) {
  feed *f = arg;
  if (!f->count) {
    if (f->why.code) return mw_vm_push_failure(L, f->why.code, f->why.text);
    lua_pushliteral(L, "end");
    return 1;
  }
  entry *e = MW_CONTAINER(f->queue.next, entry, node);
  lua_pushstring(L, e->is_gap ? "gap" : "message");
  lua_pushlstring(L, e->channel.ptr ? e->channel.ptr : "", e->channel.len);
  lua_pushlstring(L, e->payload.ptr ? e->payload.ptr : "", e->payload.len);
  if (e->pattern.ptr) lua_pushlstring(L, e->pattern.ptr, e->pattern.len);
  else lua_pushnil(L);
  lua_pushnumber(L, (lua_Number)f->dropped);
  f->dropped = 0;
  drop_oldest(f);
  return 5;
}

static int push_ready(lua_State *L, void *arg) {
  feed *f = arg;
  if (f->why.code) return mw_vm_push_failure(L, f->why.code, f->why.text);
  if (!f->is_ready) return mw_vm_push_failure(L, MW_ECANCELED, "the subscription was closed");
  lua_pushboolean(L, 1);
  return 1;
}

static bool has_answer(const feed *f) {
  bool is_over = f->why.code || !f->sub;
  return is_over || (f->wants_ready ? f->is_ready : f->count > 0);
}

static void on_wake(void *arg) {
  feed *f = arg;
  f->wake_due = false;
  if (f->task && has_answer(f)) {
    mw_task *task = f->task;
    f->task = NULL;
    mw_timer_stop(&f->timer);
    mw_task_resume_with(task, f->wants_ready ? push_ready : push_next, f);
  }
  unref(f);
}

static void wake(feed *f) {
  if (!f->task || f->wake_due) return;
  f->wake_due = true;
  f->refs++;
  mw_loop_defer(f->loop, on_wake, f);
}

static void on_timeout(mw_timer *timer, void *arg) {
  feed *f = arg;
  mw_task *task = f->task;
  f->task = NULL;
  if (task) mw_task_resume_error(task, MW_ETIMEOUT, f->wants_ready ? "Redis did not confirm the subscription in time" : "no message came in time");
}

static void on_event(mw_redis_sub *sub, mw_redis_sub_event event, const mw_redis_message *message, const mw_err *err, void *arg) {
  feed *f = arg;
  switch (event) {
  case MW_REDIS_SUB_READY: f->is_ready = true; break;
  case MW_REDIS_SUB_MESSAGE: add_entry(f, message); break;
  case MW_REDIS_SUB_GAP: add_entry(f, NULL); break;
  case MW_REDIS_SUB_FAILED: f->why = *err; break;
  }
  wake(f);
}

/* ---- for Lua ---- */

static void end_feed(feed *f) {
  mw_redis_sub *sub = f->sub;
  f->sub = NULL;
  mw_task_hold_remove(&f->hold);
  if (sub) mw_redis_unsubscribe(sub);
  wake(f);
}

static void on_task_over(mw_task_hold *hold) { end_feed(MW_CONTAINER(hold, feed, hold)); }

static feed *check_feed(lua_State *L) { return *(feed **)luaL_checkudata(L, 1, FEED); }

static void cancel_wait(void *arg) {
  feed *f = arg;
  f->task = NULL;
  mw_timer_stop(&f->timer);
}

static int wait(lua_State *L, feed *f, bool wants_ready, int64_t timeout_ms) {
  mw_task_check_yieldable(L, "mw.redis.subscribe");
  if (f->task) return mw_redis_refuse(L, "another task reads this subscription already");
  f->wants_ready = wants_ready;
  f->task = mw_task_current(L);
  if (timeout_ms) mw_timer_start(f->loop, &f->timer, timeout_ms);
  return mw_task_suspend(L, cancel_wait, f);
}

static int64_t opt_ms(lua_State *L, int index) {
  lua_Number seconds = luaL_optnumber(L, index, 0);
  return seconds > 0 ? (int64_t)fmax(1, fmin(ceil(seconds * 1000), 1e12)) : 0;
}

static int l_next(lua_State *L) {
  feed *f = check_feed(L);
  int64_t timeout_ms = opt_ms(L, 2);
  bool is_over = f->why.code || !f->sub;
  return f->count || is_over ? push_next(L, f) : wait(L, f, false, timeout_ms);
}

static int l_ready(lua_State *L) {
  feed *f = check_feed(L);
  int64_t timeout_ms = opt_ms(L, 2);
  bool is_over = f->why.code || !f->sub;
  return f->is_ready || is_over ? push_ready(L, f) : wait(L, f, true, timeout_ms);
}

static int l_close(lua_State *L) {
  end_feed(check_feed(L));
  return 0;
}

static int l_gc(lua_State *L) {
  feed *f = *(feed **)lua_touserdata(L, 1);
  if (!f) return 0;
  end_feed(f);
  unref(f);
  return 0;
}

static mw_str *read_names(lua_State *L, size_t *count) {
  luaL_checktype(L, 1, LUA_TTABLE);
  *count = lua_objlen(L, 1);
  if (*count < 1 || *count > MAX_NAMES) mw_redis_refuse(L, "a subscription has 1 to %d channels", MAX_NAMES);
  mw_str *names = lua_newuserdata(L, *count * sizeof *names);
  for (size_t i = 0; i < *count; i++) {
    lua_rawgeti(L, 1, (int)i + 1);
    if (lua_type(L, -1) != LUA_TSTRING) mw_redis_refuse(L, "channel %d is a %s; a channel is a string", (int)i + 1, luaL_typename(L, -1));
    names[i].ptr = lua_tolstring(L, -1, &names[i].len);
    lua_pop(L, 1); // the list still holds it
  }
  return names;
}

int mw_redis_l_subscribe(lua_State *L) {
  mw_redis *redis = mw_redis_check_client(L);
  size_t count;
  bool are_patterns = lua_toboolean(L, 2);
  lua_Integer max = luaL_checkinteger(L, 3);
  mw_str *names = read_names(L, &count);
  mw_err err;
  mw_task_check_yieldable(L, "mw.redis.subscribe");
  feed **slot = lua_newuserdata(L, sizeof *slot);
  *slot = NULL;
  luaL_getmetatable(L, FEED);
  lua_setmetatable(L, -2);
  lua_getfield(L, LUA_REGISTRYINDEX, FEEDS);
  lua_pushvalue(L, -2);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  feed *f = *slot = MW_NEW(feed);
  f->refs = 1;
  f->max = (size_t)max;
  mw_list_init(&f->queue);
  mw_list_init(&f->hold.node);
  mw_timer_init(&f->timer, on_timeout, f);
  f->loop = mw_vm_loop(mw_vm_of(L));
  int rc = mw_redis_subscribe(redis, names, count, are_patterns, on_event, f, &f->sub, &err);
  if (rc) return mw_vm_push_failure(L, rc, err.text);
  f->is_ready = mw_redis_sub_is_ready(f->sub);
  mw_task_hold_add(mw_task_current(L), &f->hold, on_task_over);
  return 1;
}

int mw_redis_l_end_feeds(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, FEEDS);
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    feed *f = *(feed **)lua_touserdata(L, -2);
    if (f) end_feed(f);
  }
  return 0;
}

void mw_redis_open_feed(lua_State *L) {
  static const luaL_Reg methods[] = {{"next", l_next}, {"ready", l_ready}, {"close", l_close}, {NULL, NULL}};
  luaL_newmetatable(L, FEED);
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_setfield(L, LUA_REGISTRYINDEX, FEEDS);
}
