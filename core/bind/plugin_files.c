// SPDX-License-Identifier: MIT
#include "bind/plugin_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"

struct mw_plugin_files {
  atomic_int refs;
  char *dir;
  mw_plugin_file *list;
  size_t count, cap, total_bytes;
};

mw_plugin_files *mw_plugin_files_ref(mw_plugin_files *files) {
  atomic_fetch_add(&files->refs, 1);
  return files;
}

void mw_plugin_files_unref(mw_plugin_files *files) {
  if (!files || atomic_fetch_sub(&files->refs, 1) != 1) return;
  for (size_t i = 0; i < files->count; i++) {
    mw_free((char *)files->list[i].path.ptr);
    mw_free((char *)files->list[i].text.ptr);
  }
  mw_free(files->list);
  mw_free(files->dir);
  mw_free(files);
}

static int read_file(mw_plugin_files *files, const char *full, const char *path, mw_err *err) {
  if (files->count == MW_PLUGIN_MAX_FILES)
    return mw_err_set(err, MW_ELIMIT, "more than %d Lua files below %s", MW_PLUGIN_MAX_FILES, files->dir);
  int fd = open(full, O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return 0; // an editor's rename between readdir and open
  if (fd < 0) return mw_err_set(err, MW_EIO, "%s cannot be read: %s", full, strerror(errno));
  mw_buf text = MW_BUF_INIT;
  ssize_t got;
  while ((got = read(fd, mw_buf_reserve(&text, 65536), 65536)) > 0 && text.len + (size_t)got <= MW_PLUGIN_MAX_FILE_BYTES)
    text.len += (size_t)got;
  int reason = errno;
  close(fd);
  int rc = 0;
  if (got < 0) rc = mw_err_set(err, MW_EIO, "%s cannot be read: %s", full, strerror(reason));
  else if (got > 0) rc = mw_err_set(err, MW_ELIMIT, "%s is larger than %d bytes", full, MW_PLUGIN_MAX_FILE_BYTES);
  else if ((files->total_bytes += text.len) > MW_PLUGIN_MAX_TOTAL_BYTES)
    rc = mw_err_set(err, MW_ELIMIT, "the Lua files below %s are larger than %d bytes together", files->dir,
                    MW_PLUGIN_MAX_TOTAL_BYTES);
  if (rc) {
    mw_buf_deinit(&text);
    return rc;
  }
  if (files->count == files->cap) {
    files->cap = files->cap ? files->cap * 2 : 32;
    files->list = mw_realloc(files->list, files->cap * sizeof *files->list);
  }
  mw_plugin_file *file = &files->list[files->count++];
  size_t len = text.len;
  file->path = mw_str_from(mw_strdup(path));
  file->text = mw_str_of(mw_buf_take(&text), len);
  return 0;
}

static int read_dir(mw_plugin_files *files, const char *prefix, int depth, mw_err *err) {
  mw_buf full = MW_BUF_INIT, path = MW_BUF_INIT;
  mw_buf_printf(&full, "%s/%s", files->dir, prefix);
  DIR *dir = opendir(mw_buf_cstr(&full));
  int rc = 0;
  if (!dir && errno != ENOENT) rc = mw_err_set(err, MW_EIO, "%s cannot be read: %s", full.ptr, strerror(errno));
  for (struct dirent *item; dir && !rc && (item = readdir(dir));) {
    if (item->d_name[0] == '.') continue;
    struct stat info;
    mw_buf_reset(&full, SIZE_MAX);
    mw_buf_reset(&path, SIZE_MAX);
    mw_buf_printf(&path, "%s%s", prefix, item->d_name);
    mw_buf_printf(&full, "%s/%s", files->dir, path.ptr);
    if (stat(full.ptr, &info)) continue; // gone, or a dangling link
    if (S_ISDIR(info.st_mode)) {
      mw_buf_add_cstr(&path, "/");
      if (depth == MW_PLUGIN_MAX_DEPTH)
        rc = mw_err_set(err, MW_ELIMIT, "%s is more than %d folders deep", mw_buf_cstr(&full), MW_PLUGIN_MAX_DEPTH);
      else rc = read_dir(files, mw_buf_cstr(&path), depth + 1, err);
    } else if (S_ISREG(info.st_mode) && mw_str_ends_with(mw_buf_str(&path), MW_STR(".lua")))
      rc = read_file(files, mw_buf_cstr(&full), mw_buf_cstr(&path), err);
  }
  if (dir) closedir(dir);
  mw_buf_deinit(&full);
  mw_buf_deinit(&path);
  return rc;
}

static int by_path(const void *a, const void *b) {
  return mw_str_cmp(((const mw_plugin_file *)a)->path, ((const mw_plugin_file *)b)->path);
}

int mw_plugin_files_read(const char *dir, mw_plugin_files **out, mw_err *err) {
  mw_plugin_files *files = MW_NEW(mw_plugin_files);
  atomic_init(&files->refs, 1);
  files->dir = mw_strdup(dir);
  size_t len = strlen(files->dir);
  while (len > 1 && files->dir[len - 1] == '/') files->dir[--len] = 0;
  int rc = read_dir(files, "", 0, err);
  if (rc) {
    mw_plugin_files_unref(files);
    return rc;
  }
  if (files->count) qsort(files->list, files->count, sizeof *files->list, by_path);
  *out = files;
  return 0;
}

size_t mw_plugin_files_count(const mw_plugin_files *files) { return files->count; }

const mw_plugin_file *mw_plugin_files_at(const mw_plugin_files *files, size_t index) { return &files->list[index]; }

const mw_plugin_file *mw_plugin_files_find(const mw_plugin_files *files, mw_str path) {
  mw_plugin_file key = {path, {NULL, 0}};
  if (!files->count) return NULL;
  return bsearch(&key, files->list, files->count, sizeof key, by_path);
}

const char *mw_plugin_files_dir(const mw_plugin_files *files) { return files->dir; }
