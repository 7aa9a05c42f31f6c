// SPDX-License-Identifier: MIT

// The clients of a rig: the far ends of socket pairs, whose near ends its HTTP server has. Written and read between two turns of the
// loop, so that the server's own code does all it does with a network.

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/rig_impl.h"
#include "base/alloc.h"
#include "http/server.h"
#include "loop/stream.h"

typedef struct connection {
  mw_list node;
  int number, fd;
  bool ended;
  size_t sent;
  mw_buf out, in;
} connection;

static connection *find(mw_rig *rig, int number) {
  MW_LIST_EACH(&rig->connections, node) {
    connection *c = MW_CONTAINER(node, connection, node);
    if (c->number == number) return c;
  }
  return NULL;
}

static void close_connection(connection *c) {
  mw_list_remove(&c->node);
  close(c->fd);
  mw_buf_deinit(&c->out);
  mw_buf_deinit(&c->in);
  mw_free(c);
}

void mw_rig_close_connections(mw_rig *rig) {
  MW_LIST_EACH(&rig->connections, node) close_connection(MW_CONTAINER(node, connection, node));
}

int mw_rig_connect(mw_rig *rig, int tag, const char *ip) {
  int pair[2];
  mw_address peer;
  if (rig->crashed || !mw_address_from_host(ip, 50000, &peer)) return 0;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)) return 0;
  mw_world *before = mw_world_use(&rig->world);
  mw_stream *stream = mw_stream_from_pair(rig->loop, pair[1], &peer);
  if (stream) mw_server_adopt(mw_http_host_server(rig->http), stream, tag);
  mw_world_use(before);
  if (!stream) {
    close(pair[0]);
    return 0;
  }
  connection *c = MW_NEW(connection);
  c->number = ++rig->last_connection;
  c->fd = pair[0];
  mw_list_push(&rig->connections, &c->node);
  return c->number;
}

void mw_rig_send(mw_rig *rig, int number, mw_str bytes) {
  connection *c = find(rig, number);
  if (c) mw_buf_add_str(&c->out, bytes);
}

bool mw_rig_receive(mw_rig *rig, int number, mw_buf *out) {
  connection *c = find(rig, number);
  if (!c) return true;
  mw_buf_add_str(out, mw_buf_str(&c->in));
  mw_buf_reset(&c->in, 65536);
  return c->ended;
}

void mw_rig_hang_up(mw_rig *rig, int number) {
  connection *c = find(rig, number);
  if (c) close_connection(c);
}

static bool write_some(connection *c) {
  if (c->ended || c->sent == c->out.len) return false;
  ssize_t n = send(c->fd, c->out.ptr + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
  if (n < 0) return false; // full, or the server has closed: reading tells
  c->sent += (size_t)n;
  if (c->sent == c->out.len) c->sent = c->out.len = 0;
  return n > 0;
}

static bool read_some(connection *c) {
  char piece[65536];
  bool moved = false;
  while (!c->ended) {
    ssize_t n = recv(c->fd, piece, sizeof piece, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
    moved = true;
    if (n <= 0) c->ended = true;
    else mw_buf_add(&c->in, piece, (size_t)n);
  }
  return moved;
}

bool mw_rig_pump(mw_rig *rig) {
  bool moved = false;
  MW_LIST_EACH(&rig->connections, node) {
    connection *c = MW_CONTAINER(node, connection, node);
    moved |= write_some(c);
    moved |= read_some(c);
  }
  return moved;
}
