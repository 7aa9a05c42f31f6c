// SPDX-License-Identifier: MIT
#include "app/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#define MAX_REPORT (64 * 1024)
#define REAP_MS 1000

// ---- in the child: "level TAB what TAB text LF" ----

static void say(mw_doctor *d, mw_doctor_level level, const char *what, const char *format, va_list args) {
  char text[1024], line[1200];
  vsnprintf(text, sizeof text, format, args);
  for (char *c = text; *c; c++)
    if (*c == '\n' || *c == '\t') *c = ' ';
  int len = snprintf(line, sizeof line, "%d\t%s\t%s\n", (int)level, what, text);
  if (len > (int)sizeof line - 1) len = (int)sizeof line - 1, line[len - 1] = '\n';
  if (write(d->out, line, (size_t)len) < 0) _exit(1); // whoever would read it is gone
}

#define SAY(level)                                                                                             \
  va_list args;                                                                                                \
  va_start(args, format);                                                                                      \
  say(doctor, level, what, format, args);                                                                      \
  va_end(args)

void mw_doctor_ok(mw_doctor *doctor, const char *what, const char *format, ...) { SAY(MW_DOCTOR_OK); }
void mw_doctor_warn(mw_doctor *doctor, const char *what, const char *format, ...) { SAY(MW_DOCTOR_WARN); }
void mw_doctor_fail(mw_doctor *doctor, const char *what, const char *format, ...) { SAY(MW_DOCTOR_FAIL); }

static void become_check(mw_doctor *d, const mw_doctor_check *check) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; null >= 0 && fd <= 2; fd++) dup2(null, fd); // what it calls may print
  mw_log_configure(MW_LOG_FATAL, MW_LOG_FORMAT_JSON);
  check->run(d);
  _exit(0);
}

// ---- in the parent ----

/** Reads until the end of file or the deadline; false: the deadline. */
static bool read_report(int fd, int64_t give_up_ms, mw_buf *report) {
  for (;;) {
    int64_t left = give_up_ms - mw_clock_mono_ms();
    struct pollfd p = {fd, POLLIN, 0};
    int rc = left > 0 ? poll(&p, 1, (int)left) : 0;
    if (rc < 0 && errno == EINTR) continue;
    if (rc <= 0) return false;
    char *to = mw_buf_reserve(report, 4096);
    ssize_t n = read(fd, to, 4096);
    if (n <= 0) return true;
    report->len += (size_t)n;
    if (report->len > MAX_REPORT) return true;
  }
}

/** Waits for a child's end for a bounded time: one that hangs in the kernel cannot even be killed. Returns its status, or -1. */
static int reap(pid_t pid) {
  int status;
  for (int64_t give_up_ms = mw_clock_mono_ms() + REAP_MS; mw_clock_mono_ms() < give_up_ms; usleep(2000))
    if (waitpid(pid, &status, WNOHANG) == pid) return status;
  return -1;
}

static void tell(mw_str report, mw_doctor_line_cb cb, void *arg) {
  mw_str line, what;
  while (mw_str_split(&report, '\n', &line)) {
    char name[64], text[1100];
    if (line.len < 2 || line.ptr[1] != '\t') continue;
    mw_doctor_level level = (mw_doctor_level)(line.ptr[0] - '0');
    line = mw_str_of(line.ptr + 2, line.len - 2);
    if (!mw_str_split(&line, '\t', &what)) continue;
    snprintf(name, sizeof name, "%.*s", MW_STR_FMT(what));
    snprintf(text, sizeof text, "%.*s", MW_STR_FMT(line));
    cb(level, name, text, arg);
  }
}

static void run_one(mw_doctor *d, const mw_doctor_check *check, mw_doctor_line_cb cb, void *arg) {
  int ends[2];
  char text[200];
  mw_buf report = MW_BUF_INIT;
  if (pipe2(ends, O_CLOEXEC)) return cb(MW_DOCTOR_FAIL, check->name, "no pipe could be made: raise the limit on open files (ulimit -n)", arg);
  pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    d->out = ends[1];
    become_check(d, check);
  }
  close(ends[1]);
  bool ended = pid > 0 && read_report(ends[0], mw_clock_mono_ms() + check->timeout_ms, &report);
  close(ends[0]);
  if (pid > 0 && !ended) kill(pid, SIGKILL);
  int status = pid > 0 ? reap(pid) : 0;
  tell(mw_buf_str(&report), cb, arg);
  if (pid < 0) cb(MW_DOCTOR_FAIL, check->name, "no process could be made: raise the limit on processes (ulimit -u)", arg);
  else if (!ended) {
    snprintf(text, sizeof text, "no answer within %lld s: what it looks at hangs", (long long)check->timeout_ms / 1000);
    cb(MW_DOCTOR_FAIL, check->name, text, arg);
  } else if (status > 0) {
    snprintf(text, sizeof text, "the check itself failed (%s %d)", WIFSIGNALED(status) ? "signal" : "exit code",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    cb(MW_DOCTOR_FAIL, check->name, text, arg);
  }
  mw_buf_deinit(&report);
}

void mw_doctor_run(mw_doctor *d, bool deep, mw_doctor_line_cb cb, void *arg) {
  const mw_doctor_check *const tables[] = {mw_doctor_data_checks, mw_doctor_database_checks, mw_doctor_machine_checks, mw_doctor_server_checks};
  int engine = mw_config_is_postgres(d->conf) ? 2 : 1;
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
    for (const mw_doctor_check *check = tables[i]; check->name; check++)
      if ((deep || !check->needs_deep) && (!check->engine || check->engine == engine)) run_one(d, check, cb, arg);
}
