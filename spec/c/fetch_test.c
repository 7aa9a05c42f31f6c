// SPDX-License-Identifier: MIT

// mw.fetch from Lua tasks on a real loop, against a scripted server.

#include <lauxlib.h>
#include <lualib.h>

#include "base/alloc.h"
#include "bind/bind.h"
#include "bind/host.h"
#include "harness.h"
#include "http/client.h"
#include "loop/work.h"
#include "peer.h"
#include "vm/task.h"
#include "vm/vm.h"

static mw_vm *vm;
static mw_host host;

typedef struct outcome {
  int calls, status;
  char text[600];
} outcome;

static void on_task_done(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg) {
  outcome *o = arg;
  o->calls++;
  o->status = status;
  const char *text = status ? err->text : lua_tostring(L, 1);
  snprintf(o->text, sizeof o->text, "%s", text ? text : "nil");
}

static mw_task *run_task(outcome *o, const char *source, const char *url, int64_t timeout_ms) {
  lua_State *L = mw_vm_lua(vm);
  memset(o, 0, sizeof *o);
  if (luaL_loadstring(L, source)) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    exit(1);
  }
  lua_pushstring(L, url);
  mw_task_opts opts = {.what = "spec", .timeout_ms = timeout_ms, .done = on_task_done, .arg = o};
  return mw_task_start(vm, 1, &opts);
}

static char *url_of(const char *path) {
  static char url[400];
  snprintf(url, sizeof url, "http://127.0.0.1:%d%s", mw_address_port(&plain.address), path);
  return url;
}

static void check_run(const char *source, const char *expected) {
  outcome o;
  run_task(&o, source, url_of("/p"), 0);
  RUN_UNTIL(loop, o.calls);
  CHECK_STR(o.text, expected);
}

static const char *fixed;
static void answer_fixed(peer *p, const char *request, int number) {
  if (fixed) say(p, fixed);
}

static void open_all(const char *answer) {
  mw_err err = {0};
  fixed = answer;
  loop = mw_loop_new("fetch");
  open_server(&plain, NULL);
  open_server(&other, NULL);
  plain.script = other.script = answer_fixed;
  host = (mw_host){.client = mw_http_client_new(loop, NULL)};
  CHECK_INT(mw_vm_new(&(mw_vm_conf){.name = "spec", .modules = mw_bind_modules, .user = &host}, &vm, &err), 0);
  mw_vm_adopt(vm, loop);
}

static void close_all(void) {
  mw_vm_free(vm);
  mw_http_client_free(host.client);
  mw_listener_close(plain.listener, false);
  mw_listener_close(other.listener, false);
  mw_loop_run(loop);
  CHECK_INT(plain.open, 0);
  mw_loop_free(loop);
}

#define FETCH "local fetch, url = require('mw.fetch').fetch, ... "

static void test_an_answer_arrives_with_status_headers_and_body(void) {
  open_all("HTTP/1.1 201 Created\r\nX-One: a\r\nx-one: b\r\nSet-Cookie: c=1\r\nSet-Cookie: d=2\r\nContent-Length: 8\r\n\r\n{\"id\":7}");
  check_run(FETCH "local r = fetch(url) return r.status .. ' ' .. r.headers['X-ONE'] .. ' ' .. r.headers['set-cookie'][2] .. ' ' .. "
                  "r:ok():json().id .. ' ' .. r.body .. tostring(r.headers.none) .. tostring(r.url == url)",
            "201 a, b d=2 7 {\"id\":7}niltrue");
  close_all();
}

static void test_json_is_sent_as_json_by_post(void) {
  open_all("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  check_run(FETCH "return fetch(url, { json = { amount = 42 }, headers = { ['X-N'] = 5 } }).status", "200");
  CHECK(strncmp(plain.last, "POST /p HTTP/1.1\r\n", 18) == 0);
  CHECK(strstr(plain.last, "\r\nContent-Type: application/json\r\n"));
  CHECK(strstr(plain.last, "\r\nX-N: 5\r\n"));
  CHECK(strstr(plain.last, "\r\n\r\n{\"amount\":42}"));
  CHECK(!strstr(plain.last, "Idempotency-Key"));
  check_run(FETCH "require('mw.core.task').local_set { step_key = 'run/charge' } return fetch(url, { method = 'post', body = 'x' }).status",
            "200");
  CHECK(strstr(plain.last, "\r\nIdempotency-Key: run/charge\r\n"));
  close_all();
}

static void test_failures_raise_with_code_and_words(void) {
  open_all(NULL);
#define CODE "local ok, e = pcall(fetch, url" 
#define SHOW ") return ok and 'ok' or e.code .. ' ' .. tostring(e.retryable) .. ' ' .. e.message:gsub('127.0.0.1:%d+', 'HOST')"
  check_run(FETCH CODE ", { timeout = '30ms' }" SHOW, "timeout true GET http://HOST/p: no answer after 0.03 seconds");
  check_run(FETCH "url = 'http://127.0.0.1:1/' " CODE SHOW, "ECONNREFUSED true GET http://HOST/: connect to HOST: connection refused");
  check_run(FETCH "url = 'nonsense' " CODE SHOW, "invalid false mw.fetch: the URL must begin with http:// or https://");
  check_run(FETCH CODE ", { headers = { A = 'x\\r\\ny' } }" SHOW,
            "invalid false mw.fetch: the header A has a line break or another control character in its value");
  check_run(FETCH CODE ", { tiemout = 1 }" SHOW, "invalid false mw.fetch: unknown option \"tiemout\"; did you mean \"timeout\"?");
  check_run(FETCH CODE ", { timeout = 5000 }" SHOW,
            "invalid false mw.fetch: timeout: 5000 seconds are 1.4 hours; write \"5000ms\" for milliseconds or \"5000s\" for seconds");
  check_run(FETCH CODE ", { json = 1, body = 'x' }" SHOW, "invalid false mw.fetch: give json or body, not both");
  close_all();
}

static void test_ok_and_json_raise_for_what_is_no_success(void) {
  open_all("HTTP/1.1 503 Away\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\noops");
  check_run(FETCH "local r = fetch(url) local ok, e = pcall(r.ok, r) return table.concat({e.code, e.status, e.retry_after, tostring(e.retryable), "
                  "e.body, (e.message:gsub('http.*/p', 'URL'))}, ' ')",
            "http_status 503 7 true oops GET URL answered 503");
  check_run(FETCH "local r = fetch(url) local ok, e = pcall(r.json, r) return e.code .. tostring(e.message:find('is not JSON') ~= nil)", "jsontrue");
  fixed = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
  check_run(FETCH "local r = fetch(url) local ok, e = pcall(r.ok, r) return e.status .. tostring(e.retryable)", "404false");
  close_all();
}

static void test_redirects_zero_gives_the_redirect(void) {
  open_all("HTTP/1.1 302 Found\r\nLocation: /p\r\nContent-Length: 0\r\n\r\n");
  check_run(FETCH "return fetch(url, { redirects = 0 }).status", "302");
  check_run(FETCH "local ok, e = pcall(fetch, url, { redirects = 2 }) return e.code", "limit");
  check_run(FETCH "local ok, e = pcall(fetch, url, { redirects = 2, max_bytes = 'many' }) return e.code", "invalid");
  close_all();
}

static void test_many_tasks_wait_at_once(void) {
  open_all("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  outcome o[200];
  for (int i = 0; i < 200; i++) run_task(&o[i], FETCH "return fetch(url).body", url_of("/many"), 0);
  for (int i = 0; i < 200; i++) {
    RUN_UNTIL(loop, o[i].calls);
    CHECK_STR(o[i].text, "ok");
  }
  CHECK_INT(plain.requests, 200);
  CHECK_INT(plain.connections, 64);
  close_all();
}

static void test_a_cancelled_task_closes_its_connection(void) {
  open_all(NULL);
  outcome o;
  mw_task *task = run_task(&o, FETCH "return fetch(url).body", url_of("/"), 0);
  CHECK(task);
  RUN_UNTIL(loop, plain.requests);
  mw_task_cancel(task, MW_ECANCELED, "the spec says so");
  RUN_UNTIL(loop, o.calls && plain.open == 0);
  CHECK_INT(o.status, MW_ECANCELED);
  run_task(&o, FETCH "return fetch(url).body", url_of("/"), 40); // the task's own deadline
  RUN_UNTIL(loop, o.calls && plain.open == 0);
  CHECK_INT(o.status, MW_ETIMEOUT);
  close_all();
}

int main(int argc, char **argv) {
  const test tests[] = {
      TEST(test_an_answer_arrives_with_status_headers_and_body),
      TEST(test_json_is_sent_as_json_by_post),
      TEST(test_failures_raise_with_code_and_words),
      TEST(test_ok_and_json_raise_for_what_is_no_success),
      TEST(test_redirects_zero_gives_the_redirect),
      TEST(test_many_tasks_wait_at_once),
      TEST(test_a_cancelled_task_closes_its_connection),
  };
  int rc = RUN_TESTS(argc, argv, tests);
  mw_work_shutdown();
  return rc;
}
