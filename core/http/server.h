// SPDX-License-Identifier: MIT
#pragma once

// mw_server: HTTP/1.1 and 1.0 on one loop. It parses, limits, routes and frames; what to answer is its user's. Owner's thread only.
//
// A request is alive from on_request until its exchange is over: the user must answer it exactly once (mw_response_send, or
// mw_response_begin … mw_response_end, or mw_response_abort). on_gone comes when the exchange ends in any way (answered, client away,
// deadline), exactly once after on_request, often from inside the call that answers. After it the request may be touched only by who
// holds it (mw_request_ref): what was asked can still be read, answering does nothing. Pipelined requests are handed over one after the
// other, each when its predecessor is answered and never from inside the call that answered it. Requests come from a pool; header and
// body slices live as long as the request is held.
//
// Answers are compressed (http/compress.c) when the server is told to and the client takes it: short whole ones at once, longer ones slice by
// slice while the loop goes on, streamed ones piece by piece, each flushed.
//
//   on_request(mw_request *req, void *arg):  mw_response_send(req, 200, MW_STR("application/json"), MW_STR("{\"ok\":true}"));
//
// Smuggling and ambiguity are refused, not repaired: see http/strict.h for the list.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "http/router.h"

typedef struct mw_loop mw_loop;
typedef struct mw_listener mw_listener;
typedef struct mw_tls_context mw_tls_context;
typedef struct mw_proxies mw_proxies;
typedef struct mw_access_log mw_access_log;
typedef struct mw_server mw_server;
typedef struct mw_stream mw_stream;
typedef struct mw_request mw_request;

typedef struct mw_server_conf {
  size_t max_header_bytes;    /**< Request line and headers together. 0: 32 KiB. Over it: 431. */
  size_t max_body_bytes;      /**< Default of a route. 0: 1 MiB. Over it: 413. */
  size_t max_connections;     /**< A listener. 0: 10,000. */
  int64_t header_timeout_ms;  /**< From the first byte to the end of the headers. 0: 10 s. Over it: 408. */
  int64_t body_timeout_ms;    /**< Between two pieces of a body, and 10 times that for the whole. 0: 30 s. Over it: 408. */
  int64_t idle_timeout_ms;    /**< Keep-alive without a request. 0: 120 s. */
  int64_t handler_timeout_ms; /**< Until the answer begins. 0: 30 s. Over it: 503. A route can set its own. */
  int64_t write_timeout_ms;   /**< Without progress of a client that reads. 0: 30 s. */
  int compress_level;         /**< 1 (fast) to 9 (small). 0: answers are not compressed. */
  size_t compress_min;        /**< Whole answers shorter than this are not compressed. 0: 1 KiB. */
  int64_t hsts_s;             /**< max-age of `Strict-Transport-Security` on TLS connections. 0: not sent. */
  mw_access_log *access_log;  /**< Gets a line a request; outlives the server. NULL: none is written. */
  const mw_proxies *proxies;  /**< Peers whose word on the client counts (http/forwarded.h); outlives the server. NULL: none. */
  const char *server_name;    /**< `Server` header; NULL: none. */
} mw_server_conf;

typedef struct mw_server_handler {
  /** Headers are in (and the body, for a route that does not stream). `match` is the route; NULL with `*status` 404 or 405 already
   *  decided is never passed: see on_no_route. */
  void (*on_request)(mw_request *req, void *arg);
  /** No route: answer 404 (405: `Allow` is set already; 503: no routes are installed), before returning. NULL: a small body. */
  void (*on_no_route)(mw_request *req, int status, void *arg);
  /** A request that the server refused by itself (400, 408, 413, 431, 503 …); perhaps after on_request, then on_gone follows. `why` is
   *  a sentence. Answer it with mw_response_send before returning; the connection closes afterwards. NULL: a small problem+json body
   *  is sent. */
  void (*on_refused)(mw_request *req, int status, const char *why, void *arg);
  /** The exchange is over; `status` 0, or why it broke. The user's state of this request ends here. */
  void (*on_gone)(mw_request *req, int status, void *arg);
  /** Streaming bodies (mw_request_stream): a piece; `end` with the last (possibly empty) one. */
  void (*on_body)(mw_request *req, mw_str piece, bool end, void *arg);
  /** A streaming response may go on writing. */
  void (*on_drain)(mw_request *req, void *arg);
} mw_server_handler;

mw_server *mw_server_new(mw_loop *loop, const mw_server_conf *conf, const mw_server_handler *handler, void *arg);
/** Serves the connections of a listening descriptor, which it takes. `tag` is given back by mw_request_listener_tag: which surface the
 *  listener is for. The router is looked up a request by `router` below. */
int mw_server_listen(mw_server *server, int fd, mw_tls_context *tls, int tag);
/** Serves a connection that nobody listened for (mw_stream_from_pair), as one of the listener `tag`. Takes the stream. */
void mw_server_adopt(mw_server *server, mw_stream *stream, int tag);
/** Stops and restarts accepting on the listener of that descriptor. */
void mw_server_set_accepting(mw_server *server, int fd, bool accepting);
/** Sets the routes for a listener tag; requests from now on are matched in it. Takes a reference, drops that of the one before. */
void mw_server_set_router(mw_server *server, int tag, mw_router *router);
/** Says `Connection: close` from now on and closes connections that have been idle for MW_SERVER_IDLE_GRACE_MS, while it goes on
 *  accepting: the time in which clients may leave before a drain. A younger idle connection is left, since its client may be sending the next
 *  request just now. */
void mw_server_wind_down(mw_server *server);
#define MW_SERVER_IDLE_GRACE_MS 500
#define MW_SERVER_LAST_HEAD_MS 1000
/** Stops accepting, winds down, answers what still comes on open connections (the headers of a request within MW_SERVER_LAST_HEAD_MS), cuts what is left after `bound_ms`; then `cb`. */
void mw_server_drain(mw_server *server, int64_t bound_ms, void (*cb)(void *arg), void *arg);
/** After the drain's callback. */
void mw_server_free(mw_server *server);

typedef struct mw_server_stats {
  size_t connections, requests_active;
  uint64_t requests, refused;
} mw_server_stats;
void mw_server_stats_get(const mw_server *server, mw_server_stats *stats);
/** True when a request whose first byte came before that monotonic time (ns) is not answered to its end. Looks at each connection. */
bool mw_server_has_older(const mw_server *server, int64_t than_ns);

/* ---- the request ---- */

mw_str mw_request_method(const mw_request *req);
/** Path as matched: percent-decoded, duplicate slashes collapsed, without the query. */
mw_str mw_request_path(const mw_request *req);
/** The target as sent. */
mw_str mw_request_target(const mw_request *req);
/** The raw query string, without `?`. */
mw_str mw_request_query(const mw_request *req);
/** HTTP minor version: 0 or 1. */
int mw_request_minor(const mw_request *req);
/** First header of that name (any case); `.ptr` NULL when absent. Repeated list headers are joined with ", ". */
mw_str mw_request_header(const mw_request *req, mw_str name);
size_t mw_request_header_count(const mw_request *req);
void mw_request_header_at(const mw_request *req, size_t index, mw_str *name, mw_str *value);
/** The whole body of a route that does not stream. */
mw_str mw_request_body(const mw_request *req);
/** The matched route, NULL in on_no_route and on_refused; parameters in declared order. */
const mw_route *mw_request_route(const mw_request *req);
size_t mw_request_param_count(const mw_request *req);
mw_str mw_request_param(const mw_request *req, size_t index);
/** The client's address as text ("192.0.2.7", "2001:db8::1", "unix"): the peer's, unless that is a trusted proxy that names another. */
mw_str mw_request_ip(mw_request *req);
/** The address of who is at the other end of the connection. */
mw_str mw_request_peer(const mw_request *req);

typedef enum mw_via {
  MW_VIA_NOBODY,  /**< The peer is no trusted proxy: it is the client. */
  MW_VIA_PROXY,   /**< The peer is one, and said whom it is calling for. */
  MW_VIA_UNKNOWN, /**< The peer is one, and did not say, or said what cannot be read: mw_request_ip is the peer's. */
} mw_via;

mw_via mw_request_via(mw_request *req);
/** "https" or "http", as the client spoke it. */
mw_str mw_request_scheme(mw_request *req);
/** The host that the client asked for, with its port when it gave one; empty when HTTP/1.0 named none. */
mw_str mw_request_host(mw_request *req);
int mw_request_listener_tag(const mw_request *req);
bool mw_request_is_tls(const mw_request *req);
/** Keeps what was asked (method, path, headers, body, parameters, arena, data) beyond the exchange, until the unref. */
void mw_request_ref(mw_request *req);
void mw_request_unref(mw_request *req);
/** True while an answer can still be given. */
bool mw_request_is_open(const mw_request *req);
/** Memory that lives as long as the request. */
mw_arena *mw_request_arena(mw_request *req);
/** A slot for the user; NULL at first. */
void *mw_request_data(const mw_request *req);
void mw_request_set_data(mw_request *req, void *data);
mw_loop *mw_request_loop(const mw_request *req);
/** True when there is no body, or all of it was delivered: no on_body comes any more. */
bool mw_request_body_is_over(const mw_request *req);
/** Stops and restarts on_body. */
void mw_request_pause(mw_request *req);
void mw_request_resume(mw_request *req);
/** Monotonic ns when the first byte of it was read. */
int64_t mw_request_started_ns(const mw_request *req);

/* ---- the response ---- */

/** Sets a header; a name that was set before is replaced, except those that may be repeated (Set-Cookie, Link, Vary, WWW-Authenticate,
 *  Warning). Content-Type set here wins over the `type` of the answer. Returns MW_EINVALID for a name that is no token, a value with a
 *  control character, or one that the server frames itself (Content-Length, Transfer-Encoding, Connection, Date …); MW_ELIMIT above
 *  32 KiB together. Names and values are copied. */
int mw_response_header(mw_request *req, mw_str name, mw_str value);
/** Adds a header line that the caller wrote itself ("x-trace-id: 4bf9…\r\n"), unchecked. */
void mw_response_add_line(mw_request *req, mw_str line);
/** Sends a whole answer. `type` empty: no Content-Type. HEAD, 204 and 304 send no body. `body` is copied where it must be kept.
 *  Returns 0 also when the client is gone; MW_EINVALID when an answer was begun, or for a status outside 200 to 599. */
int mw_response_send(mw_request *req, int status, mw_str type, mw_str body);
/** Begins a streamed answer: chunked on HTTP/1.1, close-delimited on 1.0; with `length` >= 0 by Content-Length, unless it is
 *  compressed. `length` bytes must be written in any case. */
int mw_response_begin(mw_request *req, int status, mw_str type, int64_t length);
/** Sends a piece. Returns MW_AGAIN when the queue is above its mark (the piece is taken; wait for on_drain), 0, or MW_ECLOSED. */
int mw_response_write(mw_request *req, mw_str piece);
int mw_response_end(mw_request *req);
/** Cuts the connection: for an answer that failed half-way. */
void mw_response_abort(mw_request *req);
bool mw_response_is_begun(const mw_request *req);
/** True when what is written now is compressed: then a large piece takes time, about 10 ms a MiB. */
bool mw_response_is_compressed(const mw_request *req);
