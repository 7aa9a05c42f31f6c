// SPDX-License-Identifier: MIT
#include "loop/stream.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/fault.h"
#include "loop/stream_impl.h"

#define DEFAULT_CONNECT_MS 10000
#define SLICE_BYTES (64 * 1024) // written at once from the queue, so that on_drain comes near the low mark
#define BROKEN_MS 1000          // how long a peer that takes no more may still speak
#define END_LINGER_MS 5000      // to send what is queued when nobody handles the peer's end

static void on_closed(uv_handle_t *handle);
static void write_slice(mw_stream *s);

static mw_stream *stream_new(mw_loop *loop, bool is_unix) {
  mw_stream *s = MW_NEW(mw_stream);
  s->loop = loop;
  s->is_unix = is_unix;
  mw_timer_init(&s->deadline, NULL, s);
  return s;
}

static int init_handle(mw_stream *s) {
  int rc = s->is_unix ? uv_pipe_init(&s->loop->uv, &s->uv.pipe, 0) : uv_tcp_init(&s->loop->uv, &s->uv.tcp);
  s->uv.handle.data = s;
  return rc;
}

static void stream_free(mw_stream *s) {
  mw_stream_tls_free(s->tls);
  mw_buf_deinit(&s->inflight);
  mw_buf_deinit(&s->pending);
  mw_free(s->error);
  mw_free(s);
}

// Closing.

static void on_closed(uv_handle_t *handle) {
  mw_stream *s = handle->data;
  if (s->connect_cb) {
    mw_stream_connect_cb cb = s->connect_cb;
    s->connect_cb = NULL;
    cb(s, s->status ? s->status : MW_ECANCELED, s->connect_arg);
  }
  if (s->handler && s->handler->on_close) s->handler->on_close(s, s->status, s->arg);
  stream_free(s);
}

void mw_stream_abort(mw_stream *s, int status) {
  MW_ASSERT_LOOP(s->loop);
  if (s->closing) return;
  if (s->tls && status == 0) mw_stream_tls_notify(s);
  if (s->closing) return;
  s->closing = true;
  s->status = status;
  mw_timer_stop(&s->deadline);
  uv_close(&s->uv.handle, on_closed);
}

void mw_stream_close(mw_stream *s) { mw_stream_abort(s, 0); }

void mw_stream_fail(mw_stream *s, int status, const char *format, ...) {
  if (s->closing) return;
  char text[400];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  mw_free(s->error);
  s->error = mw_strdup(text);
  mw_stream_abort(s, status);
}

// Both sides have ended: nothing more can happen here.
static void close_if_over(mw_stream *s) {
  if (!s->closing && s->eof && s->ended) mw_stream_close(s);
}

// Reading.

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf) {
  mw_stream *s = handle->data;
  buf->base = s->loop->read_buffer;
  buf->len = sizeof s->loop->read_buffer;
}

static void got_wire_end(mw_stream *s, int status) {
  if (s->broken) mw_stream_fail(s, UV_EPIPE, "the peer closed the connection while it was being sent data");
  else if (status != UV_EOF) mw_stream_abort(s, status);
  else if (s->tls) mw_stream_tls_wire_end(s);
  else mw_stream_got_end(s);
}

static void on_read(uv_stream_t *uv, ssize_t nread, const uv_buf_t *buf) {
  mw_stream *s = uv->data;
  if (nread == 0 || s->closing) return;
  int fault = MW_FAULT(stream_read);
  if (fault) nread = fault;
  if (nread < 0) got_wire_end(s, (int)nread);
  else if (s->tls) mw_stream_tls_feed(s, mw_str_of(buf->base, (size_t)nread));
  else mw_stream_deliver(s, mw_str_of(buf->base, (size_t)nread));
}

bool mw_stream_wants_data(const mw_stream *s) {
  return !s->closing && !s->eof && (s->finishing || (s->handler && !s->paused));
}

static void update_reading(mw_stream *s) {
  bool shaking = s->tls && !mw_stream_tls_is_established(s->tls);
  bool want = !s->closing && !s->connecting && !s->eof && (shaking || mw_stream_wants_data(s));
  if (want == s->reading) return;
  s->reading = want;
  if (!want) {
    uv_read_stop(&s->uv.stream);
    return;
  }
  int rc = uv_read_start(&s->uv.stream, on_alloc, on_read);
  if (rc) mw_stream_abort(s, rc);
}

void mw_stream_deliver(mw_stream *s, mw_str data) {
  if (!s->finishing && s->handler) s->handler->on_data(s, data, s->arg);
}

void mw_stream_got_end(mw_stream *s) {
  if (s->eof || s->closing) return;
  s->eof = true;
  update_reading(s);
  if (s->finishing) {
    close_if_over(s);
  } else if (s->handler && s->handler->on_end) {
    s->handler->on_end(s, s->arg);
    close_if_over(s);
  } else {
    mw_stream_finish(s, END_LINGER_MS);
  }
}

void mw_stream_set_handler(mw_stream *s, const mw_stream_handler *handler, void *arg) {
  MW_ASSERT_LOOP(s->loop);
  s->handler = handler;
  s->arg = arg;
  if (s->closing) return;
  update_reading(s);
  if (s->tls) mw_stream_tls_kick(s);
}

void mw_stream_pause(mw_stream *s) {
  s->paused = true;
  if (!s->closing) update_reading(s);
}

void mw_stream_resume(mw_stream *s) {
  s->paused = false;
  if (s->closing) return;
  update_reading(s);
  if (s->tls) mw_stream_tls_kick(s);
}

// Writing.

size_t mw_stream_queued_bytes(const mw_stream *s) {
  return uv_stream_get_write_queue_size(&s->uv.stream) + s->pending.len +
         (s->inflight.len - s->inflight_at > SLICE_BYTES ? s->inflight.len - s->inflight_at - SLICE_BYTES : 0);
}

static void on_broken_deadline(mw_timer *timer, void *arg) {
  mw_stream_fail(arg, UV_EPIPE, "the peer closed the connection while it was being sent data");
}

// A peer that refuses a request may have answered before it stopped taking bytes: let that be read first.
static int write_failed(mw_stream *s, int status) {
  if (status != UV_EPIPE || !s->reading || s->finishing) {
    mw_stream_abort(s, status);
    return status;
  }
  s->broken = true;
  mw_buf_reset(&s->pending, 0);
  mw_timer_init(&s->deadline, on_broken_deadline, s);
  mw_timer_start(s->loop, &s->deadline, BROKEN_MS);
  return status;
}

static void on_shutdown(uv_shutdown_t *req, int status) {
  mw_stream *s = req->data;
  if (s->closing) return;
  s->ended = true;
  if (status && status != UV_ENOTCONN) mw_stream_abort(s, status);
  else close_if_over(s);
}

static void on_written(uv_write_t *req, int status) {
  mw_stream *s = req->data;
  s->writing = false;
  if (s->closing) return;
  if (status) {
    write_failed(s, status);
    return;
  }
  size_t left = s->inflight.len - s->inflight_at;
  s->inflight_at += left < SLICE_BYTES ? left : SLICE_BYTES;
  write_slice(s);
  if (s->closing || !s->full || mw_stream_queued_bytes(s) >= MW_STREAM_LOW_MARK) return;
  s->full = false;
  if (s->handler && s->handler->on_drain && !s->finishing) s->handler->on_drain(s, s->arg);
}

// Sends FIN once everything is out.
static void shut_if_done(mw_stream *s) {
  if (!s->ending || s->shutting || s->writing || s->broken || s->connecting) return;
  if (s->tls && !mw_stream_tls_is_established(s->tls)) return;
  s->shutting = true;
  s->req.shutdown.data = s;
  int rc = uv_shutdown(&s->req.shutdown, &s->uv.stream, on_shutdown);
  if (rc) mw_stream_abort(s, rc == UV_ENOTCONN ? 0 : rc);
}

static void write_slice(mw_stream *s) {
  if (s->inflight_at == s->inflight.len) {
    mw_buf_reset(&s->inflight, 0);
    s->inflight_at = 0;
    mw_buf next = s->pending;
    s->pending = s->inflight;
    s->inflight = next;
  }
  size_t left = s->inflight.len - s->inflight_at;
  if (left == 0) {
    shut_if_done(s);
    return;
  }
  uv_buf_t buf = uv_buf_init(s->inflight.ptr + s->inflight_at, (unsigned)(left < SLICE_BYTES ? left : SLICE_BYTES));
  s->writing = true;
  s->write_req.data = s;
  int rc = uv_write(&s->write_req, &s->uv.stream, &buf, 1, on_written);
  if (rc) {
    s->writing = false;
    write_failed(s, rc);
  }
}

static int try_write(mw_stream *s, mw_str head, mw_str body, size_t *sent) {
  uv_buf_t bufs[2] = {uv_buf_init((char *)head.ptr, (unsigned)head.len), uv_buf_init((char *)body.ptr, (unsigned)body.len)};
  int n = head.len ? uv_try_write(&s->uv.stream, bufs, body.len ? 2 : 1) : uv_try_write(&s->uv.stream, bufs + 1, 1);
  *sent = n > 0 ? (size_t)n : 0;
  return n >= 0 || n == UV_EAGAIN ? 0 : write_failed(s, n);
}

int mw_stream_write_raw(mw_stream *s, mw_str head, mw_str body) {
  size_t total = head.len + body.len, sent = 0, queued = mw_stream_queued_bytes(s);
  if (total == 0) return 0;
  int fault = MW_FAULT(stream_write);
  if (fault) return write_failed(s, fault);
  if (queued == 0 && !s->writing && !s->connecting) {
    int rc = try_write(s, head, body, &sent);
    if (rc || sent == total) return rc;
  } else if (queued + total > MW_STREAM_MAX_QUEUED) {
    mw_stream_fail(s, MW_ELIMIT, "the peer does not read: %zu bytes are queued for it", queued);
    return MW_ELIMIT;
  }
  if (sent < head.len) mw_buf_add(&s->pending, head.ptr + sent, head.len - sent);
  size_t skip = sent > head.len ? sent - head.len : 0;
  if (body.len > skip) mw_buf_add(&s->pending, body.ptr + skip, body.len - skip);
  if (!s->writing && !s->connecting) write_slice(s);
  if (s->closing) return s->status;
  if (mw_stream_is_full(s)) s->full = true;
  return 0;
}

int mw_stream_write2(mw_stream *s, mw_str head, mw_str body) {
  MW_ASSERT_LOOP(s->loop);
  if (s->closing) return s->status ? s->status : MW_ECLOSED;
  if (s->broken) return UV_EPIPE;
  if (s->ending) return MW_ECLOSED;
  return s->tls ? mw_stream_tls_write(s, head, body) : mw_stream_write_raw(s, head, body);
}

int mw_stream_write(mw_stream *s, mw_str data) { return mw_stream_write2(s, data, mw_str_of(NULL, 0)); }

void mw_stream_end(mw_stream *s) {
  if (s->closing || s->ending) return;
  if (s->tls) mw_stream_tls_notify(s);
  if (s->closing) return;
  s->ending = true;
  shut_if_done(s);
}

static void on_linger(mw_timer *timer, void *arg) {
  mw_stream *s = arg;
  size_t queued = mw_stream_queued_bytes(s);
  bool moved = queued && queued < s->last_queued;
  s->last_queued = queued;
  if (moved) mw_timer_start(s->loop, timer, s->linger_ms);
  else mw_stream_close(s);
}

void mw_stream_finish(mw_stream *s, int64_t linger_ms) {
  if (s->closing || s->finishing) return;
  if (s->broken) {
    mw_stream_close(s);
    return;
  }
  s->finishing = true;
  s->linger_ms = linger_ms;
  s->last_queued = mw_stream_queued_bytes(s);
  mw_timer_stop(&s->deadline);
  mw_timer_init(&s->deadline, on_linger, s);
  mw_timer_start(s->loop, &s->deadline, linger_ms);
  mw_stream_end(s);
  if (s->closing) return;
  update_reading(s);
  close_if_over(s);
}

// Opening.

static void on_open_deadline(mw_timer *timer, void *arg) {
  mw_stream *s = arg;
  char peer[MW_ADDRESS_TEXT];
  mw_address_format(&s->peer, peer);
  mw_stream_fail(s, MW_ETIMEOUT, s->connecting ? "no connection to %s in time" : "no TLS handshake with %s in time", peer);
}

static void start_deadline(mw_stream *s, int64_t ms) {
  mw_timer_init(&s->deadline, on_open_deadline, s);
  mw_timer_start(s->loop, &s->deadline, ms);
}

void mw_stream_ready(mw_stream *s) {
  if (!s->finishing && !s->broken) mw_timer_stop(&s->deadline);
  update_reading(s);
  if (!s->writing && !s->closing) write_slice(s); // what was written before
  mw_stream_connect_cb cb = s->connect_cb;
  s->connect_cb = NULL;
  if (cb && !s->closing) cb(s, 0, s->connect_arg);
}

static void on_connected(uv_connect_t *req, int status) {
  mw_stream *s = req->data;
  if (s->closing) return;
  if (!status) status = MW_FAULT(stream_connect);
  s->connecting = false;
  if (status) {
    char peer[MW_ADDRESS_TEXT];
    mw_address_format(&s->peer, peer);
    mw_stream_fail(s, status, "connect to %s: %s", peer, mw_err_text(status));
    return;
  }
  if (!s->is_unix) uv_tcp_nodelay(&s->uv.tcp, 1);
  if (s->tls) {
    update_reading(s);
    mw_stream_tls_start(s);
  } else {
    mw_stream_ready(s);
  }
}

static int start_connect(mw_stream *s) {
  s->connecting = true;
  s->req.connect.data = s;
  if (!s->is_unix)
    return uv_tcp_connect(&s->req.connect, &s->uv.tcp, (const struct sockaddr *)&s->peer.storage, on_connected);
  const struct sockaddr_un *un = (const struct sockaddr_un *)&s->peer.storage;
  uv_pipe_connect(&s->req.connect, &s->uv.pipe, un->sun_path, on_connected);
  return 0;
}

int mw_stream_connect(mw_loop *loop, const mw_stream_connect_opts *opts, mw_stream_connect_cb cb, void *arg,
                      mw_stream **out) {
  MW_ASSERT_LOOP(loop);
  mw_stream *s = stream_new(loop, opts->address.storage.ss_family == AF_UNIX);
  s->peer = opts->address;
  int rc = init_handle(s);
  if (rc) {
    stream_free(s);
    return rc;
  }
  if (opts->tls) rc = mw_stream_tls_open(s, opts->tls, false, opts->server_name);
  if (rc == 0) rc = start_connect(s);
  if (rc) {
    mw_stream_abort(s, rc); // connect_cb is not set yet: closes in silence
    return rc;
  }
  s->connect_cb = cb;
  s->connect_arg = arg;
  start_deadline(s, opts->timeout_ms > 0 ? opts->timeout_ms : DEFAULT_CONNECT_MS);
  *out = s;
  return 0;
}

mw_stream *mw_stream_open_fd(mw_loop *loop, int fd, const mw_address *peer, mw_tls_context *tls, int64_t handshake_ms) {
  mw_stream *s = stream_new(loop, peer->storage.ss_family == AF_UNIX);
  s->peer = *peer;
  if (init_handle(s)) {
    close(fd);
    stream_free(s);
    return NULL;
  }
  int rc = s->is_unix ? uv_pipe_open(&s->uv.pipe, fd) : uv_tcp_open(&s->uv.tcp, fd);
  if (rc) close(fd);
  else if (tls) rc = mw_stream_tls_open(s, tls, true, NULL);
  if (rc) {
    mw_stream_abort(s, rc);
    return NULL;
  }
  if (tls) {
    start_deadline(s, handshake_ms);
    update_reading(s);
  }
  return s;
}

mw_stream *mw_stream_from_fd(mw_loop *loop, int fd, mw_tls_context *tls) {
  MW_ASSERT_LOOP(loop);
  mw_address peer = {.len = sizeof peer.storage}, own = {.len = sizeof own.storage};
  if (getsockname(fd, (struct sockaddr *)&own.storage, &own.len)) {
    close(fd);
    return NULL;
  }
  if (getpeername(fd, (struct sockaddr *)&peer.storage, &peer.len)) peer = own;
  return mw_stream_open_fd(loop, fd, &peer, tls, MW_STREAM_HANDSHAKE_MS);
}

mw_stream *mw_stream_from_pair(mw_loop *loop, int fd, const mw_address *peer) {
  MW_ASSERT_LOOP(loop);
  mw_address pair = {.storage = {.ss_family = AF_UNIX}};
  mw_stream *s = mw_stream_open_fd(loop, fd, &pair, NULL, 0);
  if (s) s->peer = *peer;
  return s;
}

// Questions.

void *mw_stream_arg(const mw_stream *s) { return s->arg; }
mw_loop *mw_stream_loop(const mw_stream *s) { return s->loop; }
const mw_address *mw_stream_peer(const mw_stream *s) { return &s->peer; }
bool mw_stream_has_input(const mw_stream *s) {
  uv_os_fd_t fd;
  int bytes = 0;
  if (s->closing || uv_fileno(&s->uv.handle, &fd)) return false;
  return ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

bool mw_stream_is_tls(const mw_stream *s) { return s->tls != NULL; }
const char *mw_stream_tls_version(const mw_stream *s) { return s->tls ? mw_stream_tls_protocol(s->tls) : NULL; }
bool mw_stream_is_closing(const mw_stream *s) { return s->closing; }
const char *mw_stream_error(const mw_stream *s) { return s->error ? s->error : mw_err_text(s->status); }
