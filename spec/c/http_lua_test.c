// SPDX-License-Identifier: MIT

// Requests against Lua routes with memory running out at every place it can: each request is answered, nothing of C leaks, and the
// state serves the next one. Routes that were swapped, and a host without any.

#include <arpa/inet.h>
#include <errno.h>
#include <lauxlib.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "bind/bind.h"
#include "bind/bind_http.h"
#include "bind/host.h"
#include "harness.h"
#include "loop/listener.h"

static const char routes[] =
    "local routes, task = require 'mw.http.routes', require 'mw.core.task'\n"
    "local function route(method, pattern, handler, opts)\n"
    "  return { methods = { method }, pattern = pattern, handler = handler, opts = opts, what = method .. ' ' .. pattern }\n"
    "end\n"
    "routes.build(0, {\n"
    "  route('POST', '/all/:name', function(req, res)\n"
    "    local seen = { req.method, req.path, req.params.name, req.query.q, req.query_all.q[1], req.headers['X-Long'], req.cookies.c, req.ip,\n"
    "      req.trace_id, req.body, req:json() }\n"
    "    task.sleep(0)\n"
    "    res:status(201):header('x-a', 'b'):cookie('k', 'v', { max_age = '1h' }):json(seen)\n"
    "  end),\n"
    "  route('POST', '/stream', function(req, res)\n"
    "    for piece in req:chunks() do res:write('<' .. piece .. '>') end\n"
    "    res:finish()\n"
    "  end, { stream = true }),\n"
    "  route('GET', '/raise', function() error({ code = 'denied', message = 'no' }) end),\n"
    "  route('GET', '/version', function(req, res) res:text(VERSION) end),\n"
    "})\n";

static mw_host none; // nothing around the bindings

static mw_vm *new_vm(int generation) {
  mw_vm *vm;
  mw_err err;
  CHECK_INT(mw_vm_new(&(mw_vm_conf){.name = "spec", .generation = (uint64_t)generation, .modules = mw_bind_modules, .user = &none}, &vm, &err), 0);
  lua_State *L = mw_vm_lua(vm);
  lua_pushfstring(L, "v%d", generation);
  lua_setglobal(L, "VERSION");
  mw_vm_set_loading(vm, true);
  CHECK_INT(luaL_loadbuffer(L, routes, sizeof routes - 1, "=routes"), 0);
  int rc = mw_vm_call(vm, 0, 0, &err);
  if (rc) fprintf(stderr, "%s\n", err.text);
  CHECK_INT(rc, 0);
  mw_vm_set_loading(vm, false);
  return vm;
}

typedef struct site {
  mw_loop *loop;
  mw_http_host *host;
  int port;
  bool drained;
  int retired;
} site;

static void open_site(site *s) {
  mw_address address;
  mw_err err;
  int fd;
  *s = (site){.loop = mw_loop_new("spec")};
  s->host = mw_http_host_new(s->loop, &(mw_http_host_opts){.development = true});
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &address, &err), 0);
  CHECK_INT(mw_listener_bind(&address, NULL, &fd, &err), 0);
  CHECK_INT(mw_listener_address(fd, &address), 0);
  s->port = mw_address_port(&address);
  CHECK_INT(mw_http_host_listen(s->host, fd, NULL, 0, &err), 0);
}

static void on_retired(mw_vm *vm, void *arg) {
  site *s = arg;
  mw_http_host_remove(s->host, vm);
  mw_vm_free(vm);
  s->retired++;
}

static void on_drained(void *arg) { ((site *)arg)->drained = true; }

static void close_site(site *s) {
  mw_http_host_drain(s->host, 100, on_drained, s);
  RUN_UNTIL(s->loop, s->drained);
  mw_http_host_free(s->host);
  mw_loop_free(s->loop);
}

// Sends one request on a connection of its own and gives its status; `body` gets all that came.
static int ask(site *s, const char *bytes, mw_buf *got) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK_INT(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  CHECK_INT(send(fd, bytes, strlen(bytes), MSG_NOSIGNAL), (ssize_t)strlen(bytes));
  got->len = 0;
  for (int64_t late = mw_clock_mono_ms() + 10000; mw_clock_mono_ms() < late;) {
    mw_loop_turn(s->loop, false);
    ssize_t n = recv(fd, mw_buf_reserve(got, 8192), 8192, MSG_DONTWAIT);
    if (n > 0) got->len += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN)) break; // the request asks for a close
    if (n < 0) poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 1);
  }
  close(fd);
  int status = 0;
  sscanf(mw_buf_cstr(got), "HTTP/1.1 %d", &status);
  return status;
}

#define END "Host: a\r\nConnection: close\r\n"
static const char all[] = "POST /all/n%20m?q=1&q=2 HTTP/1.1\r\n" END "X-Long: value\r\nCookie: c=d\r\nContent-Type: application/json\r\n"
                          "Content-Length: 13\r\n\r\n{\"a\":[1,\"x\"]}";
static const char stream[] = "POST /stream HTTP/1.1\r\n" END "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
static const char raise[] = "GET /raise HTTP/1.1\r\n" END "\r\n";

static void fail_everywhere(site *s, mw_vm *vm, const char *bytes, int expected, int least) {
  mw_buf got = MW_BUF_INIT;
  CHECK_INT(ask(s, bytes, &got), expected);
#ifdef MW_DEBUG
  int n = 0;
  for (bool failed = true; failed && n < 2000; n++) {
    fail_lua_allocation(n);
    int status = ask(s, bytes, &got);
    failed = did_lua_allocation_fail();
    // A streamed answer may be cut; anything else is whole, and says what happened.
    CHECK(status == expected || status == 500 || (bytes == stream && failed));
  }
  CHECK(n > least && n < 2000);
  CHECK_INT(ask(s, bytes, &got), expected);
#endif
  mw_buf_deinit(&got);
}

static void test_a_request_survives_every_failed_allocation(void) {
  site s;
  open_site(&s);
  mw_vm *vm = new_vm(1);
  mw_vm_adopt(vm, s.loop);
  mw_http_host_install(s.host, vm);
  fail_everywhere(&s, vm, all, 201, 20);
  fail_everywhere(&s, vm, stream, 200, 0);
  fail_everywhere(&s, vm, raise, 403, 0);
  mw_vm_retire(vm, 1000, on_retired, &s);
  RUN_UNTIL(s.loop, s.retired == 1);
  close_site(&s);
}

static void test_requests_go_to_the_installed_state_and_none_means_503(void) {
  site s;
  mw_buf got = MW_BUF_INIT;
  const char *version = "GET /version HTTP/1.1\r\n" END "\r\n";
  open_site(&s);
  CHECK_INT(ask(&s, version, &got), 503);
  CHECK(strstr(mw_buf_cstr(&got), "Retry-After: 1\r\n"));
  mw_vm *one = new_vm(1), *two = new_vm(2);
  mw_vm_adopt(one, s.loop);
  mw_http_host_install(s.host, one);
  CHECK_INT(ask(&s, version, &got), 200);
  CHECK(strstr(mw_buf_cstr(&got), "v1"));
  mw_vm_adopt(two, s.loop);
  mw_http_host_install(s.host, two);
  mw_vm_retire(one, 1000, on_retired, &s);
  CHECK_INT(ask(&s, version, &got), 200);
  CHECK(strstr(mw_buf_cstr(&got), "v2"));
  RUN_UNTIL(s.loop, s.retired == 1);
  CHECK_INT(ask(&s, version, &got), 200);
  mw_vm_retire(two, 1000, on_retired, &s);
  RUN_UNTIL(s.loop, s.retired == 2);
  CHECK_INT(ask(&s, version, &got), 503);
  mw_buf_deinit(&got);
  close_site(&s);
}

static void check_bad_routes(const char *list, const char *why) {
  mw_vm *vm;
  mw_err err;
  CHECK_INT(mw_vm_new(&(mw_vm_conf){.name = "spec", .generation = 1, .modules = mw_bind_modules, .user = &none}, &vm, &err), 0);
  char text[600];
  snprintf(text, sizeof text, "local function h() end require('mw.http.routes').build(0, { %s })", list);
  CHECK_INT(luaL_loadstring(mw_vm_lua(vm), text), 0);
  CHECK(mw_vm_call(vm, 0, 0, &err) != 0);
  if (!strstr(err.text, why)) fprintf(stderr, "%s\n", err.text);
  CHECK(strstr(err.text, why) != NULL);
  mw_vm_free(vm);
}

static void test_bad_routes_are_errors_that_say_where(void) {
  check_bad_routes("{ methods = {'GET'}, pattern = '/a//b', handler = h, where = 'plugins/a.lua:3' }", "plugins/a.lua:3: route pattern");
  check_bad_routes("{ methods = {'GET'}, pattern = '/:a', handler = h }, { methods = {'GET'}, pattern = '/:b', handler = h, where = 'x.lua:9' }",
                   "x.lua:9: GET /:b is taken by /:a");
  check_bad_routes("{ methods = {'GET'}, handler = h }", "no pattern");
  check_bad_routes("{ pattern = '/', handler = h }", "no list of methods");
}

int main(int argc, char **argv) {
  const test tests[] = {
      TEST(test_a_request_survives_every_failed_allocation),
      TEST(test_requests_go_to_the_installed_state_and_none_means_503),
      TEST(test_bad_routes_are_errors_that_say_where),
  };
  return RUN_TESTS(argc, argv, tests);
}
