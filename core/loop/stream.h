// SPDX-License-Identifier: MIT
#pragma once

// mw_stream: a connection: TCP, Unix or TLS over either, all the same to its user. Owner's thread only.
//
// Reading: on_data gets a slice of the loop's shared buffer, valid until it returns. mw_stream_pause stops it.
// Writing: mw_stream_write tries the socket at once and queues a copy of the rest. When the queue passes the high mark
// (256 KiB) the writer should stop and go on at on_drain (below 64 KiB); a queue over MW_STREAM_MAX_QUEUED closes the stream with
// MW_ELIMIT, because a reader that never reads must not eat memory (one write into an empty queue may be larger: its caller
// holds as much).
// Closing: mw_stream_close is a state; on_close comes exactly once, later, and is the last call; the memory dies after it.
// After any callback the stream may be closing; after calling out, assume nothing.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "loop/address.h"

#define MW_STREAM_HIGH_MARK (256 * 1024)
#define MW_STREAM_LOW_MARK (64 * 1024)
#define MW_STREAM_MAX_QUEUED (16 * 1024 * 1024)

typedef struct mw_loop mw_loop;
typedef struct mw_stream mw_stream;
typedef struct mw_tls_context mw_tls_context;

typedef struct mw_stream_handler {
  /** Bytes came. */
  void (*on_data)(mw_stream *stream, mw_str data, void *arg);
  /** The peer finished sending (half-close); writing still works. May be NULL: then the stream sends what is queued and
   *  closes. When both sides have ended it closes by itself. */
  void (*on_end)(mw_stream *stream, void *arg);
  /** The write queue fell below the low mark after it had passed the high one. May be NULL. */
  void (*on_drain)(mw_stream *stream, void *arg);
  /** It is over. `status` is 0 after mw_stream_close or a clean end, else the reason. */
  void (*on_close)(mw_stream *stream, int status, void *arg);
} mw_stream_handler;

typedef void (*mw_stream_connect_cb)(mw_stream *stream, int status, void *arg);

typedef struct mw_stream_connect_opts {
  mw_address address;
  mw_tls_context *tls;     /**< NULL: plain. */
  const char *server_name; /**< For SNI and verification; copied. */
  int64_t timeout_ms;      /**< For connect and handshake together; 0: 10 s. */
} mw_stream_connect_opts;

/** Connects. Returns an error and never calls back; or 0, sets `*out`, and calls `cb(stream, status, arg)` exactly once, later.
 *  After a failed connect the stream closes itself (on_close follows when a handler was set). Why a handshake failed:
 *  mw_stream_error. */
int mw_stream_connect(mw_loop *loop, const mw_stream_connect_opts *opts, mw_stream_connect_cb cb, void *arg, mw_stream **out);
/** Wraps a connected descriptor and takes it. `tls` (may be NULL) makes it the server's side of a handshake (at most 10 s),
 *  during which nothing is delivered. Returns NULL (and closes `fd`) when it is no socket. */
mw_stream *mw_stream_from_fd(mw_loop *loop, int fd, mw_tls_context *tls);

/** Wraps one end of a pair of connected Unix sockets and takes it; its peer is said to be `peer`. For specs of plugins. */
mw_stream *mw_stream_from_pair(mw_loop *loop, int fd, const mw_address *peer);

/** Sets who is told, and starts reading. `handler` must outlive the stream. */
void mw_stream_set_handler(mw_stream *stream, const mw_stream_handler *handler, void *arg);
void *mw_stream_arg(const mw_stream *stream);
mw_loop *mw_stream_loop(const mw_stream *stream);

/** Stops and restarts on_data. */
void mw_stream_pause(mw_stream *stream);
void mw_stream_resume(mw_stream *stream);

/** Sends bytes (see above). Returns 0, or the error the stream is closing with (UV_EPIPE: the peer takes no more; what it still
 *  has to say is delivered before on_close). Never calls back. */
int mw_stream_write(mw_stream *stream, mw_str data);
/** Sends two pieces with one system call (head and body). */
int mw_stream_write2(mw_stream *stream, mw_str head, mw_str body);
/** Bytes queued and not yet handed to the kernel. */
size_t mw_stream_queued_bytes(const mw_stream *stream);
/** True when the queue is above the high mark. */
static inline bool mw_stream_is_full(const mw_stream *stream) {
  return mw_stream_queued_bytes(stream) > MW_STREAM_HIGH_MARK;
}
/** Sends what is queued, then ends our side (TLS close_notify, FIN). Reading goes on. */
void mw_stream_end(mw_stream *stream);
/** Sends what is queued, waits for the peer to end (at most `linger_ms`, discarding what it sends), closes. A
 *  peer that takes nothing for `linger_ms` is closed too. No callback but on_close comes after this. The way to refuse a
 *  request without the answer being lost to a reset. */
void mw_stream_finish(mw_stream *stream, int64_t linger_ms);
/** Drops what is queued and closes; on_close follows with status 0. Twice is harmless. */
void mw_stream_close(mw_stream *stream);
/** Closes like mw_stream_close and reports `status`. */
void mw_stream_abort(mw_stream *stream, int status);

const mw_address *mw_stream_peer(const mw_stream *stream);
/** True when bytes of the peer are there that were not read yet. Asks the kernel. */
bool mw_stream_has_input(const mw_stream *stream);
bool mw_stream_is_tls(const mw_stream *stream);
/** "TLSv1.3"; NULL for a plain stream. Static. */
const char *mw_stream_tls_version(const mw_stream *stream);
bool mw_stream_is_closing(const mw_stream *stream);
/** The sentence behind the last error (a certificate's fault, for example); never NULL. */
const char *mw_stream_error(const mw_stream *stream);
