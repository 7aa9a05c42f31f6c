// SPDX-License-Identifier: MIT

// One connection: look-up, connect to one address after the other, then answers read by llhttp. Its memory goes in the last callback
// of its stream (or of its look-up); `host` is NULL from the moment it is given up.

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "http/client_impl.h"

#define DEFAULT_CONNECT_MS 10000

static void connect_next(mw_http_conn *conn, int status, const char *why);

// Takes the call off the connection and the connection out of the books.
static mw_http_call *detach(mw_http_conn *conn) {
  mw_http_call *call = conn->call;
  conn->call = NULL;
  if (call) call->conn = NULL;
  mw_http_pool_drop(conn);
  return call;
}

// Before there is a stream: nothing will call back any more.
static void give_up(mw_http_conn *conn, int status, const char *why) {
  char text[400];
  snprintf(text, sizeof text, "%s", why);
  mw_http_call *call = detach(conn);
  if (call) mw_http_call_broken(call, conn, status, text);
  mw_free(conn);
}

void mw_http_conn_close(mw_http_conn *conn) {
  if (!conn->host) return;
  detach(conn);
  if (conn->dns) mw_dns_cancel(conn->dns);
  else mw_stream_close(conn->stream);
}

// Reading answers.

static int on_message_begin(llhttp_t *parser) {
  mw_http_conn *conn = parser->data;
  mw_http_call_reset_head(conn->call);
  return 0;
}

static int on_head_bytes(llhttp_t *parser, const char *at, size_t len) {
  mw_http_conn *conn = parser->data;
  if (mw_http_call_add_head(conn->call, mw_str_of(at, len))) return 0;
  mw_http_call_fail(conn->call, MW_ELIMIT, "the headers of the answer are larger than %d bytes", MW_HTTP_MAX_HEAD);
  return -1;
}

static int on_span_end(llhttp_t *parser) {
  mw_http_conn *conn = parser->data;
  if (mw_http_call_end_span(conn->call)) return 0;
  mw_http_call_fail(conn->call, MW_ELIMIT, "the answer has more than %d headers", MW_HTTP_MAX_HEADERS);
  return -1;
}

static bool is_interim(const llhttp_t *parser) { return parser->status_code < 200 && parser->status_code != 101; }

static int on_headers_complete(llhttp_t *parser) {
  mw_http_conn *conn = parser->data;
  if (is_interim(parser)) return 1; // no body, whatever its headers say
  if (parser->status_code == 101) {
    mw_http_call_fail(conn->call, MW_EPROTOCOL, "the server switched protocols unasked");
    return -1;
  }
  bool no_body = mw_str_eq(conn->call->method, MW_STR("HEAD")) || parser->status_code == 204 || parser->status_code == 304;
  int rc = mw_http_call_on_head(conn->call, conn);
  return rc ? rc : no_body;
}

static int on_body(llhttp_t *parser, const char *at, size_t len) {
  mw_http_conn *conn = parser->data;
  mw_http_call_on_body(conn->call, mw_str_of(at, len));
  return conn->call ? 0 : -1;
}

static int on_message_complete(llhttp_t *parser) {
  mw_http_conn *conn = parser->data;
  if (is_interim(parser)) return 0;
  conn->complete = true;
  if (!llhttp_should_keep_alive(parser)) conn->close_after = true;
  return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_header_field = on_head_bytes,
    .on_header_value = on_head_bytes,
    .on_header_field_complete = on_span_end,
    .on_header_value_complete = on_span_end,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

// The answer is in. Keeps the connection when both sides can go on with it.
static void answered(mw_http_conn *conn) {
  mw_http_call *call = conn->call;
  conn->call = NULL;
  call->conn = NULL;
  bool clean = !conn->close_after && !mw_stream_is_closing(conn->stream) && mw_stream_queued_bytes(conn->stream) == 0;
  if (clean) {
    mw_stream_resume(conn->stream);
    mw_http_pool_keep(conn);
  } else {
    mw_http_conn_close(conn);
  }
  mw_http_call_complete(call);
}

static void on_data(mw_stream *stream, mw_str data, void *arg) {
  mw_http_conn *conn = arg;
  if (!conn->call) { // a server that speaks unasked
    mw_http_conn_close(conn);
    return;
  }
  int fault = MW_FAULT(http_client_read);
  if (fault) {
    mw_stream_abort(stream, fault);
    return;
  }
  conn->got_bytes = true;
  mw_http_call_got_bytes(conn->call);
  llhttp_errno_t rc = llhttp_execute(&conn->parser, data.ptr, data.len);
  if (!conn->host || !conn->call) return; // a callback ended it
  if (conn->complete) {
    if (llhttp_get_error_pos(&conn->parser) != data.ptr + data.len) conn->close_after = true; // more than was asked for
    answered(conn);
  } else if (rc != HPE_OK) {
    const char *reason = llhttp_get_error_reason(&conn->parser);
    mw_http_call_fail(conn->call, MW_EPROTOCOL, "the answer is not HTTP: %s", reason && *reason ? reason : llhttp_errno_name(rc));
  }
}

static void on_end(mw_stream *stream, void *arg) {
  mw_http_conn *conn = arg;
  conn->close_after = true;
  if (!conn->call) {
    mw_http_conn_close(conn);
    return;
  }
  llhttp_finish(&conn->parser); // completes an answer that ends with the connection
  if (!conn->host || !conn->call) return;
  if (conn->complete) answered(conn);
  else mw_stream_abort(stream, MW_ECLOSED);
}

static void on_close(mw_stream *stream, int status, void *arg) {
  mw_http_conn *conn = arg;
  mw_http_call *call = detach(conn);
  if (call) {
    const char *why = status == MW_ECLOSED && !mw_stream_is_tls(stream) ? NULL : mw_stream_error(stream);
    if (!why) why = conn->got_bytes ? "the server closed the connection before the answer was complete"
                                    : "the server closed the connection without an answer";
    mw_http_call_broken(call, conn, status ? status : MW_ECLOSED, why);
  }
  mw_free(conn);
}

static const mw_stream_handler handler = {.on_data = on_data, .on_end = on_end, .on_close = on_close};

// Sending.

static void serve(mw_http_conn *conn) {
  mw_http_call *call = conn->call;
  llhttp_init(&conn->parser, HTTP_RESPONSE, &settings);
  conn->parser.data = conn;
  conn->complete = conn->got_bytes = conn->close_after = false;
  mw_buf *head = &call->client->scratch;
  head->len = 0;
  mw_http_request_format(call, head);
  // A failed write closes the stream, or lets what the server said first still be read; both end in a callback.
  if (mw_stream_write2(conn->stream, mw_buf_str(head), call->body)) conn->close_after = true;
  int fault = MW_FAULT(http_client_write);
  if (fault) mw_stream_abort(conn->stream, fault);
  mw_http_call_connected(call);
}

void mw_http_conn_use(mw_http_conn *conn, mw_http_call *call) {
  conn->call = call;
  call->conn = conn;
  conn->reused = true;
  serve(conn);
  int fault = MW_FAULT(http_client_reuse);
  if (fault) mw_stream_abort(conn->stream, fault);
}

// Connecting.

static void on_connected(mw_stream *stream, int status, void *arg) {
  mw_http_conn *conn = arg;
  if (!conn->host) {
    if (status) mw_free(conn); // given up meanwhile: this is the stream's last callback
    else mw_stream_set_handler(stream, &handler, conn);
    return;
  }
  if (status) {
    char why[400];
    snprintf(why, sizeof why, "%s", mw_stream_error(stream));
    conn->stream = NULL;
    if (status == MW_ETLS) give_up(conn, status, why); // another address would show the same certificate
    else connect_next(conn, status, why);
    return;
  }
  mw_stream_set_handler(stream, &handler, conn);
  serve(conn);
}

// The time that is left is shared by the addresses that are left, the first getting half of it.
static int64_t share_of_time(const mw_http_conn *conn) {
  int64_t left = conn->deadline_ms - mw_loop_now_ms(conn->loop);
  if (conn->next_address + 1 < conn->address_count) left /= 2;
  return left > 1 ? left : 1;
}

static int start_connect(mw_http_conn *conn) {
  mw_http_client *client = conn->host->client;
  mw_stream_connect_opts opts = {
      .address = conn->addresses[conn->next_address],
      .tls = !conn->host->is_tls ? NULL : conn->host->insecure ? client->tls_insecure : client->tls,
      .server_name = conn->host->name,
      .timeout_ms = share_of_time(conn),
  };
  conn->next_address++;
  int fault = MW_FAULT(http_client_connect);
  if (fault) return fault;
  return mw_stream_connect(conn->loop, &opts, on_connected, conn, &conn->stream);
}

// `status` and `why` tell how the address before failed.
static void connect_next(mw_http_conn *conn, int status, const char *why) {
  while (conn->next_address < conn->address_count) {
    status = start_connect(conn);
    if (status == 0) return;
    why = mw_err_text(status);
  }
  give_up(conn, status, why);
}

static void on_resolved(int status, const mw_address *addresses, size_t count, void *arg) {
  mw_http_conn *conn = arg;
  conn->dns = NULL;
  if (!conn->host) {
    mw_free(conn);
    return;
  }
  if (status) {
    char why[400];
    snprintf(why, sizeof why, "%s: %s", conn->host->name, mw_err_text(status));
    give_up(conn, status, why);
    return;
  }
  conn->address_count = count < MW_HTTP_MAX_ADDRESSES ? count : MW_HTTP_MAX_ADDRESSES;
  memcpy(conn->addresses, addresses, conn->address_count * sizeof *addresses);
  connect_next(conn, MW_EDNS, mw_err_text(MW_EDNS));
}

static int make_tls(mw_http_host *host, mw_err *err) {
  mw_http_client *client = host->client;
  mw_tls_context **context = host->insecure ? &client->tls_insecure : &client->tls;
  if (!host->is_tls || *context) return 0;
  return mw_tls_client_new(&(mw_tls_client_opts){client->ca_file, host->insecure}, context, err);
}

int mw_http_conn_open(mw_http_host *host, mw_http_call *call, mw_err *err) {
  int rc = make_tls(host, err);
  if (rc) return rc;
  mw_http_conn *conn = MW_NEW(mw_http_conn);
  mw_list_init(&conn->host_node);
  mw_list_init(&conn->client_node);
  conn->loop = host->client->loop;
  int64_t timeout = call->opts.connect_timeout_ms > 0 ? call->opts.connect_timeout_ms : DEFAULT_CONNECT_MS;
  conn->deadline_ms = mw_loop_now_ms(conn->loop) + timeout;
  rc = mw_dns_resolve(conn->loop, host->name, host->port, on_resolved, conn, &conn->dns);
  if (rc) {
    mw_free(conn);
    return mw_err_set(err, rc, "%s: %s", host->name, mw_err_text(rc));
  }
  conn->host = host;
  conn->call = call;
  call->conn = conn;
  host->connections++;
  host->client->connections++;
  host->client->stats.opened++;
  return 0;
}
