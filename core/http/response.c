// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "base/err.h"
#include "http/problem.h"
#include "http/server_impl.h"
#include "http/status.h"

enum { MAX_HEADERS_OUT = 32 * 1024, HEAD_ROOM = 512, WHOLE_BYTES = 4 * 1024 * 1024 };

/* ---- headers ---- */

static bool is_framing(mw_str name) {
  static const mw_str framed[] = {{"content-length", 14}, {"transfer-encoding", 17}, {"connection", 10}, {"date", 4},
                                  {"keep-alive", 10},     {"upgrade", 7},            {"trailer", 7},     {"te", 2}};
  for (size_t i = 0; i < sizeof framed / sizeof *framed; i++) {
    if (mw_str_eq_nocase(name, framed[i])) return true;
  }
  return false;
}

static bool is_repeatable(mw_str name) {
  static const mw_str repeatable[] = {{"set-cookie", 10}, {"link", 4}, {"vary", 4}, {"www-authenticate", 16}, {"warning", 7}};
  for (size_t i = 0; i < sizeof repeatable / sizeof *repeatable; i++) {
    if (mw_str_eq_nocase(name, repeatable[i])) return true;
  }
  return false;
}

static void remove_line(mw_buf *lines, mw_str name) {
  for (size_t at = 0; at < lines->len;) {
    char *line = lines->ptr + at;
    size_t len = (size_t)((char *)memchr(line, '\n', lines->len - at) + 1 - line);
    if (len > name.len && line[name.len] == ':' && mw_str_eq_nocase(mw_str_of(line, name.len), name)) {
      memmove(line, line + len, lines->len - at - len);
      lines->len -= len;
    } else {
      at += len;
    }
  }
}

int mw_response_header(mw_request *req, mw_str name, mw_str value) {
  if (!mw_headers_is_token(name) || !mw_headers_is_value(value) || is_framing(name)) return MW_EINVALID;
  if (!req->conn || req->begun) return MW_ECLOSED;
  if (mw_str_eq_nocase(name, MW_STR("content-type"))) {
    req->type = mw_arena_str(&req->arena, value);
    return 0;
  }
  mw_buf *lines = &req->headers_out;
  if (lines->len && !is_repeatable(name)) remove_line(lines, name);
  if (lines->len + name.len + value.len + 4 > MAX_HEADERS_OUT) return MW_ELIMIT;
  char *to = mw_buf_reserve(lines, name.len + value.len + 4);
  memcpy(to, name.ptr, name.len);
  memcpy(to + name.len, ": ", 2);
  if (value.len) memcpy(to + name.len + 2, value.ptr, value.len);
  memcpy(to + name.len + 2 + value.len, "\r\n", 2);
  lines->len += name.len + value.len + 4;
  return 0;
}

void mw_response_add_line(mw_request *req, mw_str line) {
  if (req->conn && !req->begun) mw_buf_add_str(&req->headers_out, line);
}

/* ---- the head ---- */

static char *put(char *to, mw_str text) { return (char *)memcpy(to, text.ptr, text.len) + text.len; }

static char *put_number(char *to, uint64_t number) {
  char digits[24];
  int n = 0;
  do digits[n++] = (char)('0' + number % 10);
  while (number /= 10);
  while (n) *to++ = digits[--n];
  return to;
}

static char *put_status(char *to, int status) {
  mw_str line = mw_status_line(status);
  if (line.len) return put(to, line);
  to = put_number(put(to, MW_STR("HTTP/1.1 ")), (uint64_t)status);
  return put(to, MW_STR(" Unknown\r\n"));
}

static char *put_connection(char *to, const mw_request *req) {
  const conn *c = req->conn;
  if (c->close_after || c->server->winding_down) return put(to, MW_STR("Connection: close\r\n"));
  return req->minor == 0 ? put(to, MW_STR("Connection: keep-alive\r\n")) : to;
}

// Writes status line and headers into the buffer that the connection sends from. `length` < 0: without Content-Length.
static mw_str write_head(mw_request *req, int status, mw_str type, int64_t length) {
  mw_server *server = req->server;
  mw_buf *out = req->conn->corked ? &server->out : &server->scratch;
  if (!req->conn->corked) out->len = 0;
  if (req->type.len) type = req->type;
  char *begin = mw_buf_reserve(out, HEAD_ROOM + type.len + req->headers_out.len);
  char *to = put_status(begin, status);
  to = put(to, server_date(server));
  to = put(to, mw_str_of(server->server_line, server->server_line_len));
  if (type.len) to = put(put(put(to, MW_STR("Content-Type: ")), type), MW_STR("\r\n"));
  if (length >= 0) to = put(put_number(put(to, MW_STR("Content-Length: ")), (uint64_t)length), MW_STR("\r\n"));
  if (req->chunked_out) to = put(to, MW_STR("Transfer-Encoding: chunked\r\n"));
  to = put_connection(to, req);
  if (req->headers_out.len) to = put(to, mw_buf_str(&req->headers_out));
  to = put(to, MW_STR("\r\n"));
  return mw_str_of(begin, (size_t)(to - begin));
}

/* ---- whole answers ---- */

int mw_response_send(mw_request *req, int status, mw_str type, mw_str body) {
  conn *c = req->conn;
  if (!c) return 0;
  if (req->begun || status < 200 || status > 599) return MW_EINVALID;
  req->begun = true;
  if (!req->body_done) c->close_after = true;
  bool has_body = mw_status_has_body(status);
  mw_str head = write_head(req, status, has_body ? type : mw_str_of("", 0), has_body ? (int64_t)body.len : -1);
  if (!has_body || req->is_head) body.len = 0;
  if (body.len > WHOLE_BYTES) {
    conn_write(c, head, mw_str_of(body.ptr, WHOLE_BYTES));
    conn_pump(c, mw_str_of(body.ptr + WHOLE_BYTES, body.len - WHOLE_BYTES));
  } else {
    conn_write(c, head, body);
  }
  conn_finish_exchange(c, 0);
  return 0;
}

void response_problem(mw_request *req, int status, const char *why) {
  mw_buf body = MW_BUF_INIT;
  mw_problem_format(&(mw_problem){.status = status, .detail = mw_str_from(why)}, &body);
  mw_response_send(req, status, MW_STR("application/problem+json"), mw_buf_str(&body));
  mw_buf_deinit(&body);
}

void response_refuse(mw_request *req, int status, const char *why) {
  conn *c = req->conn;
  mw_server *server = req->server;
  server->stats.refused++;
  c->close_after = true;
  if (req->begun) { // half of an answer is out: only cutting tells the client that it is not whole
    conn_cut(c, req->gone_status ? req->gone_status : MW_EPROTOCOL);
    return;
  }
  if (server->handler->on_refused) server->handler->on_refused(req, status, why, server->arg);
  if (req->conn == c && !req->begun) response_problem(req, status, why);
}

/* ---- streamed answers ---- */

int mw_response_begin(mw_request *req, int status, mw_str type, int64_t length) {
  conn *c = req->conn;
  if (!c) return MW_ECLOSED;
  if (req->begun || status < 200 || status > 599) return MW_EINVALID;
  req->begun = true;
  bool has_body = mw_status_has_body(status);
  req->silent = !has_body || req->is_head;
  req->length_left = has_body ? length : 0;
  if (has_body && length < 0) {
    if (req->minor == 1) req->chunked_out = true;
    else c->close_after = true;
  }
  mw_str head = write_head(req, status, has_body ? type : mw_str_of("", 0), has_body ? length : -1);
  conn_write(c, head, mw_str_of("", 0));
  conn_set_deadline(c, 0);
  return 0;
}

static void write_chunk(conn *c, mw_str piece) {
  char size[24];
  int n = snprintf(size, sizeof size, "%zx\r\n", piece.len);
  mw_server *server = c->server;
  if (piece.len > MW_CONN_COPY_BYTES) {
    conn_write(c, mw_str_of(size, (size_t)n), piece);
    conn_write(c, MW_STR("\r\n"), mw_str_of("", 0));
    return;
  }
  mw_buf *scratch = &server->scratch;
  scratch->len = 0;
  mw_buf_add(scratch, size, (size_t)n);
  mw_buf_add_str(scratch, piece);
  mw_buf_add(scratch, "\r\n", 2);
  conn_write(c, mw_buf_str(scratch), mw_str_of("", 0));
}

int mw_response_write(mw_request *req, mw_str piece) {
  conn *c = req->conn;
  if (!c || mw_stream_is_closing(c->stream)) return MW_ECLOSED;
  if (!req->begun) return MW_EINVALID;
  if (!piece.len || req->silent) return 0;
  if (req->length_left >= 0) {
    if (piece.len > (uint64_t)req->length_left) return MW_EINVALID;
    req->length_left -= (int64_t)piece.len;
  }
  if (req->chunked_out) write_chunk(c, piece);
  else conn_write(c, piece, mw_str_of("", 0));
  return mw_stream_is_full(c->stream) ? MW_AGAIN : 0;
}

int mw_response_end(mw_request *req) {
  conn *c = req->conn;
  if (!c) return 0;
  if (!req->begun) return MW_EINVALID;
  if (req->length_left > 0 && !req->silent) { // less than it promised
    mw_response_abort(req);
    return MW_EINVALID;
  }
  if (req->chunked_out && !req->silent) conn_write(c, MW_STR("0\r\n\r\n"), mw_str_of("", 0));
  conn_finish_exchange(c, 0);
  return 0;
}

void mw_response_abort(mw_request *req) {
  if (req->conn) conn_cut(req->conn, MW_ECANCELED);
}

bool mw_response_is_begun(const mw_request *req) { return req->begun; }
