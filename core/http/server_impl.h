// SPDX-License-Identifier: MIT
#pragma once

// The inside of mw_server, for conn.c, request.c, response.c and server.c only.
//
// A connection (conn) takes bytes apart and owns deadlines; a request comes from a pool of the server while it is being read and
// answered, so an idle connection is small and nothing is allocated a request. During the events of one connection answers are
// gathered in server->out and written once at the end (conn->corked).

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "http/access_log.h"
#include "http/chunked.h"
#include "http/forwarded.h"
#include "http/deflate.h"
#include "http/inflate.h"
#include "http/parser.h"
#include "http/server.h"
#include "loop/listener.h"
#include "loop/loop.h"
#include "loop/stream.h"
#include "loop/timer.h"

#define MW_CONN_MAX_AHEAD (64 * 1024)     // bytes of pipelined requests kept while one is answered
#define MW_CONN_FLUSH_BYTES (64 * 1024)   // gathered answers beyond this are written at once
#define MW_CONN_COPY_BYTES (16 * 1024)    // bodies up to this are gathered with their heads
#define MW_CONN_PUMP_BYTES (1024 * 1024)  // of a larger body only this much is handed to the stream at a time
#define MW_CONN_INFLATE_BYTES (1024 * 1024) // of a compressed body only this much is taken out in one turn of the loop
#define MW_CONN_DEFLATE_BYTES (64 * 1024) // whole answers up to this are compressed at once, larger ones this much a turn
#define MW_SERVER_MAX_DEFLATES 256        // streams compressed at a time, about 70 KiB each; more are sent plain
#define MW_CONN_LINGER_MS 2000
#define MW_CONN_LAST_LINGER_MS 500        // while the server winds down
#define MW_CONN_DISCARD_BYTES (64 * 1024) // of a body that nobody wants: read up to this, beyond it close
#define MW_CONN_IP_TEXT MW_ADDRESS_TEXT

typedef struct conn conn;

typedef struct surface { // a listener tag and its routes
  mw_list node;
  int tag;
  mw_router *router;
} surface;

typedef struct port { // a listener
  mw_list node;
  mw_server *server;
  surface *surface;
  mw_listener *listener; // NULL: of adopted connections
  int fd;
} port;

typedef enum conn_state {
  CONN_HEAD,    // between requests, or inside a head
  CONN_BODY,    // reading a body (of a streaming route: its handler runs already)
  CONN_ANSWER,  // the request is in, the answer is not out
  CONN_PUMP,    // the answer is given, its body is still being handed to the stream
  CONN_CLOSING, // no more requests
} conn_state;

struct conn {
  mw_list node;
  mw_server *server;
  port *port;
  mw_stream *stream;
  mw_request *req;
  conn_state state;
  bool from_proxy; // the peer is one that is trusted
  bool processing, corked, deferred, gone, input_ended, close_after, paused, reading_head, finish, again;
  mw_buf in;    // bytes that wait
  size_t scanned; // of the head that is coming in: how far mw_strict_scan got
  mw_chunked chunked;
  uint64_t body_left;
  size_t inflated; // in this turn
  mw_buf pump; // rest of a large body
  size_t pump_at;
  mw_deflate *deflate; // of the pump; NULL: it is sent as it is
  bool pump_chunked;
  mw_timer timer;
  int64_t due_ms;        // when the present phase (idle, head, handler) is over; 0: never
  int64_t body_due_ms;   // when the next piece of the body must be there; 0: none is waited for
  int64_t body_last_ms;  // when the whole body must be there
  int64_t write_due_ms;  // when the peer must have taken something; 0: nothing is queued
  uint64_t wrote, sent_mark;
  char ip[MW_CONN_IP_TEXT];
};

struct mw_request {
  mw_list node; // in the pool
  conn *conn;   // NULL when the exchange is over
  mw_server *server;
  int refs;
  bool dispatched, begun, discard, paused, body_done, chunked_out, silent, want_continue, is_head, is_tls;
  int minor, tag;
  int status_out;         // of the answer; 0: none was begun
  uint64_t bytes_out, head_bytes; // handed to the connection, and how much of it was no body
  int gone_status; // what on_gone is told after a refusal
  bool from_proxy, origin_read;
  mw_via via;           // these are set once origin_read
  mw_str client, scheme, host;
  int64_t started_ns;
  mw_buf head_text;
  mw_head head;
  mw_str path, query;
  mw_route_match match;
  mw_router *router; // the one `match` is from
  mw_buf body;
  uint64_t body_seen, body_max; // as sent
  mw_inflate *inflate;          // NULL: the body is taken as it comes
  bool body_in;                 // all of it was read, though not all came out of `inflate`
  mw_buf headers_out; // raw lines
  mw_deflate *deflate; // of a streamed answer
  mw_str type;        // a Content-Type that mw_response_header gave
  int64_t length_left;
  void *data;
  mw_arena arena;
  char ip[MW_CONN_IP_TEXT];
};

struct mw_server {
  mw_loop *loop;
  mw_server_conf conf;
  const mw_server_handler *handler;
  void *arg;
  mw_list ports, surfaces, conns, pool;
  size_t pooled;
  mw_server_stats stats;
  mw_access_sink access;
  mw_buf out;     // answers of the events that run
  mw_buf scratch; // heads and chunks outside of them
  mw_buf packed;  // what was compressed last
  mw_deflate *deflates[2]; // for whole answers in gzip and deflate; made at the first
  size_t deflating, compress_min; // SIZE_MAX: nothing is compressed
  int64_t date_ms;
  char date[48];
  size_t date_len;
  char server_line[128];
  size_t server_line_len;
  char hsts_line[64];
  size_t hsts_line_len; // 0: none
  bool winding_down, draining;
  mw_timer drain_timer;
  void (*drained)(void *arg);
  void *drained_arg;
};

// request.c
mw_request *request_acquire(conn *c);
/** Takes it off its connection; what a user who holds it may still ask is kept. */
void request_detach(mw_request *req);
void request_pool_free(mw_server *server);
void request_match(mw_request *req);

// access.c
/** Writes the exchange that ends into the access log. */
void access_note(mw_request *req);

// response.c
/** Answers by on_refused or by itself, and closes. */
void response_refuse(mw_request *req, int status, const char *why);
/** Answers with a small problem+json. */
void response_problem(mw_request *req, int status, const char *why);

void response_remove_line(mw_request *req, mw_str name);
/** Writes one chunk of the chunked coding. */
void response_write_chunk(conn *c, mw_str piece);

// compress.c
/** Decides by request, route, type and headers, and says in Vary that it did. */
mw_coding compress_choose(mw_request *req, int status, mw_str type);
/** Sets the headers of a compressed answer. */
void compress_mark(mw_request *req, mw_coding coding);
/** Compresses a short body; the result is valid until the next. */
mw_str compress_whole(mw_server *server, mw_coding coding, mw_str body);
/** NULL when too many are open. */
mw_deflate *compress_open(mw_server *server, mw_coding coding);
void compress_close(mw_server *server, mw_deflate **deflate);

// conn.c
void conn_open(port *p, mw_stream *stream);
/** Ends the exchange (status 0 or why it broke) and goes on to the next request, never before the caller returned. */
void conn_finish_exchange(conn *c, int status);
/** Closes at once; on_gone tells `status`. */
void conn_cut(conn *c, int status);
/** Closes it when nothing has gone on for MW_SERVER_IDLE_GRACE_MS, else as soon as that is so; shortens the wait for a head in a drain. */
void conn_wind_down(conn *c);
/** Sends, or gathers while the connection is corked. */
void conn_write(conn *c, mw_str head, mw_str body);
/** Sends a body that is too large to hand over at once. */
void conn_pump(conn *c, mw_str body);
/** The same, compressing it slice by slice; takes `take_deflate`. */
void conn_pump_packed(conn *c, mw_str body, mw_deflate *take_deflate, bool chunked);
/** Ends the present phase after so long; 0: never. */
void conn_set_deadline(conn *c, int64_t after_ms);
/** Sees to it that the timer fires at the earliest deadline. */
void conn_arm(conn *c);
/** Starts the machine again at the end of this turn, unless it runs. */
void conn_go_on(conn *c);
/** Gives the request to the handler. */
void conn_dispatch(mw_request *req);
/** Answers 404, 405 or 503 when no route matches. */
void conn_answer_no_route(mw_request *req);

// conn_body.c
/** What follows a head: a body, its refusal, or the answer. `more_is_here`: the client did not wait for "100 Continue". */
void conn_begin_body(conn *c, bool more_is_here);
/** Takes what it can off `data`; false when it has to wait. */
bool conn_take_body(conn *c, mw_str *data);
/** The handler reads on. */
void conn_resume_body(conn *c);

// server.c
void server_conn_gone(mw_server *server);
mw_str server_date(mw_server *server);
