// SPDX-License-Identifier: MIT

// One connection. Bytes go through consume(): a small machine over conn_state that stops where it must wait (for bytes, for an answer,
// for a slow reader) and is started again by whatever it waited for. It never calls itself: an answer given while it runs only changes
// the state, and one given at another time starts it at the end of the loop's turn, so that no handler runs inside another.

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "http/path.h"
#include "http/server_impl.h"

#define CROSSING_MS 10

/* ---- deadlines ---- */

static int64_t earliest(const conn *c) {
  int64_t due = c->due_ms;
  if (c->body_due_ms && (!due || c->body_due_ms < due)) due = c->body_due_ms;
  if (c->write_due_ms && (!due || c->write_due_ms < due)) due = c->write_due_ms;
  return due;
}

// The timer is only moved to earlier times: when it fires too early it looks again. So a request costs no work on it.
void conn_arm(conn *c) {
  int64_t due = earliest(c);
  if (!due || c->gone || (mw_timer_is_armed(&c->timer) && c->timer.due_ms <= due)) return;
  int64_t now = mw_loop_now_ms(c->server->loop);
  mw_timer_start(c->server->loop, &c->timer, due > now ? due - now : 0);
}

void conn_set_deadline(conn *c, int64_t after_ms) {
  c->due_ms = after_ms ? mw_loop_now_ms(c->server->loop) + after_ms : 0;
  conn_arm(c);
}

static void watch_queue(conn *c) {
  if (c->write_due_ms || !mw_stream_queued_bytes(c->stream)) return;
  c->write_due_ms = mw_loop_now_ms(c->server->loop) + c->server->conf.write_timeout_ms;
  c->sent_mark = c->wrote - mw_stream_queued_bytes(c->stream);
  conn_arm(c);
}

static void check_queue(conn *c) {
  size_t queued = mw_stream_queued_bytes(c->stream);
  uint64_t sent = c->wrote - queued;
  c->write_due_ms = 0;
  if (queued && sent == c->sent_mark) mw_stream_abort(c->stream, MW_ETIMEOUT);
  else watch_queue(c);
}

static void on_phase_over(conn *c) {
  c->due_ms = 0;
  if (c->state == CONN_HEAD) {
    if (c->reading_head) {
      c->req = request_acquire(c);
      response_refuse(c->req, 408, "the request's headers did not arrive in time");
    } else if (mw_stream_has_input(c->stream)) {
      conn_set_deadline(c, CROSSING_MS); // a request is here that was not read yet
    } else {
      conn_finish_exchange(c, MW_ETIMEOUT); // nothing is going on: it only closes
    }
  } else if (c->req && c->req->dispatched && !c->req->begun) {
    c->req->gone_status = MW_ETIMEOUT;
    response_refuse(c->req, 503, "the handler did not answer in time");
  }
}

static void on_body_late(conn *c) {
  c->body_due_ms = 0;
  if (!c->req || c->state != CONN_BODY) return;
  c->req->gone_status = MW_ETIMEOUT;
  response_refuse(c->req, 408, "the request's body did not arrive in time");
}

static void on_timer(mw_timer *timer, void *arg) {
  conn *c = arg;
  int64_t now = mw_loop_now_ms(c->server->loop);
  if (c->write_due_ms && c->write_due_ms <= now) check_queue(c);
  if (c->due_ms && c->due_ms <= now && !c->gone) on_phase_over(c);
  if (c->body_due_ms && c->body_due_ms <= now && !c->gone) on_body_late(c);
  conn_arm(c);
}

/* ---- writing ---- */

static void send_now(conn *c, mw_str head, mw_str body) {
  c->wrote += head.len + body.len;
  mw_stream_write2(c->stream, head, body);
  watch_queue(c);
}

static void flush(conn *c) {
  mw_buf *out = &c->server->out;
  if (!out->len) return;
  mw_str all = mw_buf_str(out);
  out->len = 0; // the memory stays as it is until the next answer
  send_now(c, all, mw_str_of("", 0));
}

void conn_write(conn *c, mw_str head, mw_str body) {
  if (c->req) c->req->bytes_out += head.len + body.len;
  if (!c->corked) {
    send_now(c, head, body);
    return;
  }
  mw_buf *out = &c->server->out;
  if (head.len && head.ptr != out->ptr + out->len) mw_buf_add_str(out, head);
  else out->len += head.len;
  if (body.len > MW_CONN_COPY_BYTES) {
    mw_str all = mw_buf_str(out);
    out->len = 0;
    send_now(c, all, body);
    return;
  }
  mw_buf_add_str(out, body);
  if (out->len > MW_CONN_FLUSH_BYTES) flush(c);
}

static void go_on_later(conn *c);

static void end_pump(conn *c) {
  mw_buf_deinit(&c->pump);
  c->pump_at = 0;
}

// Compresses and sends one slice; the next one waits for another turn of the loop, or for on_drain.
static void pump_slice(conn *c) {
  if (mw_stream_is_closing(c->stream) || mw_stream_is_full(c->stream)) return;
  size_t n = c->pump.len - c->pump_at;
  bool last = n <= MW_CONN_DEFLATE_BYTES;
  if (!last) n = MW_CONN_DEFLATE_BYTES;
  mw_buf *packed = &c->server->packed;
  mw_buf_reset(packed, MW_CONN_FLUSH_BYTES);
  mw_deflate_add(c->deflate, mw_str_of(c->pump.ptr + c->pump_at, n), last ? MW_DEFLATE_END : MW_DEFLATE_GATHER, packed);
  c->pump_at += n;
  if (packed->len && c->pump_chunked) response_write_chunk(c, mw_buf_str(packed));
  else if (packed->len) send_now(c, mw_buf_str(packed), mw_str_of("", 0));
  if (!last) {
    if (!mw_stream_is_full(c->stream)) go_on_later(c);
    return;
  }
  if (c->pump_chunked) send_now(c, MW_STR("0\r\n\r\n"), mw_str_of("", 0));
  compress_close(c->server, &c->deflate);
  end_pump(c);
}

static void pump_more(conn *c) {
  if (c->deflate) {
    pump_slice(c);
    return;
  }
  while (c->pump_at < c->pump.len && !mw_stream_is_full(c->stream)) {
    if (mw_stream_is_closing(c->stream)) return;
    size_t n = c->pump.len - c->pump_at;
    if (n > MW_CONN_PUMP_BYTES) n = MW_CONN_PUMP_BYTES;
    mw_str piece = mw_str_of(c->pump.ptr + c->pump_at, n);
    c->pump_at += n;
    send_now(c, piece, mw_str_of("", 0));
  }
  if (c->pump_at == c->pump.len) end_pump(c);
}

void conn_pump(conn *c, mw_str body) {
  if (c->corked) flush(c);
  mw_buf_add_str(&c->pump, body);
  pump_more(c);
}

void conn_pump_packed(conn *c, mw_str body, mw_deflate *take_deflate, bool chunked) {
  c->deflate = take_deflate;
  c->pump_chunked = chunked;
  conn_pump(c, body);
}

/* ---- the end of an exchange ---- */

static void process(conn *c, mw_str data, bool owned);

static void conn_free(conn *c) {
  mw_buf_deinit(&c->in);
  mw_buf_deinit(&c->pump);
  mw_free(c);
}

static void next_request(conn *c);

static void pump_on(conn *c) {
  pump_more(c);
  if (c->state == CONN_PUMP && !c->pump.len) next_request(c);
}

static void on_deferred(void *arg) {
  conn *c = arg;
  c->deferred = false;
  if (c->gone) {
    conn_free(c);
    return;
  }
  if (c->deflate) pump_on(c);
  else process(c, mw_buf_str(&c->in), true);
}

// Starts the machine again in the next turn, so that others have theirs.
static void go_on_later(conn *c) {
  if (c->deferred || c->gone) return;
  c->deferred = true;
  mw_loop_post(c->server->loop, on_deferred, c);
}

// Starts the machine again at the end of this turn, unless it runs.
void conn_go_on(conn *c) {
  if (c->processing || c->deferred || c->gone) return;
  c->deferred = true;
  mw_loop_defer(c->server->loop, on_deferred, c);
}

static int64_t linger_ms(const conn *c) { return c->server->winding_down ? MW_CONN_LAST_LINGER_MS : MW_CONN_LINGER_MS; }

static void begin_closing(conn *c) {
  c->state = CONN_CLOSING;
  c->due_ms = c->body_due_ms = 0;
  if (c->processing) c->finish = true; // after what is gathered has been written
  else if (!c->gone) mw_stream_finish(c->stream, linger_ms(c));
}

static void next_request(conn *c) {
  if (c->close_after || c->server->winding_down) {
    begin_closing(c);
    return;
  }
  c->state = CONN_HEAD;
  conn_set_deadline(c, c->server->conf.idle_timeout_ms);
  if (c->in.len || c->paused || c->input_ended) conn_go_on(c);
}

void conn_finish_exchange(conn *c, int status) {
  mw_request *req = c->req;
  c->req = NULL;
  c->due_ms = c->body_due_ms = 0;
  if (status || !req || !req->body_done) c->close_after = true;
  if (req) {
    if (c->server->access.log) access_note(req);
    c->server->stats.requests_active -= req->dispatched;
    if (req->dispatched && !status) status = req->gone_status;
  }
  if (c->gone) c->state = CONN_CLOSING;
  else if (c->pump_at < c->pump.len) c->state = CONN_PUMP;
  else next_request(c);
  if (!req) return;
  bool dispatched = req->dispatched;
  request_detach(req);
  if (dispatched && c->server->handler->on_gone) c->server->handler->on_gone(req, status, c->server->arg);
  mw_request_unref(req);
}

void conn_cut(conn *c, int status) {
  if (c->gone || mw_stream_is_closing(c->stream)) return;
  c->close_after = true;
  c->state = CONN_CLOSING;
  mw_stream_abort(c->stream, status);
}

// Nobody else is let in while the last ones are waited for.
static int64_t head_ms(const mw_server *server) {
  int64_t usual_ms = server->conf.header_timeout_ms;
  return server->draining && usual_ms > MW_SERVER_LAST_HEAD_MS ? MW_SERVER_LAST_HEAD_MS : usual_ms;
}

void conn_wind_down(conn *c) {
  bool is_late = c->state == CONN_HEAD && c->reading_head && c->due_ms - mw_loop_now_ms(c->server->loop) > head_ms(c->server);
  if (is_late) conn_set_deadline(c, head_ms(c->server));
  if (c->state != CONN_HEAD || c->reading_head || c->in.len || c->processing || c->deferred) return;
  int64_t left_ms = c->due_ms - mw_loop_now_ms(c->server->loop), idle_ms = c->server->conf.idle_timeout_ms - left_ms;
  if (left_ms <= MW_SERVER_IDLE_GRACE_MS) return; // soon by itself, or told before
  if (idle_ms >= MW_SERVER_IDLE_GRACE_MS) on_phase_over(c);
  else conn_set_deadline(c, MW_SERVER_IDLE_GRACE_MS - idle_ms);
}

/* ---- the head ---- */

void conn_answer_no_route(mw_request *req) {
  conn *c = req->conn;
  mw_server *server = c->server;
  char allow[256];
  if (req->match.status == 405) {
    size_t n = mw_router_allow(&req->match, allow, sizeof allow);
    mw_response_header(req, MW_STR("Allow"), mw_str_of(allow, n));
  }
  if (server->handler->on_no_route) server->handler->on_no_route(req, req->match.status, server->arg);
  if (req->conn) response_problem(req, req->match.status, "no route answers this");
}

void conn_dispatch(mw_request *req) {
  conn *c = req->conn;
  mw_server *server = c->server;
  if (req->router != c->port->surface->router) { // routes were swapped while the body came
    request_match(req);
    if (!req->match.route) {
      conn_answer_no_route(req);
      return;
    }
  }
  const mw_route *route = req->match.route;
  int64_t timeout_ms = route->timeout_ms ? route->timeout_ms : server->conf.handler_timeout_ms;
  req->dispatched = true;
  server->stats.requests_active++;
  mw_request_ref(req);
  server->handler->on_request(req, server->arg);
  if (req->conn && !req->begun) conn_set_deadline(c, timeout_ms);
  mw_request_unref(req);
}

// "OPTIONS *" asks about the server as a whole.
static bool is_server_options(mw_request *req) { return mw_str_eq(req->head.target, MW_STR("*")); }

static int read_target(mw_request *req, char *room, const char **why) {
  mw_str target = req->head.target;
  ptrdiff_t mark = mw_str_find_byte(target, '?');
  mw_str raw = mark < 0 ? target : mw_str_of(target.ptr, (size_t)mark);
  if (mark >= 0) req->query = mw_str_of(target.ptr + mark + 1, target.len - (size_t)mark - 1);
  if (!raw.len) raw = MW_STR("/"); // of an absolute target
  mw_err err;
  bool has_slash;
  size_t len;
  if (mw_path_decode(raw, room, &len, &has_slash, &err)) {
    *why = mw_arena_strndup(&req->arena, err.text, strlen(err.text));
    return 400;
  }
  req->path = mw_str_of(room, len);
  request_match(req);
  if (has_slash) mw_path_restore(room, len);
  return 0;
}

static void begin_request(conn *c, mw_str text, bool more_is_here) {
  mw_request *req = c->req = request_acquire(c);
  c->scanned = 0;
  c->reading_head = false;
  c->due_ms = 0;
  // A copy, because the loop's buffer is used anew while the request lives; behind it the decoded path, which is no longer.
  char *copy = mw_buf_reserve(&req->head_text, 2 * text.len);
  memcpy(copy, text.ptr, text.len);
  const char *why = NULL;
  int status = mw_head_parse(&req->head, mw_str_of(copy, text.len), &why);
  req->minor = req->head.minor;
  req->is_head = mw_str_eq(req->head.method, MW_STR("HEAD"));
  if (!req->head.keep_alive) c->close_after = true;
  if (!status && !is_server_options(req)) status = read_target(req, copy + text.len, &why);
  if (status) {
    response_refuse(req, status, why);
  } else if (is_server_options(req)) {
    req->body_done = !req->head.chunked && req->head.content_length <= 0;
    mw_response_send(req, 204, MW_STR(""), MW_STR(""));
  } else {
    conn_begin_body(c, more_is_here);
  }
}

static void refuse_head(conn *c, int status, const char *why) {
  c->req = request_acquire(c);
  c->scanned = 0;
  response_refuse(c->req, status, why);
}

static void skip_empty_lines(conn *c, mw_str *data) {
  while (!c->scanned && data->len >= 2 && data->ptr[0] == '\r' && data->ptr[1] == '\n') {
    *data = mw_str_of(data->ptr + 2, data->len - 2);
  }
}

static bool take_head(conn *c, mw_str *data) {
  mw_server *server = c->server;
  skip_empty_lines(c, data);
  if (!data->len) {
    if (c->reading_head) conn_set_deadline(c, server->conf.idle_timeout_ms);
    c->reading_head = false;
    return false;
  }
  if (server->out.len + mw_stream_queued_bytes(c->stream) > MW_STREAM_HIGH_MARK) {
    flush(c);
    if (mw_stream_is_full(c->stream)) return false; // on_drain goes on
  }
  unsigned char first = (unsigned char)data->ptr[0];
  const char *why = "the request does not begin with a method";
  bool is_method = (first >= 'A' && first <= 'Z') || (first == '\r' && data->len == 1);
  ptrdiff_t n = is_method ? mw_strict_scan(*data, &c->scanned, &why) : -1;
  server->stats.requests += n > 0;
  if (n < 0) {
    refuse_head(c, 400, why);
  } else if ((size_t)n > server->conf.max_header_bytes || (!n && data->len > server->conf.max_header_bytes)) {
    refuse_head(c, 431, "the request's headers are too large");
  } else if (n) {
    mw_str text = mw_str_of(data->ptr, (size_t)n);
    *data = mw_str_of(data->ptr + n, data->len - (size_t)n);
    begin_request(c, text, data->len > 0);
  } else {
    if (!c->reading_head) conn_set_deadline(c, head_ms(server));
    c->reading_head = true;
    return false;
  }
  return true;
}

/* ---- the machine ---- */

static size_t consume(conn *c, mw_str data) {
  size_t all = data.len;
  for (bool more = true; more && !mw_stream_is_closing(c->stream);) {
    switch (c->state) {
      case CONN_HEAD: more = take_head(c, &data); break;
      case CONN_BODY: more = conn_take_body(c, &data); break;
      case CONN_CLOSING: return all;
      default: more = false; break;
    }
  }
  return all - data.len;
}

// The peer has ended: what is there was answered, what is half there never comes.
static void check_ended(conn *c) {
  if (!c->input_ended || c->state == CONN_CLOSING) return;
  if (c->state == CONN_HEAD && !mw_stream_is_full(c->stream)) begin_closing(c);
  else if (c->state == CONN_BODY && !c->req->paused && !c->req->body_in && !c->again) conn_cut(c, MW_ECLOSED);
}

static void balance_reading(conn *c) {
  bool pause = c->in.len >= MW_CONN_MAX_AHEAD && !c->reading_head;
  if (pause == c->paused) return;
  c->paused = pause;
  if (pause) mw_stream_pause(c->stream);
  else mw_stream_resume(c->stream);
}

static void process(conn *c, mw_str data, bool owned) {
  c->processing = c->corked = true;
  c->inflated = 0;
  size_t used = consume(c, data);
  check_ended(c);
  c->corked = false;
  flush(c);
  c->processing = false;
  if (c->gone) return;
  if (owned) mw_buf_consume(&c->in, used);
  else if (used < data.len) mw_buf_add(&c->in, data.ptr + used, data.len - used);
  if (!c->in.len && c->in.cap) mw_buf_reset(&c->in, 4096);
  balance_reading(c);
  if (c->finish) {
    c->finish = c->again = false;
    mw_stream_finish(c->stream, linger_ms(c));
  }
  if (c->again) {
    c->again = false;
    go_on_later(c);
  }
}

static void on_data(mw_stream *stream, mw_str data, void *arg) {
  conn *c = arg;
  if (c->in.len || c->deferred) {
    mw_buf_add_str(&c->in, data);
    if (!c->deferred) process(c, mw_buf_str(&c->in), true);
    else balance_reading(c);
  } else {
    process(c, data, false);
  }
}

static void on_end(mw_stream *stream, void *arg) {
  conn *c = arg;
  c->input_ended = true;
  conn_go_on(c);
}

static void on_drain(mw_stream *stream, void *arg) {
  conn *c = arg;
  c->write_due_ms = 0;
  watch_queue(c);
  if (c->pump.len) {
    pump_on(c);
    return;
  }
  if (c->req && c->req->begun) {
    if (c->server->handler->on_drain) c->server->handler->on_drain(c->req, c->server->arg);
    return;
  }
  conn_go_on(c);
}

static void on_close(mw_stream *stream, int status, void *arg) {
  conn *c = arg;
  mw_server *server = c->server;
  c->gone = true;
  mw_timer_stop(&c->timer);
  compress_close(server, &c->deflate);
  if (status == MW_ETLS) mw_log(MW_LOG_DEBUG, "tls", mw_stream_error(stream), MW_LOG_S("peer", c->ip));
  if (c->req) conn_finish_exchange(c, status ? status : MW_ECLOSED);
  mw_list_remove(&c->node);
  if (c->port->listener) mw_listener_release(c->port->listener);
  if (!c->deferred) conn_free(c);
  server_conn_gone(server);
}

static const mw_stream_handler stream_handler = {on_data, on_end, on_drain, on_close};

void conn_open(port *p, mw_stream *stream) {
  conn *c = MW_NEW(conn);
  c->server = p->server;
  c->port = p;
  c->stream = stream;
  mw_timer_init(&c->timer, on_timer, c);
  mw_address_format_host(mw_stream_peer(stream), c->ip);
  if (strncmp(c->ip, "::ffff:", 7) == 0 && strchr(c->ip, '.')) memmove(c->ip, c->ip + 7, strlen(c->ip + 7) + 1); // IPv4 at an IPv6 socket
  c->from_proxy = p->server->conf.proxies && mw_proxies_has(p->server->conf.proxies, mw_str_from(c->ip));
  mw_list_push(&p->server->conns, &c->node);
  p->server->stats.connections++;
  conn_set_deadline(c, p->server->conf.idle_timeout_ms);
  mw_stream_set_handler(stream, &stream_handler, c);
}
