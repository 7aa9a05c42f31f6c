// SPDX-License-Identifier: MIT
#include "base/alloc.h"
#include "base/clock.h"
#include "http/server_impl.h"

enum { POOL_MAX = 256, KEEP_HEAD = 16 * 1024, KEEP_BODY = 64 * 1024, KEEP_OUT = 4 * 1024 };

/* ---- the pool ---- */

mw_request *request_acquire(conn *c) {
  mw_server *server = c->server;
  mw_request *req = MW_LIST_POP(&server->pool, mw_request, node);
  if (req) {
    server->pooled--;
  } else {
    req = MW_NEW(mw_request);
    mw_arena_init(&req->arena);
  }
  req->conn = c;
  req->server = server;
  req->refs = 1;
  req->dispatched = req->begun = req->discard = req->paused = req->body_done = req->chunked_out = req->silent = false;
  req->want_continue = req->is_head = false;
  req->is_tls = mw_stream_is_tls(c->stream);
  req->minor = 1;
  req->tag = c->port->surface->tag;
  req->from_proxy = c->from_proxy;
  req->origin_read = false;
  req->gone_status = req->status_out = 0;
  req->bytes_out = req->head_bytes = 0;
  req->started_ns = mw_clock_mono_ns();
  req->head.method = req->head.target = req->path = req->query = req->type = mw_str_of("", 0);
  req->head.count = 0;
  req->match.route = NULL;
  req->match.status = 404;
  req->router = NULL;
  req->body_seen = req->body_max = 0;
  req->inflate = NULL;
  req->deflate = NULL;
  req->body_in = false;
  req->length_left = -1;
  req->data = NULL;
  return req;
}

static void request_free(mw_request *req) {
  mw_buf_deinit(&req->head_text);
  mw_buf_deinit(&req->body);
  mw_buf_deinit(&req->headers_out);
  mw_arena_deinit(&req->arena);
  mw_free(req);
}

void request_detach(mw_request *req) {
  conn *c = req->conn;
  req->conn = NULL;
  mw_inflate_free(req->inflate);
  req->inflate = NULL;
  compress_close(req->server, &req->deflate);
  if (req->refs > 1) memcpy(req->ip, c->ip, sizeof req->ip);
}

void mw_request_ref(mw_request *req) { req->refs++; }

void mw_request_unref(mw_request *req) {
  if (--req->refs) return;
  mw_server *server = req->server;
  mw_router_unref(req->router);
  req->router = NULL;
  if (server->pooled >= POOL_MAX) {
    request_free(req);
    return;
  }
  mw_buf_reset(&req->head_text, KEEP_HEAD);
  if (req->body.cap) mw_buf_reset(&req->body, KEEP_BODY);
  if (req->headers_out.cap) mw_buf_reset(&req->headers_out, KEEP_OUT);
  mw_arena_reset(&req->arena);
  mw_list_unshift(&server->pool, &req->node); // the warmest is used first
  server->pooled++;
}

void request_pool_free(mw_server *server) {
  for (mw_request *req; (req = MW_LIST_POP(&server->pool, mw_request, node));) request_free(req);
  server->pooled = 0;
}

void request_match(mw_request *req) {
  mw_router *router = req->conn->port->surface->router;
  mw_router_unref(req->router);
  req->router = router ? mw_router_ref(router) : NULL;
  req->match.route = NULL;
  req->match.status = 503;
  req->match.allow = 0;
  if (router) mw_router_match(router, req->head.method, req->path, &req->match);
}

/* ---- reading it ---- */

mw_str mw_request_method(const mw_request *req) { return req->head.method; }
mw_str mw_request_path(const mw_request *req) { return req->path; }
mw_str mw_request_target(const mw_request *req) { return req->head.target; }
mw_str mw_request_query(const mw_request *req) { return req->query; }
int mw_request_minor(const mw_request *req) { return req->minor; }
size_t mw_request_header_count(const mw_request *req) { return req->head.count; }

void mw_request_header_at(const mw_request *req, size_t index, mw_str *name, mw_str *value) {
  *name = req->head.fields[index].name;
  *value = req->head.fields[index].value;
}

// Joins repeated fields; cookies by "; ", as RFC 6265 has them.
static mw_str join_fields(const mw_request *req, mw_str name, size_t first) {
  const mw_head *head = &req->head;
  mw_str separator = mw_str_eq_nocase(name, MW_STR("cookie")) ? MW_STR("; ") : MW_STR(", ");
  size_t size = 0;
  for (size_t i = first; i < head->count; i = mw_headers_find(head->fields, head->count, name, i + 1)) {
    size += head->fields[i].value.len + separator.len;
  }
  char *text = mw_arena_alloc((mw_arena *)&req->arena, size), *to = text;
  for (size_t i = first; i < head->count; i = mw_headers_find(head->fields, head->count, name, i + 1)) {
    if (to > text) to = (char *)memcpy(to, separator.ptr, separator.len) + separator.len;
    mw_str value = head->fields[i].value;
    to = (char *)memcpy(to, value.ptr, value.len) + value.len;
  }
  return mw_str_of(text, (size_t)(to - text));
}

mw_str mw_request_header(const mw_request *req, mw_str name) {
  const mw_head *head = &req->head;
  size_t i = mw_headers_find(head->fields, head->count, name, 0);
  if (i == head->count) return mw_str_of(NULL, 0);
  if (mw_headers_find(head->fields, head->count, name, i + 1) < head->count) return join_fields(req, name, i);
  return head->fields[i].value;
}

mw_str mw_request_body(const mw_request *req) { return req->body.len ? mw_buf_str(&req->body) : mw_str_of("", 0); }
const mw_route *mw_request_route(const mw_request *req) { return req->match.route; }
size_t mw_request_param_count(const mw_request *req) { return req->match.route ? req->match.route->param_count : 0; }
mw_str mw_request_param(const mw_request *req, size_t index) { return req->match.params[index]; }
mw_str mw_request_peer(const mw_request *req) { return mw_str_from(req->conn ? req->conn->ip : req->ip); }
int mw_request_listener_tag(const mw_request *req) { return req->tag; }
bool mw_request_is_tls(const mw_request *req) { return req->is_tls; }
bool mw_request_is_open(const mw_request *req) { return req->conn != NULL; }
mw_arena *mw_request_arena(mw_request *req) { return &req->arena; }
void *mw_request_data(const mw_request *req) { return req->data; }
void mw_request_set_data(mw_request *req, void *data) { req->data = data; }
mw_loop *mw_request_loop(const mw_request *req) { return req->server->loop; }
int64_t mw_request_started_ns(const mw_request *req) { return req->started_ns; }

bool mw_request_body_is_over(const mw_request *req) { return req->body_done; }

void mw_request_pause(mw_request *req) {
  req->paused = true;
  if (req->conn) req->conn->body_due_ms = 0; // now it is not the client who is waited for
}

void mw_request_resume(mw_request *req) {
  if (!req->paused) return;
  req->paused = false;
  if (req->conn) conn_resume_body(req->conn);
}

/* ---- where it comes from ---- */

// A trusted proxy's headers are read when somebody asks.
static void read_origin(mw_request *req) {
  mw_forwarded_fields fields = {mw_request_header(req, MW_STR("forwarded")), mw_request_header(req, MW_STR("x-forwarded-for")),
                                mw_request_header(req, MW_STR("x-forwarded-proto")), mw_request_header(req, MW_STR("x-forwarded-host"))};
  mw_forwarded told;
  mw_forwarded_read(req->server->conf.proxies, &fields, &told);
  req->origin_read = true;
  req->via = told.is_known ? MW_VIA_PROXY : MW_VIA_UNKNOWN;
  req->scheme = told.scheme;
  req->host = told.host;
  if (!told.is_known) return;
  char text[MW_IP_TEXT];
  int len = mw_ip_format(&told.ip, text);
  req->client = mw_str_of(mw_arena_strndup(&req->arena, text, (size_t)len), (size_t)len);
}

static bool has_origin(mw_request *req) {
  if (req->from_proxy && !req->origin_read) read_origin(req);
  return req->from_proxy;
}

mw_via mw_request_via(mw_request *req) { return has_origin(req) ? req->via : MW_VIA_NOBODY; }

mw_str mw_request_ip(mw_request *req) { return mw_request_via(req) == MW_VIA_PROXY ? req->client : mw_request_peer(req); }

mw_str mw_request_scheme(mw_request *req) {
  if (has_origin(req) && req->scheme.len) return req->scheme;
  return req->is_tls ? MW_STR("https") : MW_STR("http");
}

mw_str mw_request_host(mw_request *req) {
  if (has_origin(req) && req->host.len) return req->host;
  mw_str host = mw_request_header(req, MW_STR("host"));
  return host.ptr ? host : MW_STR("");
}
