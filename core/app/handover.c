// SPDX-License-Identifier: MIT
#include "app/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/pair.h"

#define MAX_BYTES (1024 * 1024)
#define FDS_A_MESSAGE 200 // the kernel takes 253

void mw_handover_init(mw_handover *h) {
  memset(h, 0, sizeof *h);
  memset(h->fds.listeners, -1, sizeof h->fds.listeners);
  h->fds.supervisor = h->config_fd = h->pair_fd = -1;
  snprintf(h->version, sizeof h->version, "%s", MW_VERSION);
}

void mw_handover_set_sockets(mw_handover *h, const mw_config *conf, const mw_runtime_fds *fds) {
  h->fds = *fds;
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    if (mw_listen_is_set(conf, tag))
      snprintf(h->addresses[tag], sizeof h->addresses[tag], "%s", conf->texts[mw_listen_kinds[tag].option]);
}

// ---- memory files ----

static int write_memory(const char *name, mw_buf *bytes, mw_err *err) {
  int fd = memfd_create(name, MFD_CLOEXEC);
  ssize_t written = fd < 0 ? -1 : write(fd, bytes->ptr, bytes->len);
  bool whole = written == (ssize_t)bytes->len;
  int why = errno;
  explicit_bzero(bytes->ptr, bytes->len);
  mw_buf_deinit(bytes);
  if (whole) return fd;
  if (fd >= 0) close(fd);
  return mw_err_set(err, -why, "%s: %s", name, strerror(why));
}

// The whole of a memory file; the caller unmaps it.
static char *map_memory(int fd, size_t *len) {
  struct stat st;
  if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > MAX_BYTES) return NULL;
  char *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  *len = (size_t)st.st_size;
  return bytes == MAP_FAILED ? NULL : bytes;
}

int mw_handover_pack(const mw_config *conf, mw_err *err) {
  mw_buf packed = MW_BUF_INIT;
  mw_config_pack(conf, &packed);
  return write_memory("moonwatch-config", &packed, err);
}

int mw_handover_unpack(int fd, mw_config *conf, mw_err *err) {
  size_t len;
  char *bytes = map_memory(fd, &len);
  if (!bytes) return mw_err_set(err, MW_ECONFIG, "the supervisor handed over no configuration");
  int rc = mw_config_unpack(conf, mw_str_of(bytes, len), err);
  munmap(bytes, len);
  close(fd);
  return rc;
}

// ---- writing ----

typedef int (*number_fn)(void *arg, int fd);

static int same_number(void *arg, int fd) { return fd; }

static void format(const mw_handover *h, number_fn number, void *arg, mw_buf *out) {
  mw_buf_printf(out, "moonwatch %s\nworkers %d\n", h->version, h->fds.workers);
  for (int tag = 0; tag < MW_LISTENERS; tag++) {
    const int *fds = h->fds.listeners[tag];
    if (fds[0] < 0) continue;
    mw_buf_printf(out, "listener %s ", mw_listen_kinds[tag].name);
    for (int i = 0; i < MW_MAX_WORKERS && fds[i] >= 0; i++) mw_buf_printf(out, "%s%d", i ? "," : "", number(arg, fds[i]));
    mw_buf_printf(out, " %s\n", h->addresses[tag]);
  }
  if (h->config_fd >= 0) mw_buf_printf(out, "config %d\n", number(arg, h->config_fd));
  if (h->server) mw_buf_printf(out, "server %d %d\n", (int)h->server, number(arg, h->pair_fd));
  if (h->again) mw_buf_add_cstr(out, "again\n");
}

int mw_handover_write(const mw_handover *h, mw_err *err) {
  mw_buf text = MW_BUF_INIT;
  format(h, same_number, NULL, &text);
  return write_memory("moonwatch-handover", &text, err);
}

// ---- reading ----

static bool take_word(mw_str *line, mw_str *word) {
  size_t len = 0;
  while (len < line->len && line->ptr[len] != ' ') len++;
  *word = mw_str_of(line->ptr, len);
  size_t skip = len < line->len ? len + 1 : len;
  *line = mw_str_of(line->ptr + skip, line->len - skip);
  return len > 0;
}

static int take_number(mw_str *line) {
  mw_str word;
  char text[16];
  if (!take_word(line, &word) || word.len >= sizeof text) return -1;
  memcpy(text, word.ptr, word.len);
  text[word.len] = 0;
  return atoi(text);
}

static void read_listener(mw_handover *h, mw_str line, bool own) {
  mw_str name, list;
  if (!take_word(&line, &name) || !take_word(&line, &list)) return;
  int tag = mw_listen_find(name), count = 0;
  const char *at = list.ptr, *end = list.ptr + list.len;
  while (at < end) {
    char *after;
    int fd = (int)strtol(at, &after, 10);
    if (after == at) break;
    if (tag >= 0 && count < MW_MAX_WORKERS) h->fds.listeners[tag][count++] = fd;
    else if (own) close(fd);
    at = after + 1;
  }
  if (tag >= 0) snprintf(h->addresses[tag], sizeof h->addresses[tag], "%.*s", MW_STR_FMT(line));
}

static void read_line(mw_handover *h, mw_str line, bool own) {
  mw_str word;
  if (!take_word(&line, &word)) return;
  if (mw_str_eq(word, MW_STR("moonwatch"))) snprintf(h->version, sizeof h->version, "%.*s", MW_STR_FMT(line));
  else if (mw_str_eq(word, MW_STR("workers"))) h->fds.workers = take_number(&line);
  else if (mw_str_eq(word, MW_STR("listener"))) read_listener(h, line, own);
  else if (mw_str_eq(word, MW_STR("config"))) h->config_fd = take_number(&line);
  else if (mw_str_eq(word, MW_STR("server"))) h->server = take_number(&line), h->pair_fd = take_number(&line);
  else if (mw_str_eq(word, MW_STR("again"))) h->again = true;
}

// `own`: its numbers are descriptors of this process.
static int read_text(int fd, bool own, mw_handover *h, mw_err *err) {
  size_t len = 0;
  char *bytes = map_memory(fd, &len);
  mw_handover_init(h);
  mw_str rest = mw_str_of(bytes ? bytes : "", len);
  bool ours = mw_str_starts_with(rest, MW_STR("moonwatch "));
  while (ours && rest.len) {
    const char *end = memchr(rest.ptr, '\n', rest.len);
    size_t n = end ? (size_t)(end - rest.ptr) : rest.len;
    read_line(h, mw_str_of(rest.ptr, n), own);
    rest = mw_str_of(rest.ptr + n + (end != NULL), rest.len - n - (end != NULL));
  }
  if (bytes) munmap(bytes, len);
  if (ours && h->fds.workers >= 1 && h->fds.workers <= MW_MAX_WORKERS) return 0;
  return mw_err_set(err, MW_EPROTOCOL, "what was handed over is of no program that is known here");
}

int mw_handover_read(int fd, mw_handover *h, mw_err *err) { return read_text(fd, true, h, err); }

// ---- descriptors ----

typedef void (*visit_fn)(void *arg, int *fd);

static void each_fd(mw_handover *h, visit_fn visit, void *arg) {
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    for (int i = 0; i < MW_MAX_WORKERS && h->fds.listeners[tag][i] >= 0; i++) visit(arg, &h->fds.listeners[tag][i]);
  if (h->config_fd >= 0) visit(arg, &h->config_fd);
  if (h->pair_fd >= 0) visit(arg, &h->pair_fd);
}

static void set_flag(void *arg, int *fd) { fcntl(*fd, F_SETFD, *(bool *)arg ? 0 : FD_CLOEXEC); }

void mw_handover_set_inherited(const mw_handover *h, bool inherited) { each_fd((mw_handover *)h, set_flag, &inherited); }

// ---- over the pair ----

typedef struct fd_list {
  int fds[MW_HANDOVER_MAX_FDS];
  size_t count;
} fd_list;

// The number that a descriptor has over there: its place.
static int add_place(void *arg, int fd) {
  fd_list *list = arg;
  list->fds[list->count++] = fd;
  return (int)list->count - 1;
}

static int send_some(int pair_fd, const int *fds, size_t count) {
  char byte = MW_PAIR_SOCKETS;
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(FDS_A_MESSAGE * sizeof(int))];
  } control = {0};
  struct iovec piece = {&byte, 1};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  return sendmsg(pair_fd, &message, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

int mw_handover_send(int pair_fd, const mw_handover *h, mw_err *err) {
  fd_list list = {.count = 1}; // first the text itself
  mw_buf text = MW_BUF_INIT;
  format(h, add_place, &list, &text);
  int fd = write_memory("moonwatch-handover", &text, err);
  if (fd < 0) return fd;
  list.fds[0] = fd;
  int rc = 0;
  for (size_t at = 0; at < list.count && !rc; at += FDS_A_MESSAGE)
    rc = send_some(pair_fd, list.fds + at, list.count - at > FDS_A_MESSAGE ? FDS_A_MESSAGE : list.count - at);
  close(fd);
  return rc ? mw_err_set(err, rc, "hand the sockets to the supervisor: %s", strerror(-rc)) : 0;
}

typedef struct placing {
  const int *fds;
  size_t count;
  bool used[MW_HANDOVER_MAX_FDS];
  bool wrong;
} placing;

static void put_in_place(void *arg, int *fd) {
  placing *p = arg;
  if (*fd < 1 || (size_t)*fd >= p->count || p->used[*fd]) {
    p->wrong = true;
    *fd = -1;
    return;
  }
  p->used[*fd] = true;
  *fd = p->fds[*fd];
}

int mw_handover_receive(const int *fds, size_t count, mw_handover *h, mw_err *err) {
  placing p = {.fds = fds, .count = count};
  int rc = count && count <= MW_HANDOVER_MAX_FDS ? read_text(fds[0], false, h, err)
                                                  : mw_err_set(err, MW_EPROTOCOL, "the new program handed over no sockets");
  if (!rc) each_fd(h, put_in_place, &p);
  if (!rc && p.wrong) rc = mw_err_set(err, MW_EPROTOCOL, "the new program handed over other sockets than it says");
  for (size_t i = 0; i < count; i++)
    if (rc || !p.used[i]) close(fds[i]);
  if (rc) mw_handover_init(h);
  return rc;
}
