// SPDX-License-Identifier: MIT
#include "app/config_file.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/cli.h"
#include "base/alloc.h"

#define MAX_FILE_BYTES (1024 * 1024)
#define MAX_STATE_BYTES ((size_t)64 * 1024 * 1024)
#define MAX_STEPS 20000000

typedef struct reader {
  mw_config *conf;
  const char *path;
  const char *text;
  size_t len;
  mw_err *err;
  int rc;
  size_t used_bytes;
} reader;

static void *allocate(void *arg, void *ptr, size_t old_size, size_t size) {
  reader *self = arg;
  if (!ptr) old_size = 0;
  if (size > old_size && self->used_bytes + size - old_size > MAX_STATE_BYTES) return NULL;
  if (!size) {
    free(ptr);
    self->used_bytes -= old_size;
    return NULL;
  }
  void *grown = realloc(ptr, size);
  if (grown) self->used_bytes = self->used_bytes + size - old_size;
  return grown;
}

static void on_step_limit(lua_State *L, lua_Debug *info) {
  (void)info;
  luaL_error(L, "it takes too long; a configuration only returns a table");
}

static void keep_only_harmless(lua_State *L) {
  static const char *const removed[] = {"dofile", "loadfile", "load", "loadstring", "require", "module", "getfenv", "setfenv",
                                        "newproxy", "collectgarbage", "print", "package", "rawset", "gcinfo", NULL};
  static const lua_CFunction libraries[] = {luaopen_base, luaopen_string, luaopen_table, luaopen_math, NULL};
  for (const lua_CFunction *open = libraries; *open; open++) {
    lua_pushcfunction(L, *open);
    lua_call(L, 0, 0);
  }
  for (const char *const *name = removed; *name; name++) {
    lua_pushnil(L);
    lua_setglobal(L, *name);
  }
  lua_getglobal(L, "string");
  lua_pushnil(L);
  lua_setfield(L, -2, "dump");
  lua_pop(L, 1);
}

// ---- from the returned table to options ----

static int fail(reader *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(reader *self, const char *format, ...) {
  va_list args;
  va_start(args, format);
  self->rc = mw_err_vset(self->err, MW_ECONFIG, format, args);
  va_end(args);
  return self->rc;
}

static int unknown_key(reader *self, const char *key) {
  const char *names[MW_CONFIG_COUNT + 1];
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) names[i] = mw_config_options[i].name;
  names[MW_CONFIG_COUNT] = NULL;
  const char *meant = mw_cli_suggest(key, names);
  if (meant) return fail(self, "%s: there is no option '%s'; did you mean '%s'?", self->path, key, meant);
  return fail(self, "%s: there is no option '%s'; `moonwatch config` lists them all", self->path, key);
}

/** Writes the scalar at the top of the stack as an option's text. */
static int scalar_text(reader *self, lua_State *L, const mw_config_option *option, mw_buf *out) {
  int type = lua_type(L, -1);
  if (type == LUA_TBOOLEAN) mw_buf_add_cstr(out, lua_toboolean(L, -1) ? "true" : "false");
  else if (type == LUA_TNUMBER) {
    double number = lua_tonumber(L, -1);
    if (option->kind == MW_CONFIG_BOOL) return fail(self, "%s: %s is true or false", self->path, option->name);
    if (number != floor(number) && option->kind == MW_CONFIG_DURATION) mw_buf_printf(out, "%.0fms", number * 1000);
    else mw_buf_printf(out, "%.17g", number);
  } else if (type == LUA_TSTRING) {
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    mw_buf_add(out, text, len);
  } else return fail(self, "%s: %s cannot be a %s", self->path, option->name, luaL_typename(L, -1));
  return 0;
}

static int list_text(reader *self, lua_State *L, const mw_config_option *option, mw_buf *out) {
  size_t count = lua_objlen(L, -1);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, -1, (int)i);
    if (lua_type(L, -1) != LUA_TSTRING || strchr(lua_tostring(L, -1), ','))
      return fail(self, "%s: %s is a list of names", self->path, option->name);
    if (i > 1) mw_buf_add_byte(out, ',');
    mw_buf_add_cstr(out, lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  return 0;
}

static int set_members(reader *self, lua_State *L, const mw_config_option *option) {
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) { // …, name, value
    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
      return fail(self, "%s: %s has names with a text each: %s = { name = \"…\" }", self->path, option->name, option->name);
    mw_str name = mw_str_from(lua_tostring(L, -2)), value = mw_str_from(lua_tostring(L, -1));
    if ((self->rc = mw_config_set_member(self->conf, option, name, value, self->path, self->err))) return self->rc;
  }
  return 0;
}

static int set_option(reader *self, lua_State *L, const mw_config_option *option) {
  if (option->kind == MW_CONFIG_MAP && lua_istable(L, -1)) return set_members(self, L, option);
  mw_buf text = MW_BUF_INIT;
  int rc = option->kind == MW_CONFIG_LIST && lua_istable(L, -1) ? list_text(self, L, option, &text)
                                                                 : scalar_text(self, L, option, &text);
  if (!rc) rc = self->rc = mw_config_set(self->conf, option, mw_buf_str(&text), self->path, self->err);
  mw_buf_deinit(&text);
  return rc;
}

/** Walks the table at the top of the stack; `prefix` is "" or "http.". */
static int read_table(reader *self, lua_State *L, const char *prefix) {
  char name[128];
  lua_pushnil(L);
  while (lua_next(L, -2)) {  // …, key, value
    if (lua_type(L, -2) != LUA_TSTRING)
      return fail(self, "%s: %s has an entry without a name; options are written name = value", self->path,
                  *prefix ? prefix : "the table");
    snprintf(name, sizeof name, "%s%s", prefix, lua_tostring(L, -2));
    const mw_config_option *option = mw_config_find(mw_str_from(name));
    if (!option && lua_type(L, -1) == LUA_TSTRING) option = mw_config_find_short(mw_str_from(name));
    int rc;
    if (option) rc = set_option(self, L, option);
    else if (lua_istable(L, -1) && !*prefix) {
      snprintf(name, sizeof name, "%s.", lua_tostring(L, -2));
      bool is_group = false;
      for (size_t i = 0; i < MW_CONFIG_COUNT; i++)
        is_group = is_group || strncmp(mw_config_options[i].name, name, strlen(name)) == 0;
      rc = is_group ? read_table(self, L, name) : unknown_key(self, lua_tostring(L, -2));
    } else rc = unknown_key(self, name);
    if (rc) return rc;
    lua_pop(L, 1);
  }
  return 0;
}

static int l_read(lua_State *L) {
  reader *self = lua_touserdata(L, 1);
  char chunk[512];
  keep_only_harmless(L);
  snprintf(chunk, sizeof chunk, "@%s", self->path);
  if (luaL_loadbufferx(L, self->text, self->len, chunk, "t")) return lua_error(L);
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  lua_sethook(L, on_step_limit, LUA_MASKCOUNT, MAX_STEPS);
  lua_call(L, 0, 1);
  lua_sethook(L, NULL, 0, 0);
  if (!lua_istable(L, -1)) {
    fail(self, "%s returns %s; it should return a table: return { listen = \"127.0.0.1:9400\" }", self->path,
         lua_isnil(L, -1) ? "nothing" : luaL_typename(L, -1));
    return 0;
  }
  luaL_checkstack(L, 16, NULL);
  read_table(self, L, "");
  return 0;
}

static int read_whole(const char *path, mw_buf *out, mw_err *err) {
  FILE *file = fopen(path, "re");
  if (!file && errno == ENOENT) return mw_err_set(err, MW_ENOTFOUND, "%s: there is no such file; name another with --config FILE, or leave it away to read moonwatch.lua", path);
  if (!file) return mw_err_set(err, MW_ECONFIG, "%s: %s", path, strerror(errno));
  size_t n;
  do {
    n = fread(mw_buf_reserve(out, 65536), 1, 65536, file);
    out->len += n;
  } while (n && out->len <= MAX_FILE_BYTES);
  bool failed = ferror(file);
  fclose(file);
  if (failed) return mw_err_set(err, MW_ECONFIG, "%s: it cannot be read: %s", path, strerror(errno));
  if (out->len > MAX_FILE_BYTES) return mw_err_set(err, MW_ECONFIG, "%s: a configuration of more than 1 MiB", path);
  return 0;
}

int mw_config_read_file(mw_config *conf, const char *path, mw_err *err) {
  mw_buf text = MW_BUF_INIT;
  int rc = read_whole(path, &text, err);
  if (!rc) {
    reader self = {.conf = conf, .path = path, .text = text.ptr, .len = text.len, .err = err};
    lua_State *L = lua_newstate(allocate, &self);
    if (!L) abort();
    if (lua_cpcall(L, l_read, &self)) {
      const char *why = lua_tostring(L, -1);
      bool is_placed = why && strncmp(why, path, strlen(path)) == 0;
      fail(&self, "%s%s%s; the file returns a table, such as return { listen = \"127.0.0.1:9400\" }", is_placed ? "" : path,
           is_placed ? "" : ": ", why ? why : "it raised an error without a message");
    }
    lua_close(L);
    rc = self.rc;
  }
  mw_buf_deinit(&text);
  return rc;
}
