// SPDX-License-Identifier: MIT
#include "bind/bind_cron.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "ops/calendar.h"
#include "ops/cron.h"
#include "vm/vm.h"

#define TYPE "mw.schedule"
#define MAX_SECONDS 253402300799.0 // the end of the year 9999

typedef struct schedule {
  mw_cron cron;
  mw_zone *zone; // owned
} schedule;

static schedule *check(lua_State *L) { return luaL_checkudata(L, 1, TYPE); }

static int64_t check_seconds(lua_State *L, int index) {
  double s = luaL_checknumber(L, index);
  luaL_argcheck(L, s >= 0 && s <= MAX_SECONDS, index, "seconds since 1970 expected");
  return (int64_t)floor(s);
}

static int l_new(lua_State *L) {
  mw_str text;
  mw_err err;
  text.ptr = luaL_checklstring(L, 1, &text.len);
  const char *zone = luaL_optstring(L, 2, "UTC");
  schedule *self = lua_newuserdata(L, sizeof *self);
  self->zone = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2); // from here on its __gc frees the zone
  int rc = mw_cron_parse(text, &self->cron, &err);
  if (!rc) rc = mw_zone_load(zone, &self->zone, &err);
  return rc ? mw_vm_push_failure(L, rc, err.text) : 1;
}

static int l_next(lua_State *L) {
  schedule *self = check(L);
  int64_t at = mw_cron_next(&self->cron, self->zone, check_seconds(L, 2));
  if (at == INT64_MAX) lua_pushnil(L);
  else lua_pushnumber(L, (lua_Number)at);
  return 1;
}

static int l_format(lua_State *L) {
  schedule *self = check(L);
  int64_t at = check_seconds(L, 2);
  int offset = mw_zone_offset(self->zone, at), minutes = abs(offset) / 60;
  int64_t wall = at + offset, day = mw_calendar_day_of(wall);
  int second = (int)(wall - day * MW_DAY_S);
  mw_date date = mw_calendar_date(day);
  char text[64];
  int len = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d", date.year, date.month, date.day, second / 3600, second / 60 % 60, second % 60);
  if (offset) snprintf(text + len, sizeof text - (size_t)len, "%c%02d:%02d", offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
  else snprintf(text + len, sizeof text - (size_t)len, "Z");
  lua_pushstring(L, text);
  return 1;
}

static int l_gc(lua_State *L) {
  schedule *self = check(L);
  mw_zone_free(self->zone);
  self->zone = NULL;
  return 0;
}

static int open_module(lua_State *L) {
  static const luaL_Reg methods[] = {{"next", l_next}, {"format", l_format}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};
  luaL_newmetatable(L, TYPE);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_register(L, NULL, methods);
  lua_setfield(L, -2, "__index"); // apart from __gc, which nobody shall call
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_cron(lua_State *L) {
  mw_vm_add_module(L, "mw.core.cron", open_module);
  return 0;
}
