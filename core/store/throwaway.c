// SPDX-License-Identifier: MIT
#include "store/throwaway.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/world.h"
#include "store/migrate.h"
#include "store/sqlite.h"

#define PREFIX "moonwatch-test-"
#define MAX_SQL_FILE (16 * 1024 * 1024)

static const char *const kept[] = {"moonwatch.db", "moonwatch.db-wal", "app.db", "app.db-wal", "node.id"};

static char *template_dir;
static char *template_key; // what it was made from

static const char *root(void) {
  if (!access("/dev/shm", W_OK | X_OK)) return "/dev/shm";
  const char *named = getenv("TMPDIR");
  return named && *named ? named : "/tmp";
}

static char *joined(const char *dir, const char *name) {
  mw_buf path = MW_BUF_INIT;
  mw_buf_printf(&path, "%s/%s", dir, name);
  char *copy = mw_strdup(mw_buf_cstr(&path));
  mw_buf_deinit(&path);
  return copy;
}

// ---- folders ----

static void remove_folder(const char *dir) {
  DIR *list = opendir(dir);
  if (list) {
    for (struct dirent *entry; (entry = readdir(list));) unlinkat(dirfd(list), entry->d_name, 0);
    closedir(list);
  }
  rmdir(dir);
}

static void remove_leftovers(void) {
  DIR *list = opendir(root());
  if (!list) return;
  for (struct dirent *entry; (entry = readdir(list));) {
    long uid, pid;
    if (sscanf(entry->d_name, PREFIX "%ld-%ld-", &uid, &pid) != 2 || uid != (long)getuid() || pid == (long)getpid()) continue;
    if (!kill((pid_t)pid, 0) || errno != ESRCH) continue;
    char *path = joined(root(), entry->d_name);
    remove_folder(path);
    mw_free(path);
  }
  closedir(list);
}

static int make_folder(char **dir, mw_err *err) {
  static int number;
  mw_buf name = MW_BUF_INIT;
  mw_buf_printf(&name, "%s/" PREFIX "%ld-%ld-%d", root(), (long)getuid(), (long)getpid(), ++number);
  *dir = mw_strdup(mw_buf_cstr(&name));
  mw_buf_deinit(&name);
  remove_folder(*dir);
  if (!mkdir(*dir, 0700)) return 0;
  int code = mw_err_set(err, MW_EIO, "cannot make the folder %s for a spec's databases: %s", *dir, strerror(errno));
  mw_free(*dir);
  *dir = NULL;
  return code;
}

static int read_file(const char *path, mw_buf *out, mw_err *err) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? -1 : 0;
  char piece[16384];
  while (fd >= 0 && (got = read(fd, piece, sizeof piece)) > 0) {
    mw_buf_add(out, piece, (size_t)got);
    if (out->len > MAX_SQL_FILE) got = -1, errno = EFBIG;
    if (got < 0) break;
  }
  int why = errno;
  if (fd >= 0) close(fd);
  return got < 0 ? mw_err_set(err, MW_EIO, "cannot read %s: %s", path, strerror(why)) : 0;
}

static int copy_file(const char *from, const char *to, const char *name, mw_err *err) {
  char *source = joined(from, name), *target = joined(to, name);
  char piece[65536];
  int in = open(source, O_RDONLY | O_CLOEXEC), out = in < 0 ? -1 : open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool absent = in < 0 && errno == ENOENT;
  ssize_t got = 0, put = 0;
  while (out >= 0 && (got = read(in, piece, sizeof piece)) > 0 && (put = write(out, piece, (size_t)got)) == got) {}
  int why = errno;
  bool ok = absent || (out >= 0 && got == 0);
  if (in >= 0) close(in);
  if (out >= 0) close(out);
  int code = ok ? 0 : mw_err_set(err, MW_EIO, "cannot copy %s to %s: %s", source, target, put < got && put >= 0 ? "no room" : strerror(why));
  mw_free(source);
  mw_free(target);
  return code;
}

static int copy_folder(const char *from, const char *to, mw_err *err) {
  int code = 0;
  for (size_t i = 0; !code && i < sizeof kept / sizeof *kept; i++) code = copy_file(from, to, kept[i], err);
  return code;
}

// ---- the project's tables ----

static int is_up(const struct dirent *entry) {
  size_t len = strlen(entry->d_name);
  return entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && len > 7 && strcmp(entry->d_name + len - 7, ".up.sql") == 0;
}

// The files with size and time: when they change, the template is made anew.
static char *key_of(const char *folder, struct dirent **list, int count) {
  mw_buf key = MW_BUF_INIT;
  mw_buf_printf(&key, "%s", folder ? folder : "");
  for (int i = 0; i < count; i++) {
    struct stat st = {0};
    char *path = joined(folder, list[i]->d_name);
    if (!stat(path, &st)) mw_buf_printf(&key, "|%s %lld %lld", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    mw_free(path);
  }
  char *copy = mw_strdup(mw_buf_cstr(&key));
  mw_buf_deinit(&key);
  return copy;
}

static int apply(sqlite3 *db, const char *folder, const char *name, mw_err *err) {
  char *path = joined(folder, name), *words = NULL;
  mw_buf sql = MW_BUF_INIT;
  int code = read_file(path, &sql, err);
  if (!code && sqlite3_exec(db, mw_buf_cstr(&sql), NULL, NULL, &words))
    code = mw_err_set(err, MW_ESQL, "%s does not apply to the spec's SQLite: %s", path, words ? words : "an error");
  sqlite3_free(words);
  mw_buf_deinit(&sql);
  mw_free(path);
  return code;
}

static int apply_all(const char *dir, const char *folder, struct dirent **list, int count, mw_err *err) {
  char *path = joined(dir, "app.db");
  mw_sqlite_conn conn;
  int code = mw_sqlite_conn_open(&conn, path, MW_SQLITE_NORMAL, err);
  for (int i = 0; !code && i < count; i++) code = apply(conn.db, folder, list[i]->d_name, err);
  mw_sqlite_conn_close(&conn);
  mw_free(path);
  return code;
}

// ---- the template ----

static int make_schema(const char *dir, mw_err *err) {
  mw_store *store;
  int count, code = mw_store_open(&(mw_store_conf){.data_dir = dir, .exclusive = true}, &store, err);
  if (code) return code;
  code = mw_migrate_up(store, &count, err);
  mw_store_close(store);
  return code;
}

static void drop_template(void) {
  if (template_dir) mw_throwaway_remove(template_dir);
  mw_free(template_key);
  template_dir = template_key = NULL;
}

static int make_template(const char *folder, struct dirent **list, int count, mw_err *err) {
  if (!template_dir) remove_leftovers();
  drop_template();
  int code = make_folder(&template_dir, err);
  if (!code) code = make_schema(template_dir, err);
  if (!code) code = apply_all(template_dir, folder, list, count, err);
  if (code) drop_template();
  return code;
}

static int need_template(const char *folder, mw_err *err) {
  struct dirent **list = NULL;
  int count = folder ? scandir(folder, &list, is_up, alphasort) : 0;
  if (count < 0) count = 0; // no folder, no tables
  char *key = key_of(folder, list, count);
  int code = 0;
  if (!template_key || strcmp(template_key, key) != 0) {
    mw_world *world = mw_world_use(NULL); // threads that do not share it take part
    code = make_template(folder, list, count, err);
    mw_world_use(world);
    if (!code) template_key = key, key = NULL;
  }
  mw_free(key);
  for (int i = 0; i < count; i++) free(list[i]);
  free(list);
  return code;
}

int mw_throwaway_make(const char *migrations, const char *from, char **dir, mw_err *err) {
  int code = from ? 0 : need_template(migrations, err);
  if (!code) code = make_folder(dir, err);
  if (code) return code;
  code = copy_folder(from ? from : template_dir, *dir, err);
  if (code) mw_throwaway_remove(*dir), *dir = NULL;
  return code;
}

void mw_throwaway_remove(char *dir) {
  if (!dir) return;
  remove_folder(dir);
  mw_free(dir);
}

void mw_throwaway_end(void) { drop_template(); }
