// SPDX-License-Identifier: MIT

// States and tasks, on a loop of their own.

#include "vm_support.h"

#include "vm/ref.h"

static void a_call_gives_results_or_an_error_with_file_and_line(void) {
  mw_vm *vm = new_vm(0);
  lua_State *L = mw_vm_lua(vm);
  mw_err err = {0};
  load(vm, "return 1 + ...");
  lua_pushinteger(L, 41);
  CHECK(mw_vm_call(vm, 1, 1, &err) == 0);
  CHECK(lua_tointeger(L, -1) == 42);
  lua_pop(L, 1);
  load(vm, "\nlocal x = nil; x.y = 1");
  CHECK(mw_vm_call(vm, 0, 0, &err) == MW_ELUA);
  CHECK(strstr(err.text, "plugins/spec.lua:2:"));
  CHECK(strstr(mw_vm_traceback(vm), "plugins/spec.lua:2:"));
  load(vm, "error({code = 'timeout', message = 'too slow', where = 'a.lua:3'})");
  CHECK(mw_vm_call(vm, 0, 0, &err) == MW_ETIMEOUT);
  CHECK(strcmp(err.text, "a.lua:3: too slow") == 0);
  load(vm, "error(setmetatable({}, {__tostring = function() return 'odd' end}))");
  CHECK(mw_vm_call(vm, 0, 0, &err) == MW_ELUA && strcmp(err.text, "odd") == 0);
  CHECK(mw_vm_worker(vm) == 3 && mw_vm_generation(vm) == 7 && mw_vm_of(L) == vm);
  finish(vm);
}

static void a_state_not_ours_belongs_to_no_vm(void) {
  lua_State *L = luaL_newstate();
  CHECK(mw_vm_of(L) == NULL);
  CHECK(mw_task_current(L) == NULL);
  lua_close(L);
}

static void a_task_that_does_not_wait_is_over_at_once_and_its_coroutine_is_used_again(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  for (int i = 0; i < 100; i++) {
    CHECK(start(vm, "local a, b = 'x', 'y' return a .. b, 2", 0, &o) == NULL);
    CHECK(o.calls == 1 && o.status == 0 && strcmp(o.text, "xy") == 0);
  }
  finish(vm);
}

static void a_task_sleeps_and_goes_on(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  mw_task *t = start(vm, "local t = require 'mw.core.task'; local a = t.sleep(0.01); local b = t.sleep(0); return tostring(a and b)", 0, &o);
  CHECK(t != NULL && o.calls == 0 && mw_vm_tasks(vm) == 1);
  RUN_UNTIL(loop, o.calls == 1);
  CHECK(o.status == 0 && strcmp(o.text, "true") == 0);
  finish(vm);
}

static void a_failed_task_reports_its_error_and_the_state_goes_on(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  CHECK(start(vm, "error('no luck')", 0, &o) == NULL);
  CHECK(o.status == MW_ELUA && strcmp(o.err.text, "plugins/spec.lua:1: no luck") == 0);
  CHECK(start(vm, "local function f() return f() + 1 end return f()", 0, &o) == NULL);
  CHECK(o.status == MW_ELUA && strstr(o.err.text, "stack overflow"));
  CHECK(start(vm, "return 'fine'", 0, &o) == NULL);
  CHECK(strcmp(o.text, "fine") == 0);
  finish(vm);
}

static void a_deadline_ends_a_wait_with_timeout(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  start(vm, "local t = require 'mw.core.task'; local ok, err = t.sleep(100); return ok == nil and err.code", 20, &o);
  RUN_UNTIL(loop, o.calls == 1);
  CHECK(o.status == 0 && strcmp(o.text, "timeout") == 0);
  finish(vm);
}

static void a_cancelled_task_cannot_wait_again(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  mw_task *t = start(vm,
                     "local t = require 'mw.core.task'; t.sleep(100); local ok, err = pcall(t.sleep, 100); return err.code .. err.message",
                     0, &o);
  mw_task_ref(t);
  mw_task_cancel(t, MW_ECANCELED, "enough");
  CHECK(o.calls == 1 && strcmp(o.text, "cancelledenough") == 0);
  CHECK(mw_task_is_done(t));
  mw_task_cancel(t, MW_ECANCELED, "again");
  mw_task_unref(t);
  finish(vm);
}

static void tasks_started_by_lua_begin_at_the_end_of_the_turn_and_wake_each_other(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  start(vm,
        "local t = require 'mw.core.task'\n"
        "local order = {}\n"
        "local token = t.token()\n"
        "for i = 1, 3 do t.spawn(function(n) order[#order + 1] = n; if n == 3 then t.wake(token, 'a', 'b') end end, 'child', nil, i) end\n"
        "order[#order + 1] = 'parent'\n"
        "local a, b = t.park('a spec')\n"
        "assert(not t.wake(token, 1))\n"
        "return table.concat(order, ',') .. a .. b",
        0, &o);
  CHECK(o.calls == 0);
  mw_loop_turn(loop, false);
  CHECK(o.calls == 1 && o.status == 0);
  CHECK_STR(o.text, "parent,1,2,3ab");
  finish(vm);
}

static void a_wake_before_its_park_is_kept(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  start(vm, "local t = require 'mw.core.task'; local k = t.token(); t.wake(k, nil, 'v'); local a, b = t.park('x'); return tostring(a) .. b", 0, &o);
  CHECK(o.calls == 1 && strcmp(o.text, "nilv") == 0);
  start(vm, "local t = require 'mw.core.task'; local ok, err = t.park('x', 0.01); return err.code", 0, &o);
  RUN_UNTIL(loop, o.calls == 1);
  CHECK(strcmp(o.text, "timeout") == 0);
  finish(vm);
}

static void a_wait_names_what_it_cannot_do_outside_of_tasks_and_inside_callbacks(void) {
  mw_vm *vm = new_vm(0);
  mw_err err = {0};
  outcome o;
  load(vm, "require('mw.core.task').sleep(1)");
  CHECK(mw_vm_call(vm, 0, 0, &err) == MW_ELUA && strstr(err.text, "mw.sleep can only wait inside a task"));
  mw_vm_set_loading(vm, true);
  load(vm, "require('mw.core.task').sleep(1)");
  CHECK(mw_vm_call(vm, 0, 0, &err) == MW_ELUA && strstr(err.text, "while plugins load"));
  mw_vm_set_loading(vm, false);
  start(vm, "local t = require 'mw.core.task'; table.sort({3, 2, 1}, function(a, b) t.sleep(1) return a < b end)", 0, &o);
  CHECK(o.status == MW_ELUA && strstr(o.err.text, "given to sort") && strstr(o.err.text, "plugins/spec.lua:1"));
  finish(vm);
}

static void a_memory_bomb_fails_and_the_state_goes_on(void) {
  mw_vm *vm = new_vm(32 << 20);
  outcome o;
  start(vm, "return ('x'):rep(1e9)", 0, &o);
  CHECK(o.status == MW_EMEMORY);
  start(vm, "local t = {} while true do t[#t + 1] = {} end", 0, &o);
  CHECK(o.status == MW_EMEMORY);
  CHECK(!mw_vm_is_over_budget(vm));
  start(vm, "kept = {} while true do kept[#kept + 1] = ('x'):rep(1000) .. #kept end", 0, &o);
  CHECK(o.status == MW_EMEMORY);
  CHECK(mw_vm_is_over_budget(vm));
  start(vm, "kept = nil return 'fine'", 0, &o);
  CHECK(strcmp(o.text, "fine") == 0);
  finish(vm);
}

static int l_remember_memory(lua_State *L) {
  *(size_t *)lua_touserdata(L, lua_upvalueindex(1)) = mw_vm_memory(mw_vm_of(L));
  return 0;
}

static void what_a_failed_task_held_is_free_when_its_failure_is_reported(void) {
  mw_vm *vm = new_vm(32 << 20);
  outcome o;
  size_t seen = 0;
  lua_pushlightuserdata(mw_vm_lua(vm), &seen);
  lua_pushcclosure(mw_vm_lua(vm), l_remember_memory, 1);
  lua_setglobal(mw_vm_lua(vm), "remember_memory");
  start(vm, "require('mw.core.task').on_fail(remember_memory) local t = {} local function f() while true do t[#t + 1] = {} end end f()", 0, &o);
  CHECK_INT(o.status, MW_EMEMORY);
  CHECK(seen > 0 && seen < 4 << 20);
  finish(vm);
}

static void on_retired(mw_vm *vm, void *arg) {
  *(int *)arg += 1;
  finish(vm);
}

static void a_retired_state_is_handed_back_when_its_last_task_is_gone(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  int retired = 0;
  start(vm, "local t = require 'mw.core.task'; t.sleep(0.02); return tostring(t.is_current())", 0, &o);
  mw_vm_retire(vm, 10000, on_retired, &retired);
  CHECK(retired == 0);
  RUN_UNTIL(loop, retired == 1);
  CHECK(o.calls == 1 && strcmp(o.text, "false") == 0);

  vm = new_vm(0);
  retired = 0;
  start(vm, "require('mw.core.task').sleep(1000)", 0, &o);
  mw_vm_retire(vm, 10, on_retired, &retired);
  RUN_UNTIL(loop, retired == 1);
  CHECK(o.calls == 1 && strcmp(o.text, "") == 0);
}

static void a_failed_task_tells_who_asked_for_it(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  start(vm, "local t = require 'mw.core.task'; t.on_fail(function() seen = 'replaced' end) t.on_fail(function(a, e) seen = a .. e.code .. tostring(t.what()) "
            "t.spawn(function() t.sleep(0) seen = seen .. '!' end, 'after') end, 'arg ') error(select(2, t.sleep(100)), 0)", 10, &o);
  RUN_UNTIL(loop, o.calls == 1 && mw_vm_tasks(vm) == 0);
  CHECK_INT(o.status, MW_ETIMEOUT);
  start(vm, "return seen", 0, &o);
  CHECK_STR(o.text, "arg timeoutnil!");
  start(vm, "local t = require 'mw.core.task'; t.on_fail(function() seen = 'wrong' end) return 1", 0, &o);
  start(vm, "local t = require 'mw.core.task'; t.on_fail(function() error('oh') end) error('first')", 0, &o);
  CHECK(strstr(o.err.text, "first"));
  start(vm, "local t = require 'mw.core.task'; t.on_fail(function(_, e) seen = e end) local function f() return 1 + f() end f()", 0, &o);
  CHECK(strstr(o.err.text, "stack overflow"));
  start(vm, "return seen:match('stack overflow')", 0, &o);
  CHECK_STR(o.text, "stack overflow");
  finish(vm);
}

static int push_much(lua_State *L, void *arg) {
  lua_pushstring(L, arg);
  if (strcmp(arg, "fail") == 0) return luaL_error(L, "a push failed");
  return 1;
}

static mw_task *waiting;
static int l_wait(lua_State *L) {
  mw_task_check_yieldable(L, "wait");
  waiting = mw_task_current(L);
  return mw_task_suspend(L, NULL, NULL);
}

static void results_are_pushed_under_protection(void) {
  mw_vm *vm = new_vm(0);
  lua_pushcfunction(mw_vm_lua(vm), l_wait);
  lua_setglobal(mw_vm_lua(vm), "wait");
  outcome o;
  start(vm, "return wait()", 0, &o);
  mw_task_resume_with(waiting, push_much, "good");
  CHECK(o.calls == 1 && strcmp(o.text, "good") == 0);
  start(vm, "local v, err = wait() return err.message", 0, &o);
  mw_task_resume_with(waiting, push_much, "fail");
  CHECK(o.calls == 1 && strstr(o.text, "a push failed"));
  finish(vm);
}

static void starting_and_ending_a_task_is_cheap(void) {
  mw_vm *vm = new_vm(0);
  lua_State *L = mw_vm_lua(vm);
  load(vm, "return 1");
  mw_task_opts opts = {.what = "bench"};
  int64_t t0 = mw_clock_mono_ns();
  for (int i = 0; i < 1000000; i++) {
    lua_pushvalue(L, 1);
    mw_task_start(vm, 0, &opts);
  }
  printf("    a task: %lld ns\n", (long long)(mw_clock_mono_ns() - t0) / 1000000);
  lua_State *co = lua_newthread(L);
  t0 = mw_clock_mono_ns();
  for (int i = 0; i < 1000000; i++) {
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_resume(co, 0);
    lua_settop(co, 0);
  }
  printf("    bare lua_resume: %lld ns\n", (long long)(mw_clock_mono_ns() - t0) / 1000000);
  lua_settop(L, 0);
  finish(vm);
}

int main(int argc, char **argv) {
  loop = mw_loop_new("spec");
  const test tests[] = {
      TEST(a_call_gives_results_or_an_error_with_file_and_line),
      TEST(a_state_not_ours_belongs_to_no_vm),
      TEST(a_task_that_does_not_wait_is_over_at_once_and_its_coroutine_is_used_again),
      TEST(a_task_sleeps_and_goes_on),
      TEST(a_failed_task_reports_its_error_and_the_state_goes_on),
      TEST(a_deadline_ends_a_wait_with_timeout),
      TEST(a_cancelled_task_cannot_wait_again),
      TEST(tasks_started_by_lua_begin_at_the_end_of_the_turn_and_wake_each_other),
      TEST(a_wake_before_its_park_is_kept),
      TEST(a_wait_names_what_it_cannot_do_outside_of_tasks_and_inside_callbacks),
      TEST(a_memory_bomb_fails_and_the_state_goes_on),
      TEST(what_a_failed_task_held_is_free_when_its_failure_is_reported),
      TEST(a_retired_state_is_handed_back_when_its_last_task_is_gone),
      TEST(a_failed_task_tells_who_asked_for_it),
      TEST(results_are_pushed_under_protection),
      TEST(starting_and_ending_a_task_is_cheap),
  };
  int rc = RUN_TESTS(argc, argv, tests);
  mw_loop_free(loop);
  return rc;
}
