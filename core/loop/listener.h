// SPDX-License-Identifier: MIT
#pragma once

// mw_listener: accepts connections. Binding is apart from listening, because the supervisor binds and the server listens.
//
//   int fd; mw_listener_bind(&address, &(mw_listener_bind_opts){.reuseport = true}, &fd, &err);
//   mw_listener *l; mw_listener_open(loop, fd, &opts, &l);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/address.h"

typedef struct mw_loop mw_loop;
typedef struct mw_listener mw_listener;
typedef struct mw_stream mw_stream;
typedef struct mw_tls_context mw_tls_context;

typedef struct mw_listener_opts {
  mw_tls_context *tls;      /**< NULL: plain. */
  int64_t handshake_ms;     /**< How long a TLS handshake may take. 0: 10 s. */
  size_t max_connections;   /**< Beyond it connections wait in the backlog. 0: 10,000. */
  /** A connection; the callee owns the stream and sets its handler. */
  void (*on_accept)(mw_listener *listener, mw_stream *stream, void *arg);
  void *arg;
} mw_listener_opts;

typedef struct mw_listener_bind_opts {
  bool reuseport; /**< Several sockets may share the address. */
  unsigned mode;  /**< Of a Unix socket's file. 0: 0600. */
} mw_listener_bind_opts;

/** Makes a bound, listening socket (close-on-exec, backlog 1024); `opts` may be NULL. For a Unix path a stale socket file that nobody
 *  answers on is replaced. `port in use` is said in the error's words. */
int mw_listener_bind(const mw_address *address, const mw_listener_bind_opts *opts, int *fd, mw_err *err);
/** Takes `fd` and accepts on it. */
int mw_listener_open(mw_loop *loop, int fd, const mw_listener_opts *opts, mw_listener **out);
/** Stops and restarts accepting (connections wait in the backlog meanwhile). */
void mw_listener_pause(mw_listener *listener);
void mw_listener_resume(mw_listener *listener);
/** Accepts what waits in the backlog now (up to a thousand), which closing the socket would reset. */
void mw_listener_accept_now(mw_listener *listener);
/** Tells that a stream it handed out is gone. */
void mw_listener_release(mw_listener *listener);
size_t mw_listener_connections(const mw_listener *listener);
/** Stops accepting and closes; `keep_fd` leaves the descriptor open for others. Its memory goes when the last stream it handed
 *  out has been released; releasing is the only thing to do with it after this. */
void mw_listener_close(mw_listener *listener, bool keep_fd);
/** The bound address (a port 0 is resolved). */
int mw_listener_address(int fd, mw_address *address);
