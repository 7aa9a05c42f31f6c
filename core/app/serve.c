// SPDX-License-Identifier: MIT
#include "app/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/commands.h"
#include "app/handover.h"
#include "app/notify.h"
#include "app/sockets.h"
#include "base/clock.h"
#include "base/log.h"

#define RETRY_MS 50
#define SOON_MS 5 // the server before is ending
#define FD_LIST 512

void mw_serve_configure_log(const mw_config *conf) {
  mw_log_level level = MW_LOG_INFO;
  mw_log_level_parse(mw_str_from(conf->log_level), &level);
  mw_log_format format = strcmp(conf->log_format, "json") == 0     ? MW_LOG_FORMAT_JSON
                         : strcmp(conf->log_format, "pretty") == 0 ? MW_LOG_FORMAT_PRETTY
                                                                   : MW_LOG_FORMAT_AUTO;
  mw_log_configure(level, format);
}

// A connection is a descriptor, and the usual soft limit of 1,024 is for programs that use select().
static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit)) mw_log(MW_LOG_WARN, "server", "the limit on open files stays as it is", MW_LOG_S("error", strerror(errno)));
}

// True when SIGTERM or SIGINT came while nothing served yet.
static volatile sig_atomic_t stopped;
static void on_stop(int number) { stopped = 1; }

int mw_serve(const mw_config *conf, mw_runtime_fds *fds) {
  mw_err err = {0};
  int64_t patience_ms = conf->drain_timeout + 1000 + (fds->takes_over ? conf->upgrade_timeout : 0);
  int64_t give_up_ms = mw_clock_mono_ms() + patience_ms;
  int rc;
  raise_descriptor_limit();
  for (bool said = false;; said = true) {
    rc = mw_runtime_run(conf, fds, &err);
    if (rc != MW_ELOCKED || mw_clock_mono_ms() >= give_up_ms) break;
    if (!said && !fds->takes_over)
      mw_log(MW_LOG_WARN, "server", "the data folder is in use; waiting for the server before to finish",
             MW_LOG_S("why", err.text), MW_LOG_I("at_most_ms", conf->drain_timeout));
    signal(SIGTERM, on_stop);
    signal(SIGINT, on_stop);
    nanosleep(&(struct timespec){.tv_nsec = (fds->takes_over ? SOON_MS : RETRY_MS) * 1000000L}, NULL);
    if (stopped) break;
  }
  if (rc == MW_ELOCKED) mw_sockets_close(fds);
  if (!rc || (rc == MW_ELOCKED && stopped)) return MW_EXIT_OK;
  mw_log(MW_LOG_ERROR, "server", err.text[0] ? err.text : mw_err_text(rc), MW_LOG_S("code", mw_err_code(rc)));
  return rc == MW_ECONFIG || rc == MW_EDENIED ? MW_EXIT_USAGE : MW_EXIT_FAILED;
}

// ---- the supervisor's side ----

static void list_fds(const char *name, const int *fds, char text[FD_LIST]) {
  size_t n = (size_t)snprintf(text, FD_LIST, "%s", name);
  for (int i = 0; i < MW_MAX_WORKERS && fds[i] >= 0 && n < FD_LIST - 12; i++)
    n += (size_t)snprintf(text + n, FD_LIST - n, "%c%d", i ? ',' : '=', fds[i]);
}

static void keep_over_exec(int fd) {
  if (fd >= 0) fcntl(fd, F_SETFD, 0);
}

// Adds "name=fd,fd" to `argv` for each listener that is there.
static void list_listeners(const mw_runtime_fds *fds, char texts[MW_LISTENERS][FD_LIST], char *argv[]) {
  int count = 0;
  for (int tag = 0; tag < MW_LISTENERS; tag++) {
    if (fds->listeners[tag][0] < 0) continue;
    for (int i = 0; i < MW_MAX_WORKERS; i++) keep_over_exec(fds->listeners[tag][i]);
    list_fds(mw_listen_kinds[tag].name, fds->listeners[tag], texts[tag]);
    argv[count++] = texts[tag];
  }
}

// Between fork and exec of a single-threaded parent. The child leaves the terminal's process group, because ^C is for the
// supervisor alone, which then drains it.
static void become_server(const mw_runtime_fds *fds, pid_t parent, int config_fd, int pair_fd) {
  char config[16], pair[16], workers[16], listeners[MW_LISTENERS][FD_LIST];
  char *argv[MW_LISTENERS + 6] = {"moonwatch", "__serve", config, pair, workers};
  sigset_t none;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(MW_EXIT_FAILED);
  setpgid(0, 0);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  mw_notify_forget();
  keep_over_exec(config_fd);
  keep_over_exec(pair_fd);
  snprintf(config, sizeof config, "%d", config_fd);
  snprintf(pair, sizeof pair, "%d", pair_fd);
  snprintf(workers, sizeof workers, "%d", fds->workers);
  list_listeners(fds, listeners, argv + 5);
  execv("/proc/self/exe", argv);
  _exit(127);
}

int mw_serve_spawn(const mw_config *conf, const mw_runtime_fds *fds, int *pipe_fd, mw_err *err) {
  int pair[2];
  int config_fd = mw_handover_pack(conf, err);
  if (config_fd < 0) return config_fd;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
    close(config_fd);
    return mw_err_set(err, -errno, "socketpair: %s", strerror(errno));
  }
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) become_server(fds, parent, config_fd, pair[1]);
  int failed = pid < 0 ? -errno : 0;
  close(config_fd);
  close(pair[1]);
  if (failed) {
    close(pair[0]);
    return mw_err_set(err, failed, "fork: %s", strerror(-failed));
  }
  *pipe_fd = pair[0];
  return pid;
}

// ---- the child's side ----

static void take_fds(const char *text, int *fds) {
  char *end;
  for (int i = 0; i < MW_MAX_WORKERS; i++, text = end + 1) {
    fds[i] = (int)strtol(text, &end, 10);
    fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    if (*end != ',') break;
  }
}

// Takes "name=fd,fd"; false for a listener that this version does not know.
static bool take_listener(const char *text, mw_runtime_fds *fds) {
  size_t len = strcspn(text, "=");
  int tag = text[len] ? mw_listen_find(mw_str_of(text, len)) : -1;
  if (tag < 0) return false;
  take_fds(text + len + 1, fds->listeners[tag]);
  return true;
}

static int run_serve_child(mw_cli *cli) {
  mw_config conf;
  mw_runtime_fds fds;
  mw_err err = {0};
  signal(SIGUSR2, SIG_IGN); // until the runtime says something about it
  int rc = mw_handover_unpack(atoi(cli->argv[0]), &conf, &err);
  if (rc) return mw_cli_fail(cli, MW_EXIT_USAGE, "%s", err.text);
  fds.supervisor = atoi(cli->argv[1]);
  fds.workers = atoi(cli->argv[2]);
  if (fds.workers < 1 || fds.workers > MW_MAX_WORKERS) return mw_cli_usage_error(cli, "this command is the supervisor's");
  fcntl(fds.supervisor, F_SETFD, FD_CLOEXEC);
  fds.takes_over = false;
  memset(fds.listeners, -1, sizeof fds.listeners);
  for (int i = 3; i < cli->argc; i++)
    if (!take_listener(cli->argv[i], &fds)) return mw_cli_usage_error(cli, "this command is the supervisor's");
  mw_serve_configure_log(&conf);
  int code = mw_serve(&conf, &fds);
  mw_config_deinit(&conf);
  return code;
}

const mw_command mw_command_serve_child = {
    .name = "__serve",
    .args = "CONFIG PAIR WORKERS LISTENER…",
    .summary = "Serve with descriptors of a supervisor",
    .min_args = 4,
    .max_args = 3 + MW_LISTENERS,
    .is_hidden = true,
    .run = run_serve_child,
};
