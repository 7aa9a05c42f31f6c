// SPDX-License-Identifier: MIT
#pragma once

// mw_http_client: requests to other servers, HTTP/1.1 over TCP and TLS, with a pool of kept connections a host. One a loop; owner's
// thread only.
//
//   mw_http_client *client = mw_http_client_new(loop, NULL);
//   mw_http_call *call;
//   mw_http_client_start(client, &(mw_http_call_opts){.url = MW_STR("https://example.com/"), .on_done = on_done, .arg = me}, &call, &err);
//
// Once rule: a start that fails never calls back; one that succeeds calls on_done exactly once, later, unless it is cancelled.
// A kept connection that turns out to be stale is replaced once, when the method is idempotent and nothing was received.
// Redirects (301, 302, 303, 307, 308) are followed: POST becomes GET at 301, 302 and 303, anything but GET and HEAD at 303; Authorization,
// Cookie and Proxy-Authorization stay behind when the origin changes.
// A collected answer in gzip or deflate is decompressed, up to max_bytes, and loses its Content-Encoding and Content-Length; the client asks
// for these codings unless the user sends Accept-Encoding or Range, or streams.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define MW_HTTP_CALL_MAX_BYTES (10 * 1024 * 1024)

typedef struct mw_loop mw_loop;
typedef struct mw_http_client mw_http_client;
typedef struct mw_http_call mw_http_call;

typedef struct mw_http_client_conf {
  size_t max_per_host; /**< Connections to a host (scheme, name, port) at once; further calls wait their turn. 0: 64. */
  size_t max_idle;     /**< Kept connections altogether; the oldest goes. 0: 64. */
  int64_t idle_ms;     /**< How long an unused one is kept. 0: 30 s. */
  const char *ca_file; /**< Trust these certificates instead of the system's. Copied. */
} mw_http_client_conf;

typedef struct mw_http_header {
  mw_str name, value;
} mw_http_header;

typedef struct mw_http_answer {
  int status;
  const mw_http_header *headers; /**< In the order they came; 1xx answers and trailers are left out. */
  size_t header_count;
  mw_str body; /**< Collected; empty when on_body is set. */
  mw_str url;  /**< The one that answered, after redirects. */
  int redirects;
} mw_http_answer;

typedef struct mw_http_call_opts {
  mw_str method; /**< Empty: GET. */
  mw_str url;
  const mw_http_header *headers; /**< Framing (Content-Length, Transfer-Encoding, Connection …) is the client's. */
  size_t header_count;
  mw_str body;                 /**< `.ptr` NULL: none. */
  int64_t connect_timeout_ms;  /**< Look-up, connect and handshake. 0: 10 s. */
  int64_t answer_timeout_ms;   /**< From then to the first byte of the answer. 0: the total only. */
  int64_t timeout_ms;          /**< For everything, redirects included. 0: 30 s. Negative: none (streams). */
  size_t max_bytes;            /**< Larger answers end with MW_ELIMIT. 0: 10 MiB collected, no limit streamed. */
  int max_redirects;           /**< 0: 10; more end with MW_ELIMIT. Negative: a redirect is an answer like any other. */
  bool insecure;               /**< Take any certificate. */

  /** The head of the final answer is in. May be NULL; `answer` is valid until on_done returns. */
  void (*on_head)(mw_http_call *call, const mw_http_answer *answer, void *arg);
  /** A piece of the body; set it to stream instead of collecting. May pause or cancel the call. */
  void (*on_body)(mw_http_call *call, mw_str piece, void *arg);
  /** It is over: `status` 0 and the answer, or an error (`err->text` says it, with method and host) and NULL. The call is gone when
   *  this returns. */
  void (*on_done)(mw_http_call *call, int status, const mw_http_answer *answer, const mw_err *err, void *arg);
  void *arg;
} mw_http_call_opts;

/** `conf` may be NULL: all defaults. */
mw_http_client *mw_http_client_new(mw_loop *loop, const mw_http_client_conf *conf);
/** Ends what still runs (on_done with MW_ECANCELED, before it returns), closes every connection. */
void mw_http_client_free(mw_http_client *client);
/** Starts a request. Everything in `opts` is copied. MW_EINVALID names what cannot be sent: a URL, method or header with characters that
 *  would break the framing. */
int mw_http_client_start(mw_http_client *client, const mw_http_call_opts *opts, mw_http_call **out, mw_err *err);
/** Ends it now, without calling back; its connection is closed. At any time until on_done. */
void mw_http_call_cancel(mw_http_call *call);
/** Stops and restarts on_body; the peer is slowed down. Deadlines go on. */
void mw_http_call_pause(mw_http_call *call);
void mw_http_call_resume(mw_http_call *call);

typedef struct mw_http_client_stats {
  size_t active, waiting, connections, idle;
  uint64_t opened, reused, retried;
} mw_http_client_stats;
void mw_http_client_stats_get(const mw_http_client *client, mw_http_client_stats *stats);
