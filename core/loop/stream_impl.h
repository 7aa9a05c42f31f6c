// SPDX-License-Identifier: MIT
#pragma once

// The inside of mw_stream, for stream.c, stream_tls.c and listener.c only.

#include <openssl/ssl.h>
#include <uv.h>

#include "base/buf.h"
#include "loop/loop_impl.h"
#include "loop/stream.h"
#include "loop/timer.h"
#include "loop/tls.h"

#define MW_STREAM_HANDSHAKE_MS 10000 // unless its opener says otherwise

typedef struct mw_stream_tls mw_stream_tls;

struct mw_stream {
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } uv;
  mw_loop *loop;
  const mw_stream_handler *handler;
  void *arg;
  mw_stream_tls *tls; // NULL: plain
  mw_stream_connect_cb connect_cb;
  void *connect_arg;
  mw_timer deadline; // connect and handshake; later the progress of mw_stream_finish
  int64_t linger_ms;
  size_t last_queued; // when `deadline` was last started by finish

  uv_write_t write_req;
  mw_buf inflight; // being written, from inflight_at on
  size_t inflight_at;
  mw_buf pending; // written next
  union {
    uv_connect_t connect;
    uv_shutdown_t shutdown;
  } req;

  int status;
  char *error;
  mw_address peer;
  bool is_unix : 1;
  bool connecting : 1; // the socket, not the handshake
  bool reading : 1;    // libuv reads
  bool paused : 1;
  bool eof : 1;       // the peer has ended
  bool writing : 1;   // write_req is in use
  bool full : 1;      // passed the high mark; on_drain is owed
  bool ending : 1;    // mw_stream_end was called
  bool shutting : 1;  // shutdown started
  bool ended : 1;     // shutdown done
  bool broken : 1;    // the peer takes no more bytes
  bool finishing : 1; // mw_stream_finish was called
  bool closing : 1;
};

/** Wraps a connected, non-blocking descriptor; `peer` as accept told it. A handshake has `handshake_ms`. NULL on failure, with `fd`
 *  closed. */
mw_stream *mw_stream_open_fd(mw_loop *loop, int fd, const mw_address *peer, mw_tls_context *tls, int64_t handshake_ms);
/** Hands bytes to the user, or drops them while finishing. */
void mw_stream_deliver(mw_stream *stream, mw_str data);
/** True when data may be delivered now. */
bool mw_stream_wants_data(const mw_stream *stream);
/** The peer's clean end. */
void mw_stream_got_end(mw_stream *stream);
/** Sends bytes as they are. */
int mw_stream_write_raw(mw_stream *stream, mw_str head, mw_str body);
/** The connection is ready for its user (connected, and shaken hands). */
void mw_stream_ready(mw_stream *stream);
/** Sets the sentence and closes with `status`. */
void mw_stream_fail(mw_stream *stream, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/** Puts TLS over the stream; `server_name` is for the client's side. */
int mw_stream_tls_open(mw_stream *stream, mw_tls_context *context, bool is_server, const char *server_name);
void mw_stream_tls_free(mw_stream_tls *tls);
bool mw_stream_tls_is_established(const mw_stream_tls *tls);
const char *mw_stream_tls_protocol(const mw_stream_tls *tls);
/** Starts the handshake (client) once the socket is connected. */
void mw_stream_tls_start(mw_stream *stream);
/** Takes bytes from the wire. */
void mw_stream_tls_feed(mw_stream *stream, mw_str data);
/** The wire ended. */
void mw_stream_tls_wire_end(mw_stream *stream);
/** Delivers, next turn, what was decrypted while the stream was paused. */
void mw_stream_tls_kick(mw_stream *stream);
int mw_stream_tls_write(mw_stream *stream, mw_str head, mw_str body);
/** Sends close_notify once. */
void mw_stream_tls_notify(mw_stream *stream);
