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

void response_remove_line(mw_request *req, mw_str name) { remove_line(&req->headers_out, name); }

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
  req->status_out = status;
  to = put(to, server_date(server));
  to = put(to, mw_str_of(server->server_line, server->server_line_len));
  if (type.len) to = put(put(put(to, MW_STR("Content-Type: ")), type), MW_STR("\r\n"));
  if (length >= 0) to = put(put_number(put(to, MW_STR("Content-Length: ")), (uint64_t)length), MW_STR("\r\n"));
  if (req->chunked_out) to = put(to, MW_STR("Transfer-Encoding: chunked\r\n"));
  to = put_connection(to, req);
  if (req->is_tls) to = put(to, mw_str_of(server->hsts_line, server->hsts_line_len));
  if (req->headers_out.len) to = put(to, mw_buf_str(&req->headers_out));
  to = put(to, MW_STR("\r\n"));
  req->head_bytes = req->bytes_out + (uint64_t)(to - begin);
  return mw_str_of(begin, (size_t)(to - begin));
}

/* ---- whole answers ---- */

// Sets how a body of unknown length ends.
static void end_by_chunk_or_close(mw_request *req) {
  if (req->minor == 1) req->chunked_out = true;
  else req->conn->close_after = true;
}

// Returns false when it is better sent plain.
static bool send_compressed(mw_request *req, int status, mw_str type, mw_str body) {
  conn *c = req->conn;
  if (!mw_status_has_body(status)) return false;
  mw_coding coding = compress_choose(req, status, type);
  if (coding == MW_CODING_IDENTITY) return false;
  if (body.len <= MW_CONN_DEFLATE_BYTES) {
    mw_str packed = compress_whole(c->server, coding, body);
    if (packed.len >= body.len) return false;
    compress_mark(req, coding);
    mw_str head = write_head(req, status, type, (int64_t)packed.len);
    conn_write(c, head, req->is_head ? mw_str_of("", 0) : packed);
  } else {
    mw_deflate *deflate = compress_open(c->server, coding);
    if (!deflate) return false;
    compress_mark(req, coding);
    end_by_chunk_or_close(req);
    conn_write(c, write_head(req, status, type, -1), mw_str_of("", 0));
    if (req->is_head) compress_close(c->server, &deflate);
    else conn_pump_packed(c, body, deflate, req->chunked_out);
    if (!req->is_head) req->bytes_out = req->head_bytes + body.len; // how small it gets is known too late
  }
  conn_finish_exchange(c, 0);
  return true;
}

int mw_response_send(mw_request *req, int status, mw_str type, mw_str body) {
  conn *c = req->conn;
  if (!c) return 0;
  if (req->begun || status < 200 || status > 599) return MW_EINVALID;
  req->begun = true;
  if (!req->body_done) c->close_after = true;
  if (body.len >= c->server->compress_min && send_compressed(req, status, type, body)) return 0;
  bool has_body = mw_status_has_body(status);
  mw_str head = write_head(req, status, has_body ? type : mw_str_of("", 0), has_body ? (int64_t)body.len : -1);
  if (!has_body || req->is_head) body.len = 0;
  if (body.len > WHOLE_BYTES) {
    conn_write(c, head, mw_str_of(body.ptr, WHOLE_BYTES));
    conn_pump(c, mw_str_of(body.ptr + WHOLE_BYTES, body.len - WHOLE_BYTES));
    req->bytes_out = req->head_bytes + body.len;
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

// Compresses what is going to be written, if that is wanted.
static void begin_compressed(mw_request *req, int status, mw_str type) {
  mw_coding coding = compress_choose(req, status, type);
  if (coding == MW_CODING_IDENTITY) return;
  req->deflate = compress_open(req->server, coding);
  if (req->deflate) compress_mark(req, coding);
}

int mw_response_begin(mw_request *req, int status, mw_str type, int64_t length) {
  conn *c = req->conn;
  if (!c) return MW_ECLOSED;
  if (req->begun || status < 200 || status > 599) return MW_EINVALID;
  req->begun = true;
  bool has_body = mw_status_has_body(status);
  req->silent = !has_body || req->is_head;
  req->length_left = has_body ? length : 0;
  size_t least = c->server->compress_min;
  if (has_body && least != SIZE_MAX && (length < 0 || (uint64_t)length >= least)) begin_compressed(req, status, type);
  if (req->deflate) length = -1;
  if (has_body && length < 0) end_by_chunk_or_close(req);
  mw_str head = write_head(req, status, has_body ? type : mw_str_of("", 0), has_body ? length : -1);
  conn_write(c, head, mw_str_of("", 0));
  conn_set_deadline(c, 0);
  return 0;
}

void response_write_chunk(conn *c, mw_str piece) {
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

static void write_piece(mw_request *req, mw_str piece, mw_deflate_flush flush) {
  conn *c = req->conn;
  if (req->deflate) {
    mw_buf *packed = &c->server->packed;
    mw_buf_reset(packed, MW_CONN_FLUSH_BYTES);
    mw_deflate_add(req->deflate, piece, flush, packed);
    piece = mw_buf_str(packed);
  }
  if (req->chunked_out) response_write_chunk(c, piece);
  else conn_write(c, piece, mw_str_of("", 0));
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
  write_piece(req, piece, MW_DEFLATE_FLUSH);
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
  if (req->deflate && !req->silent) write_piece(req, mw_str_of("", 0), MW_DEFLATE_END);
  if (req->chunked_out && !req->silent) conn_write(c, MW_STR("0\r\n\r\n"), mw_str_of("", 0));
  conn_finish_exchange(c, 0);
  return 0;
}

void mw_response_abort(mw_request *req) {
  if (req->conn) conn_cut(req->conn, MW_ECANCELED);
}

bool mw_response_is_begun(const mw_request *req) { return req->begun; }

bool mw_response_is_compressed(const mw_request *req) { return req->deflate != NULL; }
