// SPDX-License-Identifier: MIT
#include "store/databases.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/list.h"
#include "loop/loop.h"
#include "loop/work.h"

#define SQLITE "sqlite:"

static const char *const own_files[] = {"moonwatch.db", "app.db", "telemetry.db"};

typedef struct database {
  char *name, *url;
  pthread_mutex_t lock; // of `store`
  mw_store *store;
} database;

struct mw_databases {
  char *data_dir;
  int pg_pool_size;
  mw_loop *inline_loop;
  size_t count;
  database list[];
};

struct mw_databases_wait {
  mw_list node;
  void (*cb)(int status, const mw_err *err, void *arg);
  void *arg;
};

// What a worker has of one database.
typedef struct port {
  mw_store_client *client;
  mw_list waiting;
  bool opening;
} port;

struct mw_databases_door {
  mw_databases *databases;
  mw_loop *loop;
  bool closing;
  size_t busy; // openings and detachings under way
  void (*gone)(void *arg);
  void *gone_arg;
  port ports[];
};

/* ---- what may be configured ---- */

static bool is_postgres(const char *url) { return strncmp(url, "postgres://", 11) == 0 || strncmp(url, "postgresql://", 13) == 0; }

static bool ends_with(const char *text, const char *end) { return mw_str_ends_with(mw_str_from(text), mw_str_from(end)); }

int mw_databases_check(const char *name, const char *url, mw_err *err) {
  if (strcmp(name, "app") == 0 || strcmp(name, "engine") == 0)
    return mw_err_set(err, MW_ECONFIG, "this name is taken: the application's own database is mw.query without a name");
  if (is_postgres(url)) return 0;
  if (strncmp(url, SQLITE, strlen(SQLITE))) return mw_err_set(err, MW_ECONFIG, "is postgres://user@host/name, or sqlite:FILE");
  const char *path = url + strlen(SQLITE), *slash = strrchr(path, '/');
  if (strncmp(path, "//", 2) == 0) return mw_err_set(err, MW_ECONFIG, "an absolute path has one slash: sqlite:/var/lib/x.db");
  if (*path && *path != '/' && slash) return mw_err_set(err, MW_ECONFIG, "is a file in the data folder (sqlite:x.db) or an absolute path (sqlite:/var/lib/x.db)");
  if (!ends_with(path, ".db") && !ends_with(path, ".sqlite") && !ends_with(path, ".sqlite3"))
    return mw_err_set(err, MW_ECONFIG, "names a file that ends in .db, .sqlite or .sqlite3");
  for (size_t i = 0; i < sizeof own_files / sizeof *own_files && !slash; i++)
    if (strcmp(path, own_files[i]) == 0) return mw_err_set(err, MW_ECONFIG, "%s is one of Moonwatch's own files; choose another name", path);
  return strlen(path) < 3000 ? 0 : mw_err_set(err, MW_ECONFIG, "has a path that is too long");
}

// A link, or another way to write the path, may lead to one of our own files all the same.
static bool is_own_file(const mw_databases *databases, const char *path) {
  struct stat file, own;
  char text[4096];
  for (size_t i = 0; i < sizeof own_files / sizeof *own_files; i++) {
    snprintf(text, sizeof text, "%s/%s", databases->data_dir, own_files[i]);
    if (stat(path, &file) == 0 && stat(text, &own) == 0 && file.st_dev == own.st_dev && file.st_ino == own.st_ino) return true;
    const char *name = strrchr(path, '/');
    char *folder = name ? mw_strndup(path, (size_t)(name - path)) : NULL;
    bool is_same_folder = folder && stat(*folder ? folder : "/", &file) == 0 && stat(databases->data_dir, &own) == 0 &&
                          file.st_dev == own.st_dev && file.st_ino == own.st_ino;
    mw_free(folder);
    if (is_same_folder && strcmp(name + 1, own_files[i]) == 0) return true; // not made yet
  }
  return false;
}

/* ---- the process ---- */

mw_databases *mw_databases_new(const mw_databases_conf *conf) {
  mw_databases *databases = mw_calloc(1, sizeof *databases + conf->count * sizeof *databases->list);
  databases->data_dir = mw_strdup(conf->data_dir);
  databases->pg_pool_size = conf->pg_pool_size;
  databases->inline_loop = conf->inline_loop;
  databases->count = conf->count;
  for (size_t i = 0; i < conf->count; i++) {
    databases->list[i].name = mw_strdup(conf->names[i]);
    databases->list[i].url = mw_strdup(conf->urls[i]);
    pthread_mutex_init(&databases->list[i].lock, NULL);
  }
  return databases;
}

void mw_databases_free(mw_databases *databases) {
  if (!databases) return;
  for (size_t i = 0; i < databases->count; i++) {
    database *db = &databases->list[i];
    mw_store_close(db->store);
    pthread_mutex_destroy(&db->lock);
    mw_free(db->name);
    mw_free(db->url);
  }
  mw_free(databases->data_dir);
  mw_free(databases);
}

static int open_store(mw_databases *databases, database *db, mw_err *err) {
  char path[8192];
  if (databases->inline_loop) {
    snprintf(path, sizeof path, "%s/further-%s.db", databases->data_dir, db->name);
    return mw_store_open_single(path, 0, databases->inline_loop, &db->store, err);
  }
  if (is_postgres(db->url)) return mw_store_open_single(db->url, databases->pg_pool_size, NULL, &db->store, err);
  const char *file = db->url + strlen(SQLITE);
  snprintf(path, sizeof path, "%s%s%s", *file == '/' ? "" : databases->data_dir, *file == '/' ? "" : "/", file);
  if (is_own_file(databases, path)) return mw_err_set(err, MW_EDENIED, "%s is one of Moonwatch's own files", path);
  return mw_store_open_single(path, 0, NULL, &db->store, err);
}

/* ---- doors ---- */

static ptrdiff_t index_of(const mw_databases *databases, const char *name) {
  for (size_t i = 0; i < databases->count; i++)
    if (strcmp(databases->list[i].name, name) == 0) return (ptrdiff_t)i;
  return -1;
}

mw_databases_door *mw_databases_attach(mw_databases *databases, mw_loop *loop) {
  mw_databases_door *door = mw_calloc(1, sizeof *door + databases->count * sizeof *door->ports);
  door->databases = databases;
  door->loop = loop;
  for (size_t i = 0; i < databases->count; i++) mw_list_init(&door->ports[i].waiting);
  return door;
}

mw_store_client *mw_databases_find(const mw_databases_door *door, const char *name) {
  ptrdiff_t i = index_of(door->databases, name);
  return i < 0 ? NULL : door->ports[i].client;
}

bool mw_databases_has(const mw_databases_door *door, const char *name) { return index_of(door->databases, name) >= 0; }

static void release(mw_databases_door *door) {
  if (--door->busy || !door->closing) return;
  void (*cb)(void *arg) = door->gone;
  void *arg = door->gone_arg;
  mw_free(door);
  if (cb) cb(arg);
}

/* ---- opening ---- */

typedef struct opening {
  mw_databases_door *door;
  size_t index;
  int status;
  mw_err err;
} opening;

// On a thread of the pool.
static void do_open(void *arg) {
  opening *job = arg;
  database *db = &job->door->databases->list[job->index];
  pthread_mutex_lock(&db->lock);
  if (!db->store) job->status = open_store(job->door->databases, db, &job->err);
  pthread_mutex_unlock(&db->lock);
}

static void on_opened(void *arg, int status) {
  opening job = *(opening *)arg;
  mw_databases_door *door = job.door;
  port *p = &door->ports[job.index];
  mw_list waiting;
  mw_free(arg);
  if (status) job.status = mw_err_set(&job.err, status, "%s", mw_err_text(status));
  p->opening = false;
  if (!job.status && !door->closing && !p->client) p->client = mw_store_attach(door->databases->list[job.index].store, door->loop);
  mw_list_init(&waiting);
  mw_list_splice(&waiting, &p->waiting);
  for (mw_databases_wait *wait; (wait = MW_LIST_POP(&waiting, mw_databases_wait, node));) {
    mw_databases_wait own = *wait;
    mw_free(wait);
    own.cb(job.status, job.status ? &job.err : NULL, own.arg);
  }
  release(door);
}

static void do_open_here(void *arg) {
  do_open(arg);
  on_opened(arg, 0);
}

// Has the database opened, and on_opened called later.
static int start_opening(mw_databases_door *door, size_t index) {
  opening *job = MW_NEW(opening);
  int rc = 0;
  job->door = door;
  job->index = index;
  if (door->databases->inline_loop) mw_loop_post(door->loop, do_open_here, job);
  else rc = mw_work_submit(mw_work_files(), door->loop, do_open, on_opened, job);
  if (rc) {
    mw_free(job);
    return rc;
  }
  door->ports[index].opening = true;
  door->busy++;
  return 0;
}

int mw_databases_open(mw_databases_door *door, const char *name, void (*cb)(int status, const mw_err *err, void *arg), void *arg,
                      mw_databases_wait **out) {
  ptrdiff_t i = index_of(door->databases, name);
  if (i < 0) return MW_ENOTFOUND;
  if (door->closing) return MW_ECANCELED;
  port *p = &door->ports[i];
  int rc = p->opening ? 0 : start_opening(door, (size_t)i);
  if (rc) return rc;
  mw_databases_wait *wait = MW_NEW(mw_databases_wait);
  wait->cb = cb;
  wait->arg = arg;
  mw_list_push(&p->waiting, &wait->node);
  *out = wait;
  return 0;
}

void mw_databases_cancel(mw_databases_wait *wait) {
  mw_list_remove(&wait->node);
  mw_free(wait);
}

/* ---- the end ---- */

static void on_detached(void *arg) { release(arg); }

static void do_detach(void *arg) {
  mw_databases_door *door = arg;
  door->closing = true;
  for (size_t i = 0; i < door->databases->count; i++) {
    mw_store_client *client = door->ports[i].client;
    if (!client) continue;
    door->ports[i].client = NULL;
    door->busy++;
    mw_store_detach(client, on_detached, door);
  }
  release(door);
}

void mw_databases_detach(mw_databases_door *door, void (*cb)(void *arg), void *arg) {
  door->gone = cb;
  door->gone_arg = arg;
  door->busy++;
  mw_loop_post(door->loop, do_detach, door);
}
