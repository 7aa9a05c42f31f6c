// SPDX-License-Identifier: MIT
#include "loop/fswatch.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/map.h"
#include "loop/loop_impl.h"
#include "loop/work.h"

// One uv_fs_event a folder. When things have been quiet, the tree is walked again, so that new folders are watched and
// gone ones are dropped; new folders may have been filled before they were watched, so they count as a change and the
// quiet time starts over. Where folders cannot be watched, a job on the pool for files sums up the tree every second.

#define MAX_DIRS 4096
#define MAX_DEPTH 32
#define POLL_MS 1000
#define MAX_SETTLES 10 // a folder that never rests is reported after so many quiet times

typedef struct watched {
  uv_fs_event_t uv;
  mw_fswatch *owner;
  mw_list node;
  char *path;
  unsigned round; // of the last walk that saw it
  bool stale;     // the folder went; another may have its name by now
} watched;

struct mw_fswatch {
  mw_loop *loop;
  char *dir;
  int settle_ms;
  mw_fswatch_cb cb;
  void *arg;
  mw_timer settle;
  int64_t first_ms; // of the events not yet reported; 0: none
  mw_list dirs;
  mw_map by_path; // path -> watched
  unsigned round;
  mw_timer poll; // armed, or a job runs: some folder is not watched
  bool polling, summed, closing;
  uint64_t sum;
  int pins; // handles and a job that still point here
};

typedef struct sum_job {
  mw_fswatch *watch;
  char *dir;
  uint64_t sum;
} sum_job;

static void start_polling(mw_fswatch *w);

static void unpin(mw_fswatch *w) {
  if (--w->pins || !w->closing) return;
  mw_map_deinit(&w->by_path);
  mw_free(w->dir);
  mw_free(w);
}

// Hidden folders (.git) hold nothing that is served, and change all the time.
static bool is_hidden(const char *name) { return name[0] == '.'; }

typedef void (*walk_cb)(const char *path, const struct stat *st, void *arg);

// Calls `cb` for the folder and everything below it, folders before what is in them. Links to folders are not followed.
static void walk(const char *path, int depth, int *dirs, walk_cb cb, void *arg) {
  DIR *dir = opendir(path);
  if (!dir) return;
  ++*dirs;
  for (struct dirent *d; (d = readdir(dir));) {
    if (is_hidden(d->d_name)) continue;
    mw_buf below = MW_BUF_INIT;
    mw_buf_printf(&below, "%s/%s", path, d->d_name);
    const char *text = mw_buf_cstr(&below);
    struct stat st;
    if (lstat(text, &st) == 0) {
      if (S_ISLNK(st.st_mode) && (stat(text, &st) || S_ISDIR(st.st_mode))) memset(&st, 0, sizeof st);
      cb(text, &st, arg);
      if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH && *dirs < MAX_DIRS) walk(text, depth + 1, dirs, cb, arg);
    }
    mw_buf_deinit(&below);
  }
  closedir(dir);
}

// Watching folders.

static void on_watched_closed(uv_handle_t *handle) {
  watched *d = handle->data;
  mw_fswatch *w = d->owner;
  mw_free(d->path);
  mw_free(d);
  unpin(w);
}

static void drop(watched *d) {
  mw_list_remove(&d->node);
  mw_map_remove(&d->owner->by_path, mw_str_from(d->path));
  uv_close((uv_handle_t *)&d->uv, on_watched_closed);
}

static void changed(mw_fswatch *w) {
  int64_t now = mw_loop_now_ms(w->loop);
  if (!w->first_ms) w->first_ms = now;
  int64_t left = w->first_ms + (int64_t)w->settle_ms * MAX_SETTLES - now;
  mw_timer_start(w->loop, &w->settle, left < w->settle_ms ? (left > 0 ? left : 0) : w->settle_ms);
}

static void on_fs_event(uv_fs_event_t *uv, const char *name, int events, int status) {
  watched *d = uv->data;
  if (name && is_hidden(name) && strncmp(name, "..", 2) != 0) return; // an editor's swap file; but "..data" is how
                                                                      // Kubernetes swaps a mounted folder
  const char *base = strrchr(d->path, '/');
  if (name && (events & UV_RENAME) && strcmp(name, base ? base + 1 : d->path) == 0) d->stale = true; // libuv's way to say self
  changed(d->owner);
}

// Returns 1 when a watch was added, 0 when it was there, or an error.
static int watch_dir(mw_fswatch *w, const char *path) {
  watched *d = mw_map_get(&w->by_path, mw_str_from(path));
  if (d && !d->stale) {
    d->round = w->round;
    return 0;
  }
  if (d) drop(d);
  d = MW_NEW(watched);
  d->owner = w;
  d->path = mw_strdup(path);
  d->round = w->round;
  mw_list_init(&d->node);
  int rc = uv_fs_event_init(&w->loop->uv, &d->uv);
  if (rc) {
    mw_free(d->path);
    mw_free(d);
    return rc;
  }
  d->uv.data = d;
  w->pins++;
  rc = MW_FAULT(file_watch);
  if (!rc) rc = uv_fs_event_start(&d->uv, on_fs_event, path, 0);
  if (rc) {
    uv_close((uv_handle_t *)&d->uv, on_watched_closed);
    return rc;
  }
  mw_list_push(&w->dirs, &d->node);
  mw_map_set(&w->by_path, mw_str_from(path), d);
  return 1;
}

typedef struct sync_state {
  mw_fswatch *watch;
  int added, error;
} sync_state;

static void note(sync_state *s, int rc) {
  if (rc > 0) s->added++;
  else if (rc < 0) s->error = rc;
}

static void watch_found(const char *path, const struct stat *st, void *arg) {
  sync_state *s = arg;
  if (S_ISDIR(st->st_mode) && s->error != UV_ENOSPC) note(s, watch_dir(s->watch, path));
}

// Makes the watches match the tree. A folder that vanished meanwhile is no error; the root is.
static sync_state sync_tree(mw_fswatch *w) {
  sync_state s = {.watch = w};
  int dirs = 0;
  w->round++;
  note(&s, watch_dir(w, w->dir));
  struct stat st;
  if (!s.error && stat(w->dir, &st)) s.error = UV_ENOENT;
  if (!s.error) {
    walk(w->dir, 0, &dirs, watch_found, &s);
    if (s.error == UV_ENOENT || s.error == UV_ENOTDIR) s.error = 0;
    if (dirs >= MAX_DIRS) s.error = UV_ENOSPC;
  }
  MW_LIST_EACH(&w->dirs, node) {
    watched *d = MW_CONTAINER(node, watched, node);
    if (d->round != w->round || s.error == UV_ENOENT) drop(d);
  }
  return s;
}

static void on_settled(mw_timer *timer, void *arg) {
  mw_fswatch *w = arg;
  sync_state s = sync_tree(w);
  if (s.error) start_polling(w);
  bool late = mw_loop_now_ms(w->loop) - w->first_ms >= (int64_t)w->settle_ms * MAX_SETTLES;
  if (s.added && !late) {
    changed(w);
    return;
  }
  w->first_ms = 0;
  w->cb(w->arg);
}

// Polling.

static void mix(uint64_t *sum, const void *bytes, size_t len) {
  const unsigned char *p = bytes;
  for (size_t i = 0; i < len; i++) *sum = (*sum ^ p[i]) * 0x100000001b3ULL;
}

// Added up, because a folder's order may change without a change.
static void add_to_sum(const char *path, const struct stat *st, void *arg) {
  uint64_t one = 0xcbf29ce484222325ULL;
  mix(&one, path, strlen(path));
  mix(&one, &st->st_size, sizeof st->st_size);
  mix(&one, &st->st_ino, sizeof st->st_ino);
  if (!S_ISDIR(st->st_mode)) mix(&one, &st->st_mtim, sizeof st->st_mtim);
  *(uint64_t *)arg += one;
}

static void sum_up(void *arg) {
  sum_job *job = arg;
  int dirs = 0;
  walk(job->dir, 0, &dirs, add_to_sum, &job->sum);
}

static void on_summed(void *arg, int status) {
  sum_job *job = arg;
  mw_fswatch *w = job->watch;
  uint64_t sum = job->sum;
  mw_free(job->dir);
  mw_free(job);
  if (w->closing) {
    unpin(w);
    return;
  }
  w->pins--;
  bool differs = status == 0 && w->summed && sum != w->sum;
  if (status == 0) {
    w->sum = sum;
    w->summed = true;
  }
  mw_timer_start(w->loop, &w->poll, POLL_MS);
  if (differs) changed(w);
}

static void on_poll(mw_timer *timer, void *arg) {
  mw_fswatch *w = arg;
  sync_state s = sync_tree(w);
  if (!s.error) { // everything is watched again
    w->polling = w->summed = false;
    changed(w);
    return;
  }
  sum_job *job = MW_NEW(sum_job);
  job->watch = w;
  job->dir = mw_strdup(w->dir);
  if (mw_work_submit(mw_work_files(), w->loop, sum_up, on_summed, job)) {
    mw_free(job->dir);
    mw_free(job);
    mw_timer_start(w->loop, &w->poll, POLL_MS);
    return;
  }
  w->pins++;
}

static void start_polling(mw_fswatch *w) {
  if (w->polling) return;
  w->polling = true;
  mw_log(MW_LOG_WARN, "loop", "not every folder can be watched; comparing files every second (fs.inotify.max_user_watches?)",
         MW_LOG_S("dir", w->dir));
  mw_timer_start(w->loop, &w->poll, 0);
}

int mw_fswatch_open(mw_loop *loop, const char *dir, int settle_ms, mw_fswatch_cb cb, void *arg, mw_fswatch **out,
                    mw_err *err) {
  MW_ASSERT_LOOP(loop);
  struct stat st;
  if (stat(dir, &st) || !S_ISDIR(st.st_mode)) return mw_err_set(err, MW_ENOTFOUND, "%s is not a folder", dir);
  mw_fswatch *w = MW_NEW(mw_fswatch);
  w->loop = loop;
  w->dir = mw_strdup(dir);
  w->settle_ms = settle_ms;
  w->cb = cb;
  w->arg = arg;
  w->pins = 1; // the owner's, until close
  mw_list_init(&w->dirs);
  mw_map_init(&w->by_path);
  mw_timer_init(&w->settle, on_settled, w);
  mw_timer_init(&w->poll, on_poll, w);
  sync_state s = sync_tree(w);
  if (s.error) start_polling(w);
  *out = w;
  return 0;
}

void mw_fswatch_close(mw_fswatch *w) {
  if (!w || w->closing) return;
  w->closing = true;
  mw_timer_stop(&w->settle);
  mw_timer_stop(&w->poll);
  MW_LIST_EACH(&w->dirs, node) drop(MW_CONTAINER(node, watched, node));
  unpin(w);
}
