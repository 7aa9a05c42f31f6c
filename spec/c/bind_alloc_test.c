// SPDX-License-Identifier: MIT

// Fails the n-th allocation, for every n, of whatever bind_alloc_cases.lua does with the functions that C gives to Lua: the ones made by
// the call, and those made when a timer, the store, an answer or a file comes back from the loop. The task may end with an error; nothing
// else may happen: no crash, no task that never ends, nothing of C left behind (LeakSanitizer looks), and the same works the next time.
// A function that no case calls fails the test. Redis is asked when redis-server is here.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "bind/bind.h"
#include "bind/bind_http.h"
#include "bind/host.h"
#include "harness.h"
#include "http/client.h"
#include "loop/work.h"
#include "peer.h"
#include "state/kv.h"
#include "state/late.h"
#include "store/migrate.h"
#include "store/databases.h"
#include "store/redis.h"
#include "store/store.h"
#include "vm/task.h"
#include "vm/vm.h"

#ifdef MW_DEBUG

#define MAX_CASES 200
#define MAX_ALLOCATIONS 6000

static mw_vm *vm;
static mw_store *store;
static mw_databases *databases;
static mw_host host;
static mw_http_host *http;
static int http_port, failures;
static char dir[64];
static pid_t redis_pid;

// ---- what the bindings ask of the program ----

static bool op_config(void *program, mw_str name, mw_buf *out) {
  bool is_files = mw_str_eq(name, MW_STR("files"));
  mw_buf_add_cstr(out, is_files ? "\"spec/c\"" : "5");
  return true;
}
static const char *op_env(void *program, const char *name, bool *allowed) { return *allowed = true, "value"; }
static bool op_token(void *program, mw_str token, bool *is_set) { return *is_set = true, false; }
static uint64_t op_version(void *program, bool changed) { return 1; }
static void op_text(void *program, mw_buf *out) { mw_buf_add_cstr(out, "{\"plugins\":[]}"); }
static bool op_draining(void *program) { return false; }
static void op_wake(void *program, int64_t due_us) {}

static mw_host_reload_cb reload_cb;
static void reloaded(void *arg) { reload_cb(0, MW_STR("{\"errors\":[]}"), arg); }
static void op_reload(void *program, int worker, mw_host_reload_cb cb, void *arg) {
  reload_cb = cb;
  mw_loop_post(loop, reloaded, arg);
}

static const mw_host_ops ops = {
    .config = op_config, .env = op_env, .token_matches = op_token, .access_version = op_version, .reload = op_reload,
    .plugins = op_text, .status = op_text, .is_draining = op_draining, .wake_engines = op_wake,
};

// ---- opening and closing ----

static void answer(peer *p, const char *request, int number) {
  say(p, "HTTP/1.1 200 OK\r\nX-From: peer\r\nX-Twice: a\r\nX-Twice: b\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 11\r\n\r\n{\"ok\":true}");
}

static void on_flag(void *arg) { *(bool *)arg = true; }
static void on_registered(int status, const mw_err *err, void *arg) { *(int *)arg = status ? status : 1; }

static void must(int rc, const mw_err *err) {
  if (rc) fprintf(stderr, "%s\n", err->text);
  CHECK_INT(rc, 0);
}

static void open_store(void) {
  mw_err err = {0};
  int count, registered = 0;
  strcpy(dir, "/tmp/mw_alloc_XXXXXX");
  CHECK(mkdtemp(dir));
  must(mw_store_open(&(mw_store_conf){.data_dir = dir, .exclusive = true}, &store, &err), &err);
  must(mw_migrate_up(store, &count, &err), &err);
  host.store = mw_store_attach(store, loop);
  static const char *const names[] = {"further"}, *const urls[] = {"sqlite:further.db"};
  databases = mw_databases_new(&(mw_databases_conf){.data_dir = dir, .names = names, .urls = urls, .count = 1});
  host.databases = mw_databases_attach(databases, loop);
  CHECK_INT(mw_store_register_node(host.store, on_registered, &registered), 0);
  RUN_UNTIL(loop, registered);
  CHECK_INT(registered, 1);
}

/** Starts redis-server on a free port; leaves host.redis NULL when it is not here. */
static void open_redis(void) {
  mw_address address;
  mw_err err = {0};
  int fd;
  char port[16], url[64];
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &address, &err), 0);
  CHECK_INT(mw_listener_bind(&address, NULL, &fd, &err), 0);
  CHECK_INT(mw_listener_address(fd, &address), 0);
  close(fd);
  snprintf(port, sizeof port, "%d", mw_address_port(&address));
  if (system("command -v redis-server >/dev/null 2>&1")) {
    printf("# Redis: pending, there is no redis-server\n");
    return;
  }
  redis_pid = fork();
  if (redis_pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(open("/dev/null", O_WRONLY), 1);
    execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, NULL);
    _exit(1);
  }
  snprintf(url, sizeof url, "redis://127.0.0.1:%s", port);
  must(mw_redis_new(loop, &(mw_redis_conf){.url = url}, &host.redis, &err), &err);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)mw_address_port(&address)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  for (int tries = 0, up = 0; !up; tries++) {
    CHECK(tries < 500);
    usleep(20000);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    up = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    close(fd);
  }
}

static void open_http(void) {
  mw_address address;
  mw_err err = {0};
  int fd;
  http = mw_http_host_new(loop, &(mw_http_host_opts){.development = true});
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &address, &err), 0);
  CHECK_INT(mw_listener_bind(&address, NULL, &fd, &err), 0);
  CHECK_INT(mw_listener_address(fd, &address), 0);
  http_port = mw_address_port(&address);
  CHECK_INT(mw_http_host_listen(http, fd, NULL, 0, &err), 0);
}

// Replaces each C function of each module, and each method of each type, by one that notes that it was called.
static const char cover[] =
    "SEEN, KNOWN = {}, {}\n"
    "local function wrap(table, prefix)\n"
    "  for name, fn in pairs(table) do\n"
    "    local key = prefix .. name\n"
    "    if type(fn) == 'function' and debug.getinfo(fn, 'S').what == 'C' then\n"
    "      KNOWN[key] = true\n"
    "      table[name] = function(...) SEEN[key] = true return fn(...) end\n"
    "    elseif type(fn) == 'table' and name == 'string' then wrap(fn, key .. '.') end\n"
    "  end\n"
    "end\n"
    "for name in pairs(package.preload) do if name:find('^mw%.core%.') then wrap(require(name), name .. '.') end end\n"
    "for name, meta in pairs(debug.getregistry()) do\n"
    "  if type(name) == 'string' and name:find('^mw%.') and type(meta) == 'table' and type(rawget(meta, '__index')) == 'table' then\n"
    "    wrap(meta.__index, name .. ':')\n"
    "  end\n"
    "end\n";

static void run_chunk(const char *source, size_t len, const char *name, int results) {
  mw_err err = {0};
  CHECK_INT(luaL_loadbuffer(mw_vm_lua(vm), source, len, name), 0);
  must(mw_vm_call(vm, 0, results, &err), &err);
}

static void load_cases(void) {
  lua_State *L = mw_vm_lua(vm);
  mw_err err = {0};
  mw_vm_set_loading(vm, true);
  run_chunk(cover, sizeof cover - 1, "=cover", 0);
  lua_pushfstring(L, "http://127.0.0.1:%d/", mw_address_port(&plain.address));
  lua_setglobal(L, "UPSTREAM");
  if (luaL_loadfile(L, "spec/c/bind_alloc_cases.lua")) fprintf(stderr, "%s\n", lua_tostring(L, -1));
  must(mw_vm_call(vm, 0, 1, &err), &err);
  lua_setfield(L, LUA_REGISTRYINDEX, "cases");
  mw_vm_set_loading(vm, false);
}

static void open_all(void) {
  mw_err err = {0};
  loop = mw_loop_new("spec");
  mw_loop_hold(loop);
  open_server(&plain, NULL);
  plain.script = answer;
  host = (mw_host){.ops = &ops, .client = mw_http_client_new(loop, NULL), .kv = mw_kv_new(1 << 20)};
  open_store();
  host.late = mw_late_open(store, loop, 20);
  open_redis();
  open_http();
  must(mw_vm_new(&(mw_vm_conf){.name = "spec", .generation = 1, .modules = mw_bind_modules, .user = &host}, &vm, &err), &err);
  load_cases();
  mw_vm_adopt(vm, loop);
  mw_http_host_install(http, vm);
}

static void on_retired(mw_vm *which, void *arg) {
  mw_http_host_remove(http, which);
  mw_vm_free(which);
  *(bool *)arg = true;
}

static void close_all(void) {
  bool retired = false, drained = false, late = false, detached = false, further = false, redis = !host.redis;
  mw_vm_retire(vm, 1000, on_retired, &retired);
  RUN_UNTIL(loop, retired);
  mw_http_host_drain(http, 100, on_flag, &drained);
  RUN_UNTIL(loop, drained);
  mw_http_host_free(http);
  mw_http_client_free(host.client);
  if (host.redis) mw_redis_close(host.redis, on_flag, &redis);
  mw_databases_detach(host.databases, on_flag, &further);
  mw_late_close(host.late, on_flag, &late);
  RUN_UNTIL(loop, late && redis && further);
  mw_databases_free(databases);
  mw_store_detach(host.store, on_flag, &detached);
  RUN_UNTIL(loop, detached);
  mw_listener_close(plain.listener, false);
  mw_loop_unhold(loop);
  mw_loop_run(loop);
  mw_loop_free(loop);
  mw_store_close(store);
  mw_kv_free(host.kv);
  if (redis_pid) {
    kill(redis_pid, SIGKILL);
    waitpid(redis_pid, NULL, 0);
  }
  char command[100];
  snprintf(command, sizeof command, "rm -rf '%s'", dir);
  CHECK_INT(system(command), 0);
}

// ---- running a case ----

/** As RUN_UNTIL, but never waits in a turn: what is put off to the end of one makes no event that would end the wait. */
static void turn_until_idle(const int *calls) {
  for (int64_t late = mw_clock_mono_ms() + 10000; (calls && !*calls) || mw_vm_tasks(vm) > 0;) {
    CHECK(mw_clock_mono_ms() < late); // a task that never ends
    mw_loop_turn(loop, false);
    if (mw_vm_tasks(vm) > 0) usleep(50);
  }
}

typedef struct outcome {
  int calls, status;
  char text[600];
} outcome;

static void on_done(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg) {
  outcome *o = arg;
  o->calls++;
  o->status = status;
  snprintf(o->text, sizeof o->text, "%s", err->text);
}

/** Stack: the case. */
static int run_task(const char *tag, outcome *o) {
  lua_State *L = mw_vm_lua(vm);
  memset(o, 0, sizeof *o);
  lua_pushstring(L, tag);
  mw_task_start(vm, 1, &(mw_task_opts){.what = "a case", .timeout_ms = 8000, .done = on_done, .arg = o});
  turn_until_idle(&o->calls);
  CHECK_INT(o->calls, 1);
  return o->status;
}

/** Sends bytes and reads to the end; 0 when what came back is what its route answers. */
static int run_request(const char *bytes, outcome *o) {
  mw_buf got = MW_BUF_INIT;
  int fd = socket(AF_INET, SOCK_STREAM, 0), status = 0;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK_INT(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  CHECK_INT(send(fd, bytes, strlen(bytes), MSG_NOSIGNAL), (ssize_t)strlen(bytes));
  int64_t late = mw_clock_mono_ms() + 10000;
  for (;;) {
    CHECK(mw_clock_mono_ms() < late); // a request that is never answered
    mw_loop_turn(loop, false);
    ssize_t n = recv(fd, mw_buf_reserve(&got, 8192), 8192, MSG_DONTWAIT);
    if (n > 0) got.len += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN)) break;
    if (n < 0) poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 1);
  }
  close(fd);
  turn_until_idle(NULL);
  sscanf(mw_buf_cstr(&got), "HTTP/1.1 %d", &status);
  snprintf(o->text, sizeof o->text, "%.500s", mw_buf_cstr(&got));
  mw_buf_deinit(&got);
  return status == (strstr(bytes, "/raise") ? 403 : status / 100 * 100 == 200 ? status : -1) ? 0 : MW_ELUA;
}

/** Runs case `index`; false behind the last. */
static bool run_case(int index, const char *tag, outcome *o, int *status) {
  lua_State *L = mw_vm_lua(vm);
  lua_getfield(L, LUA_REGISTRYINDEX, "cases");
  lua_rawgeti(L, -1, index);
  lua_remove(L, -2);
  bool is_there = !lua_isnil(L, -1);
  if (is_there && lua_isfunction(L, -1)) {
    *status = run_task(tag, o);
  } else {
    if (is_there) *status = run_request(lua_tostring(L, -1), o);
    lua_pop(L, 1);
  }
  CHECK_INT(lua_gettop(L), 0);
  return is_there;
}

static void must_succeed(int index, const char *tag) {
  outcome o = {0};
  int status = 0;
  if (run_case(index, tag, &o, &status) && status) {
    fprintf(stderr, "spec/c/bind_alloc_cases.lua: case %d fails when nothing else does: %s\n", index, o.text);
    exit(1);
  }
}

/** `times`: how many allocations in a row fail; more than one refuses the error's own words as well. */
static void fail_everywhere(int index, int times) {
  for (int n = 0;; n++) {
    char tag[32], plan[64];
    outcome o = {0};
    int status = 0;
    snprintf(tag, sizeof tag, "t%dx%dx%d", index, n, times);
    snprintf(plan, sizeof plan, "lua_alloc=after=%d,times=%d", n, times);
    CHECK_INT(mw_fault_arm(plan, 0, NULL), 0);
    run_case(index, tag, &o, &status);
    if (status) failures++;
    if (!did_lua_allocation_fail()) break;
    CHECK(n < MAX_ALLOCATIONS);
  }
  char tag[32];
  snprintf(tag, sizeof tag, "again%dx%d", index, times);
  must_succeed(index, tag);
}

// ---- tests ----

static int count_cases(void) {
  lua_getfield(mw_vm_lua(vm), LUA_REGISTRYINDEX, "cases");
  int count = (int)lua_objlen(mw_vm_lua(vm), -1);
  lua_pop(mw_vm_lua(vm), 1);
  return count;
}

static void check_covered(void) {
  static const char chunk[] =
      "local missing = {}\n"
      "for name in pairs(KNOWN) do if not SEEN[name] and not (NO_REDIS and name:find('redis')) then missing[#missing + 1] = name end end\n"
      "table.sort(missing)\n"
      "return table.concat(missing, ', ')\n";
  lua_State *L = mw_vm_lua(vm);
  lua_pushboolean(L, !host.redis);
  lua_setglobal(L, "NO_REDIS");
  run_chunk(chunk, sizeof chunk - 1, "=missing", 1);
  if (*lua_tostring(L, -1)) {
    fprintf(stderr, "no case in spec/c/bind_alloc_cases.lua calls: %s\nAdd one that does, with a tag of its own in each string.\n", lua_tostring(L, -1));
    exit(1);
  }
  lua_pop(L, 1);
}

static void test_every_function_has_a_case(void) {
  open_all();
  int count = count_cases();
  CHECK(count > 10 && count < MAX_CASES);
  for (int i = 1; i <= count; i++) {
    int64_t started = mw_clock_mono_ms();
    must_succeed(i, "first");
    if (mw_clock_mono_ms() - started > 1000) fprintf(stderr, "case %d took %lld ms\n", i, (long long)(mw_clock_mono_ms() - started));
  }
  check_covered();
  close_all();
}

static void test_every_failed_allocation_ends_in_an_error_of_the_task(void) {
  open_all();
  const char *only = getenv("MW_TEST_CASE");
  for (int i = 1; i <= count_cases(); i++) {
    if (only && atoi(only) != i) continue;
    int64_t started = mw_clock_mono_ms();
    must_succeed(i, "warm");
    fail_everywhere(i, 1);
    fail_everywhere(i, 6);
    if (getenv("MW_TEST_VERBOSE")) printf("case %d: %lld ms\n", i, (long long)(mw_clock_mono_ms() - started));
  }
  CHECK(only || failures > 500);
  close_all();
}

static void test_loading_that_runs_out_of_memory_is_an_error(void) {
  host = (mw_host){.ops = &ops};
  int n = 0;
  for (bool failed = true; failed; n += n < 100 ? 1 : 41) {
    CHECK(n < 100000);
    mw_err err = {0};
    must(mw_vm_new(&(mw_vm_conf){.name = "spec", .modules = mw_bind_modules, .user = &host}, &vm, &err), &err);
    mw_vm_set_loading(vm, true);
    CHECK_INT(luaL_loadfile(mw_vm_lua(vm), "spec/c/bind_alloc_cases.lua"), 0);
    fail_lua_allocation(n);
    int rc = mw_vm_call(vm, 0, 0, &err);
    failed = did_lua_allocation_fail();
    CHECK(rc == 0 || (failed && err.text[0]));
    CHECK_INT(lua_gettop(mw_vm_lua(vm)), 0);
    mw_vm_free(vm);
  }
  CHECK(n > 500);
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  mw_log_configure(MW_LOG_FATAL, MW_LOG_FORMAT_AUTO);
  const test tests[] = {
      TEST(test_every_function_has_a_case),
      TEST(test_every_failed_allocation_ends_in_an_error_of_the_task),
      TEST(test_loading_that_runs_out_of_memory_is_an_error),
  };
  int rc = RUN_TESTS(argc, argv, tests);
  mw_work_shutdown();
  return rc;
}

#else
int main(void) { return 77; }
#endif
