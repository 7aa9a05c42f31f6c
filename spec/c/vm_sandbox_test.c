// SPDX-License-Identifier: MIT

// Plugin code that misbehaves: it is stopped, says why and where, and the state goes on.

#include "vm_support.h"

#include <stdatomic.h>

#include "loop/thread.h"
#include "vm/watchdog.h"

static mw_watchdog *watchdog;
static const char *program;
static atomic_int stuck, recovered;

#ifdef __SANITIZE_THREAD__
#define CANNOT_KILL "ThreadSanitizer delivers signals only inside instrumented code, and LuaJIT is not"
#endif

static void on_stuck(int worker, bool is_stuck, void *arg) { atomic_fetch_add(is_stuck ? &stuck : &recovered, 1); }

// The state serves after whatever happened.
static void check_alive(mw_vm *vm) {
  outcome o;
  CHECK(start_plugin(vm, "local n = 0 for i = 1, 1000 do n = n + i end return 'fine'", &o) == NULL);
  CHECK_INT(o.status, 0);
  CHECK_STR(o.text, "fine");
}

static void expect_error(const char *code, int status, const char *words) {
  mw_vm *vm = new_vm(64 << 20);
  outcome o;
  start_plugin(vm, code, &o);
  if (o.calls != 1 || o.status != status || !strstr(o.err.text, words))
    fprintf(stderr, "%s\n  gave %d calls, %s: %s, result %s\n", code, o.calls, mw_err_code(o.status), o.err.text, o.text);
  CHECK_INT(o.calls, 1);
  CHECK_INT(o.status, status);
  CHECK(strstr(o.err.text, words));
  check_alive(vm);
  finish(vm);
}

static void expect_result(const char *code, const char *text) {
  mw_vm *vm = new_vm(64 << 20);
  outcome o;
  start_plugin(vm, code, &o);
  if (o.calls == 0) RUN_UNTIL(loop, o.calls == 1);
  if (o.status) fprintf(stderr, "%s\n  %s\n", code, o.err.text);
  CHECK_INT(o.status, 0);
  CHECK_STR(o.text, text);
  finish(vm);
}

static void expect_killed(const char *code) {
#ifdef CANNOT_KILL
  printf("pending: %s\n", CANNOT_KILL);
#else
  int64_t before = mw_clock_mono_ms();
  expect_error(code, MW_EKILLED, "plugins/spec.lua:");
  int64_t took = mw_clock_mono_ms() - before;
  if (took > 3000) fprintf(stderr, "%s\n  took %lld ms\n", code, (long long)took);
  CHECK(took < 3000);
#endif
}

static void endless_code_is_killed(void) {
  expect_killed("while true do end");
  expect_killed("local n = 0 for i = 1, 1e18 do n = n + i end");
  expect_killed("local function f() return f() end f()");
  expect_killed("repeat local t = {} until false");
  expect_killed("local s = 0 while true do s = s + math.sin(s) end");
}

static void protected_calls_do_not_save_it(void) {
  expect_killed("while true do pcall(function() while true do end end) end");
  expect_killed("while true do pcall(pcall, pcall, error) end");
  expect_killed("local function f() pcall(f) while true do end end f()");
  expect_killed("while true do xpcall(function() while true do end end, function() while true do end end) end");
  expect_killed("xpcall(error, function() while true do end end)");
  expect_killed("local ok, e = pcall(function() while true do end end) return 'survived'");
  expect_killed("setmetatable({}, {__index = function() while true do end end}).x = nil local _ = setmetatable({}, {__index = function() while "
                "true do end end}).x");
}

static void coroutines_do_not_save_it(void) {
  expect_killed("while true do coroutine.wrap(function() while true do end end)() end");
  expect_killed("while true do coroutine.resume(coroutine.create(function() while true do end end)) end");
  expect_killed("local function again() coroutine.wrap(function() while true do end end)() end while true do pcall(again) end");
  expect_killed("local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end");
}

static void loaded_code_is_killed(void) {
  expect_killed("load('while true do end')()");
  expect_killed("loadstring('local function f() while true do end end return f')()()");
  expect_killed("load(function() while true do end end)");
  expect_killed("load(function() return ' ' end)()");
}

static void library_calls_are_stopped(void) {
  expect_killed("table.move({}, 1, 1e15, 2)");
  expect_killed("table.sort({3, 2, 1}, function() while true do end end)");
  expect_killed("('x'):gsub('x', function() while true do end end)");
  expect_killed("local t = {} for i = 1, 3e6 do t[i] = i * 7919 % 1000003 end for i = 1, 1000 do table.sort(t) end");
  expect_killed("local s = ('a'):rep(5e4) while true do pcall(string.find, s, '.-.-.-b') end");
  expect_killed("tostring(setmetatable({}, {__tostring = function() while true do end end}))");
}

static void a_call_of_a_plain_state_is_killed_too(void) {
#ifndef CANNOT_KILL
  mw_vm *vm = new_vm(0);
  mw_err err;
  load_plugin(vm, "\n\nwhile true do end");
  mw_vm_set_loading(vm, true);
  CHECK_INT(mw_vm_call(vm, 0, 0, &err), MW_EKILLED);
  CHECK(strstr(err.text, "plugins/spec.lua:3"));
  mw_vm_set_loading(vm, false);
  check_alive(vm);
  finish(vm);
  CHECK(atomic_load(&stuck) > 0);
  int64_t until = mw_clock_mono_ms() + 5000;
  while (atomic_load(&stuck) != atomic_load(&recovered)) CHECK(mw_clock_mono_ms() < until);
#endif
}

static void what_runs_apart_is_killed_alone(void) {
#ifndef CANNOT_KILL
  mw_vm *vm = new_vm(0);
  mw_err err = {0};
  load(vm, "local s = require('mw.core.sandbox')\n"
           "local function forever() while true do end end\n"
           "s.interpret(forever)\n"
           "for i = 1, 3 do\n"
           "  local ok, err = s.apart(function(e) return e end, forever)\n"
           "  assert(not ok and err.code == 'killed' and err.where == 'plugins/spec.lua:2')\n"
           "end\n"
           "local ok, e = s.apart(function(e) return 'handled ' .. e end, error, 'x')\n"
           "assert(not ok and e == 'handled x')\n"
           "return select('#', s.apart(print, function() return 1, nil end))");
  if (mw_vm_call(vm, 0, 1, &err)) fprintf(stderr, "%s\n", err.text);
  CHECK_INT(err.code, 0);
  CHECK_INT(lua_tointeger(mw_vm_lua(vm), -1), 3);
  lua_pop(mw_vm_lua(vm), 1);
  finish(vm);
#endif
}

static void only_the_guilty_task_is_killed(void) {
#ifndef CANNOT_KILL
  mw_vm *vm = new_vm(0);
  outcome innocent, guilty;
  start_plugin(vm, "core.sleep(0.3) return 'fine'", &innocent);
  start_plugin(vm, "core.sleep(0) while true do end", &guilty);
  RUN_UNTIL(loop, innocent.calls && guilty.calls);
  CHECK_INT(guilty.status, MW_EKILLED);
  CHECK_STR(innocent.text, "fine");
  finish(vm);
#endif
}

static void signals_that_come_late_hit_nobody_else(void) {
#ifndef CANNOT_KILL
  mw_watchdog_remove_thread(watchdog);
  mw_watchdog_conf conf = {.soft_ms = 15, .hard_ms = 30000};
  mw_watchdog *hasty = mw_watchdog_start(&conf);
  mw_watchdog_add_thread(hasty, 0);
  mw_vm *vm = new_vm(0);
  outcome o;
  int killed = 0, fine = 0;
  int64_t until = mw_clock_mono_ms() + 2000;
  for (int i = 0; mw_clock_mono_ms() < until; i++) {
    char code[200];
    snprintf(code, sizeof code, "local n = 0 for i = 1, %d do n = n + i end return 'fine'", i % 20 * 1000000);
    start_plugin(vm, code, &o);
    CHECK_INT(o.calls, 1);
    if (o.status == MW_EKILLED) killed++;
    else CHECK_STR(o.text, "fine");
    for (int j = 0; j < 20; j++) { // too short to be seen
      start(vm, "return 'short'", 0, &o);
      if (strcmp(o.text, "short") == 0) fine++;
      else CHECK_INT(o.status, MW_EKILLED);
    }
  }
  CHECK(killed > 0);
  CHECK(fine > 100);
  mw_watchdog_remove_thread(hasty);
  mw_watchdog_stop(hasty);
  check_alive(vm);
  finish(vm);
  mw_watchdog_add_thread(watchdog, 3);
#endif
}

static void requests_beyond_the_memory_budget_fail(void) {
  mw_watchdog_remove_thread(watchdog); // filling the memory takes a while
  expect_error("\nlocal s = string.rep('x', 1e9)", MW_EMEMORY, "plugins/spec.lua:2: not enough memory");
  expect_error("return ('x'):rep(1e15)", MW_EMEMORY, "not enough memory");
  expect_error("local function f() local t = {}\n while true do t[#t + 1] = {} end end\nreturn (f())", MW_EMEMORY,
               "plugins/spec.lua:1: not enough memory");
  expect_error("local s = 'x' while true do s = s .. s end", MW_EMEMORY, "not enough memory");
  expect_error("local s = ('x'):rep(1e6) return (s:gsub('x', s))", MW_EMEMORY, "not enough memory");
  expect_error("local t = {} for i = 1, 1e5 do t[i] = 'x' end return table.concat(t, ('y'):rep(1e5))", MW_EMEMORY, "not enough memory");
  expect_error("local cos = {} while true do local co = coroutine.wrap(function() coroutine.yield() end) co() cos[#cos + 1] = co end", MW_EMEMORY,
               "not enough memory");
  expect_result("local ok, err = pcall(string.rep, 'x', 1e9) return tostring(ok) .. tostring(err)", "falsenot enough memory");
  mw_watchdog_add_thread(watchdog, 3);
}

static void recursion_without_end_fails(void) {
  expect_error("local function f() return 1 + f() end f()", MW_ELUA, "stack overflow");
  expect_error("local function f() coroutine.wrap(f)() end f()", MW_ELUA, "nested too deep");
  expect_error("local function f() return (('x'):gsub('x', f)) end f()", MW_ELUA, "stack overflow");
  expect_error("local t = setmetatable({}, {}) getmetatable(t).__tostring = function() return (tostring(t)) end return (tostring(t))", MW_ELUA, "overflow");
  expect_error("local t = setmetatable({}, {}) getmetatable(t).__tostring = function() return string.format('%s', t) .. '' end return "
               "string.format('%s', t) .. ''", MW_ELUA, "overflow");
  expect_error("local t = setmetatable({}, {}) getmetatable(t).__index = function() return os.time(t) + 1 end return os.time(t) + 1", MW_ELUA,
               "overflow");
  expect_error("local r = setmetatable({}, {}) getmetatable(r).__index = function() return (('x'):gsub('x', r)) end return (('x'):gsub('x', r))",
               MW_ELUA, "overflow");
  expect_error("local t = setmetatable({}, {}) getmetatable(t).__lt = function() table.sort({t, t}) end table.sort({t, t})", MW_ELUA, "overflow");
  expect_error("local t = setmetatable({}, {})\n"
               "getmetatable(t).__tostring = function() return coroutine.wrap(function() return string.format('%s', t) .. '' end)() end\n"
               "return string.format('%s', t) .. ''", MW_ELUA, "nested too deep");
  expect_error("local deep, t = 0, setmetatable({}, {})\n"
               "getmetatable(t).__tostring = function()\n"
               "  deep = deep + 1\n"
               "  if deep % 1000 == 0 then return coroutine.wrap(function() return string.format('%s', t) .. '' end)() end\n"
               "  return string.format('%s', t) .. ''\n"
               "end\n"
               "return string.format('%s', t) .. ''", MW_ELUA, "stack overflow");
  expect_error("local function f() table.sort({2, 1}, f) end f()", MW_ELUA, "overflow");
  expect_error("local t = {} for i = 1, 300 do t = setmetatable({}, {__index = t}) end return t.x", MW_ELUA, "loop");
}

static void arguments_without_end_fail(void) {
  mw_watchdog_remove_thread(watchdog);
  expect_error("string.format('%99999999d', 1)", MW_ELUA, "invalid");
  expect_result("return string.rep('', 1e15)", "");
  expect_error("unpack({}, 1, 1e8)", MW_ELUA, "too many results");
  expect_error("table.concat({}, '', 1, 1e9)", MW_ELUA, "concat");
  expect_error("\nstring.format('%d', 'x')", MW_ELUA, "plugins/spec.lua:2: bad argument #2 to 'format'");
  expect_error("\ntable.sort(1)", MW_ELUA, "plugins/spec.lua:2: bad argument #1 to 'sort'");
  expect_error("\n('x'):gsub('x')", MW_ELUA, "plugins/spec.lua:2: bad argument #2 to 'gsub'");
  expect_error("table.insert({}, -1e15, 1)", MW_ELUA, "out of bounds");
  expect_error("string.byte(('x'):rep(1e6), 1, -1)", MW_ELUA, "too long");
  expect_error("return (('a'):rep(1e5)):find('.-.-.-.-b')", MW_ELUA, "too complex");
  expect_error("table.sort({3, 1, 2, 5, 4, 9, 8}, function() return true end)", MW_ELUA, "invalid order function");
  mw_watchdog_add_thread(watchdog, 3);
}

static void what_could_reach_the_server_is_absent(void) {
  expect_error("return io.open('/etc/passwd')", MW_ELUA, "io is not available");
  expect_error("return debug.getinfo(1)", MW_ELUA, "debug is not available");
  expect_error("return jit.off()", MW_ELUA, "jit is not available");
  expect_error("return os.execute('true')", MW_ELUA, "execute");
  expect_error("return setfenv(1, {})", MW_ELUA, "setfenv is not available");
  expect_error("return newproxy(true)", MW_ELUA, "newproxy is not available");
  expect_error("return string.dump(function() end)", MW_ELUA, "dump");
  expect_error("collectgarbage('stop')", MW_ELUA, "only form");
  expect_error("getmetatable('').__index = {}", MW_ELUA, "plugins/spec.lua:1");
  expect_error("setmetatable(_G, nil)", MW_ELUA, "protected metatable");
  expect_error("return package.loaded", MW_ELUA, "package is not available");
  expect_result("return tostring(load('\\27LJ\\2'))", "nil");
  expect_result("return tostring(select(2, load('x ='))):sub(1, 9)", "(load):1:");
}

static void what_a_plugin_changes_nobody_else_sees(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  start_plugin(vm, "string.format = nil table.insert = nil math.pi = 3 string.find = error global = 1 _G.pcall = nil return 'changed'", &o);
  CHECK_STR(o.text, "changed");
  start_plugin(vm,
               "assert(string.format and table.insert and math.pi > 3.1 and pcall and rawget(_G, 'global') == nil)\n"
               "assert(('abc'):find('b') == 2 and string.find('abc', 'b') == 2) return 'fine'",
               &o);
  if (o.status) fprintf(stderr, "%s\n", o.err.text);
  CHECK_STR(o.text, "fine");
  finish(vm);
}

static void an_undeclared_global_names_its_line(void) {
  expect_error("\nreturn undeclared_thing", MW_ELUA, "plugins/spec.lua:2: the global undeclared_thing does not exist");
  expect_result("mine = 1 mine = mine + 1 return tostring(mine)", "2");
  expect_error("load('\\n\\nreturn nothing_here', '@plugins/made.lua')()", MW_ELUA, "plugins/made.lua:3: the global nothing_here");
}

static void waits_pass_through_coroutines(void) {
  expect_result("local co = coroutine.wrap(function(a) local ok = core.sleep(0.01) local b = coroutine.yield(a) core.sleep(0) return b end)\n"
                "local a = co('1') local b = co('2') return a .. b",
                "12");
  expect_result("local function gen() for i = 1, 3 do core.sleep(0) coroutine.yield(i) end end\n"
                "local sum = 0 for i in coroutine.wrap(function() for i in coroutine.wrap(gen) do core.sleep(0) coroutine.yield(i) end end) do sum = "
                "sum + i end return tostring(sum)",
                "6");
  expect_result("local co co = coroutine.create(function() core.sleep(0) return coroutine.status(co) end)\n"
                "local ok, status = coroutine.resume(co) return status .. coroutine.status(co) .. tostring(coroutine.resume(co))",
                "runningdeadfalse");
  expect_result("local ok, err = pcall(coroutine.wrap(function() core.sleep(0) error('inside', 0) end)) return err", "inside");
  expect_result("return tostring(select('#', coroutine.resume(coroutine.create(function() end))))", "1");
  expect_error("coroutine.yield(1)", MW_ELUA, "outside of a coroutine");
}

static void a_coroutine_that_waits_belongs_to_its_task(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  start_plugin(vm,
               "local co = coroutine.create(function() return core.sleep(0.05) end)\n"
               "local seen\n"
               "core.spawn(function() seen = select(2, coroutine.resume(co)) .. coroutine.status(co) end, 'other')\n"
               "local ok, slept = coroutine.resume(co)\n"
               "return tostring(slept) .. seen",
               &o);
  RUN_UNTIL(loop, o.calls == 1);
  CHECK_STR(o.text, "truecannot resume a coroutine that waitsnormal");
  finish(vm);
}

static void a_wait_in_a_callback_names_the_function_and_the_fix(void) {
  expect_error("table.sort({3, 2, 1}, function(a, b) core.sleep(0) return a < b end)", MW_ELUA, "given to sort");
  expect_error("('x'):gsub('x', function() core.sleep(0) end)", MW_ELUA, "given to gsub");
  expect_error("string.format('%s', setmetatable({}, {__tostring = function() core.sleep(0) return '' end}))", MW_ELUA, "metamethod");
  expect_result("local ok, err = nil\n"
                "table.sort({3, 2, 1}, function(a, b) local co = coroutine.wrap(function() return core.sleep(10) end) ok, err = co() return a < b end)\n"
                "return err.code .. tostring(core.sleep(0))",
                "luatrue");
}

static void cancelling_passes_through_pcall(void) {
  mw_vm *vm = new_vm(0);
  outcome o;
  mw_task *t = start_plugin(vm,
                            "local function wait() local ok, err = core.sleep(100) if not ok then error(err, 0) end end\n"
                            "while true do pcall(wait) xpcall(wait, tostring) coroutine.resume(coroutine.create(wait)) end",
                            &o);
  CHECK(t != NULL);
  mw_task_cancel(t, MW_ECANCELED, "not needed any more");
  CHECK_INT(o.calls, 1);
  CHECK_INT(o.status, MW_ECANCELED);
  CHECK(strstr(o.err.text, "not needed any more"));
  load_plugin(vm, "while true do pcall(core.sleep, 100) end");
  start_chunk(vm, 20, &o);
  RUN_UNTIL(loop, o.calls == 1);
  CHECK_INT(o.status, MW_ETIMEOUT);
  finish(vm);
}

static void any_failed_allocation_leaves_the_state_in_order(void) {
#ifdef MW_DEBUG
  static const char *const codes[] = {
      "core.sleep(0) return 'done'",
      "local co = coroutine.wrap(function() core.sleep(0) coroutine.yield(1) end) co() return ('a,b'):gsub('%w', {a = 'x'})",
      "local ok, err = pcall(core.park, 'x', 0.001) local e = core.token() core.wake(e, 1, {}) return select('#', core.park('y'))",
      "core.spawn(function(...) core.sleep(0) end, 'child', nil, 1, 2) for w in ('a b'):gmatch('%w') do load('return 1', w)() end return 'x'",
      "core.local_set({}) core.check('x') xpcall(error, function(e) return {e} end) return tostring(core.left()) .. table.concat({1, 2})",
      "local ok, e = pcall(table.sort, {2, 1}, function() core.sleep(1) end) return string.rep('ab', 100)",
  };
  int failures = 0;
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    mw_vm *vm = new_vm(0);
    for (int n = 0;; n++) {
      outcome o;
      load_plugin(vm, codes[i]);
      fail_lua_allocation(n);
      start_chunk(vm, 0, &o);
      while (mw_vm_tasks(vm) > 0) mw_loop_turn(loop, true);
      bool all = !did_lua_allocation_fail();
      CHECK_INT(o.calls, 1);
      if (o.status) failures++;
      CHECK_INT(lua_gettop(mw_vm_lua(vm)), 0);
      if (all) break; // it ran to the end without asking that often
      CHECK(n < 2000);
    }
    check_alive(vm);
    finish(vm);
  }
  CHECK(failures > 20);
#endif
}

static int l_hang(lua_State *L) {
  for (volatile int i = 0;; i++) {
  }
  return 0;
}

// The program that a_c_call_that_never_returns_ends_the_process runs.
static void hang(void) {
  mw_watchdog_conf conf = {.soft_ms = 20, .hard_ms = 60};
  watchdog = mw_watchdog_start(&conf);
  mw_watchdog_add_thread(watchdog, 0);
  mw_vm *vm = new_vm(0);
  lua_pushcfunction(mw_vm_lua(vm), l_hang);
  lua_setglobal(mw_vm_lua(vm), "hang");
  outcome o;
  start(vm, "local x = 1\nhang()\nreturn x", 0, &o);
}

static void a_c_call_that_never_returns_ends_the_process(void) {
#ifndef CANNOT_KILL
  char command[600], text[4096] = "";
  snprintf(command, sizeof command, "%s --hang 2>&1", program);
  FILE *pipe = popen(command, "r");
  CHECK(pipe);
  size_t len = fread(text, 1, sizeof text - 1, pipe);
  text[len] = 0;
  CHECK(pclose(pipe) != 0);
  CHECK(strstr(text, "does not return"));
  CHECK(strstr(text, "plugins/spec.lua:2"));
#endif
}

typedef struct arguments {
  int argc, rc;
  char **argv;
} arguments;

// On a thread with the stack that workers have.
static void run(void *arg) {
  arguments *a = arg;
  program = a->argv[0];
  if (a->argc > 1 && strcmp(a->argv[1], "--hang") == 0) {
    hang();
    return;
  }
  loop = mw_loop_new("spec");
  mw_watchdog_conf conf = {.soft_ms = 100, .hard_ms = 30000, .on_stuck = on_stuck};
  watchdog = mw_watchdog_start(&conf);
  mw_watchdog_add_thread(watchdog, 3);
  const test tests[] = {
      TEST(endless_code_is_killed),
      TEST(protected_calls_do_not_save_it),
      TEST(coroutines_do_not_save_it),
      TEST(loaded_code_is_killed),
      TEST(library_calls_are_stopped),
      TEST(a_call_of_a_plain_state_is_killed_too),
      TEST(what_runs_apart_is_killed_alone),
      TEST(only_the_guilty_task_is_killed),
      TEST(signals_that_come_late_hit_nobody_else),
      TEST(requests_beyond_the_memory_budget_fail),
      TEST(recursion_without_end_fails),
      TEST(arguments_without_end_fail),
      TEST(what_could_reach_the_server_is_absent),
      TEST(what_a_plugin_changes_nobody_else_sees),
      TEST(an_undeclared_global_names_its_line),
      TEST(waits_pass_through_coroutines),
      TEST(a_coroutine_that_waits_belongs_to_its_task),
      TEST(a_wait_in_a_callback_names_the_function_and_the_fix),
      TEST(cancelling_passes_through_pcall),
      TEST(a_c_call_that_never_returns_ends_the_process),
      TEST(any_failed_allocation_leaves_the_state_in_order),
  };
  a->rc = RUN_TESTS(a->argc, a->argv, tests);
  mw_watchdog_remove_thread(watchdog);
  mw_watchdog_stop(watchdog);
  mw_loop_free(loop);
}

int main(int argc, char **argv) {
  arguments a = {argc, 1, argv};
  mw_thread thread;
  CHECK_INT(mw_thread_start(&thread, "worker", run, &a), 0);
  mw_thread_join(&thread);
  return a.rc;
}
