// SPDX-License-Identifier: MIT
#include "vm/safe_string.h"

#include <stdio.h>
#include <string.h>

#include "vm/pattern.h"
#include "vm/vm_impl.h"

#define MAX_STRING 0x7fffff00

static mw_str check_str(lua_State *L, int index) {
  mw_str s;
  s.ptr = luaL_checklstring(L, index, &s.len);
  return s;
}

static bool is_interrupted(void *arg) { return ((mw_vm *)arg)->hooked; }

// Memory for the compiled pattern is a userdata, which stays on the stack.
static void begin(lua_State *L, mw_pattern *p, mw_str subject, mw_str pattern, bool plain_caret) {
  size_t space = mw_pattern_space(pattern);
  if (space == SIZE_MAX) luaL_error(L, "pattern too complex: it is longer than 32000 bytes");
  mw_pattern_init(p, subject, pattern, plain_caret, space ? lua_newuserdata(L, space) : NULL);
  p->arg = mw_vm_of(L);
  if (p->arg) p->interrupted = is_interrupted;
}

static void check_error(lua_State *L, const mw_pattern *p) {
  if (!p->error) return;
  mw_vm *vm = mw_vm_of(L);
  if (vm && vm->hooked) mw_vm_raise_killed(L, vm);
  luaL_error(L, "%s", p->error);
}

static void push_capture(lua_State *L, const mw_pattern *p, int i, const char *start, const char *end) {
  if (i >= p->count) {
    if (i > 0) luaL_error(L, "invalid capture index");
    lua_pushlstring(L, start, (size_t)(end - start));
    return;
  }
  const mw_pattern_capture *c = &p->captures[i];
  if (c->len == MW_PATTERN_UNFINISHED) luaL_error(L, "unfinished capture");
  if (c->len == MW_PATTERN_POSITION) lua_pushinteger(L, c->start - p->subject.ptr + 1);
  else lua_pushlstring(L, c->start, (size_t)c->len);
}

// All captures; the whole match when there are none and `start` is given.
static int push_captures(lua_State *L, const mw_pattern *p, const char *start, const char *end) {
  int n = p->count == 0 && start ? 1 : p->count;
  luaL_checkstack(L, n, "too many captures");
  for (int i = 0; i < n; i++) push_capture(L, p, i, start, end);
  return n;
}

static int find_plain(lua_State *L, mw_str s, mw_str pattern, size_t from) {
  const char *at = memmem(s.ptr + from, s.len - from, pattern.ptr, pattern.len);
  if (!at) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, at - s.ptr + 1);
  lua_pushinteger(L, at - s.ptr + (ptrdiff_t)pattern.len);
  return 2;
}

static int find(lua_State *L, bool match_only) {
  mw_str s = check_str(L, 1), pattern = check_str(L, 2);
  lua_Integer init = luaL_optinteger(L, 3, 1);
  if (init < 0) init += (lua_Integer)s.len;
  else init--;
  size_t from = init < 0 ? 0 : (size_t)init > s.len ? s.len : (size_t)init;
  if (!match_only && (lua_toboolean(L, 4) || mw_pattern_is_plain(pattern))) return find_plain(L, s, pattern, from);
  mw_pattern p;
  begin(L, &p, s, pattern, false);
  const char *start, *end = mw_pattern_search(&p, s.ptr + from, &start);
  check_error(L, &p);
  if (!end) {
    lua_pushnil(L);
    return 1;
  }
  if (match_only) return push_captures(L, &p, start, end);
  lua_pushinteger(L, start - s.ptr + 1);
  lua_pushinteger(L, end - s.ptr);
  return 2 + push_captures(L, &p, NULL, NULL);
}

static int l_find(lua_State *L) { return find(L, false); }
static int l_match(lua_State *L) { return find(L, true); }

// upvalues: subject, pattern, the compiled pattern, where to go on
static int gmatch_next(lua_State *L) {
  mw_str s = check_str(L, lua_upvalueindex(1)), pattern = check_str(L, lua_upvalueindex(2));
  mw_pattern *p = lua_touserdata(L, lua_upvalueindex(3));
  size_t from = (size_t)lua_tointeger(L, lua_upvalueindex(4));
  if (from > s.len) return 0;
  size_t space = mw_pattern_space(pattern);
  mw_pattern_init(p, s, pattern, true, space ? p + 1 : NULL);
  p->arg = mw_vm_of(L);
  if (p->arg) p->interrupted = is_interrupted;
  const char *start, *end = mw_pattern_search(p, s.ptr + from, &start);
  check_error(L, p);
  if (!end) return 0;
  lua_pushinteger(L, end - s.ptr + (end == start));
  lua_replace(L, lua_upvalueindex(4));
  return push_captures(L, p, start, end);
}

static int l_gmatch(lua_State *L) {
  check_str(L, 1);
  mw_str pattern = check_str(L, 2);
  lua_settop(L, 2);
  size_t space = mw_pattern_space(pattern);
  if (space == SIZE_MAX) return luaL_error(L, "pattern too complex: it is longer than 32000 bytes");
  lua_newuserdata(L, sizeof(mw_pattern) + space);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, gmatch_next, 4);
  return 1;
}

// What gsub builds: a small array on the C stack, then userdata that double, so that the memory is the state's own.
typedef struct output {
  lua_State *L;
  int slot; // of the userdata
  char *ptr;
  size_t len, cap;
  char small[256];
} output;

static void add(output *out, const char *bytes, size_t len) {
  if (len > out->cap - out->len) {
    size_t cap = 2 * out->cap;
    while (cap - out->len < len) {
      if (cap > MAX_STRING) luaL_error(out->L, "resulting string too large");
      cap *= 2;
    }
    char *grown = lua_newuserdata(out->L, cap);
    memcpy(grown, out->ptr, out->len);
    lua_replace(out->L, out->slot);
    out->ptr = grown;
    out->cap = cap;
  }
  if (len) memcpy(out->ptr + out->len, bytes, len);
  out->len += len;
}

static void add_template(output *out, const mw_pattern *p, mw_str text, const char *start, const char *end) {
  for (size_t i = 0; i < text.len; i++) {
    if (text.ptr[i] != '%') {
      const char *next = memchr(text.ptr + i, '%', text.len - i);
      size_t len = next ? (size_t)(next - text.ptr) - i : text.len - i;
      add(out, text.ptr + i, len);
      i += len - 1;
      continue;
    }
    i++;
    char c = i < text.len ? text.ptr[i] : 0;
    if (c < '0' || c > '9') {
      add(out, &c, 1);
    } else if (c == '0') {
      add(out, start, (size_t)(end - start));
    } else {
      push_capture(out->L, p, c - '1', start, end);
      size_t len;
      const char *value = lua_tolstring(out->L, -1, &len);
      add(out, value, len);
      lua_pop(out->L, 1);
    }
  }
}

// Replaces one match by what the third argument says.
static void add_value(output *out, const mw_pattern *p, int type, mw_str text, const char *start, const char *end) {
  lua_State *L = out->L;
  if (type == LUA_TSTRING) {
    add_template(out, p, text, start, end);
    return;
  }
  mw_vm_check_stack(L); // both may call Lua
  if (type == LUA_TTABLE) {
    push_capture(L, p, 0, start, end);
    lua_gettable(L, 3);
  } else {
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(L, p, start, end), 1);
  }
  if (!lua_toboolean(L, -1)) {
    add(out, start, (size_t)(end - start));
  } else {
    if (!lua_isstring(L, -1)) luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    size_t len;
    const char *value = lua_tolstring(L, -1, &len);
    add(out, value, len);
  }
  lua_pop(L, 1);
}

static int l_gsub(lua_State *L) {
  mw_str s = check_str(L, 1), pattern = check_str(L, 2), text = {NULL, 0};
  int type = lua_type(L, 3);
  if (type == LUA_TNUMBER) type = LUA_TSTRING;
  luaL_argcheck(L, type == LUA_TSTRING || type == LUA_TTABLE || type == LUA_TFUNCTION, 3, "string/function/table expected");
  if (type == LUA_TSTRING) text = check_str(L, 3);
  int64_t max = luaL_optinteger(L, 4, (lua_Integer)s.len + 1), n = 0;
  lua_settop(L, 4); // the fourth becomes the output's
  output out = {.L = L, .slot = 4, .cap = sizeof out.small};
  out.ptr = out.small;
  mw_pattern p;
  begin(L, &p, s, pattern, false);
  const char *at = s.ptr, *end = s.ptr + s.len, *start = NULL;
  while (n < max) {
    const char *e = mw_pattern_search(&p, at, &start);
    check_error(L, &p);
    if (!e) break;
    n++;
    add(&out, at, (size_t)(start - at));
    add_value(&out, &p, type, text, start, e);
    at = e;
    if (e == start) { // an empty match: the next one is beyond this character
      if (e >= end || p.anchored) break;
      add(&out, e, 1);
      at = e + 1;
    }
    if (p.anchored) break;
  }
  if (n == 0) {
    lua_pushvalue(L, 1);
  } else {
    add(&out, at, (size_t)(end - at));
    lua_pushlstring(L, out.ptr, out.len);
  }
  lua_pushinteger(L, (lua_Integer)n);
  return 2;
}

static int l_rep(lua_State *L) {
  mw_str s = check_str(L, 1), sep = {"", 0};
  double count = luaL_checknumber(L, 2);
  if (!lua_isnoneornil(L, 3)) sep = check_str(L, 3);
  if (!(count >= 1) || s.len + sep.len == 0) {
    lua_pushliteral(L, "");
    return 1;
  }
  if (count * (double)(s.len + sep.len) > MAX_STRING) {
    mw_vm_push_error(L, MW_EMEMORY, "not enough memory: the string would be larger than 2 GB");
    return lua_error(L);
  }
  size_t n = (size_t)count, len = n * s.len + (n - 1) * sep.len;
  if (n == 1) {
    lua_pushvalue(L, 1);
    return 1;
  }
  char *out = lua_newuserdata(L, len + 1), *at = out;
  if (s.len == 1 && sep.len == 0) {
    memset(out, *s.ptr, len);
  } else {
    for (size_t i = 0; i < n; i++) {
      memcpy(at, s.ptr, s.len);
      at += s.len;
      if (i + 1 == n) break;
      memcpy(at, sep.ptr, sep.len);
      at += sep.len;
    }
  }
  lua_pushlstring(L, out, len);
  return 1;
}

static const luaL_Reg functions[] = {
    {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch}, {"gsub", l_gsub}, {"rep", l_rep}, {NULL, NULL},
};

void mw_safe_string_add(lua_State *L) { luaL_register(L, NULL, functions); }
