// SPDX-License-Identifier: MIT
#include "http/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/thread.h"

enum {
  FLUSH_MS = 200,
  FLUSH_BYTES = 64 * 1024,
  LOOK_MS = 1000,       // at the file: was it moved?
  SLOW_MS = 2000,       // what a pipe may take for a piece; and all that is left at the end
  PIPE_PIECE = 4096,    // PIPE_BUF: taken whole by a pipe that is writable
  SAY_MS = 10000,       // between two lines on the same trouble
};

typedef struct chunk {
  mw_list node;
  mw_buf lines;
} chunk;

struct mw_access_log {
  char *path; // NULL: stdout
  mw_access_format format;
  mw_thread thread;
  pthread_mutex_t lock; // for the three below
  pthread_cond_t wake;
  mw_list chunks;
  size_t queued_bytes;
  uint64_t dropped; // lines, since it was last said
  bool closing;
  atomic_bool reopen;
  // the thread's own
  int fd;
  bool is_regular, torn; // `torn`: the last line is not whole
  int64_t looked_ms, said_ms, give_up_ms;
};

/* ---- the file; the log's thread ---- */

static int open_file(const char *path) {
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
  return fd < 0 ? -errno : fd;
}

static void use_fd(mw_access_log *log, int fd) {
  struct stat st;
  log->fd = fd;
  log->is_regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static bool may_say(mw_access_log *log) {
  int64_t now = mw_clock_mono_ms();
  if (log->said_ms && now - log->said_ms < SAY_MS) return false;
  log->said_ms = now;
  return true;
}

static bool was_moved(const mw_access_log *log) {
  struct stat own, there;
  return fstat(log->fd, &own) == 0 && (stat(log->path, &there) != 0 || own.st_ino != there.st_ino || own.st_dev != there.st_dev);
}

static void look_at_file(mw_access_log *log) {
  int64_t now = mw_clock_mono_ms();
  bool asked = atomic_exchange(&log->reopen, false);
  if (!log->path || (!asked && now - log->looked_ms < LOOK_MS)) return;
  log->looked_ms = now;
  if (!asked && !was_moved(log)) return;
  int fd = open_file(log->path);
  if (fd < 0) {
    if (may_say(log)) mw_log(MW_LOG_ERROR, "access", "the access log cannot be opened anew; the file from before goes on",
                             MW_LOG_S("file", log->path), MW_LOG_S("error", mw_err_text(fd)));
    return;
  }
  close(log->fd);
  use_fd(log, fd);
  log->torn = false;
}

static int64_t time_left(const mw_access_log *log) {
  if (!log->give_up_ms) return SLOW_MS;
  int64_t left = log->give_up_ms - mw_clock_mono_ms();
  return left > 0 ? left : 0;
}

// Returns 0 or why the rest was not written.
static int write_piece(mw_access_log *log, mw_str piece) {
  while (piece.len) {
    struct pollfd ready = {log->fd, POLLOUT, 0};
    if (!log->is_regular && poll(&ready, 1, (int)time_left(log)) == 0) return MW_ETIMEOUT;
    size_t most = log->is_regular || piece.len < PIPE_PIECE ? piece.len : PIPE_PIECE;
    ssize_t n = write(log->fd, piece.ptr, most);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return -errno;
    piece = mw_str_of(piece.ptr + n, piece.len - (size_t)n);
    log->torn = piece.len > 0;
  }
  return 0;
}

static uint64_t count_lines(mw_str text) {
  uint64_t lines = 0;
  for (const char *p = text.ptr, *end = p + text.len; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++) lines++;
  return lines;
}

static void count_dropped(mw_access_log *log, uint64_t lines) {
  pthread_mutex_lock(&log->lock);
  log->dropped += lines;
  pthread_mutex_unlock(&log->lock);
}

static void write_chunk(mw_access_log *log, mw_str lines) {
  int rc = log->torn ? write_piece(log, MW_STR("\n")) : 0;
  if (!rc) rc = write_piece(log, lines);
  if (!rc) return;
  count_dropped(log, count_lines(lines)); // some of them may be there
  if (may_say(log)) mw_log(MW_LOG_ERROR, "access", "the access log cannot be written; lines are dropped",
                           MW_LOG_S("file", log->path ? log->path : "stdout"), MW_LOG_S("error", mw_err_text(rc)));
}

static void say_dropped(mw_access_log *log) {
  pthread_mutex_lock(&log->lock);
  uint64_t dropped = log->dropped;
  bool say = dropped && (log->closing || may_say(log));
  if (say) log->dropped = 0;
  pthread_mutex_unlock(&log->lock);
  if (say) mw_log(MW_LOG_WARN, "access", "lines of the access log were dropped: it takes them more slowly than they come",
                  MW_LOG_I("lines", dropped), MW_LOG_S("file", log->path ? log->path : "stdout"));
}

static void free_chunk(chunk *c) {
  mw_buf_deinit(&c->lines);
  mw_free(c);
}

// Waits for a chunk; NULL when there is none after a while, or at the end.
static chunk *next_chunk(mw_access_log *log, bool *is_over) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += 1;
  pthread_mutex_lock(&log->lock);
  while (mw_list_is_empty(&log->chunks) && !log->closing && !atomic_load(&log->reopen)) {
    if (log->dropped) {
      if (pthread_cond_timedwait(&log->wake, &log->lock, &until)) break;
    } else pthread_cond_wait(&log->wake, &log->lock);
  }
  chunk *c = MW_LIST_POP(&log->chunks, chunk, node);
  if (c) log->queued_bytes -= c->lines.len;
  if (log->closing && !log->give_up_ms) log->give_up_ms = mw_clock_mono_ms() + SLOW_MS;
  *is_over = log->closing && !c;
  pthread_mutex_unlock(&log->lock);
  return c;
}

static void run(void *arg) {
  mw_access_log *log = arg;
  for (bool is_over = false; !is_over;) {
    chunk *c = next_chunk(log, &is_over);
    look_at_file(log);
    if (c) {
      write_chunk(log, mw_buf_str(&c->lines));
      free_chunk(c);
    }
    say_dropped(log);
  }
}

/* ---- the log ---- */

int mw_access_log_open(const char *to, mw_access_format format, mw_access_log **out, mw_err *err) {
  bool is_stdout = strcmp(to, "stdout") == 0;
  int fd = is_stdout ? STDOUT_FILENO : open_file(to);
  if (fd < 0) return mw_err_set(err, MW_ECONFIG, "the access log %s cannot be opened: %s", to, mw_err_text(fd));
  mw_access_log *log = MW_NEW(mw_access_log);
  pthread_condattr_t attr;
  log->path = is_stdout ? NULL : mw_strdup(to);
  log->format = format;
  mw_list_init(&log->chunks);
  pthread_mutex_init(&log->lock, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&log->wake, &attr);
  pthread_condattr_destroy(&attr);
  use_fd(log, fd);
  int rc = mw_thread_start(&log->thread, "access-log", run, log);
  if (rc) {
    log->closing = true;
    mw_err_set(err, MW_ECONFIG, "the access log's thread cannot start: %s", mw_err_text(rc));
    return MW_ECONFIG; // the program ends
  }
  *out = log;
  return 0;
}

void mw_access_log_reopen(mw_access_log *log) {
  if (!log) return;
  pthread_mutex_lock(&log->lock);
  atomic_store(&log->reopen, true);
  pthread_cond_signal(&log->wake);
  pthread_mutex_unlock(&log->lock);
}

void mw_access_log_close(mw_access_log *log) {
  if (!log) return;
  pthread_mutex_lock(&log->lock);
  log->closing = true;
  pthread_cond_signal(&log->wake);
  pthread_mutex_unlock(&log->lock);
  mw_thread_join(&log->thread);
  if (log->path) close(log->fd);
  pthread_cond_destroy(&log->wake);
  pthread_mutex_destroy(&log->lock);
  mw_free(log->path);
  mw_free(log);
}

// Takes the memory of `lines`.
static void push(mw_access_log *log, mw_buf *lines) {
  chunk *c = MW_NEW(chunk);
  c->lines = *lines;
  *lines = (mw_buf)MW_BUF_INIT;
  pthread_mutex_lock(&log->lock);
  bool fits = log->queued_bytes + c->lines.len <= MW_ACCESS_MAX_QUEUED;
  if (fits) {
    log->queued_bytes += c->lines.len;
    mw_list_push(&log->chunks, &c->node);
  } else log->dropped += count_lines(mw_buf_str(&c->lines));
  pthread_cond_signal(&log->wake);
  pthread_mutex_unlock(&log->lock);
  if (!fits) free_chunk(c);
}

/* ---- sinks ---- */

static void hand_over(mw_access_sink *sink) {
  mw_timer_stop(&sink->timer);
  if (sink->lines.len) push(sink->log, &sink->lines);
}

static void on_timer(mw_timer *timer, void *arg) { hand_over(arg); }

void mw_access_sink_init(mw_access_sink *sink, mw_access_log *log, mw_loop *loop) {
  *sink = (mw_access_sink){.log = log, .loop = loop};
  mw_timer_init(&sink->timer, on_timer, sink);
}

void mw_access_sink_add(mw_access_sink *sink, const mw_access_entry *entry) {
  if (!sink->lines.cap) mw_buf_reserve(&sink->lines, FLUSH_BYTES / 16);
  mw_access_format_line(sink->log->format, entry, &sink->lines);
  if (sink->lines.len >= FLUSH_BYTES) hand_over(sink);
  else if (!mw_timer_is_armed(&sink->timer)) mw_timer_start(sink->loop, &sink->timer, FLUSH_MS);
}

void mw_access_sink_deinit(mw_access_sink *sink) {
  if (!sink->log) return;
  hand_over(sink);
  mw_buf_deinit(&sink->lines);
}
