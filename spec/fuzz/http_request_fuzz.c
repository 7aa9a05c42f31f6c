// SPDX-License-Identifier: MIT
// A whole HTTP server: what it answers to a connection's bytes does not depend on how they were cut, every answer is HTTP, and the
// connection ends once the client has ended.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "fuzz.h"
#include "http/server.h"
#include "loop/address.h"
#include "loop/listener.h"
#include "loop/loop.h"

#define MAX_TURNS 20000

enum { WHOLE, STREAM };

static mw_loop *loop;
static mw_server *server;
static struct sockaddr_un where;
static int open_requests;

static void echo(mw_request *req, mw_str body) {
  mw_buf out = MW_BUF_INIT;
  mw_buf_add_str(&out, mw_request_method(req));
  mw_buf_add_byte(&out, ' ');
  mw_buf_add_str(&out, mw_request_path(req));
  mw_buf_add_byte(&out, '?');
  mw_buf_add_str(&out, mw_request_query(req));
  for (size_t i = 0; i < mw_request_header_count(req); i++) {
    mw_str name, value;
    mw_request_header_at(req, i, &name, &value);
    mw_buf_printf(&out, "\n%.*s=%.*s", MW_STR_FMT(name), MW_STR_FMT(value));
  }
  mw_str cookie = mw_request_header(req, MW_STR("cookie"));
  mw_buf_printf(&out, "\n%zu\n", cookie.len);
  mw_buf_add_str(&out, body);
  mw_response_send(req, 200, MW_STR("text/plain"), mw_buf_str(&out));
  mw_buf_deinit(&out);
}

static void on_request(mw_request *req, void *arg) {
  open_requests++;
  if (mw_request_route(req)->id == WHOLE || mw_request_body_is_over(req)) echo(req, mw_request_body(req));
}

static void on_body(mw_request *req, mw_str piece, bool end, void *arg) {
  mw_buf *seen = mw_request_data(req);
  if (!seen) {
    seen = mw_arena_calloc(mw_request_arena(req), sizeof *seen);
    mw_arena_on_reset(mw_request_arena(req), (mw_arena_cb)mw_buf_deinit, seen);
    mw_request_set_data(req, seen);
  }
  mw_buf_add_str(seen, piece);
  if (end) echo(req, mw_buf_str(seen));
}

static void on_gone(mw_request *req, int status, void *arg) { open_requests--; }

static const mw_server_handler handler = {.on_request = on_request, .on_body = on_body, .on_gone = on_gone};

static mw_router *routes(void) {
  mw_router *router = mw_router_new();
  static const mw_route list[] = {
      {.method = {"*", 1}, .pattern = {"/", 1}, .id = WHOLE},
      {.method = {"*", 1}, .pattern = {"/a/:b", 5}, .id = WHOLE},
      {.method = {"POST", 4}, .pattern = {"/s", 2}, .id = STREAM, .stream = true, .max_body_bytes = 4096},
      {.method = {"PUT", 3}, .pattern = {"/s/*rest", 8}, .id = STREAM, .stream = true},
  };
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) MUST(mw_router_add(router, &list[i], NULL) == 0);
  return router;
}

static void start(void) {
  int fd;
  mw_address address;
  char text[160];
  signal(SIGPIPE, SIG_IGN);
  mw_log_configure(MW_LOG_FATAL, MW_LOG_FORMAT_JSON);
  loop = mw_loop_new("fuzz");
  server = mw_server_new(loop, &(mw_server_conf){.max_header_bytes = 8192, .max_body_bytes = 16384}, &handler, NULL);
  mw_router *router = routes();
  mw_server_set_router(server, 0, router);
  mw_router_unref(router);
  where.sun_family = AF_UNIX;
  snprintf(where.sun_path, sizeof where.sun_path, "/tmp/moonwatch-fuzz-%d.sock", (int)getpid());
  snprintf(text, sizeof text, "unix:%s", where.sun_path);
  MUST(mw_address_parse(mw_str_from(text), &address, NULL) == 0);
  MUST(mw_listener_bind(&address, false, &fd, NULL) == 0);
  MUST(mw_server_listen(server, fd, NULL, 0) == 0);
}

// Reads what is there; true when the server has closed.
static bool read_some(int fd, mw_buf *out) {
  for (;;) {
    ssize_t n = read(fd, mw_buf_reserve(out, 65536), 65536);
    if (n > 0) out->len += (size_t)n;
    else return n == 0 || (errno != EAGAIN && errno != EINTR);
  }
}

static void exchange(mw_str bytes, bool cut, mw_buf *out) {
  cutter cuts = cutter_of(bytes);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  MUST(connect(fd, (struct sockaddr *)&where, sizeof where) == 0);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  bool closed = false;
  for (size_t at = 0; at < bytes.len && !closed;) {
    size_t len = cut ? next_cut(&cuts, bytes.len - at) : bytes.len - at;
    ssize_t n = write(fd, bytes.ptr + at, len);
    if (n > 0) at += (size_t)n;
    else if (errno != EAGAIN) break; // it refused and closed
    mw_loop_turn(loop, false);
    closed = read_some(fd, out);
  }
  shutdown(fd, SHUT_WR);
  for (int turns = 0; !closed; turns++) {
    MUST(turns < MAX_TURNS); // a connection that never ends
    mw_loop_turn(loop, false);
    closed = read_some(fd, out);
  }
  close(fd);
  for (int i = 0; i < 3; i++) mw_loop_turn(loop, false);
  MUST(open_requests == 0);
}

// What may differ between two runs: dates, and 100 Continue, which is left out where the body is there already. An echoed body that
// looks like them loses it in both.
static void remove_all(mw_buf *text, const char *begin, const char *end) {
  for (char *at; text->len && (at = memmem(text->ptr, text->len, begin, strlen(begin)));) {
    size_t from = (size_t)(at - text->ptr), left = text->len - from;
    char *stop = memmem(at, left, end, strlen(end));
    size_t len = stop ? (size_t)(stop - at) + strlen(end) : left;
    memmove(at, at + len, left - len);
    text->len -= len;
  }
}

static void normalize(mw_buf *text) {
  remove_all(text, "Date: ", "\n");
  remove_all(text, "HTTP/1.1 100 Continue", "\r\n\r\n");
}

FUZZ(bytes) {
  if (!server) start();
  mw_buf whole = MW_BUF_INIT, pieces = MW_BUF_INIT;
  exchange(bytes, false, &whole);
  exchange(bytes, true, &pieces);
  normalize(&whole);
  normalize(&pieces);
  if (whole.len) MUST(mw_str_starts_with(mw_buf_str(&whole), MW_STR("HTTP/1.1 ")));
  if (!mw_str_eq(mw_buf_str(&whole), mw_buf_str(&pieces))) {
    fprintf(stderr, "whole:\n%s\npieces:\n%s\n", mw_buf_cstr(&whole), mw_buf_cstr(&pieces));
    abort();
  }
  mw_buf_deinit(&whole);
  mw_buf_deinit(&pieces);
}
