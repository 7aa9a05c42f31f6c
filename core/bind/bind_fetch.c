// SPDX-License-Identifier: MIT

// mw.core.fetch:
//
//   fetch(method, url, headers | nil, body | nil, timeout_s, connect_timeout_s, max_bytes, redirects, insecure)
//     -> status, headers, body, url | nil, err      waits
//
// `headers` going out is a flat list of strings {name, value, name, value}; coming back a table by lower-case name, where repeated ones
// are joined with ", " as RFC 9110 section 5.3 allows, but Set-Cookie, which cannot be joined, is a list when there are several.

#include "bind/bind_fetch.h"

#include <lauxlib.h>
#include <math.h>

#include "base/alloc.h"
#include "bind/host.h"
#include "http/client.h"
#include "vm/task.h"
#include "vm/vm.h"

#define MAX_HEADERS 256

typedef struct fetch_op {
  mw_task *task;
  mw_http_call *call;
} fetch_op;

static void cancel_fetch(void *arg) {
  fetch_op *op = arg;
  mw_http_call_cancel(op->call);
  mw_free(op);
}

/* ---- the answer ---- */

static void push_lower(lua_State *L, mw_str text) {
  char small[128];
  if (text.len > sizeof small) { // nobody looks for such a name
    lua_pushlstring(L, text.ptr, text.len);
    return;
  }
  for (size_t i = 0; i < text.len; i++) {
    char c = text.ptr[i];
    small[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
  }
  lua_pushlstring(L, small, text.len);
}

// Stack: headers, name, value there is, the new one. Leaves one value.
static void join(lua_State *L, bool is_cookie) {
  if (!is_cookie) {
    lua_pushliteral(L, ", ");
    lua_insert(L, -2);
    lua_concat(L, 3);
    return;
  }
  if (!lua_istable(L, -2)) {
    lua_createtable(L, 2, 0);
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, 1);
    lua_replace(L, -3); // headers, name, list, new
  }
  lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
}

static void push_headers(lua_State *L, const mw_http_answer *answer) {
  lua_createtable(L, 0, (int)answer->header_count);
  for (size_t i = 0; i < answer->header_count; i++) {
    const mw_http_header *h = &answer->headers[i];
    push_lower(L, h->name);
    lua_pushvalue(L, -1);
    lua_rawget(L, -3); // headers, name, before
    lua_pushlstring(L, h->value.ptr ? h->value.ptr : "", h->value.len);
    if (lua_isnil(L, -2)) lua_remove(L, -2);
    else join(L, mw_str_eq_nocase(h->name, MW_STR("set-cookie")));
    lua_rawset(L, -3);
  }
}

static int push_answer(lua_State *L, void *arg) {
  const mw_http_answer *answer = arg;
  lua_pushinteger(L, answer->status);
  push_headers(L, answer);
  lua_pushlstring(L, answer->body.ptr ? answer->body.ptr : "", answer->body.len);
  lua_pushlstring(L, answer->url.ptr, answer->url.len);
  return 4;
}

static void on_done(mw_http_call *call, int status, const mw_http_answer *answer, const mw_err *err, void *arg) {
  mw_task *task = ((fetch_op *)arg)->task;
  mw_free(arg);
  if (status) mw_task_resume_error(task, status, err->text);
  else mw_task_resume_with(task, push_answer, (void *)answer);
}

/* ---- the request ---- */

static mw_str opt_str(lua_State *L, int index) {
  mw_str text = {NULL, 0};
  if (!lua_isnoneornil(L, index)) text.ptr = luaL_checklstring(L, index, &text.len);
  return text;
}

static int64_t opt_ms(lua_State *L, int index) {
  double s = luaL_optnumber(L, index, 0);
  luaL_argcheck(L, s >= 0 && s < 1e9, index, "seconds expected");
  return s > 0 && s < 0.001 ? 1 : (int64_t)ceil(s * 1000);
}

// The strings stay in the table, which stays on the stack, until the call has copied them.
static size_t read_headers(lua_State *L, int index, mw_http_header *headers) {
  if (lua_isnoneornil(L, index)) return 0;
  luaL_checktype(L, index, LUA_TTABLE);
  size_t count = lua_objlen(L, index) / 2;
  luaL_argcheck(L, count <= MAX_HEADERS, index, "more than 256 headers");
  for (size_t i = 0; i < count; i++) {
    mw_str *parts[] = {&headers[i].name, &headers[i].value};
    for (int part = 0; part < 2; part++) {
      lua_rawgeti(L, index, (int)(2 * i) + part + 1);
      luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, index, "headers must be strings");
      parts[part]->ptr = lua_tolstring(L, -1, &parts[part]->len);
      lua_pop(L, 1);
    }
  }
  return count;
}

static int l_fetch(lua_State *L) {
  mw_http_header headers[MAX_HEADERS];
  mw_http_call_opts opts = {
      .method = opt_str(L, 1),
      .url = opt_str(L, 2),
      .headers = headers,
      .header_count = read_headers(L, 3, headers),
      .body = opt_str(L, 4),
      .timeout_ms = opt_ms(L, 5),
      .connect_timeout_ms = opt_ms(L, 6),
      .max_bytes = (size_t)luaL_optnumber(L, 7, 0),
      .max_redirects = (int)luaL_optinteger(L, 8, 0),
      .insecure = lua_toboolean(L, 9),
      .on_done = on_done,
  };
  mw_host *host = mw_host_of(L);
  if (!host || !host->client) return mw_vm_push_failure(L, MW_EUNAVAILABLE, "mw.fetch needs a running server");
  mw_task_check_yieldable(L, "mw.fetch");
  fetch_op *op = MW_NEW(fetch_op);
  mw_err err;
  opts.arg = op;
  op->task = mw_task_current(L);
  int rc = mw_http_client_start(host->client, &opts, &op->call, &err);
  if (rc) {
    mw_free(op);
    return mw_vm_push_failure(L, rc, err.text);
  }
  return mw_task_suspend(L, cancel_fetch, op);
}

static int open_module(lua_State *L) {
  static const luaL_Reg functions[] = {{"fetch", l_fetch}, {NULL, NULL}};
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_fetch(lua_State *L) {
  mw_vm_add_module(L, "mw.core.fetch", open_module);
  return 0;
}
