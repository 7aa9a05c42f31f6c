// SPDX-License-Identifier: MIT
#include "app/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/port_holder.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/address.h"
#include "loop/listener.h"

#define RETRY_MS 100

void mw_sockets_close(mw_runtime_fds *fds) {
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = 0; i < MW_MAX_WORKERS; i++) {
      if (fds->listeners[tag][i] >= 0) close(fds->listeners[tag][i]);
      fds->listeners[tag][i] = -1;
    }
}

// SO_REUSEPORT would let two servers of one user share a port unseen, each getting half of the connections. So the address is
// first bound without it.
static int probe(const mw_address *address, mw_err *err) {
  int fd;
  if (mw_address_port(address) == 0) return 0;
  int rc = mw_listener_bind(address, NULL, &fd, err);
  if (!rc) close(fd);
  return rc;
}

/** True when the server that last ran in this data folder wrote that it listens on `address`, with or without TLS. */
static bool is_our_last(const mw_config *conf, const mw_address *address) {
  char path[4200], line[256], text[MW_ADDRESS_TEXT], tls[MW_LISTEN_TEXT];
  mw_address_format(address, text);
  mw_listen_format(&(mw_listen_address){*address, true}, tls);
  snprintf(path, sizeof path, "%s/addresses", conf->data);
  FILE *file = fopen(path, "re");
  bool found = false;
  while (file && !found && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    const char *space = strchr(line, ' ');
    found = space && (strcmp(space + 1, text) == 0 || strcmp(space + 1, tls) == 0);
  }
  if (file) fclose(file);
  return found;
}

static int bind_first(const mw_config *conf, const mw_address *address, int *fds, mw_err *err) {
  mw_listener_bind_opts opts = {.reuseport = true};
  bool is_unix = address->storage.ss_family == AF_UNIX;
  if (is_unix) mw_listen_parse_mode(conf->listen_mode, &opts.mode);
  int rc = is_unix ? 0 : probe(address, err);
  return rc ? rc : mw_listener_bind(address, &opts, &fds[0], err);
}

static int bind_patiently(const mw_config *conf, const mw_address *address, int *fds, mw_err *err) {
  int64_t give_up_ms = mw_clock_mono_ms() + conf->drain_timeout + 1000;
  bool said = false;
  int rc;
  while ((rc = bind_first(conf, address, fds, err)) == -EADDRINUSE && is_our_last(conf, address) && mw_clock_mono_ms() < give_up_ms) {
    if (!said)
      mw_log(MW_LOG_WARN, "supervisor", "the server before is still there; waiting until it has drained",
             MW_LOG_I("at_most_ms", conf->drain_timeout));
    said = true;
    nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
  }
  return rc;
}

// The kernel spreads TCP connections over sockets of one address; a Unix path has one socket, which all workers accept on.
static int add_socket(const mw_address *address, int first, int *fd, mw_err *err) {
  if (address->storage.ss_family != AF_UNIX) return mw_listener_bind(address, &(mw_listener_bind_opts){.reuseport = true}, fd, err);
  *fd = fcntl(first, F_DUPFD_CLOEXEC, 0);
  return *fd < 0 ? mw_err_set(err, -errno, "share the socket: %s", strerror(errno)) : 0;
}

static void name_holder(const mw_address *address, const mw_port_holder *holder, mw_err *err) {
  char text[MW_ADDRESS_TEXT];
  mw_address_format(address, text);
  mw_err_set(err, -EADDRINUSE, "%s is in use by process %d (%s): stop it or listen elsewhere", text, (int)holder->pid,
             holder->name);
}

static int open_listener(const mw_config *conf, int tag, int *fds, int workers, mw_err *err) {
  mw_listen_address to;
  int rc = mw_listen_configured(conf, tag, &to, err);
  if (rc) return rc;
  mw_address address = to.address;
  rc = bind_patiently(conf, &address, fds, err);
  if (!rc) rc = mw_listener_address(fds[0], &address);
  for (int i = 1; !rc && i < workers; i++) rc = add_socket(&address, fds[0], &fds[i], err);
  mw_port_holder holder;
  if (rc == -EADDRINUSE && mw_port_holder_find(&address, &holder)) name_holder(&address, &holder, err);
  int option = mw_listen_kinds[tag].option;
  return rc ? (mw_err_wrap(err, "%s (from %s)", mw_config_options[option].name, conf->origins[option]), rc) : 0;
}

int mw_sockets_open(const mw_config *conf, mw_runtime_fds *fds, mw_err *err) {
  fds->workers = mw_config_workers(conf);
  fds->supervisor = -1;
  fds->takes_over = false;
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = 0; i < MW_MAX_WORKERS; i++) fds->listeners[tag][i] = -1;
  int rc = 0;
  for (int tag = 0; tag < MW_LISTENERS && !rc; tag++)
    if (mw_listen_is_set(conf, tag)) rc = open_listener(conf, tag, fds->listeners[tag], fds->workers, err);
  if (rc) mw_sockets_close(fds);
  return rc;
}

// ---- taking those of a server before ----

static bool is_bound_to(int fd, const mw_address *address) {
  mw_address own;
  char a[MW_ADDRESS_TEXT], b[MW_ADDRESS_TEXT];
  if (mw_listener_address(fd, &own)) return false;
  mw_address_format(&own, a);
  mw_address_format(address, b);
  return strcmp(a, b) == 0;
}

// The row of `have` that is for this listener: the same words, or the same address.
static int find_row(const mw_config *conf, int tag, const mw_address *address, const mw_handover *have) {
  const char *text = conf->texts[mw_listen_kinds[tag].option];
  if (have->fds.listeners[tag][0] >= 0 && strcmp(have->addresses[tag], text) == 0) return tag;
  for (int row = 0; row < MW_LISTENERS; row++)
    if (have->fds.listeners[row][0] >= 0 && is_bound_to(have->fds.listeners[row][0], address)) return row;
  return -1;
}

static int adopt(const mw_config *conf, int tag, mw_handover *have, mw_runtime_fds *fds, mw_err *err) {
  mw_listen_address to;
  mw_address address;
  int rc = mw_listen_configured(conf, tag, &to, err);
  if (rc) return rc;
  int row = find_row(conf, tag, &to.address, have);
  if (row < 0) return open_listener(conf, tag, fds->listeners[tag], fds->workers, err);
  int *own = fds->listeners[tag], count = 0;
  memcpy(own, have->fds.listeners[row], sizeof have->fds.listeners[row]);
  memset(have->fds.listeners[row], -1, sizeof have->fds.listeners[row]);
  while (count < MW_MAX_WORKERS && own[count] >= 0) count++;
  rc = mw_listener_address(own[0], &address);
  for (; !rc && count < fds->workers; count++) rc = add_socket(&address, own[0], &own[count], err);
  return rc;
}

int mw_sockets_adopt(const mw_config *conf, mw_handover *have, mw_runtime_fds *fds, mw_err *err) {
  fds->workers = mw_config_workers(conf);
  fds->supervisor = -1;
  fds->takes_over = false;
  memset(fds->listeners, -1, sizeof fds->listeners);
  int rc = 0;
  for (int tag = 0; tag < MW_LISTENERS && !rc; tag++)
    if (mw_listen_is_set(conf, tag)) rc = adopt(conf, tag, have, fds, err);
  mw_sockets_close(&have->fds); // of listeners that are gone
  if (rc) mw_sockets_close(fds);
  return rc;
}
