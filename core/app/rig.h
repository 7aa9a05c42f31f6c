// SPDX-License-Identifier: MIT
#pragma once

// mw_rig: a whole server for specs of plugins, in one thread and in the caller's hands: a generation in a Lua state of its own, the
// workflow engine, the router behind an HTTP server without a listener, and SQLite files in memory. It has a world of its own
// (base/world.h): nothing happens and no time passes but inside the functions below, and the same calls do the same every time.
//
//   mw_rig *rig; mw_rig_open(&opts, &rig, &err);
//   mw_rig_load(rig, &report, &err);                       // MW_ELUA: a plugin did not load, the report says why
//   mw_rig_settle(rig, &err);                               // until nothing can go on at this moment
//   mw_rig_move(rig, mw_rig_next_due_us(rig));              // to the next moment something is due
//   mw_rig_free(rig);
//
// Main thread only. lua/mw/testing is built on it, by app/rig_lua.c.

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/config.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "base/world.h"

typedef struct mw_rig mw_rig;

typedef struct mw_rig_opts {
  mw_config *conf;        /**< Taken with what it holds, freed with the rig. `database`, `data` and `workers` mean nothing. */
  const char *plugins;    /**< Folder; NULL: no files. */
  const char *migrations; /**< See mw_throwaway_make. */
  const char *from;       /**< Folder of another rig, whose databases are copied; NULL: fresh ones. */
  mw_world world;         /**< Clock and randomness to begin with. */
  mw_map env;             /**< Environment variables as plugins see them: strings of mw_alloc. Taken. */
  lua_CFunction module;   /**< Called like those of mw_bind_modules. */
  const char *prelude;    /**< Module that is required before anything else. */
  void *user;             /**< For `module`: mw_rig_user. */
} mw_rig_opts;

/** Opens store, loop and server; loads nothing. Takes `conf` and `env` also when it fails. */
int mw_rig_open(const mw_rig_opts *opts, mw_rig **out, mw_err *err);
/** Ends everything at once and removes the databases. NULL is harmless. */
void mw_rig_free(mw_rig *rig);
/** Loads a generation and starts it. MW_ELUA with `report` (JSON of lua/mw/_loader.lua) when a plugin failed. */
int mw_rig_load(mw_rig *rig, mw_buf *report, mw_err *err);
/** As `kill -9` and a new process on the same databases: what was not committed is gone. Loads and starts again. */
int mw_rig_restart(mw_rig *rig, mw_buf *report, mw_err *err);

/** Runs what can run without time moving. MW_ETIMEOUT: it did not come to rest within ten real seconds. Returns at once when the rig
 *  was crashed. */
int mw_rig_settle(mw_rig *rig, mw_err *err);
/** Microseconds of the wall clock. */
int64_t mw_rig_now_us(const mw_rig *rig);
/** When the next timer is due; INT64_MAX: none is armed. */
int64_t mw_rig_next_due_us(const mw_rig *rig);
/** Moves the time forward to `us` and fires what is due. Go no further than the next due time, or timers fire late. */
void mw_rig_move(mw_rig *rig, int64_t us);

/** Calls function `name` of the prelude's module with a text, in a task. MW_ECLOSED after a crash. */
int mw_rig_call(mw_rig *rig, const char *name, mw_str text, mw_err *err);
/** From inside, in a task of the rig: the process "dies" here. Nothing is written any more; the caller should wait for ever. */
void mw_rig_crash(mw_rig *rig);
bool mw_rig_is_crashed(const mw_rig *rig);
/** From inside: so many things wait for the real world (a network), which mw_rig_settle then waits for. */
void mw_rig_add_outside(mw_rig *rig, int count);
/** What was logged since the last call: JSON lines. Valid until something runs. */
mw_str mw_rig_take_logs(mw_rig *rig);
/** Appends the value of an option as JSON. */
void mw_rig_config_json(const mw_rig *rig, const mw_config_option *option, mw_buf *out);
const char *mw_rig_dir(const mw_rig *rig);
const mw_world *mw_rig_world(const mw_rig *rig);
/** `user` of the rig that a state inside belongs to; NULL elsewhere. */
void *mw_rig_user(lua_State *L);
mw_rig *mw_rig_of(lua_State *L);

/** A client's connection to listener `tag`, from the address `ip`. Returns its number, or 0 when there is no descriptor left. */
int mw_rig_connect(mw_rig *rig, int tag, const char *ip);
/** Queues bytes for the server. */
void mw_rig_send(mw_rig *rig, int connection, mw_str bytes);
/** Appends what the server sent; true when it has closed (or the number is none). */
bool mw_rig_receive(mw_rig *rig, int connection, mw_buf *out);
void mw_rig_hang_up(mw_rig *rig, int connection);
