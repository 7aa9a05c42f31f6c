// SPDX-License-Identifier: MIT
#include "app/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/notify.h"
#include "app/pair.h"
#include "app/serve.h"
#include "app/sockets.h"
#include "app/supervisor_impl.h"
#include "base/clock.h"
#include "base/log.h"

#define MIN_PAUSE_MS 100
#define MAX_PAUSE_MS 30000
#define HEALTHY_MS 60000

typedef mw_supervisor supervisor;

static void finish(supervisor *self, int code) {
  self->is_done = true;
  self->exit_code = code;
}

void mw_supervisor_tell_ready(const supervisor *self) {
  mw_notify("READY=1\nMAINPID=%d\nSTATUS=Moonwatch %s serves, server process %d", (int)getpid(), MW_VERSION, (int)self->pid);
}

static int64_t pause_ms(int crashes) {
  if (crashes <= 1) return 0;
  int64_t pause = MIN_PAUSE_MS;
  for (int i = 2; i < crashes && pause < MAX_PAUSE_MS; i++) pause *= 2;
  return pause < MAX_PAUSE_MS ? pause : MAX_PAUSE_MS;
}

void mw_supervisor_schedule_start(supervisor *self) {
  if (mw_clock_mono_ms() - self->started_ms > HEALTHY_MS) self->crashes = 0;
  int64_t pause = pause_ms(++self->crashes);
  mw_notify("STATUS=The server ended; starting it again in %lld ms", (long long)pause);
  self->start_at_ms = mw_clock_mono_ms() + pause;
  mw_log(MW_LOG_INFO, "supervisor", "starting the server again", MW_LOG_I("pause_ms", pause),
         MW_LOG_I("crashes", self->crashes));
}

static void start(supervisor *self) {
  mw_err err = {0};
  self->start_at_ms = 0;
  self->started_ms = mw_clock_mono_ms();
  int pid = mw_serve_spawn(self->conf, self->fds, &self->pair_fd, &err);
  if (pid > 0) {
    self->pid = pid;
    mw_log(MW_LOG_DEBUG, "supervisor", "server started", MW_LOG_I("pid", pid));
    return;
  }
  mw_log(MW_LOG_ERROR, "supervisor", "the server cannot be started", MW_LOG_S("why", err.text));
  if (!self->was_ready) finish(self, MW_EXIT_FAILED);
  else mw_supervisor_schedule_start(self);
}

static void close_pair(supervisor *self) {
  if (self->pair_fd >= 0) close(self->pair_fd);
  self->pair_fd = -1;
}

static void on_exit_of_server(supervisor *self, int status) {
  bool by_signal = WIFSIGNALED(status);
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : MW_EXIT_FAILED;
  pid_t pid = self->pid;
  self->pid = 0;
  close_pair(self);
  if (by_signal && WTERMSIG(status) == SIGTERM) { // it was told before it could handle it, so it served nobody yet
    by_signal = false;
    code = MW_EXIT_OK;
  }
  if (self->draining) {
    if (by_signal) mw_log(MW_LOG_ERROR, "supervisor", "the server was killed before it had drained", MW_LOG_I("pid", pid),
                          MW_LOG_S("signal", strsignal(WTERMSIG(status))));
    finish(self, by_signal ? MW_EXIT_FAILED : code);
  } else if (mw_upgrade_on_server_exit(self)) {
    if (by_signal) mw_log(MW_LOG_ERROR, "supervisor", "the server before was killed before it had drained", MW_LOG_I("pid", pid));
  } else if (!by_signal && code && !self->was_ready) {
    finish(self, code);
  } else {
    mw_log(MW_LOG_ERROR, "supervisor", "the server ended unexpectedly", MW_LOG_I("pid", pid),
           by_signal ? MW_LOG_S("signal", strsignal(WTERMSIG(status))) : MW_LOG_I("exit_code", code));
    mw_supervisor_schedule_start(self);
  }
}

// Reaps everything, since in a container this process may be the first one.
static void reap(supervisor *self) {
  pid_t pid;
  int status;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
    if (!mw_upgrade_on_exit(self, pid, status) && pid == self->pid) on_exit_of_server(self, status);
}

static void drain(supervisor *self, int number) {
  if (self->draining) {
    mw_log(MW_LOG_WARN, "supervisor", "asked twice: killing the server");
    if (self->pid) kill(self->pid, SIGKILL);
    return;
  }
  self->draining = true;
  self->start_at_ms = 0;
  mw_upgrade_abandon(self);
  if (!self->pid) {
    finish(self, MW_EXIT_OK);
    return;
  }
  mw_sockets_close(self->fds); // the server has its own until it drains; then who connects hears at once that nobody is there
  mw_log(MW_LOG_INFO, "supervisor", "draining", MW_LOG_S("signal", strsignal(number)),
         MW_LOG_I("at_most_ms", self->conf->drain_timeout));
  mw_notify("STOPPING=1\nSTATUS=Draining\nEXTEND_TIMEOUT_USEC=%lld",
            (long long)(self->conf->drain_delay + self->conf->drain_timeout + 2 * MW_KILL_GRACE_MS) * 1000);
  self->kill_at_ms = mw_clock_mono_ms() + self->conf->drain_delay + self->conf->drain_timeout + MW_KILL_GRACE_MS;
  kill(self->pid, SIGTERM);
}

static void read_signals(supervisor *self) {
  struct signalfd_siginfo info;
  while (!self->is_done && read(self->signal_fd, &info, sizeof info) == sizeof info) {
    int number = (int)info.ssi_signo;
    if (number == SIGCHLD) reap(self);
    else if (number == SIGHUP) {
      if (self->pid) kill(self->pid, SIGHUP);
    } else if (number == SIGUSR2) mw_upgrade_begin(self);
    else drain(self, number);
  }
}

// A byte: the server is ready. End of file comes with its death, which SIGCHLD tells better.
static void read_pair(supervisor *self) {
  char byte;
  ssize_t n = read(self->pair_fd, &byte, 1);
  if (n > 0 && byte == MW_PAIR_READY) {
    self->was_ready = true;
    mw_supervisor_tell_ready(self);
  } else if (n > 0 && byte == MW_PAIR_ALIVE) {
    mw_notify("WATCHDOG=1");
  } else if (n == 0) {
    close_pair(self);
  }
}

// systemd's watchdog hears of us when the server answers. While there is none that should (one starts, drains, is swapped), this process
// speaks for itself: all of that has an end of its own.
static void ping(supervisor *self, int64_t now) {
  if (!self->watchdog_ms || now < self->ping_at_ms) return;
  self->ping_at_ms = now + self->watchdog_ms / 4 + 1;
  bool serves = self->pid && self->was_ready && !self->draining && self->pair_fd >= 0 && self->upgrade.state <= MW_UPGRADE_CHECKING;
  if (!serves || now - self->started_ms < self->watchdog_ms) mw_notify("WATCHDOG=1");
  if (serves && send(self->pair_fd, &(char){MW_PAIR_PING}, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return; // full: it does not listen
}

static void look_at_clock(supervisor *self) {
  int64_t now = mw_clock_mono_ms();
  if (self->start_at_ms && now >= self->start_at_ms) start(self);
  mw_upgrade_look_at_clock(self, now);
  ping(self, now);
  if (self->kill_at_ms && now >= self->kill_at_ms && self->pid) {
    mw_log(MW_LOG_ERROR, "supervisor", "the drain time is over: killing the server", MW_LOG_I("pid", self->pid));
    self->kill_at_ms = 0;
    kill(self->pid, SIGKILL);
  }
}

static int until_next(const supervisor *self) {
  const int64_t dues[] = {self->start_at_ms, self->kill_at_ms, self->upgrade.due_ms, self->ping_at_ms};
  int64_t due = INT64_MAX;
  for (int i = 0; i < 4; i++)
    if (dues[i] && dues[i] < due) due = dues[i];
  if (due == INT64_MAX) return -1;
  int64_t left = due - mw_clock_mono_ms();
  return left < 0 ? 0 : (int)left;
}

static int open_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2, SIGCHLD};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaddset(&set, numbers[i]);
  sigprocmask(SIG_BLOCK, &set, NULL);
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void turn(supervisor *self) {
  struct pollfd polls[] = {{self->signal_fd, POLLIN, 0}, {self->pair_fd, POLLIN, 0}, {self->upgrade.pair_fd, POLLIN, 0}};
  if (poll(polls, 3, until_next(self)) < 0) return; // the clock is looked at again
  if (self->pair_fd >= 0 && polls[1].revents) read_pair(self);
  if (self->upgrade.pair_fd >= 0 && polls[2].revents) mw_upgrade_hear(self);
  if (polls[0].revents) read_signals(self);
}

// The server that an earlier program started, and what was asked of it.
static void take_over(supervisor *self, const mw_handover *from) {
  self->pid = from->server;
  self->pair_fd = from->pair_fd;
  self->was_ready = true;
  self->started_ms = mw_clock_mono_ms();
  mw_log(MW_LOG_INFO, "supervisor", "the swap is done", MW_LOG_S("version", MW_VERSION), MW_LOG_S("path", self->program->path));
  mw_supervisor_tell_ready(self);
  reap(self);
  if (from->again) mw_upgrade_begin(self);
}

int mw_supervisor_run(const mw_config *conf, mw_runtime_fds *fds, const mw_program *program, const mw_handover *from) {
  supervisor self = {.conf = conf, .fds = fds, .program = program, .pair_fd = -1, .signal_fd = open_signals()};
  mw_upgrade_init(&self.upgrade);
  self.watchdog_ms = mw_notify_watchdog_ms();
  self.ping_at_ms = self.watchdog_ms ? mw_clock_mono_ms() : 0;
  if (self.signal_fd < 0) {
    mw_log(MW_LOG_ERROR, "supervisor", "signalfd failed", MW_LOG_S("why", strerror(errno)));
    mw_sockets_close(fds);
    return MW_EXIT_FAILED;
  }
  if (from) take_over(&self, from);
  else start(&self);
  while (!self.is_done) {
    turn(&self);
    if (!self.is_done) look_at_clock(&self);
  }
  if (self.upgrade.pid) { // nothing is left to take over from
    kill(self.upgrade.pid, SIGKILL);
    waitpid(self.upgrade.pid, NULL, 0);
  }
  close_pair(&self);
  close(self.signal_fd);
  mw_sockets_close(fds);
  return self.exit_code;
}
