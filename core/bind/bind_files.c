// SPDX-License-Identifier: MIT
#include "bind/bind_files.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "http/beneath.h"
#include "http/conditional.h"
#include "http/date.h"
#include "http/range.h"
#include "loop/work.h"
#include "vm/task.h"
#include "vm/vm.h"

#define TYPE "mw.file"

enum { CHUNK_BYTES = 64 * 1024 };

// Held by the Lua value and by the job that runs; the thread of the pool has it to itself meanwhile. A retired state is collected on a
// thread of its own, perhaps while the job of a cancelled task still comes back on the loop.
typedef struct open_file {
  atomic_int refs;
  bool busy;
  mw_task *task; // that waits; NULL when it was cancelled
  mw_beneath_file file;
  char *folder, *path; // of the job that opens
  bool want_gzip, is_gzip, has_gzip, is_folder;
  uint64_t offset; // of the job that reads
  size_t wanted;
  mw_buf buf;
  int status;
} open_file;

static void forget(open_file *f) {
  if (f->file.fd >= 0) close(f->file.fd);
  f->file.fd = -1;
  mw_buf_deinit(&f->buf);
}

static void unref(open_file *f) {
  if (atomic_fetch_sub(&f->refs, 1) != 1) return;
  forget(f);
  mw_free(f->folder);
  mw_free(f->path);
  mw_free(f);
}

static open_file *check(lua_State *L, int index) { return *(open_file **)luaL_checkudata(L, index, TYPE); }

static open_file *check_idle(lua_State *L, int index) {
  open_file *f = check(L, index);
  if (f->busy) {
    mw_vm_push_error(L, MW_EBUSY, "another task waits for this file already");
    lua_error(L);
  }
  return f;
}

/* ---- on the pool ---- */

// The compressed sibling, unless the file was changed after it was made.
static void open_sibling(open_file *f) {
  mw_beneath_file sibling;
  char name[MW_BENEATH_MAX_PATH + 4];
  int n = snprintf(name, sizeof name, "%s.gz", f->path);
  if (mw_beneath_open(f->folder, mw_str_of(name, (size_t)n), 0, &sibling)) return;
  f->has_gzip = sibling.modified_ns >= f->file.modified_ns;
  f->is_gzip = f->has_gzip && f->want_gzip;
  if (f->is_gzip) {
    close(f->file.fd);
    f->file = sibling;
  } else {
    close(sibling.fd);
  }
}

static void run_open(void *arg) {
  open_file *f = arg;
  f->status = mw_beneath_open(f->folder, mw_str_from(f->path), 0, &f->file);
  f->is_folder = f->file.is_folder;
  if (!f->status) open_sibling(f);
}

static void run_read(void *arg) {
  open_file *f = arg;
  f->buf.len = 0;
  char *to = mw_buf_reserve(&f->buf, f->wanted);
  f->status = 0;
  while (f->buf.len < f->wanted) {
    ssize_t n = pread(f->file.fd, to + f->buf.len, f->wanted - f->buf.len, (off_t)(f->offset + f->buf.len));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) f->status = MW_EIO;
    if (n <= 0) return;
    f->buf.len += (size_t)n;
  }
}

/* ---- back on the loop ---- */

static void drop_waiting(void *op) { ((open_file *)op)->task = NULL; }

static mw_task *finish_job(open_file *f, int status) {
  mw_task *task = f->task;
  f->busy = false;
  f->task = NULL;
  if (status) f->status = status; // it never ran
  return task;
}

static const char *why_not(int status) {
  switch (status) {
    case MW_ENOTFOUND: return "there is no such file";
    case MW_ECONFIG: return "the folder with the files is not there, or no folder: see the option `files`";
    case MW_EUNAVAILABLE: return "too many files are open";
    default: return mw_err_text(status);
  }
}

static int push_opened(lua_State *L, void *arg) {
  open_file *f = arg;
  if (f->status) {
    int n = mw_vm_push_failure(L, f->status, why_not(f->status));
    lua_pushboolean(L, f->is_folder);
    return n + 1;
  }
  lua_pushboolean(L, 1);
  lua_pushboolean(L, f->is_gzip);
  lua_pushboolean(L, f->has_gzip);
  return 3;
}

static void on_opened(void *arg, int status) {
  open_file *f = arg;
  mw_task *task = finish_job(f, status);
  if (task) mw_task_resume_with(task, push_opened, f);
  unref(f);
}

static int push_read(lua_State *L, void *arg) {
  open_file *f = arg;
  if (f->status) return mw_vm_push_failure(L, f->status, why_not(f->status));
  lua_pushinteger(L, (lua_Integer)f->buf.len);
  return 1;
}

static void on_read(void *arg, int status) {
  open_file *f = arg;
  mw_task *task = finish_job(f, status);
  if (task) mw_task_resume_with(task, push_read, f);
  unref(f);
}

static int submit(lua_State *L, open_file *f, mw_work_fn fn, mw_work_done_cb done) {
  int rc = mw_work_submit(mw_work_files(), mw_vm_loop(mw_vm_of(L)), fn, done, f);
  if (rc) return mw_vm_push_failure(L, MW_EUNAVAILABLE, "too many files wait to be read");
  atomic_fetch_add(&f->refs, 1);
  f->busy = true;
  f->task = mw_task_current(L);
  return mw_task_suspend(L, drop_waiting, f);
}

/* ---- for Lua ---- */

static int l_new(lua_State *L) {
  open_file **box = lua_newuserdata(L, sizeof *box);
  *box = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  open_file *f = *box = MW_NEW(open_file);
  atomic_store(&f->refs, 1);
  f->file.fd = -1;
  return 1;
}

static int l_gc(lua_State *L) {
  open_file *f = *(open_file **)lua_touserdata(L, 1);
  if (f) unref(f);
  return 0;
}

static int l_open(lua_State *L) {
  open_file *f = check_idle(L, 1);
  size_t len;
  const char *folder = luaL_checkstring(L, 2), *path = luaL_checklstring(L, 3, &len);
  mw_task_check_yieldable(L, "res:file");
  if (!mw_beneath_allows(mw_str_of(path, len))) return mw_vm_push_failure(L, MW_ENOTFOUND, why_not(MW_ENOTFOUND));
  forget(f);
  mw_free(f->folder);
  mw_free(f->path);
  f->folder = mw_strdup(folder);
  f->path = mw_strdup(path);
  f->want_gzip = lua_toboolean(L, 4);
  f->is_gzip = f->has_gzip = false;
  return submit(L, f, run_open, on_opened);
}

static int l_read(lua_State *L) {
  open_file *f = check_idle(L, 1);
  lua_Number offset = luaL_checknumber(L, 2), bytes = luaL_checknumber(L, 3);
  mw_task_check_yieldable(L, "res:file");
  luaL_argcheck(L, offset >= 0 && bytes >= 0, 2, "a place in the file");
  if (f->file.fd < 0) return mw_vm_push_failure(L, MW_ECLOSED, "the file is closed");
  f->offset = (uint64_t)offset;
  f->wanted = bytes < CHUNK_BYTES ? (size_t)bytes : CHUNK_BYTES;
  return submit(L, f, run_read, on_read);
}

static int l_close(lua_State *L) {
  open_file *f = check(L, 1);
  if (!f->busy) forget(f);
  return 0;
}

// Weak, because two changes within one tick of the file system's clock look the same. Mixed, because an inode is nobody's business.
static void format_etag(const mw_beneath_file *file, char etag[32]) {
  uint64_t parts[] = {file->size, (uint64_t)file->modified_ns, file->inode}, hash = 0x9e3779b97f4a7c15u;
  for (int i = 0; i < 3; i++) {
    hash ^= parts[i];
    hash *= 0xbf58476d1ce4e5b9u;
    hash ^= hash >> 31;
    hash *= 0x94d049bb133111ebu;
    hash ^= hash >> 29;
  }
  snprintf(etag, 32, "W/\"%016llx\"", (unsigned long long)hash);
}

static int l_info(lua_State *L) {
  const open_file *f = check_idle(L, 1);
  char etag[32], date[MW_DATE_TEXT];
  int64_t seconds = f->file.modified_ns / 1000000000;
  format_etag(&f->file, etag);
  mw_date_format(seconds, date);
  lua_pushnumber(L, (lua_Number)f->file.size);
  lua_pushstring(L, etag);
  lua_pushnumber(L, (lua_Number)seconds);
  lua_pushstring(L, date);
  return 4;
}

mw_str mw_files_piece(lua_State *L, int index) {
  const open_file *f = check_idle(L, index);
  return f->buf.len ? mw_buf_str(&f->buf) : mw_str_of("", 0);
}

void mw_files_drop_piece(lua_State *L, int index) {
  open_file *f = check(L, index);
  if (!f->busy) mw_buf_deinit(&f->buf);
}

static mw_str opt_str(lua_State *L, int index) {
  mw_str text = {NULL, 0};
  if (!lua_isnoneornil(L, index)) text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

static mw_conditional read_validators(lua_State *L) {
  return (mw_conditional){.etag = opt_str(L, 1), .modified = (int64_t)luaL_checknumber(L, 2), .now = mw_clock_wall_us() / 1000000};
}

static int l_conditional(lua_State *L) {
  mw_conditional c = read_validators(L);
  c.is_read = lua_toboolean(L, 3);
  c.if_match = opt_str(L, 4);
  c.if_none_match = opt_str(L, 5);
  c.if_modified_since = opt_str(L, 6);
  c.if_unmodified_since = opt_str(L, 7);
  lua_pushinteger(L, mw_conditional_evaluate(&c));
  return 1;
}

static int l_range_holds(lua_State *L) {
  mw_conditional c = read_validators(L);
  c.if_range = opt_str(L, 3);
  lua_pushboolean(L, mw_conditional_range_holds(&c));
  return 1;
}

static int l_ranges(lua_State *L) {
  mw_range ranges[MW_RANGE_MAX];
  int count = mw_range_parse(opt_str(L, 1), (uint64_t)luaL_checknumber(L, 2), ranges);
  if (count == 0) return 0;
  if (count < 0) {
    lua_pushboolean(L, 0);
    return 1;
  }
  lua_createtable(L, 2 * count, 0);
  for (int i = 0; i < count; i++) {
    lua_pushnumber(L, (lua_Number)ranges[i].first);
    lua_rawseti(L, -2, 2 * i + 1);
    lua_pushnumber(L, (lua_Number)ranges[i].last);
    lua_rawseti(L, -2, 2 * i + 2);
  }
  return 1;
}

static const luaL_Reg functions[] = {
    {"new", l_new},   {"open", l_open},   {"info", l_info},         {"read", l_read},
    {"close", l_close}, {"ranges", l_ranges}, {"conditional", l_conditional}, {"range_holds", l_range_holds},
    {NULL, NULL},
};

static int open_module(lua_State *L) {
  luaL_newmetatable(L, TYPE);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_files(lua_State *L) {
  mw_vm_add_module(L, "mw.core.files", open_module);
  return 0;
}
