// SPDX-License-Identifier: MIT

// Building the routes of a state: a router, and for each entry the handler's reference.

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "bind/http_exchange.h"

static void surface_deinit(http_surface *surface) {
  for (size_t i = 0; i < surface->count; i++) {
    mw_free(surface->entries[i].what);
    mw_free(surface->entries[i].where);
  }
  mw_free(surface->entries);
  mw_router_unref(surface->router);
  *surface = (http_surface){0};
}

void http_state_deinit(http_state *state) {
  for (int tag = 0; tag < MW_HTTP_TAGS; tag++) surface_deinit(&state->surfaces[tag]);
  mw_free(state->free_slots);
  state->free_slots = NULL;
}

static int raise(lua_State *L, int code, const char *where, const char *text) {
  char message[800];
  snprintf(message, sizeof message, "%s%s%s", where ? where : "", where ? ": " : "", text);
  mw_vm_push_error(L, code, message);
  return lua_error(L);
}

static int take_function(lua_State *L, int entry, const char *name) {
  lua_getfield(L, entry, name);
  if (lua_isfunction(L, -1)) return luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pop(L, 1);
  return LUA_NOREF;
}

static char *take_text(lua_State *L, int entry, const char *name) {
  lua_getfield(L, entry, name);
  const char *text = lua_tostring(L, -1);
  char *copy = text ? mw_strdup(text) : NULL;
  lua_pop(L, 1);
  return copy;
}

static void read_opts(lua_State *L, int entry, mw_route *route) {
  lua_getfield(L, entry, "opts");
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "body");
    lua_Number body = lua_tonumber(L, -1);
    lua_getfield(L, -2, "timeout");
    lua_Number timeout = lua_tonumber(L, -1);
    lua_getfield(L, -3, "stream");
    route->stream = lua_toboolean(L, -1);
    lua_getfield(L, -4, "reserved");
    route->is_reserved = lua_toboolean(L, -1);
    lua_getfield(L, -5, "raw_body");
    route->raw_body = lua_toboolean(L, -1);
    lua_getfield(L, -6, "no_compress");
    route->no_compress = lua_toboolean(L, -1);
    lua_getfield(L, -7, "secret_query");
    route->has_secret_query = lua_toboolean(L, -1);
    route->max_body_bytes = body > 0 ? (size_t)body : 0;
    route->timeout_ms = timeout > 0 ? (int64_t)(timeout * 1000 + 0.5) : 0;
    lua_pop(L, 7);
  }
  lua_pop(L, 1);
}

static void add_methods(lua_State *L, int entry, mw_router *router, mw_route *route, const http_entry *info) {
  lua_getfield(L, entry, "methods");
  if (!lua_istable(L, -1)) raise(L, MW_EINVALID, info->where, "a route has no list of methods");
  int methods = lua_gettop(L);
  for (int i = 1;; i++) {
    lua_rawgeti(L, methods, i);
    if (lua_isnil(L, -1)) break;
    size_t len;
    const char *name = lua_tolstring(L, -1, &len);
    mw_err err;
    route->method = mw_str_of(name ? name : "", name ? len : 0);
    int rc = mw_router_add(router, route, &err);
    if (rc) raise(L, rc, info->where, err.text);
    lua_pop(L, 1);
  }
  lua_settop(L, methods - 1);
}

static void add_entry(lua_State *L, int entry, http_surface *surface) {
  http_entry *info = &surface->entries[surface->count++];
  *info = (http_entry){.handler = LUA_NOREF, .on_error = LUA_NOREF};
  lua_getfield(L, entry, "sort");
  info->sort = lua_toboolean(L, -1);
  lua_pop(L, 1);
  info->where = take_text(L, entry, "where");
  info->what = take_text(L, entry, "what");
  lua_getfield(L, entry, "pattern");
  size_t len;
  const char *pattern = lua_tolstring(L, -1, &len);
  if (!pattern) raise(L, MW_EINVALID, info->where, "a route has no pattern");
  if (!info->what) info->what = mw_strdup(pattern);
  info->handler = take_function(L, entry, "handler");
  if (info->handler == LUA_NOREF) raise(L, MW_EINVALID, info->where, "a route has no handler");
  info->on_error = take_function(L, entry, "on_error");
  mw_route route = {.pattern = mw_str_of(pattern, len), .id = (int)surface->count - 1};
  read_opts(L, entry, &route);
  add_methods(L, entry, surface->router, &route, info);
  lua_pop(L, 1);
}

// What was built before an error stays in the surface, which the state frees: nothing leaks.
int http_l_build(lua_State *L) {
  int tag = (int)luaL_checkinteger(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_argcheck(L, tag >= 0 && tag < MW_HTTP_TAGS, 1, "a tag is 0 to 7");
  http_state *state = http_state_of(L);
  http_surface *surface = &state->surfaces[tag];
  if (surface->router) return raise(L, MW_EEXISTS, NULL, "the routes of this listener were built already");
  size_t count = lua_objlen(L, 2);
  surface->router = mw_router_new();
  surface->entries = mw_calloc(count ? count : 1, sizeof *surface->entries);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, (int)i);
    if (!lua_istable(L, -1)) return raise(L, MW_EINVALID, NULL, "a route must be a table");
    add_entry(L, lua_gettop(L), surface);
    lua_settop(L, 2);
  }
  return 0;
}
