// SPDX-License-Identifier: MIT
#include "http/client.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "http/client_impl.h"

#define DEFAULT_CONNECT_MS 10000
#define DEFAULT_TOTAL_MS 30000
#define DEFAULT_REDIRECTS 10
#define REDIRECT_BODY_BYTES (64 * 1024) // of a redirect is read to keep its connection; more is not worth it
#define HAS_LENGTH(parser) (((parser)->flags & F_CONTENT_LENGTH) != 0)

static void on_total(mw_timer *timer, void *arg);
static void on_phase(mw_timer *timer, void *arg);
static void on_later(mw_timer *timer, void *arg);
static void call_free_memory(mw_http_call *call);

mw_http_client *mw_http_client_new(mw_loop *loop, const mw_http_client_conf *conf) {
  mw_http_client *client = MW_NEW(mw_http_client);
  client->loop = loop;
  if (conf) client->conf = *conf;
  if (client->conf.ca_file) client->ca_file = mw_strdup(client->conf.ca_file);
  mw_map_init(&client->hosts);
  mw_list_init(&client->calls);
  mw_list_init(&client->idle);
  mw_list_init(&client->spare);
  return client;
}

void mw_http_client_free(mw_http_client *client) {
  if (!client) return;
  while (!mw_list_is_empty(&client->calls))
    mw_http_call_fail(MW_CONTAINER(client->calls.next, mw_http_call, node), MW_ECANCELED, "the client is shutting down");
  mw_http_pool_free_hosts(client);
  for (mw_http_call *call; (call = MW_LIST_POP(&client->spare, mw_http_call, node));) call_free_memory(call);
  mw_buf_deinit(&client->scratch);
  mw_tls_unref(client->tls);
  mw_tls_unref(client->tls_insecure);
  mw_free(client->ca_file);
  mw_free(client);
}

void mw_http_client_stats_get(const mw_http_client *client, mw_http_client_stats *stats) {
  *stats = client->stats;
  stats->connections = client->connections;
  stats->idle = client->idle_count;
  stats->active = stats->waiting = 0;
  MW_LIST_EACH(&client->calls, node) {
    if (MW_CONTAINER(node, mw_http_call, node)->waiting_for) stats->waiting++;
    else stats->active++;
  }
}

// The end of a call.

static void call_free_memory(mw_http_call *call) {
  mw_buf_deinit(&call->head);
  mw_buf_deinit(&call->collected);
  mw_arena_deinit(&call->arena);
  mw_free(call);
}

static void call_free(mw_http_call *call) {
  mw_http_client *client = call->client;
  if (call->gone) *call->gone = true;
  mw_timer_stop(&call->total);
  mw_timer_stop(&call->phase);
  mw_timer_stop(&call->later);
  mw_list_remove(&call->node);
  mw_buf_deinit(&call->held);
  mw_inflate_free(call->inflate);
  call->inflate = NULL;
  if (client->spare_count >= MW_HTTP_MAX_SPARE) {
    call_free_memory(call);
    return;
  }
  mw_buf_reset(&call->head, MW_HTTP_SPARE_BYTES);
  mw_buf_reset(&call->collected, MW_HTTP_SPARE_BYTES);
  mw_arena_reset(&call->arena);
  mw_list_push(&client->spare, &call->node);
  client->spare_count++;
}

static mw_http_call *call_new(mw_http_client *client) {
  mw_http_call *call = MW_LIST_POP(&client->spare, mw_http_call, node);
  if (call) {
    client->spare_count--;
    memset(call, 0, offsetof(mw_http_call, arena));
  } else {
    call = MW_NEW(mw_http_call);
    mw_arena_init(&call->arena);
  }
  call->client = client;
  mw_list_init(&call->node);
  mw_list_init(&call->wait_node);
  mw_timer_init(&call->total, on_total, call);
  mw_timer_init(&call->phase, on_phase, call);
  mw_timer_init(&call->later, on_later, call);
  return call;
}

static void leave_connection(mw_http_call *call) {
  mw_http_pool_forget(call);
  if (call->conn) mw_http_conn_close(call->conn);
}

static void finish(mw_http_call *call, int status, const mw_err *err) {
  call->over = true;
  mw_timer_stop(&call->total);
  mw_timer_stop(&call->phase);
  leave_connection(call);
  call->answer.body = mw_buf_str(&call->collected);
  call->opts.on_done(call, status, status ? NULL : &call->answer, err, call->opts.arg);
  call_free(call);
}

// "GET https://host/path: " and the reason. Query and password are left out: they may be secrets.
static void explain(const mw_http_call *call, mw_err *err) {
  mw_buf where = MW_BUF_INIT;
  mw_buf_add_str(&where, call->method);
  mw_buf_add_byte(&where, ' ');
  mw_url_add_public(&call->url, &where);
  mw_err_wrap(err, "%.200s", mw_buf_cstr(&where));
  mw_buf_deinit(&where);
}

void mw_http_call_fail(mw_http_call *call, int status, const char *format, ...) {
  if (call->over) return;
  mw_err err;
  va_list args;
  va_start(args, format);
  mw_err_vset(&err, status, format, args);
  va_end(args);
  explain(call, &err);
  finish(call, status, &err);
}

void mw_http_call_cancel(mw_http_call *call) {
  if (call->over) return;
  call->over = true;
  leave_connection(call);
  call_free(call);
}

// Deadlines.

static double seconds(int64_t ms) { return (double)ms / 1000; }

static int64_t total_ms(const mw_http_call *call) { return call->opts.timeout_ms ? call->opts.timeout_ms : DEFAULT_TOTAL_MS; }

static int64_t connect_ms(const mw_http_call *call) {
  return call->opts.connect_timeout_ms > 0 ? call->opts.connect_timeout_ms : DEFAULT_CONNECT_MS;
}

static void on_total(mw_timer *timer, void *arg) {
  mw_http_call *call = arg;
  const char *what = call->head_done ? "the answer was not complete" : call->connected ? "no answer" : "no connection";
  mw_http_call_fail(call, MW_ETIMEOUT, "%s after %g seconds", what, seconds(total_ms(call)));
}

static void on_phase(mw_timer *timer, void *arg) {
  mw_http_call *call = arg;
  if (call->connected) mw_http_call_fail(call, MW_ETIMEOUT, "no answer after %g seconds", seconds(call->opts.answer_timeout_ms));
  else mw_http_call_fail(call, MW_ETIMEOUT, "no connection after %g seconds", seconds(connect_ms(call)));
}

void mw_http_call_connected(mw_http_call *call) {
  call->connected = true;
  mw_timer_stop(&call->phase);
  if (call->opts.answer_timeout_ms > 0) mw_timer_start(call->client->loop, &call->phase, call->opts.answer_timeout_ms);
}

void mw_http_call_got_bytes(mw_http_call *call) { mw_timer_stop(&call->phase); }

// Attempts.

static int attempt(mw_http_call *call, mw_err *err) {
  call->connected = false;
  mw_timer_start(call->client->loop, &call->phase, connect_ms(call)); // stopped at once by a kept connection
  int rc = mw_http_pool_acquire(call, err);
  if (rc) mw_timer_stop(&call->phase);
  return rc;
}

static void attempt_or_fail(mw_http_call *call) {
  mw_err err = {0};
  int rc = attempt(call, &err);
  if (rc) mw_http_call_fail(call, rc, "%s", err.text);
}

void mw_http_call_go_on(mw_http_call *call) { mw_timer_start(call->client->loop, &call->later, 0); }

void mw_http_call_broken(mw_http_call *call, mw_http_conn *conn, int status, const char *why) {
  bool stale = conn->reused && !conn->got_bytes && !call->retried && mw_http_request_is_idempotent(call);
  if (!stale) {
    mw_http_call_fail(call, status, "%s", why);
    return;
  }
  call->retried = call->fresh_only = true;
  call->client->stats.retried++;
  attempt_or_fail(call);
}

int mw_http_client_start(mw_http_client *client, const mw_http_call_opts *opts, mw_http_call **out, mw_err *err) {
  mw_err own;
  if (!err) err = &own;
  mw_http_call *call = call_new(client);
  call->opts = *opts;
  int rc = mw_http_request_prepare(call, opts, err);
  if (rc == 0 && (rc = attempt(call, err))) explain(call, err);
  if (rc) {
    call_free(call);
    return rc;
  }
  mw_list_push(&client->calls, &call->node);
  if (opts->timeout_ms >= 0) mw_timer_start(client->loop, &call->total, MW_FAULT(http_client_timeout) ? 0 : total_ms(call));
  *out = call;
  return 0;
}

// Redirects.

static bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static mw_str find_header(const mw_http_call *call, mw_str name) {
  for (size_t i = 0; i < call->answer.header_count; i++)
    if (mw_str_eq_nocase(call->answer_headers[i].name, name)) return call->answer_headers[i].value;
  return mw_str_of(NULL, 0);
}

static void follow(mw_http_call *call) {
  mw_err err = {0};
  call->following = call->head_done = call->complete = call->fresh_only = call->retried = false;
  call->received = 0;
  call->redirects++;
  int rc = mw_http_request_redirect(call, call->answer.status, find_header(call, MW_STR("location")), &err);
  if (rc) mw_http_call_fail(call, rc, "%s", err.text);
  else attempt_or_fail(call);
}

// The answer's head.

void mw_http_call_reset_head(mw_http_call *call) {
  mw_buf_reset(&call->head, MW_HTTP_MAX_HEAD);
  call->span_count = call->span_at = 0;
  call->head_done = false;
}

bool mw_http_call_add_head(mw_http_call *call, mw_str bytes) {
  if (call->head_done) return true; // a trailer
  if (call->head.len + bytes.len > MW_HTTP_MAX_HEAD) return false;
  mw_buf_add_str(&call->head, bytes);
  return true;
}

bool mw_http_call_end_span(mw_http_call *call) {
  if (call->head_done) return true;
  if (call->span_count == 2 * MW_HTTP_MAX_HEADERS) return false;
  call->spans[call->span_count++] = (mw_http_span){call->span_at, call->head.len - call->span_at};
  call->span_at = call->head.len;
  return true;
}

static void read_head(mw_http_call *call, int status) {
  size_t count = call->span_count / 2;
  call->answer_headers = mw_arena_alloc(&call->arena, (count + 1) * sizeof *call->answer_headers);
  for (size_t i = 0; i < count; i++) {
    mw_http_span name = call->spans[2 * i], value = call->spans[2 * i + 1];
    call->answer_headers[i].name = mw_str_of(call->head.ptr + name.at, name.len);
    call->answer_headers[i].value = mw_str_trim(mw_str_of(call->head.ptr + value.at, value.len));
  }
  call->answer = (mw_http_answer){
      .status = status,
      .headers = call->answer_headers,
      .header_count = count,
      .url = call->url_text,
      .redirects = call->redirects,
  };
}

static size_t max_bytes(const mw_http_call *call) {
  if (call->opts.max_bytes) return call->opts.max_bytes;
  return call->opts.on_body ? SIZE_MAX : MW_HTTP_CALL_MAX_BYTES;
}

// The body is going to be another than these headers describe.
static void drop_coding_headers(mw_http_call *call) {
  size_t kept = 0;
  for (size_t i = 0; i < call->answer.header_count; i++) {
    mw_http_header h = call->answer_headers[i];
    if (mw_str_eq_nocase(h.name, MW_STR("content-encoding")) || mw_str_eq_nocase(h.name, MW_STR("content-length"))) continue;
    call->answer_headers[kept++] = h;
  }
  call->answer.header_count = kept;
}

static void begin_inflate(mw_http_call *call) {
  mw_coding coding = mw_coding_of(find_header(call, MW_STR("content-encoding")));
  if (coding != MW_CODING_GZIP && coding != MW_CODING_DEFLATE) return;
  call->inflate = mw_inflate_new(coding, max_bytes(call));
  drop_coding_headers(call);
}

int mw_http_call_on_head(mw_http_call *call, mw_http_conn *conn) {
  read_head(call, conn->parser.status_code);
  call->head_done = true;
  int allowed = call->opts.max_redirects ? call->opts.max_redirects : DEFAULT_REDIRECTS;
  if (allowed > 0 && is_redirect(call->answer.status) && find_header(call, MW_STR("location")).len) {
    if (call->redirects >= allowed) {
      mw_http_call_fail(call, MW_ELIMIT, "more than %d redirects", allowed);
      return -1;
    }
    call->following = true;
    return 0;
  }
  bool is_head = mw_str_eq(call->method, MW_STR("HEAD"));
  if (!is_head && HAS_LENGTH(&conn->parser) && conn->parser.content_length > max_bytes(call)) {
    mw_http_call_fail(call, MW_ELIMIT, "the answer is larger than %zu bytes", max_bytes(call));
    return -1;
  }
  if (call->decodes && !is_head) begin_inflate(call);
  if (call->opts.on_head) call->opts.on_head(call, &call->answer, call->opts.arg);
  return conn->call ? 0 : -1;
}

// The answer's body.

static void skip_redirect_body(mw_http_call *call, mw_str piece) {
  call->received += piece.len;
  if (call->received <= REDIRECT_BODY_BYTES) return;
  mw_http_conn_close(call->conn);
  call->follow_later = true;
  mw_http_call_go_on(call);
}

// At most what was read at once: the stream is stopped.
static void hold(mw_http_call *call, mw_str piece) {
  mw_buf_add_str(&call->held, piece);
  if (call->conn) mw_stream_pause(call->conn->stream);
}

// Collects what comes out. Returns false when the call has failed by it.
static bool inflate_piece(mw_http_call *call, mw_str piece, bool last) {
  mw_str text;
  const char *why;
  mw_inflate_result result;
  mw_inflate_feed(call->inflate, piece, last);
  while ((result = mw_inflate_next(call->inflate, &text, &why)) == MW_INFLATE_PIECE) mw_buf_add_str(&call->collected, text);
  if (result >= MW_INFLATE_MORE) return true;
  char sentence[160];
  snprintf(sentence, sizeof sentence, "%s", why); // it goes away with the call
  if (result == MW_INFLATE_LIMIT) mw_http_call_fail(call, MW_ELIMIT, "the answer is larger than %zu bytes, decompressed", max_bytes(call));
  else mw_http_call_fail(call, MW_EPROTOCOL, "the answer cannot be read: %s", sentence);
  return false;
}

void mw_http_call_on_body(mw_http_call *call, mw_str piece) {
  if (call->following) {
    skip_redirect_body(call, piece);
    return;
  }
  if (piece.len > max_bytes(call) - call->received) {
    mw_http_call_fail(call, MW_ELIMIT, "the answer is larger than %zu bytes", max_bytes(call));
    return;
  }
  call->received += piece.len;
  if (call->inflate) inflate_piece(call, piece, false);
  else if (!call->opts.on_body) mw_buf_add_str(&call->collected, piece);
  else if (call->paused || call->held.len) hold(call, piece);
  else call->opts.on_body(call, piece, call->opts.arg);
}

void mw_http_call_complete(mw_http_call *call) {
  call->complete = true;
  if (call->inflate && call->received && !inflate_piece(call, mw_str_of("", 0), true)) return;
  if (call->following) follow(call);
  else if (!call->paused && !call->held.len) finish(call, 0, NULL);
}

void mw_http_call_pause(mw_http_call *call) {
  call->paused = true;
  if (call->conn && call->conn->stream) mw_stream_pause(call->conn->stream);
}

void mw_http_call_resume(mw_http_call *call) {
  call->paused = false;
  if (!call->over) mw_http_call_go_on(call);
}

static void deliver_held(mw_http_call *call) {
  bool gone = false;
  mw_buf held = call->held;
  call->held = (mw_buf)MW_BUF_INIT;
  call->gone = &gone;
  if (held.len) call->opts.on_body(call, mw_buf_str(&held), call->opts.arg);
  mw_buf_deinit(&held);
  if (gone) return;
  call->gone = NULL;
  if (call->paused) return;
  if (call->complete) finish(call, 0, NULL);
  else if (call->conn && call->conn->stream) mw_stream_resume(call->conn->stream);
}

static void on_later(mw_timer *timer, void *arg) {
  mw_http_call *call = arg;
  if (call->follow_later) {
    call->follow_later = false;
    follow(call);
  } else if (!call->conn && !call->waiting_for && !call->complete) {
    attempt_or_fail(call); // its turn in the line has come
  } else if (!call->paused) {
    deliver_held(call);
  }
}
