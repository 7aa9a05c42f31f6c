// SPDX-License-Identifier: MIT
#include "http/server.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "http/date.h"
#include "http/server_impl.h"

#define DEFAULT(field, value) \
  if (!server->conf.field) server->conf.field = (value)

static void on_drain_over(mw_timer *timer, void *arg);

mw_server *mw_server_new(mw_loop *loop, const mw_server_conf *conf, const mw_server_handler *handler, void *arg) {
  mw_server *server = MW_NEW(mw_server);
  server->loop = loop;
  if (conf) server->conf = *conf;
  DEFAULT(max_header_bytes, 32 * 1024);
  DEFAULT(max_body_bytes, 1024 * 1024);
  DEFAULT(max_connections, 10000);
  DEFAULT(header_timeout_ms, 10000);
  DEFAULT(body_timeout_ms, 30000);
  DEFAULT(idle_timeout_ms, 120000);
  DEFAULT(handler_timeout_ms, 30000);
  DEFAULT(write_timeout_ms, 30000);
  DEFAULT(compress_min, 1024);
  server->compress_min = server->conf.compress_level ? server->conf.compress_min : SIZE_MAX;
  server->handler = handler;
  server->arg = arg;
  mw_list_init(&server->ports);
  mw_list_init(&server->surfaces);
  mw_list_init(&server->conns);
  mw_list_init(&server->pool);
  mw_timer_init(&server->drain_timer, on_drain_over, server);
  mw_access_sink_init(&server->access, server->conf.access_log, loop);
  server->date_ms = INT64_MIN;
  const char *name = server->conf.server_name;
  mw_str value = mw_str_from(name);
  if (value.len && value.len < 100 && mw_headers_is_value(value)) {
    server->server_line_len = (size_t)snprintf(server->server_line, sizeof server->server_line, "Server: %s\r\n", name);
  }
  if (server->conf.hsts_s > 0) {
    server->hsts_line_len = (size_t)snprintf(server->hsts_line, sizeof server->hsts_line, "Strict-Transport-Security: max-age=%lld\r\n",
                                             (long long)server->conf.hsts_s);
  }
  server->conf.server_name = NULL; // it need not outlive this call
  return server;
}

mw_str server_date(mw_server *server) {
  int64_t now = mw_loop_now_ms(server->loop);
  if (server->date_ms == INT64_MIN || now - server->date_ms >= 1000 || now < server->date_ms) {
    int64_t wall_us = mw_clock_wall_us();
    char text[MW_DATE_TEXT];
    mw_date_format(wall_us / 1000000, text);
    server->date_len = (size_t)snprintf(server->date, sizeof server->date, "Date: %s\r\n", text);
    server->date_ms = now - (wall_us / 1000) % 1000; // so that it turns with the second
  }
  return mw_str_of(server->date, server->date_len);
}

static surface *surface_of(mw_server *server, int tag) {
  MW_LIST_EACH(&server->surfaces, node) {
    surface *s = MW_CONTAINER(node, surface, node);
    if (s->tag == tag) return s;
  }
  surface *s = MW_NEW(surface);
  s->tag = tag;
  mw_list_push(&server->surfaces, &s->node);
  return s;
}

static void on_accept(mw_listener *listener, mw_stream *stream, void *arg) { conn_open(arg, stream); }

int mw_server_listen(mw_server *server, int fd, mw_tls_context *tls, int tag) {
  port *p = MW_NEW(port);
  p->server = server;
  p->surface = surface_of(server, tag);
  p->fd = fd;
  mw_listener_opts opts = {.tls = tls, .handshake_ms = server->conf.header_timeout_ms, .max_connections = server->conf.max_connections, .on_accept = on_accept, .arg = p};
  int rc = mw_listener_open(server->loop, fd, &opts, &p->listener);
  if (rc) {
    mw_free(p);
    return rc;
  }
  mw_list_push(&server->ports, &p->node);
  return 0;
}

static port *port_of(mw_server *server, surface *s) {
  MW_LIST_EACH(&server->ports, node) {
    port *p = MW_CONTAINER(node, port, node);
    if (!p->listener && p->surface == s) return p;
  }
  port *p = MW_NEW(port);
  p->server = server;
  p->surface = s;
  mw_list_push(&server->ports, &p->node);
  return p;
}

void mw_server_adopt(mw_server *server, mw_stream *stream, int tag) { conn_open(port_of(server, surface_of(server, tag)), stream); }

void mw_server_set_accepting(mw_server *server, int fd, bool accepting) {
  if (server->draining) return;
  MW_LIST_EACH(&server->ports, node) {
    port *p = MW_CONTAINER(node, port, node);
    if (!p->listener || p->fd != fd) continue;
    if (accepting) mw_listener_resume(p->listener);
    else mw_listener_pause(p->listener);
  }
}

void mw_server_set_router(mw_server *server, int tag, mw_router *router) {
  surface *s = surface_of(server, tag);
  mw_router *old = s->router;
  s->router = router ? mw_router_ref(router) : NULL;
  mw_router_unref(old);
}

bool mw_server_has_older(const mw_server *server, int64_t than_ns) {
  MW_LIST_EACH(&server->conns, node) {
    const conn *c = MW_CONTAINER(node, conn, node);
    if (c->state == CONN_HEAD && c->reading_head && (c->due_ms - server->conf.header_timeout_ms) * 1000000 < than_ns) return true;
    if (c->req && c->state != CONN_CLOSING && c->req->started_ns < than_ns) return true;
  }
  return false;
}

/* ---- the end ---- */

static void finish_drain(void *arg) {
  mw_server *server = arg;
  void (*cb)(void *) = server->drained;
  server->drained = NULL;
  if (cb) cb(server->drained_arg);
}

static void check_drained(mw_server *server) {
  if (!server->draining || !server->drained || server->stats.connections) return;
  mw_timer_stop(&server->drain_timer);
  mw_loop_post(server->loop, finish_drain, server);
}

void server_conn_gone(mw_server *server) {
  server->stats.connections--;
  check_drained(server);
}

static void on_drain_over(mw_timer *timer, void *arg) {
  mw_server *server = arg;
  MW_LIST_EACH(&server->conns, node) mw_stream_abort(MW_CONTAINER(node, conn, node)->stream, MW_ETIMEOUT);
}

void mw_server_wind_down(mw_server *server) {
  if (server->winding_down) return;
  server->winding_down = true;
  MW_LIST_EACH(&server->conns, node) conn_wind_down(MW_CONTAINER(node, conn, node));
}

void mw_server_drain(mw_server *server, int64_t bound_ms, void (*cb)(void *arg), void *arg) {
  server->drained = cb;
  server->drained_arg = arg;
  if (!server->draining) {
    server->draining = true;
    MW_LIST_EACH(&server->ports, node) {
      mw_listener *listener = MW_CONTAINER(node, port, node)->listener;
      if (listener) mw_listener_accept_now(listener);
      mw_listener_close(listener, false); // it lives on until its last connection is released
    }
    mw_server_wind_down(server);
    // Those that came since and are idle, as well.
    MW_LIST_EACH(&server->conns, node) conn_wind_down(MW_CONTAINER(node, conn, node));
  }
  if (server->stats.connections) mw_timer_start(server->loop, &server->drain_timer, bound_ms);
  else check_drained(server);
}

void mw_server_free(mw_server *server) {
  if (!server) return;
  mw_timer_stop(&server->drain_timer);
  mw_access_sink_deinit(&server->access);
  request_pool_free(server);
  for (port *p; (p = MW_LIST_POP(&server->ports, port, node));) mw_free(p);
  for (surface *s; (s = MW_LIST_POP(&server->surfaces, surface, node));) {
    mw_router_unref(s->router);
    mw_free(s);
  }
  mw_buf_deinit(&server->out);
  mw_buf_deinit(&server->scratch);
  mw_buf_deinit(&server->packed);
  for (int i = 0; i < 2; i++) mw_deflate_free(server->deflates[i]);
  mw_free(server);
}

void mw_server_stats_get(const mw_server *server, mw_server_stats *stats) { *stats = server->stats; }
