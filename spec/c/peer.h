// SPDX-License-Identifier: MIT
#pragma once

// An HTTP server for specs that answers, letter by letter, what a script tells it to. It takes a request (head, and body by
// Content-Length) and calls the script, which says something, closes, or stays silent. Two of them: `plain` and `other`.
//
//   static void answer(peer *p, const char *request, int number) { say(p, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); }
//   loop = mw_loop_new("spec"); open_server(&plain, NULL); plain.script = answer;

#include "base/alloc.h"
#include "base/buf.h"
#include "harness.h"
#include "loop/listener.h"
#include "loop/stream.h"
#include "loop/tls.h"

typedef struct peer peer;
typedef void (*script_fn)(peer *p, const char *request, int number);

struct peer {
  mw_stream *stream;
  mw_listener *listener;
  mw_buf in;
};

typedef struct server {
  mw_listener *listener;
  mw_address address;
  script_fn script;
  int connections, requests, open;
  char last[5000]; // the last request
} server;

static mw_loop *loop;
static server plain, other;

static inline void say(peer *p, const char *text) { mw_stream_write(p->stream, mw_str_from(text)); }

static inline size_t request_len(peer *p) {
  const char *text = mw_buf_cstr(&p->in), *end = strstr(text, "\r\n\r\n"), *len = strstr(text, "Content-Length: ");
  if (!end) return 0;
  size_t total = (size_t)(end - text) + 4 + (len && len < end ? strtoul(len + 16, NULL, 10) : 0);
  return total <= p->in.len ? total : 0;
}

static inline server *server_of(peer *p) { return p->listener == plain.listener ? &plain : &other; }

static inline void peer_on_data(mw_stream *stream, mw_str data, void *arg) {
  peer *p = arg;
  mw_buf_add_str(&p->in, data);
  for (size_t len; (len = request_len(p)) && !mw_stream_is_closing(stream);) {
    server *s = server_of(p);
    snprintf(s->last, sizeof s->last, "%.*s", (int)(len < 4900 ? len : 4900), p->in.ptr);
    mw_buf_consume(&p->in, len);
    s->script(p, s->last, s->requests++);
  }
}

static inline void on_peer_close(mw_stream *stream, int status, void *arg) {
  peer *p = arg;
  server_of(p)->open--;
  mw_listener_release(p->listener);
  mw_buf_deinit(&p->in);
  mw_free(p);
}

static const mw_stream_handler peer_handler = {.on_data = peer_on_data, .on_close = on_peer_close};

static inline void on_accept(mw_listener *listener, mw_stream *stream, void *arg) {
  server *s = arg;
  peer *p = MW_NEW(peer);
  p->stream = stream;
  p->listener = listener;
  s->connections++;
  s->open++;
  mw_stream_set_handler(stream, &peer_handler, p);
}

static inline void open_server(server *s, mw_tls_context *tls) {
  int fd;
  memset(s, 0, sizeof *s);
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &s->address, NULL), 0);
  CHECK_INT(mw_listener_bind(&s->address, NULL, &fd, NULL), 0);
  CHECK_INT(mw_listener_address(fd, &s->address), 0);
  mw_listener_opts opts = {.tls = tls, .on_accept = on_accept, .arg = s};
  CHECK_INT(mw_listener_open(loop, fd, &opts, &s->listener), 0);
}

