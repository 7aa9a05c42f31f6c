// SPDX-License-Identifier: MIT
#include "loop/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/log.h"
#include "loop/stream_impl.h"

#define BACKLOG 1024
#define DEFAULT_MAX_CONNECTIONS 10000
#define ACCEPTS_A_TURN 64
#define RETRY_MS 100      // after the system ran out of descriptors or memory
#define WARN_EVERY_MS 60000

struct mw_listener {
  uv_poll_t poll;
  mw_loop *loop;
  mw_listener_opts opts;
  int fd;
  size_t connections;
  mw_timer retry;
  int64_t warned_ms;
  bool paused, watching, closed, gone;
};

// Binding.

static bool is_answered(const mw_address *address) {
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  int rc = connect(fd, (const struct sockaddr *)&address->storage, address->len);
  bool dead = rc != 0 && errno == ECONNREFUSED;
  close(fd);
  return !dead;
}

static void remove_stale_socket(const mw_address *address) {
  const char *path = ((const struct sockaddr_un *)&address->storage)->sun_path;
  struct stat st;
  if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && !is_answered(address)) unlink(path);
}

static void set_options(int fd, const mw_address *address, const mw_listener_bind_opts *opts) {
  int on = 1;
  if (address->storage.ss_family == AF_UNIX) {
    fchmod(fd, 0600); // Linux gives the file the mode that the socket has when it is bound
    return;
  }
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (opts->reuseport) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); // accepted sockets inherit it
}

static int explain(const mw_address *address, int code, mw_err *err) {
  char text[MW_ADDRESS_TEXT];
  mw_address_format(address, text);
  switch (-code) {
  case EADDRINUSE:
    return mw_err_set(err, code, "%s is in use by another program: stop it or listen elsewhere", text);
  case EADDRNOTAVAIL: return mw_err_set(err, code, "%s is not an address of this machine", text);
  case EACCES: return mw_err_set(err, code, "%s: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)", text);
  default: return mw_err_set(err, code, "listen on %s: %s", text, mw_err_text(code));
  }
}

int mw_listener_bind(const mw_address *address, const mw_listener_bind_opts *opts, int *fd, mw_err *err) {
  static const mw_listener_bind_opts defaults;
  int family = address->storage.ss_family;
  int sock = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (sock < 0) return explain(address, -errno, err);
  set_options(sock, address, opts ? opts : &defaults);
  if (family == AF_UNIX) remove_stale_socket(address);
  if (bind(sock, (const struct sockaddr *)&address->storage, address->len) || listen(sock, BACKLOG)) {
    int code = -errno;
    close(sock);
    return explain(address, code, err);
  }
  if (family == AF_UNIX && opts && opts->mode) chmod(((const struct sockaddr_un *)&address->storage)->sun_path, opts->mode);
  *fd = sock;
  return 0;
}

int mw_listener_address(int fd, mw_address *address) {
  memset(address, 0, sizeof *address);
  address->len = sizeof address->storage;
  return getsockname(fd, (struct sockaddr *)&address->storage, &address->len) ? -errno : 0;
}

// Accepting.

static void on_readable(uv_poll_t *poll, int status, int events);

static void free_if_done(mw_listener *l) {
  if (!l->gone || l->connections) return;
  mw_tls_unref(l->opts.tls);
  mw_free(l);
}

static void update(mw_listener *l) {
  bool want = !l->closed && !l->paused && !mw_timer_is_armed(&l->retry) && l->connections < l->opts.max_connections;
  if (want == l->watching) return;
  l->watching = want;
  if (want) uv_poll_start(&l->poll, UV_READABLE, on_readable);
  else uv_poll_stop(&l->poll);
}

static void on_retry(mw_timer *timer, void *arg) { update(arg); }

// Out of descriptors: the connection stays in the backlog, and polling on would spin.
static void wait_a_little(mw_listener *l, int code) {
  int64_t now = mw_loop_now_ms(l->loop);
  if (!l->warned_ms || now - l->warned_ms > WARN_EVERY_MS) {
    l->warned_ms = now;
    mw_log(MW_LOG_ERROR, "loop", "cannot accept connections; trying again", MW_LOG_S("error", mw_err_text(code)),
           MW_LOG_I("connections", l->connections));
  }
  mw_timer_start(l->loop, &l->retry, RETRY_MS);
  update(l);
}

static void take(mw_listener *l, int fd, const mw_address *peer) {
  mw_stream *stream = mw_stream_open_fd(l->loop, fd, peer, l->opts.tls, l->opts.handshake_ms);
  if (!stream) return;
  l->connections++;
  l->opts.on_accept(l, stream, l->opts.arg);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
  mw_listener *l = poll->data;
  for (int i = 0; i < ACCEPTS_A_TURN && l->watching; i++) {
    mw_address peer;
    peer.len = sizeof peer.storage;
    int fault = MW_FAULT(listener_accept);
    int fd = fault ? -1 : accept4(l->fd, (struct sockaddr *)&peer.storage, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fault) errno = -fault;
    if (fd >= 0) {
      take(l, fd, &peer);
      if (l->closed) return; // its memory stays until the close callback
      update(l);
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO && errno != ENETDOWN && errno != EHOSTUNREACH) {
      wait_a_little(l, -errno);
      return;
    }
  }
}

void mw_listener_accept_now(mw_listener *l) {
  for (int i = 0; i < BACKLOG / ACCEPTS_A_TURN; i++) on_readable(&l->poll, 0, UV_READABLE);
}

int mw_listener_open(mw_loop *loop, int fd, const mw_listener_opts *opts, mw_listener **out) {
  MW_ASSERT_LOOP(loop);
  mw_listener *l = MW_NEW(mw_listener);
  int rc = uv_poll_init(&loop->uv, &l->poll, fd);
  if (rc) {
    mw_free(l);
    return rc;
  }
  l->poll.data = l;
  l->loop = loop;
  l->fd = fd;
  l->opts = *opts;
  if (!l->opts.handshake_ms) l->opts.handshake_ms = MW_STREAM_HANDSHAKE_MS;
  if (!l->opts.max_connections) l->opts.max_connections = DEFAULT_MAX_CONNECTIONS;
  if (l->opts.tls) mw_tls_ref(l->opts.tls);
  mw_timer_init(&l->retry, on_retry, l);
  update(l);
  *out = l;
  return 0;
}

void mw_listener_pause(mw_listener *l) {
  l->paused = true;
  update(l);
}

void mw_listener_resume(mw_listener *l) {
  l->paused = false;
  update(l);
}

void mw_listener_release(mw_listener *l) {
  l->connections--;
  if (l->closed) free_if_done(l);
  else update(l);
}

size_t mw_listener_connections(const mw_listener *l) { return l->connections; }

static void on_gone(uv_handle_t *handle) {
  mw_listener *l = handle->data;
  l->gone = true;
  free_if_done(l);
}

void mw_listener_close(mw_listener *l, bool keep_fd) {
  if (!l || l->closed) return;
  l->closed = true;
  mw_timer_stop(&l->retry);
  update(l);
  uv_poll_stop(&l->poll);
  if (!keep_fd) close(l->fd);
  uv_close((uv_handle_t *)&l->poll, on_gone);
}
