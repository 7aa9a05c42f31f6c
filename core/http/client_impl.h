// SPDX-License-Identifier: MIT
#pragma once

// The inside of the client, for client*.c only. Three objects:
//
//   call  what the user asked for, over redirects and retries       client.c, client_request.c
//   conn  one connection; serves one call at a time                 client_conn.c
//   host  what belongs to (scheme, name, port, trust): kept connections and calls that wait for one   client_pool.c

#include <llhttp.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "http/client.h"
#include "http/inflate.h"
#include "http/url.h"
#include "loop/dns.h"
#include "loop/loop.h"
#include "loop/stream.h"
#include "loop/timer.h"
#include "loop/tls.h"

#define MW_HTTP_MAX_HEAD (64 * 1024)
#define MW_HTTP_MAX_HEADERS 256
#define MW_HTTP_MAX_WAITING 1000 // calls a host
#define MW_HTTP_MAX_ADDRESSES 8
#define MW_HTTP_MAX_SPARE 64              // calls kept for reuse
#define MW_HTTP_SPARE_BYTES (16 * 1024)  // of each buffer of theirs

typedef struct mw_http_host mw_http_host;
typedef struct mw_http_conn mw_http_conn;

struct mw_http_client {
  mw_loop *loop;
  mw_http_client_conf conf;
  char *ca_file;
  mw_tls_context *tls, *tls_insecure; // made on first use
  mw_map hosts;
  mw_list calls;
  mw_list idle; // kept connections of all hosts, oldest first
  size_t idle_count, connections;
  mw_list spare; // calls that are over, with their memory, for the next ones
  size_t spare_count;
  mw_buf scratch; // what is being written: a key, a request's head
  mw_http_client_stats stats;
};

struct mw_http_host {
  mw_http_client *client;
  mw_str key; // owned
  char *name;
  int port;
  bool is_tls, insecure;
  mw_list idle;    // conns, newest last
  mw_list waiting; // calls
  size_t waiting_count, connections;
};

struct mw_http_conn {
  mw_list host_node, client_node; // while idle
  mw_http_host *host;             // NULL once it is closing
  mw_loop *loop;
  mw_http_call *call; // whom it serves
  mw_stream *stream;
  mw_dns *dns;
  mw_address addresses[MW_HTTP_MAX_ADDRESSES];
  size_t address_count, next_address;
  int64_t deadline_ms; // of look-up, connect and handshake together
  int64_t idle_since_ms;
  mw_timer idle_timer;
  llhttp_t parser;
  bool reused, complete, got_bytes, close_after;
};

typedef struct mw_http_span {
  size_t at, len;
} mw_http_span;

struct mw_http_call {
  mw_list node;      // in client->calls, or in client->spare
  mw_list wait_node; // in host->waiting
  mw_http_client *client;
  mw_http_call_opts opts; // callbacks and numbers; slices below replace its own
  mw_str method, url_text, body;
  mw_url url;
  mw_http_header *headers; // the user's, checked
  size_t header_count;
  bool left_origin; // credentials stay behind
  bool decodes;     // it asks for gzip and deflate, and undoes them

  mw_http_host *waiting_for;
  mw_http_conn *conn;
  mw_timer total, phase, later;
  bool fresh_only;   // no kept connection: one was stale
  bool retried;
  bool paused;
  bool following;    // a redirect: its body is dropped
  bool follow_later; // the connection was given up for it
  bool connected, head_done, complete, over;
  bool *gone; // set when the call is freed, for whoever called out
  int redirects;

  size_t span_count;
  size_t span_at; // where the open name or value begins
  mw_http_header *answer_headers;
  mw_http_answer answer;
  mw_buf held; // came while paused
  size_t received;
  mw_inflate *inflate; // of a compressed answer that is collected

  // From here on what a spare call keeps.
  mw_arena arena;
  mw_buf head; // names and values of the answer's headers
  mw_buf collected;
  mw_http_span spans[2 * MW_HTTP_MAX_HEADERS];
};

/* client_pool.c */
/** Finds a connection for the call, starts one, or lets it wait. 0, or why not. */
int mw_http_pool_acquire(mw_http_call *call, mw_err *err);
/** The call does not wait any more. */
void mw_http_pool_forget(mw_http_call *call);
/** The connection served its call and can serve another. */
void mw_http_pool_keep(mw_http_conn *conn);
/** The connection is taken out of the books (it is closing); someone who waits may get a new one. */
void mw_http_pool_drop(mw_http_conn *conn);
void mw_http_pool_free_hosts(mw_http_client *client);

/* client_conn.c */
/** Starts look-up and connect for `call`. */
int mw_http_conn_open(mw_http_host *host, mw_http_call *call, mw_err *err);
/** Takes a kept connection for `call` and sends its request. */
void mw_http_conn_use(mw_http_conn *conn, mw_http_call *call);
/** Closes it and leaves its call alone. */
void mw_http_conn_close(mw_http_conn *conn);

/* client_request.c */
/** Checks and copies method, URL, headers and body into the call. */
int mw_http_request_prepare(mw_http_call *call, const mw_http_call_opts *opts, mw_err *err);
/** Writes the request's head for the current URL and method. */
void mw_http_request_format(const mw_http_call *call, mw_buf *out);
bool mw_http_request_is_idempotent(const mw_http_call *call);
/** Turns the call into the one that a redirect asks for. */
int mw_http_request_redirect(mw_http_call *call, int status, mw_str location, mw_err *err);

/* client.c: what a connection tells its call */
void mw_http_call_connected(mw_http_call *call);
/** Bytes of the answer came. */
void mw_http_call_got_bytes(mw_http_call *call);
/** A (or another, after 1xx) head begins. */
void mw_http_call_reset_head(mw_http_call *call);
/** A name or value goes on, or is complete; false when there are too many. */
bool mw_http_call_add_head(mw_http_call *call, mw_str bytes);
bool mw_http_call_end_span(mw_http_call *call);
/** The connection is gone (`conn->call` is cleared by then). */
void mw_http_call_broken(mw_http_call *call, mw_http_conn *conn, int status, const char *why);
int mw_http_call_on_head(mw_http_call *call, mw_http_conn *conn);
void mw_http_call_on_body(mw_http_call *call, mw_str piece);
/** The answer is complete and the connection released. */
void mw_http_call_complete(mw_http_call *call);
void mw_http_call_fail(mw_http_call *call, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/** Wakes the call for the next connection: it waited. */
void mw_http_call_go_on(mw_http_call *call);
