// SPDX-License-Identifier: MIT

// The HTTP client against a server that answers, letter by letter, what a test tells it to.

#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "certs.h"
#include "harness.h"
#include "http/client.h"
#include "http/url.h"
#include "loop/listener.h"
#include "loop/stream.h"
#include "loop/tls.h"
#include "loop/work.h"
#include "peer.h"

typedef struct result {
  int calls, status, http, redirects;
  char body[3000], error[600], url[300], type[100];
  size_t body_len;
  mw_http_call *call;
  // streaming
  int heads, pieces;
  size_t streamed;
  bool pause, cancel_on_head, cancel_on_body;
} result;

static mw_http_client *client;
static char dir[] = "/tmp/mw-client-XXXXXX";

static void open_all(const mw_http_client_conf *conf, script_fn script) {
  loop = mw_loop_new("client");
  open_server(&plain, NULL);
  open_server(&other, NULL);
  plain.script = other.script = script;
  client = mw_http_client_new(loop, conf);
}

static void close_all(void) {
  mw_http_client_free(client);
  mw_listener_close(plain.listener, false);
  mw_listener_close(other.listener, false);
  mw_loop_run(loop); // ends: no connection, timer or look-up stayed
  CHECK_INT(plain.open + other.open, 0);
  mw_loop_free(loop);
}

// The client's side.

static void on_done(mw_http_call *call, int status, const mw_http_answer *answer, const mw_err *err, void *arg) {
  result *r = arg;
  r->calls++;
  r->status = status;
  r->call = NULL;
  CHECK((status == 0) == (answer != NULL));
  if (err && status) {
    snprintf(r->error, sizeof r->error, "%s", err->text);
    CHECK_INT(err->code, status);
  }
  if (!answer) return;
  r->http = answer->status;
  r->redirects = answer->redirects;
  r->body_len = answer->body.len;
  snprintf(r->body, sizeof r->body, "%.*s", (int)(answer->body.len < 2900 ? answer->body.len : 2900),
           answer->body.ptr ? answer->body.ptr : "");
  snprintf(r->url, sizeof r->url, "%.*s", MW_STR_FMT(answer->url));
  for (size_t i = 0; i < answer->header_count; i++)
    if (mw_str_eq_nocase(answer->headers[i].name, MW_STR("x-type")))
      snprintf(r->type, sizeof r->type, "[%.*s]", MW_STR_FMT(answer->headers[i].value));
}

static void on_head(mw_http_call *call, const mw_http_answer *answer, void *arg) {
  result *r = arg;
  r->heads++;
  r->http = answer->status;
  if (r->cancel_on_head) mw_http_call_cancel(call);
}

static void on_piece(mw_http_call *call, mw_str piece, void *arg) {
  result *r = arg;
  r->pieces++;
  r->streamed += piece.len;
  if (r->pause) mw_http_call_pause(call);
  if (r->cancel_on_body) mw_http_call_cancel(call);
}

static char *url_of(server *s, const char *path) {
  static char urls[4][400];
  static int next;
  char *url = urls[next++ % 4];
  snprintf(url, 400, "http://127.0.0.1:%d%s", mw_address_port(&s->address), path);
  return url;
}

static int start(result *r, mw_http_call_opts opts, mw_err *err) {
  opts.on_done = on_done;
  opts.arg = r;
  return mw_http_client_start(client, &opts, &r->call, err);
}

static result fetch_opts(mw_http_call_opts opts) {
  result r = {0};
  mw_err err = {0};
  if (start(&r, opts, &err)) fprintf(stderr, "start: %s\n", err.text);
  CHECK(r.call);
  CHECK_INT(r.calls, 0);
  RUN_UNTIL(loop, r.calls);
  return r;
}

static result fetch(const char *method, const char *url) {
  return fetch_opts((mw_http_call_opts){.method = mw_str_from(method), .url = mw_str_from(url)});
}

// Answers.

static const char *fixed_answer;
static bool then_end;
static void answer_fixed(peer *p, const char *request, int number) {
  say(p, fixed_answer);
  if (then_end) mw_stream_finish(p->stream, 1000);
}

static result fetch_fixed(const char *method, const char *answer, bool end) {
  open_all(NULL, answer_fixed);
  fixed_answer = answer;
  then_end = end;
  result r = fetch(method, url_of(&plain, "/x"));
  close_all();
  return r;
}

static void test_bodies_of_every_framing_are_read(void) {
  result r = fetch_fixed("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Type:  a b \r\nX-Empty:\r\n\r\nhello", false);
  CHECK_INT(r.http, 200);
  CHECK_STR(r.body, "hello");
  CHECK_STR(r.type, "[a b]");
  r = fetch_fixed("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\nX-Type: trailer\r\n\r\n", false);
  CHECK_STR(r.body, "abcdefgh");
  CHECK_STR(r.type, "");
  r = fetch_fixed("GET", "HTTP/1.0 200 OK\r\n\r\nuntil the end", true);
  CHECK_STR(r.body, "until the end");
  r = fetch_fixed("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n", false);
  CHECK_INT(r.http, 200);
  CHECK_INT(r.body_len, 0);
  r = fetch_fixed("GET", "HTTP/1.1 204 No Content\r\n\r\n", false);
  CHECK_INT(r.http, 204);
  r = fetch_fixed("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", false);
  CHECK_INT(r.http, 304);
  r = fetch_fixed("POST", "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno", false);
  CHECK_INT(r.http, 500);
  CHECK_STR(r.body, "no");
}

static mw_timer drip_timer;
static peer *drip_peer;
static size_t dripped;
static void drip(mw_timer *timer, void *arg) {
  if (dripped == strlen(fixed_answer)) return;
  mw_stream_write(drip_peer->stream, mw_str_of(fixed_answer + dripped++, 1));
  mw_timer_start(loop, timer, 0);
}
static void answer_in_drips(peer *p, const char *request, int number) {
  drip_peer = p;
  dripped = 0;
  mw_timer_init(&drip_timer, drip, NULL);
  mw_timer_start(loop, &drip_timer, 0);
}

static void test_an_answer_that_comes_byte_by_byte_is_the_same(void) {
  open_all(NULL, answer_in_drips);
  fixed_answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Type: some text \r\nX-Empty:\r\nTransfer-Encoding: chunked\r\n"
                 "X-Last: 1\r\n\r\n3\r\nabc\r\n10;ext=\"1\"\r\n0123456789abcdef\r\n0\r\nX-Type: trailer\r\n\r\n";
  for (int i = 0; i < 2; i++) {
    result r = fetch("GET", url_of(&plain, "/"));
    CHECK_INT(r.http, 200);
    CHECK_STR(r.body, "abc0123456789abcdef");
    CHECK_STR(r.type, "[some text]");
  }
  CHECK_INT(plain.connections, 1);
  close_all();
}

static void test_interim_answers_are_skipped(void) {
  result r = fetch_fixed("GET",
                         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Type: early\r\n\r\n"
                         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                         false);
  CHECK_INT(r.status, 0);
  CHECK_INT(r.http, 200);
  CHECK_STR(r.body, "ok");
  CHECK_STR(r.type, "");
}

static void check_broken(const char *answer, bool end, int code, const char *words) {
  result r = fetch_fixed("GET", answer, end);
  CHECK_INT(r.calls, 1);
  CHECK_INT(r.status, code);
  if (!strstr(r.error, words)) fprintf(stderr, "got: %s\n", r.error);
  CHECK(strstr(r.error, words));
  CHECK(strstr(r.error, "GET http://127.0.0.1:"));
}

static void test_broken_answers_are_refused_in_words(void) {
  check_broken("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", true, MW_ECLOSED, "before the answer was complete");
  check_broken("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", true, MW_ECLOSED, "before the answer was complete");
  check_broken("", true, MW_ECLOSED, "without an answer");
  check_broken("SSH-2.0-OpenSSH\r\n", false, MW_EPROTOCOL, "not HTTP");
  check_broken("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, MW_EPROTOCOL, "not HTTP");
  check_broken("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", false, MW_EPROTOCOL, "not HTTP");
  check_broken("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", false, MW_EPROTOCOL, "not HTTP");
  check_broken("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", false, MW_EPROTOCOL, "switched protocols");
}

static void test_an_answer_with_too_large_or_too_many_headers_is_refused(void) {
  mw_buf text = MW_BUF_INIT;
  mw_buf_add_cstr(&text, "HTTP/1.1 200 OK\r\nX-Big: ");
  for (int i = 0; i < 70000; i++) mw_buf_add_byte(&text, 'x');
  mw_buf_add_cstr(&text, "\r\nContent-Length: 0\r\n\r\n");
  check_broken(mw_buf_cstr(&text), false, MW_ELIMIT, "headers of the answer are larger");
  mw_buf_reset(&text, 1 << 20);
  mw_buf_add_cstr(&text, "HTTP/1.1 200 OK\r\n");
  for (int i = 0; i < 300; i++) mw_buf_add_cstr(&text, "A: b\r\n");
  mw_buf_add_cstr(&text, "Content-Length: 0\r\n\r\n");
  check_broken(mw_buf_cstr(&text), false, MW_ELIMIT, "more than 256 headers");
  mw_buf_deinit(&text);
}

static void test_an_answer_over_the_cap_is_refused(void) {
  const char *answers[] = {
      "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n",
  };
  for (int i = 0; i < 2; i++) {
    open_all(NULL, answer_fixed);
    fixed_answer = answers[i];
    then_end = false;
    result r = fetch_opts((mw_http_call_opts){.url = mw_str_from(url_of(&plain, "/")), .max_bytes = 10});
    CHECK_INT(r.status, MW_ELIMIT);
    CHECK(strstr(r.error, "larger than 10 bytes"));
    r = fetch_opts((mw_http_call_opts){.url = mw_str_from(url_of(&plain, "/")), .max_bytes = 11});
    CHECK_STR(r.body, "hello world");
    close_all();
  }
}

// Requests.

static void test_the_request_is_written_as_asked(void) {
  open_all(NULL, answer_fixed);
  fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  mw_http_header headers[] = {{MW_STR("X-One"), MW_STR(" 1 ")}, {MW_STR("content-type"), MW_STR("text/plain")}};
  fetch_opts((mw_http_call_opts){.method = MW_STR("PUT"),
                                 .url = mw_str_from(url_of(&plain, "/a%20b/\xC3\xBC?q=1#frag")),
                                 .headers = headers,
                                 .header_count = 2,
                                 .body = MW_STR("the body")});
  CHECK(strncmp(plain.last, "PUT /a%20b/%C3%BC?q=1 HTTP/1.1\r\nHost: 127.0.0.1:", 47) == 0);
  CHECK(strstr(plain.last, "\r\nX-One: 1\r\n"));
  CHECK(strstr(plain.last, "\r\nContent-Length: 8\r\n\r\nthe body"));
  CHECK(strstr(plain.last, "\r\nUser-Agent: moonwatch/"));
  fetch("POST", url_of(&plain, ""));
  CHECK(strncmp(plain.last, "POST / HTTP/1.1\r\n", 17) == 0);
  CHECK(strstr(plain.last, "\r\nContent-Length: 0\r\n"));
  fetch("GET", url_of(&plain, "?x"));
  CHECK(strncmp(plain.last, "GET /?x HTTP/1.1\r\n", 18) == 0);
  CHECK(!strstr(plain.last, "Content-Length"));
  char url[200];
  snprintf(url, sizeof url, "http://me:p%%40ss@127.0.0.1:%d/", mw_address_port(&plain.address));
  fetch("GET", url);
  CHECK(strstr(plain.last, "\r\nAuthorization: Basic bWU6cEBzcw==\r\n"));
  close_all();
}

static void check_refused(mw_http_call_opts opts, const char *words) {
  result r = {0};
  mw_err err = {0};
  CHECK_INT(start(&r, opts, &err), MW_EINVALID);
  if (!strstr(err.text, words)) fprintf(stderr, "got: %s\n", err.text);
  CHECK(strstr(err.text, words));
  CHECK_INT(r.calls, 0);
}

static void test_what_would_break_the_framing_is_refused(void) {
  open_all(NULL, answer_fixed);
  mw_str good = mw_str_from(url_of(&plain, "/"));
  check_refused((mw_http_call_opts){.url = good, .method = MW_STR("GET / HTTP/1.1\r\nX: y\r\n\r\nGET")}, "method");
  check_refused((mw_http_call_opts){.url = good, .method = MW_STR("CONNECT")}, "CONNECT");
  check_refused((mw_http_call_opts){.url = MW_STR("http://h/\r\nX: y")}, "control character");
  check_refused((mw_http_call_opts){.url = MW_STR("http://h/a b")}, "space");
  check_refused((mw_http_call_opts){.url = MW_STR("ftp://h/")}, "http://");
  check_refused((mw_http_call_opts){.url = MW_STR("/relative")}, "http://");
  check_refused((mw_http_call_opts){.url = MW_STR("http:///x")}, "no host");
  check_refused((mw_http_call_opts){.url = MW_STR("http://h:99999/")}, "port");
  mw_http_header h = {MW_STR("X"), MW_STR("a\r\nInjected: 1")};
  check_refused((mw_http_call_opts){.url = good, .headers = &h, .header_count = 1}, "line break");
  h = (mw_http_header){MW_STR("X"), {"a\0b", 3}};
  check_refused((mw_http_call_opts){.url = good, .headers = &h, .header_count = 1}, "control");
  h = (mw_http_header){MW_STR("X: y\r\nZ"), MW_STR("a")};
  check_refused((mw_http_call_opts){.url = good, .headers = &h, .header_count = 1}, "token");
  h = (mw_http_header){MW_STR("Transfer-Encoding"), MW_STR("chunked")};
  check_refused((mw_http_call_opts){.url = good, .headers = &h, .header_count = 1}, "set by the client");
  h = (mw_http_header){MW_STR("Content-Length"), MW_STR("5")};
  check_refused((mw_http_call_opts){.url = good, .headers = &h, .header_count = 1}, "set by the client");
  close_all();
}

static void test_a_large_body_arrives_whole(void) {
  open_all(NULL, answer_fixed);
  fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  size_t len = 20 * 1024 * 1024;
  char *body = mw_alloc(len);
  memset(body, 'x', len);
  result r = fetch_opts((mw_http_call_opts){.method = MW_STR("POST"), .url = mw_str_from(url_of(&plain, "/")), .body = mw_str_of(body, len)});
  CHECK_STR(r.body, "ok");
  CHECK_INT(plain.requests, 1);
  mw_free(body);
  close_all();
}

// The pool.

static void test_connections_are_kept_and_used_again(void) {
  open_all(NULL, answer_fixed);
  fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  for (int i = 0; i < 5; i++) CHECK_STR(fetch(i % 2 ? "POST" : "GET", url_of(&plain, "/")).body, "ok");
  fixed_answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
  CHECK_STR(fetch("GET", url_of(&plain, "/")).body, "ok");
  CHECK_STR(fetch("GET", url_of(&plain, "/")).body, "ok");
  CHECK_INT(plain.connections, 1);
  CHECK_STR(fetch("GET", url_of(&other, "/")).body, "ok");
  CHECK_INT(other.connections, 1);
  mw_http_client_stats stats;
  mw_http_client_stats_get(client, &stats);
  CHECK_INT(stats.idle, 2);
  CHECK_INT(stats.reused, 6);
  fixed_answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
  fetch("GET", url_of(&plain, "/"));
  fetch("GET", url_of(&plain, "/"));
  CHECK_INT(plain.connections, 2);
  fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
  CHECK_STR(fetch("GET", url_of(&plain, "/")).body, "ok");
  CHECK_STR(fetch("GET", url_of(&plain, "/")).body, "ok"); // the unasked answer is not taken for this one
  CHECK_INT(plain.connections, 4);
  close_all();
}

static void test_idle_connections_expire_and_are_bounded(void) {
  open_all(&(mw_http_client_conf){.idle_ms = 30, .max_idle = 2}, answer_fixed);
  fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  result r[4] = {{0}};
  for (int i = 0; i < 4; i++)
    CHECK_INT(start(&r[i], (mw_http_call_opts){.url = mw_str_from(url_of(&plain, "/"))}, NULL), 0);
  RUN_UNTIL(loop, r[0].calls && r[1].calls && r[2].calls && r[3].calls);
  CHECK_INT(plain.connections, 4);
  mw_http_client_stats stats;
  mw_http_client_stats_get(client, &stats);
  CHECK_INT(stats.idle, 2);
  RUN_UNTIL(loop, plain.open == 0);
  mw_http_client_stats_get(client, &stats);
  CHECK_INT(stats.idle, 0);
  CHECK_INT(stats.connections, 0);
  close_all();
}

static void test_calls_beyond_the_bound_of_a_host_wait_their_turn(void) {
  open_all(&(mw_http_client_conf){.max_per_host = 2}, answer_fixed);
  fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  result r[20] = {{0}};
  for (int i = 0; i < 20; i++)
    CHECK_INT(start(&r[i], (mw_http_call_opts){.method = MW_STR("POST"), .url = mw_str_from(url_of(&plain, "/"))}, NULL), 0);
  mw_http_client_stats stats;
  mw_http_client_stats_get(client, &stats);
  CHECK_INT(stats.waiting, 18);
  mw_http_call_cancel(r[7].call); // one that waits
  for (int i = 0; i < 20; i++)
    if (i != 7) {
      RUN_UNTIL(loop, r[i].calls);
      CHECK_STR(r[i].body, "ok");
    }
  CHECK_INT(r[7].calls, 0);
  CHECK_INT(plain.connections, 2);
  fixed_answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"; // now each needs a new one
  memset(r, 0, sizeof r);
  for (int i = 0; i < 6; i++) CHECK_INT(start(&r[i], (mw_http_call_opts){.url = mw_str_from(url_of(&plain, "/"))}, NULL), 0);
  for (int i = 0; i < 6; i++) RUN_UNTIL(loop, r[i].calls);
  for (int i = 0; i < 6; i++) CHECK_STR(r[i].body, "ok");
  close_all();
}

// Answers the first request of each connection and drops the connection at the second.
static int per_connection_requests;
static void answer_once(peer *p, const char *request, int number) {
  if (per_connection_requests++ % 2 == 0) say(p, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  else mw_stream_close(p->stream);
}

static void test_a_stale_connection_is_replaced_once_for_what_may_be_sent_twice(void) {
  open_all(NULL, answer_once);
  per_connection_requests = 0;
  CHECK_STR(fetch("GET", url_of(&plain, "/")).body, "ok");
  CHECK_STR(fetch("GET", url_of(&plain, "/")).body, "ok"); // dropped, and sent again
  CHECK_INT(plain.connections, 2);
  CHECK_INT(plain.requests, 3);
  mw_http_client_stats stats;
  mw_http_client_stats_get(client, &stats);
  CHECK_INT(stats.retried, 1);
  result r = fetch("POST", url_of(&plain, "/"));
  CHECK_INT(r.status, MW_ECLOSED);
  CHECK_INT(plain.requests, 4); // a POST is not sent again
  close_all();
}

static void drop_always(peer *p, const char *request, int number) { mw_stream_close(p->stream); }

static void test_a_fresh_connection_that_is_dropped_is_not_tried_again(void) {
  open_all(NULL, drop_always);
  result r = fetch("GET", url_of(&plain, "/"));
  CHECK_INT(r.status, MW_ECLOSED);
  CHECK_INT(plain.requests, 1);
  close_all();
}

// Redirects.

static char redirect_to[400];
static int redirect_status;
static void redirect(peer *p, const char *request, int number) {
  if (strstr(request, "/final")) {
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
    return;
  }
  char text[700];
  snprintf(text, sizeof text, "HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 4\r\n\r\nbody", redirect_status, redirect_to);
  say(p, text);
}

static result redirected(const char *method, int status, const char *to, mw_http_call_opts opts) {
  redirect_status = status;
  snprintf(redirect_to, sizeof redirect_to, "%s", to);
  opts.method = mw_str_from(method);
  opts.url = mw_str_from(url_of(&plain, "/start/here?a=b"));
  return fetch_opts(opts);
}

static void test_redirects_are_followed_with_the_right_method(void) {
  open_all(NULL, redirect);
  mw_http_header h[] = {{MW_STR("Content-Type"), MW_STR("text/plain")}, {MW_STR("X-Keep"), MW_STR("1")}};
  mw_http_call_opts opts = {.body = MW_STR("data"), .headers = h, .header_count = 2};
  const struct {
    const char *method;
    int status;
    const char *then;
    bool body;
  } cases[] = {
      {"GET", 301, "GET /final", true},   {"POST", 301, "GET /final", false}, {"POST", 302, "GET /final", false},
      {"PUT", 302, "PUT /final", true},   {"POST", 303, "GET /final", false}, {"PUT", 303, "GET /final", false},
      {"HEAD", 303, "HEAD /final", true}, {"POST", 307, "POST /final", true}, {"DELETE", 308, "DELETE /final", true},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    result r = redirected(cases[i].method, cases[i].status, "/final", opts);
    CHECK_INT(r.status, 0);
    CHECK_INT(r.http, 200);
    CHECK_INT(r.redirects, 1);
    CHECK(strncmp(plain.last, cases[i].then, strlen(cases[i].then)) == 0);
    CHECK_INT(strstr(plain.last, "\r\n\r\ndata") != NULL, cases[i].body);
    CHECK_INT(strstr(plain.last, "Content-Type") != NULL, cases[i].body);
    CHECK(strstr(plain.last, "X-Keep"));
    CHECK(strstr(r.url, "/final"));
  }
  CHECK(plain.connections <= 3); // the connection of a redirect is kept as well
  redirected("GET", 302, "../final?x", (mw_http_call_opts){0});
  CHECK(strncmp(plain.last, "GET /final?x ", 13) == 0);
  redirected("GET", 302, "final", (mw_http_call_opts){0});
  CHECK(strncmp(plain.last, "GET /start/final ", 17) == 0);
  close_all();
}

static void test_credentials_do_not_follow_to_another_origin(void) {
  open_all(NULL, redirect);
  mw_http_header h[] = {{MW_STR("Authorization"), MW_STR("Bearer secret")}, {MW_STR("Cookie"), MW_STR("a=secret")},
                        {MW_STR("X-Keep"), MW_STR("1")}};
  mw_http_call_opts opts = {.headers = h, .header_count = 3};
  CHECK_INT(redirected("GET", 302, "/final", opts).http, 200);
  CHECK(strstr(plain.last, "secret"));
  CHECK_INT(redirected("GET", 302, url_of(&other, "/final"), opts).http, 200);
  CHECK_INT(other.requests, 1);
  CHECK(!strstr(other.last, "secret"));
  CHECK(strstr(other.last, "X-Keep"));
  close_all();
}

static void test_redirects_are_bounded_and_can_be_refused(void) {
  open_all(NULL, redirect);
  result r = redirected("GET", 302, "/again", (mw_http_call_opts){.max_redirects = 3});
  CHECK_INT(r.status, MW_ELIMIT);
  CHECK(strstr(r.error, "more than 3 redirects"));
  CHECK_INT(plain.requests, 4);
  r = redirected("GET", 302, "/final", (mw_http_call_opts){.max_redirects = -1});
  CHECK_INT(r.http, 302);
  CHECK_STR(r.body, "body");
  r = redirected("GET", 302, "ftp://elsewhere/", (mw_http_call_opts){0});
  CHECK_INT(r.status, MW_EPROTOCOL);
  CHECK(strstr(r.error, "leads nowhere"));
  close_all();
}

static void redirect_with_endless_body(peer *p, const char *request, int number) {
  if (strstr(request, "/final")) {
    say(p, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
    return;
  }
  say(p, "HTTP/1.1 302 Found\r\nLocation: /final\r\nContent-Length: 100000000\r\n\r\n");
  char *junk = mw_calloc(1, 1000000);
  mw_stream_write(p->stream, mw_str_of(junk, 1000000));
  mw_free(junk);
}

static void test_the_body_of_a_redirect_is_not_waited_for(void) {
  open_all(NULL, redirect_with_endless_body);
  CHECK_STR(fetch("GET", url_of(&plain, "/")).body, "final");
  CHECK_INT(plain.connections, 2);
  close_all();
}

// Time.

static void stay_silent(peer *p, const char *request, int number) {}
static void answer_half(peer *p, const char *request, int number) { say(p, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"); }

static void test_deadlines_say_which_wait_was_too_long(void) {
  open_all(NULL, stay_silent);
  mw_http_call_opts opts = {.url = mw_str_from(url_of(&plain, "/")), .answer_timeout_ms = 30};
  result r = fetch_opts(opts);
  CHECK_INT(r.status, MW_ETIMEOUT);
  CHECK(strstr(r.error, "no answer after 0.03 seconds"));
  opts.answer_timeout_ms = 0;
  opts.timeout_ms = 40;
  r = fetch_opts(opts);
  CHECK_INT(r.status, MW_ETIMEOUT);
  CHECK(strstr(r.error, "no answer after 0.04 seconds"));
  plain.script = answer_half;
  opts.answer_timeout_ms = 10000;
  r = fetch_opts(opts);
  CHECK_INT(r.status, MW_ETIMEOUT);
  CHECK(strstr(r.error, "not complete after 0.04 seconds"));
  opts = (mw_http_call_opts){.url = MW_STR("http://192.0.2.1/"), .connect_timeout_ms = 30};
  r = fetch_opts(opts);
  CHECK(r.status < 0); // MW_ETIMEOUT where the network swallows it, else what the machine says
  close_all();
}

static void test_failures_to_connect_are_told_apart(void) {
  open_all(NULL, stay_silent);
  char url[100];
  snprintf(url, sizeof url, "http://127.0.0.1:%d/path?secret=1", mw_address_port(&other.address));
  mw_listener *closed = other.listener;
  mw_listener_close(closed, false);
  mw_loop_turn(loop, false);
  result r = fetch("GET", url);
  CHECK_INT(r.status, -ECONNREFUSED);
  CHECK(strstr(r.error, "connection refused"));
  CHECK(strstr(r.error, "/path"));
  CHECK(!strstr(r.error, "secret"));
  r = fetch_opts((mw_http_call_opts){.url = MW_STR("http://does-not-exist.invalid/"), .connect_timeout_ms = 3000});
  CHECK(r.status == MW_EDNS || r.status == MW_ETIMEOUT); // the latter where a dead name server is configured
  CHECK(strstr(r.error, "does-not-exist.invalid"));
  open_server(&other, NULL);
  close_all();
}

// Cancelling and streaming.

static void test_a_call_can_be_cancelled_at_any_moment(void) {
  for (int turns = 0; turns < 8; turns++) {
    open_all(NULL, answer_half);
    result r = {0};
    CHECK_INT(start(&r, (mw_http_call_opts){.url = mw_str_from(url_of(&plain, "/"))}, NULL), 0);
    for (int i = 0; i < turns; i++) mw_loop_turn(loop, false);
    mw_http_call_cancel(r.call);
    for (int i = 0; i < 5; i++) mw_loop_turn(loop, false);
    CHECK_INT(r.calls, 0);
    close_all();
  }
  open_all(NULL, stay_silent);
  result r = {0};
  CHECK_INT(start(&r, (mw_http_call_opts){.url = MW_STR("http://does-not-exist-2.invalid/")}, NULL), 0);
  mw_http_call_cancel(r.call);
  CHECK_INT(start(&r, (mw_http_call_opts){.url = mw_str_from(url_of(&plain, "/"))}, NULL), 0);
  mw_http_client_free(client); // ends what runs
  CHECK_INT(r.calls, 1);
  CHECK_INT(r.status, MW_ECANCELED);
  client = mw_http_client_new(loop, NULL);
  close_all();
}

static void stream_two_megabytes(peer *p, const char *request, int number) {
  say(p, "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n");
  char *junk = mw_calloc(1, 2000000);
  mw_stream_write(p->stream, mw_str_of(junk, 2000000));
  mw_free(junk);
}

static mw_http_call_opts streaming(void) {
  return (mw_http_call_opts){.url = mw_str_from(url_of(&plain, "/")), .on_head = on_head, .on_body = on_piece};
}

static void test_a_streamed_answer_can_be_paused_and_loses_nothing(void) {
  open_all(NULL, stream_two_megabytes);
  result r = {.pause = true};
  CHECK_INT(start(&r, streaming(), NULL), 0);
  int rounds = 0;
  while (!r.calls) {
    int before = r.pieces;
    RUN_UNTIL(loop, r.pieces > before || r.calls);
    if (r.calls) break;
    size_t streamed = r.streamed;
    for (int i = 0; i < 3; i++) mw_loop_turn(loop, false);
    CHECK_INT(r.streamed, streamed);
    rounds++;
    if (rounds == 10) r.pause = false;
    mw_http_call_resume(r.call);
    CHECK_INT(r.streamed, streamed); // never inside resume
  }
  CHECK_INT(rounds, 10);
  CHECK_INT(r.streamed, 2000000);
  CHECK_INT(r.heads, 1);
  CHECK_INT(r.status, 0);
  CHECK_INT(r.body_len, 0);
  result again = {0};
  CHECK_INT(start(&again, streaming(), NULL), 0);
  RUN_UNTIL(loop, again.calls);
  CHECK_INT(plain.connections, 1); // kept, and reading again
  close_all();
}

static void test_a_stream_can_be_cancelled_inside_its_callbacks(void) {
  open_all(NULL, stream_two_megabytes);
  result r = {.cancel_on_head = true}, s = {.cancel_on_body = true}, t = {.cancel_on_body = true, .pause = true};
  CHECK_INT(start(&r, streaming(), NULL), 0);
  CHECK_INT(start(&s, streaming(), NULL), 0);
  CHECK_INT(start(&t, streaming(), NULL), 0);
  RUN_UNTIL(loop, r.heads && s.pieces && t.pieces);
  for (int i = 0; i < 5; i++) mw_loop_turn(loop, false);
  CHECK_INT(r.calls + s.calls + t.calls, 0);
  CHECK_INT(r.pieces, 0);
  CHECK_INT(s.pieces, 1);
  close_all();
}

static void refuse_early(peer *p, const char *request, int number) {}
static void on_data_refuse(mw_stream *stream, mw_str data, void *arg) {
  peer *p = arg;
  if (p->in.len) return;
  mw_buf_add_str(&p->in, MW_STR("x"));
  say(p, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig");
  mw_stream_finish(stream, 500);
}
static const mw_stream_handler refusing_handler = {.on_data = on_data_refuse, .on_close = on_peer_close};
static void on_accept_refusing(mw_listener *listener, mw_stream *stream, void *arg) {
  on_accept(listener, stream, arg);
  mw_stream_set_handler(stream, &refusing_handler, mw_stream_arg(stream));
}

static void test_an_early_refusal_of_a_large_body_is_heard(void) {
  open_all(NULL, refuse_early);
  mw_listener_close(plain.listener, false);
  mw_loop_turn(loop, false);
  int fd;
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &plain.address, NULL), 0);
  CHECK_INT(mw_listener_bind(&plain.address, NULL, &fd, NULL), 0);
  CHECK_INT(mw_listener_address(fd, &plain.address), 0);
  mw_listener_opts opts = {.on_accept = on_accept_refusing, .arg = &plain};
  CHECK_INT(mw_listener_open(loop, fd, &opts, &plain.listener), 0);
  size_t len = 20 * 1024 * 1024;
  char *body = mw_calloc(1, len);
  result r = fetch_opts((mw_http_call_opts){.method = MW_STR("POST"), .url = mw_str_from(url_of(&plain, "/")), .body = mw_str_of(body, len)});
  CHECK_INT(r.http, 413);
  CHECK_STR(r.body, "big");
  mw_free(body);
  close_all();
}

// TLS.

static void test_https_verifies_the_server_unless_told_not_to(void) {
  char pem[200], key[200], ca[200], url[200];
  certs_make_ca(dir, "ca");
  certs_make(dir, "server", "ca", "DNS:localhost,IP:127.0.0.1", -1, 10);
  certs_path(pem, sizeof pem, dir, "server", "pem");
  certs_path(key, sizeof key, dir, "server", "key");
  certs_path(ca, sizeof ca, dir, "ca", "pem");
  mw_tls_context *tls;
  CHECK_INT(mw_tls_server_new(&(mw_tls_server_opts){.pairs = &(mw_tls_pair){pem, key}, .count = 1}, &tls, NULL), 0);
  loop = mw_loop_new("client");
  open_server(&plain, tls);
  open_server(&other, NULL);
  plain.script = answer_fixed;
  fixed_answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
  then_end = false;
  client = mw_http_client_new(loop, &(mw_http_client_conf){.ca_file = ca});
  snprintf(url, sizeof url, "https://127.0.0.1:%d/", mw_address_port(&plain.address));
  CHECK_STR(fetch("GET", url).body, "secret");
  CHECK_STR(fetch("GET", url).body, "secret");
  CHECK_INT(plain.connections, 1);
  mw_http_client_free(client);
  client = mw_http_client_new(loop, NULL); // the system does not know this authority
  result r = fetch("GET", url);
  CHECK_INT(r.status, MW_ETLS);
  CHECK(strstr(r.error, "not trusted"));
  r = fetch_opts((mw_http_call_opts){.url = mw_str_from(url), .insecure = true});
  CHECK_STR(r.body, "secret");
  r = fetch("GET", url); // an unverified connection is not reused for a call that verifies
  CHECK_INT(r.status, MW_ETLS);
  close_all();
  mw_tls_unref(tls);
}

int main(int argc, char **argv) {
  CHECK(mkdtemp(dir));
  const test tests[] = {
      TEST(test_bodies_of_every_framing_are_read),
      TEST(test_an_answer_that_comes_byte_by_byte_is_the_same),
      TEST(test_interim_answers_are_skipped),
      TEST(test_broken_answers_are_refused_in_words),
      TEST(test_an_answer_with_too_large_or_too_many_headers_is_refused),
      TEST(test_an_answer_over_the_cap_is_refused),
      TEST(test_the_request_is_written_as_asked),
      TEST(test_what_would_break_the_framing_is_refused),
      TEST(test_a_large_body_arrives_whole),
      TEST(test_connections_are_kept_and_used_again),
      TEST(test_idle_connections_expire_and_are_bounded),
      TEST(test_calls_beyond_the_bound_of_a_host_wait_their_turn),
      TEST(test_a_stale_connection_is_replaced_once_for_what_may_be_sent_twice),
      TEST(test_a_fresh_connection_that_is_dropped_is_not_tried_again),
      TEST(test_redirects_are_followed_with_the_right_method),
      TEST(test_credentials_do_not_follow_to_another_origin),
      TEST(test_redirects_are_bounded_and_can_be_refused),
      TEST(test_the_body_of_a_redirect_is_not_waited_for),
      TEST(test_deadlines_say_which_wait_was_too_long),
      TEST(test_failures_to_connect_are_told_apart),
      TEST(test_a_call_can_be_cancelled_at_any_moment),
      TEST(test_a_streamed_answer_can_be_paused_and_loses_nothing),
      TEST(test_a_stream_can_be_cancelled_inside_its_callbacks),
      TEST(test_an_early_refusal_of_a_large_body_is_heard),
      TEST(test_https_verifies_the_server_unless_told_not_to),
  };
  int rc = RUN_TESTS(argc, argv, tests);
  mw_work_shutdown();
  char command[100];
  snprintf(command, sizeof command, "rm -r %s", dir);
  return system(command) || rc;
}
