// SPDX-License-Identifier: MIT

// A new program takes over, step by step, and at each the server before goes on or is started again when the new one fails:
//
//   SIGUSR2    the new program is started as a child with the sockets; it loads its configuration and checks all it needs
//   checked    the server before is told to hand over: it lets connections in until its executions have stopped, and ends
//   ready      the new one has the data folder, its database is prepared, it serves; this process becomes the new program
//              (same process id) and its supervisor
//
// The sockets are open all the time in this process, so that connections wait in the backlog at worst.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/notify.h"
#include "app/pair.h"
#include "app/sockets.h"
#include "app/supervisor_impl.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

void mw_upgrade_init(mw_upgrade *upgrade) {
  memset(upgrade, 0, sizeof *upgrade);
  upgrade->pair_fd = -1;
  mw_handover_init(&upgrade->next);
}

static void drop_fds(mw_upgrade *up) {
  for (size_t i = 0; i < up->fd_count; i++) close(up->fds[i]);
  up->fd_count = 0;
}

// Everything of the new program is forgotten; its process is gone or belongs to the server now.
static void reset(mw_supervisor *self) {
  mw_upgrade *up = &self->upgrade;
  bool again = up->again;
  if (up->pair_fd >= 0) close(up->pair_fd);
  drop_fds(up);
  mw_sockets_close(&up->next.fds);
  if (up->next.config_fd >= 0) close(up->next.config_fd);
  mw_upgrade_init(up);
  if (!self->draining) mw_supervisor_tell_ready(self);
  if (again && !self->draining) mw_upgrade_begin(self);
}

// ---- starting the new program ----

static int count_args(char **argv) {
  int n = 0;
  while (argv[n]) n++;
  return n;
}

// Between fork and exec of a single-threaded parent.
static void become_new(const mw_supervisor *self, const mw_handover *handover, int state_fd, int pair_fd, pid_t parent) {
  char state[16], pair[16];
  sigset_t none;
  char **given = self->program->argv;
  int n = count_args(given);
  char **argv = mw_calloc((size_t)n + 4, sizeof *argv);
  argv[0] = given[0];
  argv[1] = "__upgrade";
  argv[2] = state;
  argv[3] = pair;
  for (int i = 2; i < n; i++) argv[i + 2] = given[i];
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(MW_EXIT_FAILED);
  setpgid(0, 0);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  mw_notify_forget();
  mw_handover_set_inherited(handover, true);
  fcntl(state_fd, F_SETFD, 0);
  fcntl(pair_fd, F_SETFD, 0);
  snprintf(state, sizeof state, "%d", state_fd);
  snprintf(pair, sizeof pair, "%d", pair_fd);
  execv(self->program->path, argv);
  mw_log(MW_LOG_ERROR, "upgrade", "the new program cannot be started", MW_LOG_S("path", self->program->path),
         MW_LOG_S("why", strerror(errno)));
  _exit(127);
}

static int spawn(mw_supervisor *self, mw_err *err) {
  int pair[2];
  mw_handover handover;
  mw_handover_init(&handover);
  mw_handover_set_sockets(&handover, self->conf, self->fds);
  int state_fd = mw_handover_write(&handover, err);
  if (state_fd < 0) return state_fd;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
    close(state_fd);
    return mw_err_set(err, -errno, "socketpair: %s", strerror(errno));
  }
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) become_new(self, &handover, state_fd, pair[1], parent);
  int failed = pid < 0 ? -errno : 0;
  close(state_fd);
  close(pair[1]);
  if (failed) {
    close(pair[0]);
    return mw_err_set(err, failed, "fork: %s", strerror(-failed));
  }
  self->upgrade.pair_fd = pair[0];
  return pid;
}

static void enter(mw_supervisor *self, mw_upgrade_state state, int64_t for_ms) {
  self->upgrade.state = state;
  self->upgrade.due_ms = mw_clock_mono_ms() + for_ms;
}

void mw_upgrade_begin(mw_supervisor *self) {
  mw_upgrade *up = &self->upgrade;
  mw_err err = {0};
  if (self->draining) return;
  if (up->state != MW_UPGRADE_NONE) {
    mw_log(MW_LOG_INFO, "upgrade", "a swap is under way; another one follows it");
    up->again = true;
    return;
  }
  int pid = spawn(self, &err);
  if (pid < 0) {
    mw_log(MW_LOG_ERROR, "upgrade", "the new program cannot be started; the one before goes on", MW_LOG_S("why", err.text));
    return;
  }
  up->pid = pid;
  enter(self, MW_UPGRADE_CHECKING, self->conf->upgrade_timeout);
  mw_notify("RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=A new program checks itself", (long long)(mw_clock_mono_ns() / 1000));
  mw_log(MW_LOG_INFO, "upgrade", "a new program checks itself", MW_LOG_S("path", self->program->path), MW_LOG_I("pid", pid));
}

// ---- this process becomes the new program ----

static void become_its_supervisor(mw_supervisor *self) {
  mw_handover *next = &self->upgrade.next;
  mw_err err = {0};
  char text[16];
  next->server = self->upgrade.pid;
  next->pair_fd = self->upgrade.pair_fd;
  next->again = self->upgrade.again;
  int fd = mw_handover_write(next, &err);
  if (fd >= 0) {
    fcntl(fd, F_SETFD, 0);
    mw_handover_set_inherited(next, true);
    snprintf(text, sizeof text, "%d", fd);
    setenv(MW_HANDOVER_ENV, text, 1);
    execv(self->program->path, self->program->argv);
    mw_err_set(&err, -errno, "%s: %s", self->program->path, strerror(errno));
    unsetenv(MW_HANDOVER_ENV);
    mw_handover_set_inherited(next, false);
    close(fd);
  }
  mw_log(MW_LOG_ERROR, "upgrade", "the new program serves, but its supervisor stays the one before", MW_LOG_S("why", err.text));
}

// Also when this process could not become the new program.
static void take_as_server(mw_supervisor *self) {
  mw_upgrade *up = &self->upgrade;
  mw_sockets_close(self->fds);
  *self->fds = up->next.fds;
  memset(up->next.fds.listeners, -1, sizeof up->next.fds.listeners);
  self->pid = up->pid;
  self->pair_fd = up->pair_fd;
  up->pair_fd = up->next.pair_fd = -1;
  self->was_ready = up->ready;
  self->started_ms = mw_clock_mono_ms();
  self->start_at_ms = 0;
  reset(self);
}

static void maybe_take_over(mw_supervisor *self) {
  mw_upgrade *up = &self->upgrade;
  if (up->state != MW_UPGRADE_STARTING || !up->ready) return;
  mw_log(MW_LOG_INFO, "upgrade", "the new program serves", MW_LOG_S("version", up->next.version), MW_LOG_I("pid", up->pid));
  become_its_supervisor(self);
  take_as_server(self);
}

// ---- what the new program says ----

static void kill_new(mw_supervisor *self, const char *why) {
  mw_log(MW_LOG_ERROR, "upgrade", why, MW_LOG_I("pid", self->upgrade.pid));
  kill(self->upgrade.pid, SIGKILL); // the rest when it is reaped
  self->upgrade.due_ms = 0;
}

static void on_checked(mw_supervisor *self) {
  mw_upgrade *up = &self->upgrade;
  mw_err err = {0};
  if (up->state != MW_UPGRADE_CHECKING) return;
  int rc = mw_handover_receive(up->fds, up->fd_count, &up->next, &err);
  up->fd_count = 0;
  if (rc) {
    kill_new(self, err.text);
    return;
  }
  mw_log(MW_LOG_INFO, "upgrade", self->pid ? "the new program is in order; the server before finishes" : "the new program is in order",
         MW_LOG_S("version", up->next.version));
  self->start_at_ms = 0;
  if (self->pid && write(self->pair_fd, &(char){MW_PAIR_HAND_OVER}, 1) == 1)
    enter(self, MW_UPGRADE_FINISHING, self->conf->drain_timeout + MW_KILL_GRACE_MS);
  else if (self->pid) kill_new(self, "the server before does not listen");
  else enter(self, MW_UPGRADE_STARTING, self->conf->upgrade_timeout);
}

static void take_fds(mw_upgrade *up, struct msghdr *message) {
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      if (up->fd_count < MW_HANDOVER_MAX_FDS) up->fds[up->fd_count++] = fd;
      else close(fd);
    }
  }
}

void mw_upgrade_hear(mw_supervisor *self) {
  mw_upgrade *up = &self->upgrade;
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(253 * sizeof(int))];
  } control;
  char byte;
  struct iovec piece = {&byte, 1};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t n = recvmsg(up->pair_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0) return;
  if (n == 0) { // it ends; SIGCHLD tells how
    close(up->pair_fd);
    up->pair_fd = -1;
    return;
  }
  take_fds(up, &message);
  if (byte == MW_PAIR_CHECKED) on_checked(self);
  else if (byte == MW_PAIR_READY) {
    up->ready = true;
    maybe_take_over(self);
  }
}

// ---- ends ----

bool mw_upgrade_on_server_exit(mw_supervisor *self) {
  if (self->upgrade.state != MW_UPGRADE_FINISHING) return false;
  enter(self, MW_UPGRADE_STARTING, self->conf->upgrade_timeout);
  maybe_take_over(self);
  return true;
}

bool mw_upgrade_on_exit(mw_supervisor *self, pid_t pid, int status) {
  mw_upgrade *up = &self->upgrade;
  if (!up->pid || pid != up->pid) return false;
  mw_log(MW_LOG_ERROR, "upgrade",
         self->draining                        ? "the new program ended"
         : up->state == MW_UPGRADE_CHECKING ? "the new program ended before it could serve; the one before goes on"
                                            : "the new program ended before it could serve; the one before is started again",
         WIFSIGNALED(status) ? MW_LOG_S("signal", strsignal(WTERMSIG(status))) : MW_LOG_I("exit_code", WEXITSTATUS(status)));
  up->pid = 0;
  bool none_left = !self->pid;
  reset(self);
  if (none_left && !self->draining) mw_supervisor_schedule_start(self);
  return true;
}

void mw_upgrade_look_at_clock(mw_supervisor *self, int64_t now_ms) {
  mw_upgrade *up = &self->upgrade;
  if (!up->due_ms || now_ms < up->due_ms) return;
  if (up->state != MW_UPGRADE_FINISHING) {
    kill_new(self, "the new program took longer than upgrade_timeout; killing it");
    return;
  }
  up->due_ms = 0;
  mw_log(MW_LOG_ERROR, "upgrade", "the drain time is over: killing the server before", MW_LOG_I("pid", self->pid));
  kill(self->pid, SIGKILL);
}

void mw_upgrade_abandon(mw_supervisor *self) {
  mw_upgrade *up = &self->upgrade;
  if (up->state == MW_UPGRADE_NONE) return;
  up->again = false;
  if (self->pid) kill_new(self, "stopping: the new program is ended");
  else take_as_server(self);
}
