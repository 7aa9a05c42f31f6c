// SPDX-License-Identifier: MIT

// The HTTP server against raw sockets: what it refuses, its limits and deadlines, pipelining, streaming both ways, slow peers, drain.

#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "certs.h"
#include "harness.h"
#include "loop/address.h"
#include "loop/listener.h"
#include "loop/stream.h"
#include "loop/tls.h"

/* ---- the server under test ---- */

typedef struct site {
  mw_loop *loop;
  mw_server *server;
  mw_router *router;
  int port, calls, gone, last_gone, drains;
  mw_request *held; // of /late and /manual
  mw_buf body;      // what /stream got
  size_t left;      // pieces that /endless still writes; SIZE_MAX: for ever
  bool drained, pause, body_ended;
  char seen[64]; // methods and paths of the calls
} site;

enum { HELLO = 1, ITEM, BODY, STREAM, LATE, CHUNKS, ENDLESS, HEADERS, EMPTY, SIZED, LARGE, REST, REFUSE_EARLY };

static void write_on(site *s, mw_request *req) {
  static char piece[32 * 1024];
  memset(piece, 'e', sizeof piece);
  while (s->left) {
    int rc = mw_response_write(req, mw_str_of(piece, sizeof piece));
    if (s->left != SIZE_MAX) s->left--;
    if (rc) return;
  }
  mw_response_end(req);
}

static void on_request(mw_request *req, void *arg) {
  site *s = arg;
  char text[200];
  mw_str type = MW_STR("text/plain");
  s->calls++;
  switch (mw_request_route(req)->id) {
    case HELLO: mw_response_send(req, 200, type, MW_STR("hello")); break;
    case ITEM: {
      mw_str id = mw_request_param(req, 0);
      snprintf(text, sizeof text, "item=%.*s query=%.*s", MW_STR_FMT(id), MW_STR_FMT(mw_request_query(req)));
      mw_response_send(req, 200, type, mw_str_from(text));
      break;
    }
    case BODY: mw_response_send(req, 200, type, mw_request_body(req)); break;
    case STREAM:
      s->held = req;
      s->body.len = 0;
      s->body_ended = false;
      if (s->pause) mw_request_pause(req);
      break;
    case LATE: s->held = req; break;
    case CHUNKS:
      mw_response_begin(req, 200, type, -1);
      mw_response_write(req, MW_STR("one"));
      mw_response_write(req, MW_STR("two"));
      mw_response_end(req);
      break;
    case ENDLESS:
      s->held = req;
      mw_response_begin(req, 200, type, -1);
      write_on(s, req);
      break;
    case HEADERS:
      CHECK_INT(mw_response_header(req, MW_STR("X-A"), MW_STR("1\r\nX-B: 2")), MW_EINVALID);
      CHECK_INT(mw_response_header(req, MW_STR("X-A\r\n"), MW_STR("1")), MW_EINVALID);
      CHECK_INT(mw_response_header(req, MW_STR("X A"), MW_STR("1")), MW_EINVALID);
      CHECK_INT(mw_response_header(req, MW_STR("content-length"), MW_STR("1")), MW_EINVALID);
      CHECK_INT(mw_response_header(req, MW_STR("Transfer-Encoding"), MW_STR("chunked")), MW_EINVALID);
      CHECK_INT(mw_response_header(req, MW_STR("X-One"), MW_STR("first")), 0);
      CHECK_INT(mw_response_header(req, MW_STR("x-one"), MW_STR("second")), 0);
      CHECK_INT(mw_response_header(req, MW_STR("Set-Cookie"), MW_STR("a=1")), 0);
      CHECK_INT(mw_response_header(req, MW_STR("Set-Cookie"), MW_STR("b=2")), 0);
      snprintf(text, sizeof text, "%.*s|%.*s", MW_STR_FMT(mw_request_header(req, MW_STR("x-list"))),
               MW_STR_FMT(mw_request_header(req, MW_STR("COOKIE"))));
      mw_response_send(req, 200, type, mw_str_from(text));
      break;
    case EMPTY: mw_response_send(req, 204, type, MW_STR("never sent")); break;
    case SIZED:
      mw_response_begin(req, 200, type, 6);
      mw_response_write(req, MW_STR("abc"));
      CHECK_INT(mw_response_write(req, MW_STR("defg")), MW_EINVALID);
      mw_response_write(req, MW_STR("def"));
      mw_response_end(req);
      break;
    case LARGE: {
      mw_buf large = MW_BUF_INIT;
      memset(mw_buf_reserve(&large, 20u << 20), 'L', 20u << 20);
      large.len = 20u << 20;
      mw_response_send(req, 200, type, mw_buf_str(&large));
      mw_buf_deinit(&large);
      break;
    }
    case REST: mw_response_send(req, 200, type, mw_request_param(req, 0)); break;
    case REFUSE_EARLY: mw_response_send(req, 403, type, MW_STR("no")); break;
    default: CHECK(false);
  }
}

static void on_gone(mw_request *req, int status, void *arg) {
  site *s = arg;
  s->gone++;
  s->last_gone = status;
  if (s->held == req) s->held = NULL;
}

static void on_body(mw_request *req, mw_str piece, bool end, void *arg) {
  site *s = arg;
  mw_buf_add_str(&s->body, piece);
  s->body_ended = end;
  if (s->pause && !end) mw_request_pause(req);
  if (end) mw_response_send(req, 200, MW_STR("text/plain"), mw_buf_str(&s->body));
}

static void on_drain(mw_request *req, void *arg) {
  site *s = arg;
  s->drains++;
  write_on(s, req);
}

static const mw_server_handler handler = {.on_request = on_request, .on_gone = on_gone, .on_body = on_body, .on_drain = on_drain};

static void add(site *s, const char *method, const char *pattern, int id, mw_route route) {
  mw_err err;
  route.method = mw_str_from(method);
  route.pattern = mw_str_from(pattern);
  route.id = id;
  CHECK_INT(mw_router_add(s->router, &route, &err), 0);
}

static void open_site(site *s, const mw_server_conf *conf) {
  mw_address address;
  mw_err err;
  int fd;
  *s = (site){.loop = mw_loop_new("test")};
  s->server = mw_server_new(s->loop, conf, &handler, s);
  s->router = mw_router_new();
  add(s, "GET", "/hello", HELLO, (mw_route){0});
  add(s, "GET", "/items/:id", ITEM, (mw_route){0});
  add(s, "POST", "/body", BODY, (mw_route){0});
  add(s, "POST", "/stream", STREAM, (mw_route){.stream = true, .max_body_bytes = 64u << 20});
  add(s, "GET", "/late", LATE, (mw_route){.timeout_ms = 40});
  add(s, "GET", "/manual", LATE, (mw_route){0});
  add(s, "GET", "/chunks", CHUNKS, (mw_route){0});
  add(s, "GET", "/endless", ENDLESS, (mw_route){0});
  add(s, "GET", "/headers", HEADERS, (mw_route){0});
  add(s, "GET", "/empty", EMPTY, (mw_route){0});
  add(s, "GET", "/sized", SIZED, (mw_route){0});
  add(s, "GET", "/large", LARGE, (mw_route){0});
  add(s, "GET", "/files/*rest", REST, (mw_route){0});
  add(s, "POST", "/early", REFUSE_EARLY, (mw_route){.stream = true});
  mw_server_set_router(s->server, 1, s->router);
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &address, &err), 0);
  CHECK_INT(mw_listener_bind(&address, NULL, &fd, &err), 0);
  CHECK_INT(mw_listener_address(fd, &address), 0);
  s->port = mw_address_port(&address);
  CHECK_INT(mw_server_listen(s->server, fd, NULL, 1), 0);
}

static void on_drained(void *arg) { ((site *)arg)->drained = true; }

static void close_site(site *s) {
  if (!s->drained) {
    mw_server_drain(s->server, 50, on_drained, s);
    RUN_UNTIL(s->loop, s->drained);
  }
  mw_server_stats stats;
  mw_server_stats_get(s->server, &stats);
  CHECK_INT(stats.connections, 0);
  CHECK_INT(stats.requests_active, 0);
  mw_server_free(s->server);
  mw_router_unref(s->router);
  mw_buf_deinit(&s->body);
  mw_loop_free(s->loop);
}

/* ---- a client ---- */

typedef struct client {
  site *site;
  int fd;
  bool closed, reset;
  mw_buf got;
} client;

static client dial(site *s) {
  client c = {.site = s, .fd = socket(AF_INET, SOCK_STREAM, 0), .got = MW_BUF_INIT};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK_INT(connect(c.fd, (struct sockaddr *)&to, sizeof to), 0);
  return c;
}

static void hang_up(client *c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
  mw_buf_deinit(&c->got);
}

// One turn of the loop, then what the client can read.
static void turn(client *c, bool reading) {
  mw_loop_turn(c->site->loop, false);
  struct pollfd p = {.fd = c->fd, .events = POLLIN};
  if (poll(&p, 1, 1) <= 0 || !reading) return;
  char *to = mw_buf_reserve(&c->got, 65536);
  ssize_t n = recv(c->fd, to, 65536, MSG_DONTWAIT);
  if (n > 0) c->got.len += (size_t)n;
  else if (n == 0) c->closed = true;
  else if (errno != EAGAIN) c->closed = c->reset = true;
}

#define TURN_UNTIL(c, condition)                                                                               \
  do {                                                                                                         \
    int64_t late_ = mw_clock_mono_ms() + 10000;                                                                \
    while (!(condition) && mw_clock_mono_ms() < late_) turn((c), true);                                        \
    if (!(condition)) {                                                                                        \
      fprintf(stderr, "%s:%d: never came: %s; got: %s\n", __FILE__, __LINE__, #condition, mw_buf_cstr(&(c)->got)); \
      exit(1);                                                                                                 \
    }                                                                                                          \
  } while (0)

static void say_bytes(client *c, const void *bytes, size_t len) {
  const char *at = bytes;
  while (len) {
    ssize_t n = send(c->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) return; // the server closed: what it said is what counts
    if (n > 0) {
      at += n;
      len -= (size_t)n;
    }
    if (len) turn(c, true);
  }
}

static void say(client *c, const char *text) { say_bytes(c, text, strlen(text)); }
static bool has(client *c, const char *text) { return strstr(mw_buf_cstr(&c->got), text) != NULL; }

static int count(const char *text, const char *part) {
  int n = 0;
  for (const char *at = text; (at = strstr(at, part)); at += strlen(part)) n++;
  return n;
}

static int status_of(client *c) {
  int status = 0;
  sscanf(mw_buf_cstr(&c->got), "HTTP/1.1 %d", &status);
  return status;
}

/* ---- what is refused ---- */

#define H "Host: a\r\n"
#define SMUGGLED "GET /hello HTTP/1.1\r\n" H "\r\n"

static const struct {
  const char *name;
  int status;
  const char *bytes;
} refused[] = {
    {"both lengths", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"both lengths, the other way round", 400,
     "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" SMUGGLED},
    {"two Content-Length, different", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
    {"two Content-Length, the same", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"},
    {"a list of Content-Length", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: 2, 2\r\n\r\nab"},
    {"a signed Content-Length", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: +2\r\n\r\nab"},
    {"a negative Content-Length", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: -2\r\n\r\nab"},
    {"a hex Content-Length", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: 0x2\r\n\r\nab"},
    {"a Content-Length with a space inside", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: 1 2\r\n\r\nab"},
    {"an empty Content-Length", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: \r\n\r\nab"},
    {"a huge Content-Length", 400, "POST /body HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\nab"},
    {"two Transfer-Encoding", 400,
     "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"a list of Transfer-Encoding", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
    {"chunked twice in a list", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
    {"another Transfer-Encoding", 501, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"},
    {"a disguised Transfer-Encoding", 501, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
    {"Transfer-Encoding with HTTP/1.0", 400, "POST /body HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"a space before the colon", 400, "POST /body HTTP/1.1\r\n" H "Content-Length : 2\r\n\r\nab"},
    {"a tab before the colon", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"},
    {"obs-fold", 400, "GET /hello HTTP/1.1\r\n" H "X-A: 1\r\n 2\r\n\r\n"},
    {"obs-fold with a tab", 400, "GET /hello HTTP/1.1\r\n" H "X-A: 1\r\n\tTransfer-Encoding: chunked\r\n\r\n"},
    {"a first header that is folded", 400, "GET /hello HTTP/1.1\r\n " H "\r\n"},
    {"no Host", 400, "GET /hello HTTP/1.1\r\n\r\n"},
    {"two Hosts", 400, "GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
    {"the same Host twice", 400, "GET /hello HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"},
    {"a list of Hosts", 400, "GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n"},
    {"a Host with a path", 400, "GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n"},
    {"a Host with a user", 400, "GET /hello HTTP/1.1\r\nHost: u@a\r\n\r\n"},
    {"two Hosts with HTTP/1.0", 400, "GET /hello HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"},
    {"a bare LF after the request line", 400, "GET /hello HTTP/1.1\n" H "\r\n"},
    {"a bare LF after a header", 400, "GET /hello HTTP/1.1\r\nHost: a\n\r\n"},
    {"a bare LF that ends the block", 400, "GET /hello HTTP/1.1\r\n" H "\n" SMUGGLED},
    {"a bare CR in a value", 400, "GET /hello HTTP/1.1\r\n" H "X: a\rTransfer-Encoding: chunked\r\n\r\n"},
    {"a bare CR in the request line", 400, "GET /hello\r HTTP/1.1\r\n" H "\r\n"},
    {"a CR CR LF", 400, "GET /hello HTTP/1.1\r\r\n" H "\r\n"},
    {"a header without a colon", 400, "GET /hello HTTP/1.1\r\n" H "nonsense\r\n\r\n"},
    {"a header without a name", 400, "GET /hello HTTP/1.1\r\n" H ": value\r\n\r\n"},
    {"a name that is no token", 400, "GET /hello HTTP/1.1\r\n" H "X(A): 1\r\n\r\n"},
    {"a control character in a value", 400, "GET /hello HTTP/1.1\r\n" H "X: a\001b\r\n\r\n"},
    {"a DEL in a value", 400, "GET /hello HTTP/1.1\r\n" H "X: a\177b\r\n\r\n"},
    {"two spaces in the request line", 400, "GET  /hello HTTP/1.1\r\n" H "\r\n"},
    {"a space in the target", 400, "GET /hel lo HTTP/1.1\r\n" H "\r\n"},
    {"a tab in the request line", 400, "GET\t/hello HTTP/1.1\r\n" H "\r\n"},
    {"no version", 400, "GET /hello\r\n" H "\r\n"},
    {"space after the version", 400, "GET /hello HTTP/1.1 \r\n" H "\r\n"},
    {"another protocol", 400, "GET /hello RTSP/1.1\r\n" H "\r\n"},
    {"HTTP/2.0", 505, "GET /hello HTTP/2.0\r\n" H "\r\n"},
    {"HTTP/1.2", 505, "GET /hello HTTP/1.2\r\n" H "\r\n"},
    {"an unknown method", 501, "BREW /hello HTTP/1.1\r\n" H "\r\n"},
    {"a method in small letters", 400, "get /hello HTTP/1.1\r\n" H "\r\n"},
    {"bytes of a TLS handshake", 400, "\026\003\001\002"},
    {"CONNECT", 400, "CONNECT a:443 HTTP/1.1\r\n" H "\r\n"},
    {"an authority as target", 400, "GET a:80 HTTP/1.1\r\n" H "\r\n"},
    {"a star without OPTIONS", 400, "GET * HTTP/1.1\r\n" H "\r\n"},
    {"an absolute target of another host", 400, "GET http://b/hello HTTP/1.1\r\n" H "\r\n"},
    {"an absolute target of another scheme", 400, "GET ftp://a/hello HTTP/1.1\r\n" H "\r\n"},
    {"a fragment in the target", 400, "GET /hello#x HTTP/1.1\r\n" H "\r\n"},
    {"a bad percent", 400, "GET /hello%zz HTTP/1.1\r\n" H "\r\n"},
    {"a cut percent", 400, "GET /hello%4 HTTP/1.1\r\n" H "\r\n"},
    {"an encoded NUL", 400, "GET /hello%00 HTTP/1.1\r\n" H "\r\n"},
    {"an encoded line break", 400, "GET /hello%0d%0a HTTP/1.1\r\n" H "\r\n"},
    {"a dot segment", 400, "GET /files/../hello HTTP/1.1\r\n" H "\r\n"},
    {"an encoded dot segment", 400, "GET /files/%2e%2e/hello HTTP/1.1\r\n" H "\r\n"},
    {"another expectation", 417, "POST /body HTTP/1.1\r\n" H "Expect: a-miracle\r\nContent-Length: 1\r\n\r\na"},
    {"a chunk size that is no number", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"},
    {"an empty chunk size", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n"},
    {"a chunk size with 0x", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n"},
    {"a signed chunk size", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n0\r\n\r\n"},
    {"a space after the chunk size", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2 \r\nab\r\n0\r\n\r\n"},
    {"a space before the chunk size", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n 2\r\nab\r\n0\r\n\r\n"},
    {"a chunk size that overflows", 400,
     "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nab\r\n0\r\n\r\n"},
    {"a chunk longer than its size", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"},
    {"a bare LF after a chunk size", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n"},
    {"a bare LF after a chunk", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nab\n0\r\n\r\n"},
    {"a bare LF in a chunk extension", 400,
     "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2;a\nxx\r\nab\r\n0\r\n\r\n"},
    {"a bare CR in a chunk extension", 400,
     "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2;a\rxx\r\nab\r\n0\r\n\r\n"},
    {"a trailer without a colon", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nnonsense\r\n\r\n"},
    {"a folded trailer", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA: 1\r\n b\r\n\r\n"},
    {"a bare LF in the trailers", 400, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA: 1\n\r\n" SMUGGLED},
};

static void check_refusal(site *s, const char *name, int status, const char *bytes, size_t len, bool slowly) {
  client c = dial(s);
  int calls = s->calls;
  if (slowly) {
    for (size_t i = 0; i < len && !c.closed; i++) {
      if (send(c.fd, bytes + i, 1, MSG_NOSIGNAL) < 0) break;
      mw_loop_turn(s->loop, false);
    }
  } else {
    say_bytes(&c, bytes, len);
  }
  for (int64_t late = mw_clock_mono_ms() + 10000; !c.closed && mw_clock_mono_ms() < late;) turn(&c, true);
  bool as_told = status_of(&c) == status && count(mw_buf_cstr(&c.got), "\r\nDate: ") == 1 && s->calls == calls;
  if (!as_told || c.reset || !c.closed || !has(&c, "Connection: close\r\n")) {
    fprintf(stderr, "%s: expected %d and a close, calls %d, closed %d, reset %d, got: %s\n", name, status, s->calls - calls, c.closed, c.reset,
            mw_buf_cstr(&c.got));
    exit(1);
  }
  hang_up(&c);
}

static void test_each_ambiguous_form_is_refused_and_the_connection_closed(void) {
  site s;
  open_site(&s, NULL);
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    size_t len = strlen(refused[i].bytes);
    check_refusal(&s, refused[i].name, refused[i].status, refused[i].bytes, len, false);
    check_refusal(&s, refused[i].name, refused[i].status, refused[i].bytes, len, true);
  }
  const char nul[] = "GET /hello HTTP/1.1\r\n" H "X: a\0b\r\n\r\n";
  check_refusal(&s, "a NUL in a value", 400, nul, sizeof nul - 1, false);
  CHECK_INT(s.calls, 0);
  close_site(&s);
}

static void test_oversized_extensions_and_trailers_are_refused(void) {
  site s;
  open_site(&s, NULL);
  mw_buf text = MW_BUF_INIT;
  mw_buf_add_cstr(&text, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 600; i++) mw_buf_add_cstr(&text, "1;extension\r\na\r\n");
  check_refusal(&s, "extensions", 400, text.ptr, text.len, false);
  text.len = 0;
  mw_buf_add_cstr(&text, "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n");
  for (int i = 0; i < 900; i++) mw_buf_add_cstr(&text, "Trailer: x\r\n");
  check_refusal(&s, "trailers", 400, text.ptr, text.len, false);
  mw_buf_deinit(&text);
  close_site(&s);
}

/* ---- what is answered ---- */

typedef struct answered {
  const char *name, *bytes, *answer; // a part of what comes back
  int status;
} answered;

static const answered answers[] = {
    {"a GET", "GET /hello HTTP/1.1\r\n" H "\r\n", "\r\n\r\nhello", 200},
    {"HEAD without a body", "HEAD /hello HTTP/1.1\r\n" H "\r\n", "Content-Length: 5\r\n\r\n", 200},
    {"a parameter, decoded", "GET /items/a%20b%2Fc?x=%41 HTTP/1.1\r\n" H "\r\n", "item=a b/c query=x=%41", 200},
    {"duplicate slashes", "GET //items///7 HTTP/1.1\r\n" H "\r\n", "item=7 query=", 200},
    {"a trailing slash", "GET /hello/ HTTP/1.1\r\n" H "\r\n", "hello", 200},
    {"the rest of a path", "GET /files/a/b%20c HTTP/1.1\r\n" H "\r\n", "\r\n\r\na/b c", 200},
    {"an absolute target", "GET http://a/hello HTTP/1.1\r\n" H "\r\n", "hello", 200},
    {"an absolute target without a path", "GET http://a HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 404", 404},
    {"OPTIONS of the server", "OPTIONS * HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 204 No Content\r\n", 204},
    {"empty lines before the request", "\r\n\r\nGET /hello HTTP/1.1\r\n" H "\r\n", "hello", 200},
    {"a body", "POST /body HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nabcd", "\r\n\r\nabcd", 200},
    {"a chunked body", "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n03;x=\"y\"\r\ncde\r\n0\r\nA: 1\r\n\r\n",
     "\r\n\r\nabcde", 200},
    {"an empty chunked body", "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Content-Length: 0\r\n", 200},
    {"a streamed body", "POST /stream HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nabcd", "\r\n\r\nabcd", 200},
    {"a chunked answer", "GET /chunks HTTP/1.1\r\n" H "\r\n", "\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", 200},
    {"a streamed answer with a length", "GET /sized HTTP/1.1\r\n" H "\r\n", "Content-Length: 6\r\n\r\nabcdef", 200},
    {"204 without body and length", "GET /empty HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 204 No Content\r\n", 204},
    {"no route", "GET /nowhere HTTP/1.1\r\n" H "\r\n", "application/problem+json", 404},
    {"no route, with a body", "POST /nowhere HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nabcd", "HTTP/1.1 404", 404},
    {"another method", "DELETE /hello HTTP/1.1\r\n" H "\r\n", "Allow: GET, HEAD\r\n", 405},
    {"repeated headers, joined", "GET /headers HTTP/1.1\r\n" H "X-List: a\r\nCookie: x=1\r\nx-list: b\r\nCookie: y=2\r\n\r\n",
     "\r\n\r\na, b|x=1; y=2", 200},
};

static void test_requests_are_answered_and_the_connection_is_kept(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    c.got.len = 0;
    say(&c, answers[i].bytes);
    TURN_UNTIL(&c, has(&c, answers[i].answer) || c.closed);
    if (c.closed || status_of(&c) != answers[i].status) {
      fprintf(stderr, "%s: got %s\n", answers[i].name, mw_buf_cstr(&c.got));
      exit(1);
    }
  }
  hang_up(&c);
  close_site(&s);
}

static void test_any_split_of_a_request_gives_the_same_answer(void) {
  site s;
  open_site(&s, NULL);
  for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
    size_t len = strlen(answers[i].bytes);
    for (size_t at = 1; at < len; at++) {
      client c = dial(&s);
      say_bytes(&c, answers[i].bytes, at);
      turn(&c, true);
      say_bytes(&c, answers[i].bytes + at, len - at);
      TURN_UNTIL(&c, has(&c, answers[i].answer));
      CHECK_INT(status_of(&c), answers[i].status);
      hang_up(&c);
    }
    client c = dial(&s); // and a byte at a time
    for (size_t at = 0; at < len; at++) {
      say_bytes(&c, answers[i].bytes + at, 1);
      mw_loop_turn(s.loop, false);
    }
    TURN_UNTIL(&c, has(&c, answers[i].answer));
    hang_up(&c);
  }
  close_site(&s);
}

static void test_answers_carry_the_headers_that_were_set_and_no_others(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "GET /headers HTTP/1.1\r\n" H "\r\n");
  TURN_UNTIL(&c, has(&c, "\r\n\r\n"));
  CHECK(!has(&c, "X-B") && !has(&c, "first") && has(&c, "x-one: second\r\n"));
  CHECK(has(&c, "Set-Cookie: a=1\r\n") && has(&c, "Set-Cookie: b=2\r\n") && has(&c, "Date: "));
  hang_up(&c);
  close_site(&s);
}

static void test_http_1_0_closes_unless_asked_to_stay(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "GET /hello HTTP/1.0\r\n\r\n");
  TURN_UNTIL(&c, c.closed);
  CHECK(has(&c, "Connection: close\r\n") && has(&c, "hello"));
  hang_up(&c);
  c = dial(&s);
  say(&c, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  TURN_UNTIL(&c, has(&c, "hello"));
  CHECK(has(&c, "Connection: keep-alive\r\n"));
  c.got.len = 0;
  say(&c, "GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"); // no chunked there: the end is the close
  TURN_UNTIL(&c, c.closed);
  CHECK(has(&c, "\r\n\r\nonetwo") && !has(&c, "Transfer-Encoding"));
  hang_up(&c);
  close_site(&s);
}

static void test_connection_close_is_honoured(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "GET /hello HTTP/1.1\r\n" H "Connection: keep-alive, Close\r\n\r\n" SMUGGLED);
  TURN_UNTIL(&c, c.closed);
  CHECK_INT(count(mw_buf_cstr(&c.got), "HTTP/1.1 200"), 1);
  CHECK(!c.reset);
  hang_up(&c);
  close_site(&s);
}

static void test_pipelined_requests_are_answered_in_order(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  mw_buf all = MW_BUF_INIT;
  for (int i = 0; i < 500; i++) mw_buf_printf(&all, "GET /items/n%d-end HTTP/1.1\r\n" H "\r\n", i);
  say_bytes(&c, all.ptr, all.len);
  TURN_UNTIL(&c, has(&c, "item=n499-end"));
  const char *at = mw_buf_cstr(&c.got);
  for (int i = 0; i < 500; i++) {
    char want[40];
    snprintf(want, sizeof want, "item=n%d-end", i);
    CHECK((at = strstr(at, want)) != NULL);
  }
  // One that waits holds back those behind it, and nothing else.
  c.got.len = 0;
  say(&c, "GET /manual HTTP/1.1\r\n" H "\r\nGET /hello HTTP/1.1\r\n" H "\r\nPOST /body HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nxyz");
  TURN_UNTIL(&c, s.held != NULL);
  for (int i = 0; i < 5; i++) turn(&c, true);
  CHECK_INT(c.got.len, 0);
  int calls = s.calls;
  mw_response_send(s.held, 200, MW_STR("text/plain"), MW_STR("manual"));
  CHECK_INT(s.calls, calls); // the next never starts inside the answer of its predecessor
  TURN_UNTIL(&c, has(&c, "xyz"));
  CHECK(strstr(mw_buf_cstr(&c.got), "manual") < strstr(mw_buf_cstr(&c.got), "hello"));
  CHECK_INT(s.gone, s.calls);
  mw_buf_deinit(&all);
  hang_up(&c);
  close_site(&s);
}

static void test_many_requests_behind_a_waiting_one_do_not_fill_memory(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  static char block[64 * 1024];
  size_t sent = 0;
  say(&c, "GET /manual HTTP/1.1\r\n" H "\r\n");
  TURN_UNTIL(&c, s.held != NULL);
  for (size_t i = 0; i + 37 < sizeof block; i += 32) memcpy(block + i, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", 32);
  size_t whole = (sizeof block / 32 - 2) * 32;
  for (int i = 0; i < 400 && sent < (16u << 20); i++) {
    ssize_t n = send(c.fd, block + sent % 32, whole - sent % 32, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) sent += (size_t)n;
    mw_loop_turn(s.loop, false);
  }
  CHECK(sent < (12u << 20)); // the kernel's buffers are full: the server stopped reading
  hang_up(&c);
  RUN_UNTIL(s.loop, s.calls >= 1);
  mw_response_send(s.held, 200, MW_STR("text/plain"), MW_STR("late"));
  close_site(&s);
}

/* ---- limits ---- */

static void test_large_headers_are_refused_with_431(void) {
  site s;
  open_site(&s, &(mw_server_conf){.max_header_bytes = 2048});
  mw_buf text = MW_BUF_INIT;
  mw_buf_add_cstr(&text, "GET /hello HTTP/1.1\r\n" H "X: ");
  for (int i = 0; i < 3000; i++) mw_buf_add_byte(&text, 'x');
  check_refusal(&s, "an endless header", 431, text.ptr, text.len, false);
  mw_buf_add_cstr(&text, "\r\n\r\n");
  check_refusal(&s, "a large header", 431, text.ptr, text.len, false);
  text.len = 0;
  mw_buf_add_cstr(&text, "GET /hello HTTP/1.1\r\n" H);
  for (int i = 0; i < 101; i++) mw_buf_add_cstr(&text, "a: b\r\n");
  mw_buf_add_cstr(&text, "\r\n");
  check_refusal(&s, "many fields", 431, text.ptr, text.len, false);
  mw_buf_deinit(&text);
  close_site(&s);
}

static void test_large_bodies_are_refused_with_413_before_and_while_they_come(void) {
  site s;
  open_site(&s, &(mw_server_conf){.max_body_bytes = 10});
  const char *declared = "POST /body HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\n";
  check_refusal(&s, "a declared body", 413, declared, strlen(declared), false);
  const char *expecting = "POST /body HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n";
  check_refusal(&s, "an expecting one", 413, expecting, strlen(expecting), false);
  const char *chunked = "POST /body HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n";
  check_refusal(&s, "a chunked body", 413, chunked, strlen(chunked), false);
  client c = dial(&s);
  say(&c, "POST /body HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\n0123456789");
  TURN_UNTIL(&c, has(&c, "0123456789"));
  hang_up(&c);
  close_site(&s);
}

static void test_the_answer_of_a_refusal_is_not_lost_while_the_client_still_sends(void) {
  site s;
  open_site(&s, &(mw_server_conf){.max_body_bytes = 1000});
  client c = dial(&s);
  static char megabyte[1 << 20];
  memset(megabyte, 'x', sizeof megabyte);
  say(&c, "POST /body HTTP/1.1\r\n" H "Content-Length: 4194304\r\n\r\n");
  for (int i = 0; i < 4; i++) say_bytes(&c, megabyte, sizeof megabyte);
  TURN_UNTIL(&c, c.closed);
  CHECK_INT(status_of(&c), 413);
  CHECK(!c.reset);
  hang_up(&c);
  close_site(&s);
}

static void test_connections_beyond_the_limit_wait_in_the_backlog(void) {
  site s;
  open_site(&s, &(mw_server_conf){.max_connections = 2});
  client a = dial(&s), b = dial(&s), c = dial(&s);
  say(&a, SMUGGLED);
  say(&b, SMUGGLED);
  say(&c, SMUGGLED);
  TURN_UNTIL(&a, has(&a, "hello"));
  TURN_UNTIL(&b, has(&b, "hello"));
  for (int i = 0; i < 20; i++) turn(&c, true);
  CHECK_INT(c.got.len, 0);
  hang_up(&a);
  TURN_UNTIL(&c, has(&c, "hello"));
  hang_up(&b);
  hang_up(&c);
  close_site(&s);
}

/* ---- deadlines ---- */

static void test_slow_headers_are_answered_with_408(void) {
  site s;
  open_site(&s, &(mw_server_conf){.header_timeout_ms = 30});
  client c = dial(&s);
  say(&c, "GET /hello HTTP/1.1\r\nHost:");
  TURN_UNTIL(&c, c.closed);
  CHECK_INT(status_of(&c), 408);
  hang_up(&c);
  close_site(&s);
}

static void test_slow_bodies_are_answered_with_408(void) {
  site s;
  open_site(&s, &(mw_server_conf){.body_timeout_ms = 30});
  client c = dial(&s);
  say(&c, "POST /body HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
  TURN_UNTIL(&c, c.closed);
  CHECK_INT(status_of(&c), 408);
  CHECK_INT(s.calls, 0);
  hang_up(&c);
  c = dial(&s);
  say(&c, "POST /stream HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
  TURN_UNTIL(&c, c.closed);
  CHECK_INT(status_of(&c), 408);
  CHECK_INT(s.gone, 1);
  CHECK_INT(s.last_gone, MW_ETIMEOUT);
  hang_up(&c);
  close_site(&s);
}

static void test_a_dripping_body_meets_the_bound_of_the_whole(void) {
  site s;
  open_site(&s, &(mw_server_conf){.body_timeout_ms = 25});
  client c = dial(&s);
  say(&c, "POST /body HTTP/1.1\r\n" H "Content-Length: 1000000\r\n\r\n");
  int64_t started = mw_clock_mono_ms();
  while (!c.closed && mw_clock_mono_ms() - started < 5000) {
    send(c.fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    turn(&c, true);
  }
  CHECK(c.closed && status_of(&c) == 408);
  CHECK(mw_clock_mono_ms() - started >= 240);
  hang_up(&c);
  close_site(&s);
}

static void test_a_handler_that_does_not_answer_is_answered_for_with_503(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "GET /late HTTP/1.1\r\n" H "\r\n");
  TURN_UNTIL(&c, c.closed);
  CHECK_INT(status_of(&c), 503);
  CHECK_INT(s.gone, 1);
  CHECK_INT(s.last_gone, MW_ETIMEOUT);
  hang_up(&c);
  close_site(&s);
}

static void test_idle_connections_are_closed_without_a_word(void) {
  site s;
  open_site(&s, &(mw_server_conf){.idle_timeout_ms = 60});
  client c = dial(&s);
  say(&c, SMUGGLED);
  TURN_UNTIL(&c, has(&c, "hello"));
  c.got.len = 0;
  int64_t started = mw_clock_mono_ms();
  TURN_UNTIL(&c, c.closed);
  CHECK(mw_clock_mono_ms() - started >= 40);
  CHECK_INT(c.got.len, 0);
  hang_up(&c);
  close_site(&s);
}

static void test_a_client_that_reads_nothing_is_cut(void) {
  site s;
  open_site(&s, &(mw_server_conf){.write_timeout_ms = 50});
  s.left = SIZE_MAX;
  client c = dial(&s);
  say(&c, "GET /endless HTTP/1.1\r\n" H "\r\n");
  RUN_UNTIL(s.loop, s.gone == 1);
  CHECK_INT(s.last_gone, MW_ETIMEOUT);
  hang_up(&c);
  close_site(&s);
}

/* ---- Expect ---- */

static void test_100_continue_comes_only_when_the_body_will_be_read(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "POST /body HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n");
  TURN_UNTIL(&c, has(&c, "HTTP/1.1 100 Continue\r\n\r\n"));
  say(&c, "abc");
  TURN_UNTIL(&c, has(&c, "\r\n\r\nabc"));
  c.got.len = 0;
  say(&c, "POST /body HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"); // did not wait
  TURN_UNTIL(&c, has(&c, "\r\n\r\nabc"));
  CHECK(!has(&c, "100 Continue"));
  c.got.len = 0;
  say(&c, "POST /nowhere HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  TURN_UNTIL(&c, c.closed);
  CHECK_INT(status_of(&c), 404);
  CHECK(!has(&c, "100 Continue"));
  hang_up(&c);

  c = dial(&s); // a streaming handler that refuses, and one that first waits
  say(&c, "POST /early HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  TURN_UNTIL(&c, c.closed);
  CHECK_INT(status_of(&c), 403);
  CHECK(!has(&c, "100 Continue"));
  hang_up(&c);
  s.pause = true;
  c = dial(&s);
  say(&c, "POST /stream HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  TURN_UNTIL(&c, s.held != NULL);
  for (int i = 0; i < 5; i++) turn(&c, true);
  CHECK_INT(c.got.len, 0);
  mw_request_resume(s.held);
  TURN_UNTIL(&c, has(&c, "100 Continue"));
  say(&c, "xyz");
  TURN_UNTIL(&c, has(&c, "\r\n\r\nxyz"));
  hang_up(&c);
  close_site(&s);
}

/* ---- streaming ---- */

static void test_a_paused_body_stops_the_client(void) {
  site s;
  open_site(&s, NULL);
  s.pause = true;
  client c = dial(&s);
  static char block[256 * 1024];
  memset(block, 'b', sizeof block);
  size_t total = 32u << 20, sent = 0;
  char head[100];
  snprintf(head, sizeof head, "POST /stream HTTP/1.1\r\n" H "Content-Length: %zu\r\n\r\n", total);
  say(&c, head);
  for (int i = 0; i < 300; i++) {
    ssize_t n = send(c.fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) sent += (size_t)n;
    mw_loop_turn(s.loop, false);
  }
  CHECK(sent < (16u << 20));
  CHECK_INT(s.body.len, 0);
  s.pause = false;
  mw_request_resume(s.held);
  while (sent < total) {
    size_t left = total - sent < sizeof block ? total - sent : sizeof block;
    ssize_t n = send(c.fd, block, left, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) sent += (size_t)n;
    mw_loop_turn(s.loop, false);
  }
  TURN_UNTIL(&c, has(&c, "HTTP/1.1 200"));
  CHECK_INT(s.body.len, total);
  hang_up(&c);
  close_site(&s);
}

static void test_a_slow_reader_gets_all_of_a_long_stream_with_a_bounded_queue(void) {
  site s;
  open_site(&s, NULL);
  s.left = 1000; // 32 MB
  client c = dial(&s);
  say(&c, "GET /endless HTTP/1.1\r\n" H "\r\n");
  for (int i = 0; i < 50; i++) turn(&c, false);
  CHECK(s.left > 500); // it waits for the reader
  size_t total = 0;
  bool ended = false;
  for (int64_t late = mw_clock_mono_ms() + 10000; !ended && mw_clock_mono_ms() < late;) {
    c.got.len = 0;
    turn(&c, true);
    total += c.got.len;
    ended = c.got.len >= 5 && memcmp(c.got.ptr + c.got.len - 5, "0\r\n\r\n", 5) == 0;
  }
  CHECK(ended && total > 1000 * 32 * 1024 && s.drains > 0);
  hang_up(&c);
  close_site(&s);
}

static void test_a_large_answer_reaches_a_slow_reader_whole(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "GET /large HTTP/1.1\r\n" H "\r\nGET /hello HTTP/1.1\r\n" H "\r\n");
  for (int i = 0; i < 50; i++) turn(&c, false);
  TURN_UNTIL(&c, c.got.len > (20u << 20) && memcmp(c.got.ptr + c.got.len - 5, "hello", 5) == 0);
  hang_up(&c);
  close_site(&s);
}

static void test_the_handler_hears_when_the_client_goes(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "GET /manual HTTP/1.1\r\n" H "\r\n");
  TURN_UNTIL(&c, s.held != NULL);
  struct linger hard = {1, 0};
  setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  mw_request *held = s.held;
  mw_request_ref(held);
  hang_up(&c);
  RUN_UNTIL(s.loop, s.gone == 1);
  CHECK(s.last_gone != 0 && !mw_request_is_open(held));
  CHECK_INT(mw_response_send(held, 200, MW_STR(""), MW_STR("nobody hears")), 0);
  CHECK(mw_str_eq(mw_request_path(held), MW_STR("/manual")) && mw_str_eq(mw_request_ip(held), MW_STR("127.0.0.1")));
  mw_request_unref(held);
  c = dial(&s); // half a body, then the end
  say(&c, "POST /stream HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
  TURN_UNTIL(&c, s.body.len == 3);
  shutdown(c.fd, SHUT_WR);
  TURN_UNTIL(&c, s.gone == 2);
  CHECK_INT(s.last_gone, MW_ECLOSED);
  hang_up(&c);
  close_site(&s);
}

static void test_a_client_that_ends_its_side_still_gets_its_answers(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, SMUGGLED SMUGGLED "GET /manual HTTP/1.1\r\n" H "\r\n");
  shutdown(c.fd, SHUT_WR);
  TURN_UNTIL(&c, s.held != NULL);
  for (int i = 0; i < 5; i++) turn(&c, true);
  mw_response_send(s.held, 200, MW_STR("text/plain"), MW_STR("finally"));
  TURN_UNTIL(&c, c.closed);
  CHECK(has(&c, "finally"));
  CHECK_INT(count(mw_buf_cstr(&c.got), "HTTP/1.1 200"), 3);
  hang_up(&c);
  close_site(&s);
}

/* ---- TLS ---- */

typedef struct tls_client {
  mw_buf got;
  bool closed;
} tls_client;

static void on_tls_data(mw_stream *stream, mw_str data, void *arg) { mw_buf_add_str(&((tls_client *)arg)->got, data); }
static void on_tls_close(mw_stream *stream, int status, void *arg) { ((tls_client *)arg)->closed = true; }
static const mw_stream_handler tls_handler = {.on_data = on_tls_data, .on_close = on_tls_close};

static void on_tls_open(mw_stream *stream, int status, void *arg) {
  CHECK_INT(status, 0);
  mw_stream_set_handler(stream, &tls_handler, arg);
  mw_stream_write(stream, MW_STR("GET /large HTTP/1.1\r\n" H "\r\nGET /hello HTTP/1.1\r\n" H "Connection: close\r\n\r\n"));
}

static void test_tls_connections_are_served_the_same(void) {
  char dir[] = "/tmp/mw-http-XXXXXX", cert[400], key[400], remove[500];
  mw_tls_context *server_tls, *client_tls;
  tls_client c = {MW_BUF_INIT, false};
  mw_stream *stream;
  mw_err err;
  site s;
  int fd;
  open_site(&s, NULL);
  CHECK(mkdtemp(dir));
  certs_make(dir, "server", NULL, "IP:127.0.0.1", -1, 1);
  certs_path(cert, sizeof cert, dir, "server", "pem");
  certs_path(key, sizeof key, dir, "server", "key");
  CHECK_INT(mw_tls_server_new(&(mw_tls_server_opts){.pairs = &(mw_tls_pair){cert, key}, .count = 1}, &server_tls, &err), 0);
  CHECK_INT(mw_tls_client_new(&(mw_tls_client_opts){.ca_file = cert}, &client_tls, &err), 0);
  mw_stream_connect_opts opts = {.tls = client_tls, .server_name = "127.0.0.1"};
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &opts.address, &err), 0);
  CHECK_INT(mw_listener_bind(&opts.address, NULL, &fd, &err), 0);
  CHECK_INT(mw_listener_address(fd, &opts.address), 0);
  CHECK_INT(mw_server_listen(s.server, fd, server_tls, 1), 0);
  CHECK_INT(mw_stream_connect(s.loop, &opts, on_tls_open, &c, &stream), 0);
  RUN_UNTIL(s.loop, c.closed);
  CHECK(c.got.len > (20u << 20) && memcmp(c.got.ptr + c.got.len - 5, "hello", 5) == 0);
  mw_buf_deinit(&c.got);
  mw_tls_unref(client_tls);
  mw_tls_unref(server_tls);
  snprintf(remove, sizeof remove, "rm -rf %s", dir);
  CHECK_INT(system(remove), 0);
  close_site(&s);
}

/* ---- routes and drain ---- */

static void test_routes_are_swapped_between_two_requests(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "POST /body HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nab"); // its body comes after the swap
  for (int i = 0; i < 5; i++) turn(&c, true);
  mw_router *fresh = mw_router_new();
  mw_err err;
  CHECK_INT(mw_router_add(fresh, &(mw_route){.method = MW_STR("*"), .pattern = MW_STR("/*all"), .id = HELLO}, &err), 0);
  mw_server_set_router(s.server, 1, fresh);
  mw_router_unref(fresh);
  say(&c, "c");
  TURN_UNTIL(&c, has(&c, "hello"));
  mw_server_set_router(s.server, 1, NULL);
  c.got.len = 0;
  say(&c, SMUGGLED);
  TURN_UNTIL(&c, has(&c, "HTTP/1.1 503"));
  hang_up(&c);
  close_site(&s);
}

static void test_drain_lets_answers_out_and_closes_the_rest(void) {
  site s;
  open_site(&s, NULL);
  client idle = dial(&s), busy = dial(&s);
  say(&idle, SMUGGLED);
  TURN_UNTIL(&idle, has(&idle, "hello"));
  say(&busy, "GET /manual HTTP/1.1\r\n" H "\r\n");
  TURN_UNTIL(&busy, s.held != NULL);
  mw_server_drain(s.server, 5000, on_drained, &s);
  TURN_UNTIL(&idle, idle.closed);
  CHECK(!s.drained);
  mw_response_send(s.held, 200, MW_STR("text/plain"), MW_STR("done"));
  TURN_UNTIL(&busy, busy.closed);
  CHECK(has(&busy, "Connection: close\r\n") && has(&busy, "done"));
  hang_up(&idle);
  hang_up(&busy);
  RUN_UNTIL(s.loop, s.drained);
  close_site(&s);
}

static void test_winding_down_says_close_and_goes_on_accepting(void) {
  site s;
  open_site(&s, NULL);
  client before = dial(&s);
  say(&before, SMUGGLED);
  TURN_UNTIL(&before, has(&before, "hello"));
  CHECK(!has(&before, "Connection: close"));
  mw_server_wind_down(s.server);
  client after = dial(&s);
  say(&after, SMUGGLED);
  TURN_UNTIL(&after, after.closed);
  CHECK(has(&after, "hello") && has(&after, "Connection: close\r\n"));
  TURN_UNTIL(&before, before.closed); // once it has been idle for long enough
  hang_up(&before);
  hang_up(&after);
  close_site(&s);
}

static void test_a_request_that_crosses_a_drain_is_answered(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, SMUGGLED);
  TURN_UNTIL(&c, has(&c, "hello"));
  mw_server_drain(s.server, 5000, on_drained, &s);
  for (int i = 0; i < 5; i++) turn(&c, true);
  CHECK(!c.closed);
  c.got.len = 0;
  say(&c, SMUGGLED);
  TURN_UNTIL(&c, c.closed);
  CHECK(has(&c, "hello") && has(&c, "Connection: close\r\n"));
  hang_up(&c);
  RUN_UNTIL(s.loop, s.drained);
  close_site(&s);
}

static void test_drain_cuts_what_is_left_after_its_bound(void) {
  site s;
  open_site(&s, NULL);
  client c = dial(&s);
  say(&c, "GET /manual HTTP/1.1\r\n" H "\r\n");
  TURN_UNTIL(&c, s.held != NULL);
  mw_server_drain(s.server, 20, on_drained, &s);
  RUN_UNTIL(s.loop, s.drained);
  CHECK_INT(s.gone, 1);
  hang_up(&c);
  close_site(&s);
}

int main(int argc, char **argv) {
  const test tests[] = {
      TEST(test_each_ambiguous_form_is_refused_and_the_connection_closed),
      TEST(test_oversized_extensions_and_trailers_are_refused),
      TEST(test_requests_are_answered_and_the_connection_is_kept),
      TEST(test_any_split_of_a_request_gives_the_same_answer),
      TEST(test_answers_carry_the_headers_that_were_set_and_no_others),
      TEST(test_http_1_0_closes_unless_asked_to_stay),
      TEST(test_connection_close_is_honoured),
      TEST(test_pipelined_requests_are_answered_in_order),
      TEST(test_many_requests_behind_a_waiting_one_do_not_fill_memory),
      TEST(test_large_headers_are_refused_with_431),
      TEST(test_large_bodies_are_refused_with_413_before_and_while_they_come),
      TEST(test_the_answer_of_a_refusal_is_not_lost_while_the_client_still_sends),
      TEST(test_connections_beyond_the_limit_wait_in_the_backlog),
      TEST(test_slow_headers_are_answered_with_408),
      TEST(test_slow_bodies_are_answered_with_408),
      TEST(test_a_dripping_body_meets_the_bound_of_the_whole),
      TEST(test_a_handler_that_does_not_answer_is_answered_for_with_503),
      TEST(test_idle_connections_are_closed_without_a_word),
      TEST(test_a_client_that_reads_nothing_is_cut),
      TEST(test_100_continue_comes_only_when_the_body_will_be_read),
      TEST(test_a_paused_body_stops_the_client),
      TEST(test_a_slow_reader_gets_all_of_a_long_stream_with_a_bounded_queue),
      TEST(test_a_large_answer_reaches_a_slow_reader_whole),
      TEST(test_the_handler_hears_when_the_client_goes),
      TEST(test_a_client_that_ends_its_side_still_gets_its_answers),
      TEST(test_tls_connections_are_served_the_same),
      TEST(test_routes_are_swapped_between_two_requests),
      TEST(test_drain_lets_answers_out_and_closes_the_rest),
      TEST(test_winding_down_says_close_and_goes_on_accepting),
      TEST(test_a_request_that_crosses_a_drain_is_answered),
      TEST(test_drain_cuts_what_is_left_after_its_bound),
  };
  return RUN_TESTS(argc, argv, tests);
}
