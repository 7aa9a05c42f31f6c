// SPDX-License-Identifier: MIT

// Kept connections. A host has at most max_per_host; who comes later waits in line. All hosts together keep at most max_idle.

#include "base/alloc.h"
#include "http/client_impl.h"

#define DEFAULT_PER_HOST 64
#define DEFAULT_IDLE 64
#define DEFAULT_IDLE_MS 30000
// A server may close an unused connection while a request is under way to it. What must not be sent twice takes only those that were
// used just now.
#define TRUSTED_MS 3000

// Scheme, trust, port (two bytes) and the name in small letters; in a buffer of the client.
static mw_str make_key(const mw_http_call *call) {
  mw_buf *key = &call->client->scratch;
  mw_str name = call->url.host;
  key->len = 0;
  char *to = mw_buf_reserve(key, name.len + 3);
  *to++ = (char)('0' + call->url.is_tls + 2 * call->opts.insecure);
  *to++ = (char)(call->url.port >> 8);
  *to++ = (char)call->url.port;
  for (size_t i = 0; i < name.len; i++) {
    char c = name.ptr[i];
    *to++ = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
  }
  key->len = name.len + 3;
  return mw_buf_str(key);
}

static mw_http_host *find_host(const mw_http_call *call) {
  mw_str key = make_key(call);
  mw_http_host *host = mw_map_get(&call->client->hosts, key);
  if (host) return host;
  host = MW_NEW(mw_http_host);
  host->client = call->client;
  host->key = mw_str_of(mw_strndup(key.ptr, key.len), key.len);
  host->name = mw_strndup(call->url.host.ptr, call->url.host.len);
  host->port = call->url.port;
  host->is_tls = call->url.is_tls;
  host->insecure = call->opts.insecure;
  mw_list_init(&host->idle);
  mw_list_init(&host->waiting);
  mw_map_set(&call->client->hosts, key, host);
  return host;
}

static void free_host(mw_http_host *host) {
  mw_free((char *)host->key.ptr);
  mw_free(host->name);
  mw_free(host);
}

static void free_host_if_unused(mw_http_host *host) {
  if (host->connections || host->waiting_count) return;
  mw_map_remove(&host->client->hosts, host->key);
  free_host(host);
}

static void leave_idle(mw_http_conn *conn) {
  if (mw_list_is_empty(&conn->host_node)) return;
  mw_list_remove(&conn->host_node);
  mw_list_remove(&conn->client_node);
  mw_timer_stop(&conn->idle_timer);
  conn->host->client->idle_count--;
}

static mw_http_conn *newest_idle(mw_http_host *host) {
  return mw_list_is_empty(&host->idle) ? NULL : MW_CONTAINER(host->idle.prev, mw_http_conn, host_node);
}

static size_t max_per_host(const mw_http_client *client) {
  return client->conf.max_per_host ? client->conf.max_per_host : DEFAULT_PER_HOST;
}

static int wait_in_line(mw_http_host *host, mw_http_call *call, mw_err *err) {
  if (host->waiting_count >= MW_HTTP_MAX_WAITING)
    return mw_err_set(err, MW_EBUSY, "%d requests wait for a connection to %s already", MW_HTTP_MAX_WAITING, host->name);
  call->waiting_for = host;
  host->waiting_count++;
  mw_list_push(&host->waiting, &call->wait_node);
  return 0;
}

int mw_http_pool_acquire(mw_http_call *call, mw_err *err) {
  mw_http_host *host = find_host(call);
  mw_http_conn *conn = call->fresh_only ? NULL : newest_idle(host);
  int64_t now = mw_loop_now_ms(call->client->loop);
  if (conn && (mw_http_request_is_idempotent(call) || now - conn->idle_since_ms < TRUSTED_MS)) {
    leave_idle(conn);
    call->client->stats.reused++;
    mw_http_conn_use(conn, call);
    return 0;
  }
  conn = newest_idle(host);
  if (conn && host->connections >= max_per_host(call->client)) mw_http_conn_close(conn); // this call cannot use it
  else if (conn == NULL && host->connections >= max_per_host(call->client)) return wait_in_line(host, call, err);
  host = find_host(call); // closing the last connection forgets the host
  int rc = mw_http_conn_open(host, call, err);
  if (rc) free_host_if_unused(host);
  return rc;
}

void mw_http_pool_forget(mw_http_call *call) {
  mw_http_host *host = call->waiting_for;
  if (!host) return;
  mw_list_remove(&call->wait_node);
  call->waiting_for = NULL;
  host->waiting_count--;
  free_host_if_unused(host);
}

static mw_http_call *next_in_line(mw_http_host *host) {
  mw_http_call *call = MW_LIST_POP(&host->waiting, mw_http_call, wait_node);
  if (!call) return NULL;
  call->waiting_for = NULL;
  host->waiting_count--;
  return call;
}

static void on_idle_timer(mw_timer *timer, void *arg) { mw_http_conn_close(arg); }

void mw_http_pool_keep(mw_http_conn *conn) {
  mw_http_host *host = conn->host;
  mw_http_client *client = host->client;
  mw_http_call *call = next_in_line(host);
  if (call) {
    client->stats.reused++;
    mw_http_conn_use(conn, call);
    return;
  }
  conn->idle_since_ms = mw_loop_now_ms(client->loop);
  mw_list_push(&host->idle, &conn->host_node);
  mw_list_push(&client->idle, &conn->client_node);
  client->idle_count++;
  mw_timer_init(&conn->idle_timer, on_idle_timer, conn);
  mw_timer_start(client->loop, &conn->idle_timer, client->conf.idle_ms > 0 ? client->conf.idle_ms : DEFAULT_IDLE_MS);
  if (client->idle_count > (client->conf.max_idle ? client->conf.max_idle : DEFAULT_IDLE))
    mw_http_conn_close(MW_CONTAINER(client->idle.next, mw_http_conn, client_node));
}

void mw_http_pool_drop(mw_http_conn *conn) {
  mw_http_host *host = conn->host;
  if (!host) return;
  leave_idle(conn);
  conn->host = NULL;
  host->connections--;
  host->client->connections--;
  mw_http_call *call = next_in_line(host);
  if (call) mw_http_call_go_on(call);
  free_host_if_unused(host);
}

void mw_http_pool_free_hosts(mw_http_client *client) {
  while (!mw_list_is_empty(&client->idle)) mw_http_conn_close(MW_CONTAINER(client->idle.next, mw_http_conn, client_node));
  mw_map_deinit(&client->hosts); // each went with its last connection
}
