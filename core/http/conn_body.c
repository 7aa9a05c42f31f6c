// SPDX-License-Identifier: MIT

// The body of a request: whether it is taken at all, its deadlines, chunked coding and compression, and who gets the pieces: the handler
// that was dispatched before (a stream), or the request's own buffer until all of it is there.

#include <string.h>

#include "base/err.h"
#include "http/server_impl.h"

/* ---- beginning ---- */

static void set_body_deadline(conn *c) {
  int64_t due = mw_loop_now_ms(c->server->loop) + c->server->conf.body_timeout_ms;
  c->body_due_ms = due < c->body_last_ms ? due : c->body_last_ms;
  conn_arm(c);
}

static void begin_body_deadline(conn *c) {
  c->body_last_ms = mw_loop_now_ms(c->server->loop) + 10 * c->server->conf.body_timeout_ms;
  set_body_deadline(c);
}

static void send_continue(conn *c) {
  c->req->want_continue = false;
  conn_write(c, MW_STR("HTTP/1.1 100 Continue\r\n\r\n"), mw_str_of("", 0));
}

static void begin_discard(conn *c, bool has_body) {
  mw_request *req = c->req;
  if (!has_body) {
    req->body_done = true;
    conn_answer_no_route(req);
  } else if (req->want_continue || req->head.content_length > MW_CONN_DISCARD_BYTES) {
    c->close_after = true;
    conn_answer_no_route(req);
  } else {
    req->discard = true;
    req->body_max = MW_CONN_DISCARD_BYTES;
    c->state = CONN_BODY;
    begin_body_deadline(c);
  }
}

// Looks at Content-Encoding. Returns 0, or the status to refuse with.
static int begin_inflate(mw_request *req, const char **why) {
  mw_coding coding = mw_coding_of(mw_request_header(req, MW_STR("content-encoding")));
  if (coding == MW_CODING_IDENTITY) return 0;
  if (coding == MW_CODING_UNKNOWN) {
    mw_response_header(req, MW_STR("Accept-Encoding"), MW_STR("gzip, deflate"));
    *why = "the body's Content-Encoding is not one that is read here: send it as gzip, as deflate or plain";
    return 415;
  }
  req->inflate = mw_inflate_new(coding, req->body_max);
  return 0;
}

void conn_begin_body(conn *c, bool more_is_here) {
  mw_request *req = c->req;
  const mw_route *route = req->match.route;
  const mw_head *head = &req->head;
  bool has_body = head->chunked || head->content_length > 0;
  req->want_continue = head->expect_continue && has_body;
  c->body_left = head->content_length > 0 ? (uint64_t)head->content_length : 0;
  if (head->chunked) mw_chunked_init(&c->chunked);
  if (!route) {
    begin_discard(c, has_body);
    return;
  }
  req->body_max = route->max_body_bytes ? route->max_body_bytes : c->server->conf.max_body_bytes;
  if (head->content_length > 0 && c->body_left > req->body_max) {
    response_refuse(req, 413, "the body is larger than this route takes: its own option body, or http.max_body, raises that");
    return;
  }
  c->state = has_body ? CONN_BODY : CONN_ANSWER;
  req->body_done = !has_body;
  if (!has_body) {
    conn_dispatch(req);
    return;
  }
  const char *why = NULL;
  int status = route->raw_body ? 0 : begin_inflate(req, &why);
  if (status) {
    response_refuse(req, status, why);
    return;
  }
  begin_body_deadline(c);
  if (more_is_here) req->want_continue = false; // the client did not wait
  if (route->stream) {
    conn_dispatch(req);
    if (c->req == req && req->want_continue && !req->paused && !req->begun) send_continue(c);
  } else if (req->want_continue) {
    send_continue(c);
  }
}

/* ---- taking it ---- */

// Hands a piece over to who is there for it.
static void hand_over(conn *c, mw_str piece, bool end) {
  mw_request *req = c->req;
  if (end) {
    req->body_done = true;
    c->state = CONN_ANSWER;
    c->body_due_ms = 0;
  }
  if (req->dispatched) {
    c->server->handler->on_body(req, piece, end, c->server->arg);
    return;
  }
  if (!req->discard) mw_buf_add_str(&req->body, piece);
  if (!end) return;
  if (req->discard) conn_answer_no_route(req);
  else conn_dispatch(req);
}

// What was read from the connection, still compressed perhaps.
static void deliver(conn *c, mw_str piece, bool end) {
  mw_request *req = c->req;
  req->body_seen += piece.len;
  if (req->body_seen > req->body_max) {
    req->gone_status = MW_ELIMIT;
    if (req->discard) conn_answer_no_route(req);
    else response_refuse(req, 413, "the body is larger than this route takes: its own option body, or http.max_body, raises that");
  } else if (req->inflate) {
    mw_inflate_feed(req->inflate, piece, end);
    req->body_in = end;
    if (end) c->body_due_ms = 0;
  } else {
    hand_over(c, piece, end);
  }
}

// Takes one piece out of a compressed body. Returns false when this turn has had enough of it.
static bool inflate_piece(conn *c) {
  mw_request *req = c->req;
  mw_str piece;
  const char *why;
  if (c->inflated >= MW_CONN_INFLATE_BYTES) {
    c->again = true;
    return false;
  }
  switch (mw_inflate_next(req->inflate, &piece, &why)) {
    case MW_INFLATE_MORE: break;
    case MW_INFLATE_PIECE:
      c->inflated += piece.len;
      hand_over(c, piece, false);
      break;
    case MW_INFLATE_DONE:
      mw_inflate_free(req->inflate);
      req->inflate = NULL;
      hand_over(c, piece, true);
      break;
    case MW_INFLATE_LIMIT:
      req->gone_status = MW_ELIMIT;
      response_refuse(req, 413, "the body is larger than this route takes, once it is decompressed");
      break;
    case MW_INFLATE_ERROR:
      req->gone_status = MW_EPROTOCOL;
      why = mw_arena_strndup(&req->arena, why, strlen(why)); // it belongs to what goes away with the exchange
      response_refuse(req, 400, why);
      break;
  }
  return true;
}

static bool take_chunked(conn *c, mw_str *data) {
  mw_str piece = {"", 0};
  const char *why = NULL;
  switch (mw_chunked_feed(&c->chunked, data, &piece, &why)) {
    case MW_CHUNKED_MORE: return false;
    case MW_CHUNKED_PIECE: deliver(c, piece, false); return true;
    case MW_CHUNKED_DONE: deliver(c, piece, true); return true;
    case MW_CHUNKED_ERROR: break;
  }
  c->req->gone_status = MW_EPROTOCOL;
  response_refuse(c->req, 400, why);
  return true;
}

bool conn_take_body(conn *c, mw_str *data) {
  if (c->req->paused) return false;
  if (c->req->inflate && !mw_inflate_is_hungry(c->req->inflate)) return inflate_piece(c);
  if (!data->len) return false;
  set_body_deadline(c);
  if (c->req->head.chunked) return take_chunked(c, data);
  size_t n = data->len < c->body_left ? data->len : (size_t)c->body_left;
  mw_str piece = mw_str_of(data->ptr, n);
  c->body_left -= n;
  *data = mw_str_of(data->ptr + n, data->len - n);
  deliver(c, piece, !c->body_left);
  return true;
}

void conn_resume_body(conn *c) {
  if (c->req->want_continue) send_continue(c);
  if (c->state == CONN_BODY && !c->req->body_in) begin_body_deadline(c);
  conn_go_on(c);
}
