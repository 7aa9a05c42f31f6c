// SPDX-License-Identifier: MIT
#pragma once

// mw.core.cron: schedules (ops/cron.h) in a time zone (ops/zone.h).
//
//   new(expression, zone) -> schedule | nil, err       reads the zone's file, so not in a hurry
//   schedule:next(after_s) -> s | nil                  the first due second after it (UTC); nil: none within a hundred years
//   schedule:format(utc_s) -> "2026-03-29T03:00:00+02:00"   in the schedule's zone

#include <lua.h>

int mw_open_cron(lua_State *L);
