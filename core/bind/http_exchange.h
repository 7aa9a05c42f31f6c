// SPDX-License-Identifier: MIT
#pragma once

// The inside of mw_http_host, for http_host.c, http_routes.c and bind_http.c only.
//
// An exchange joins a request, the task that answers it and the two Lua values that stand for it: `res`, a userdata (box), and `req`, a
// table whose [1] is that box. It lives in the request's arena, which it holds until its task is over. The box is anchored meanwhile and
// emptied then, so that a plugin that keeps it gets an error instead of another request.

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "bind/bind_http.h"
#include "bind/http_trace.h"
#include "vm/task.h"

#define MW_HTTP_TAGS 8

typedef struct http_entry {
  int handler;  // in the registry of the state
  int on_error; // LUA_NOREF: lua/mw/http/problem.lua
  bool sort;    // members of its JSON answers in order of their names
  char *what, *where;
} http_entry;

typedef struct http_surface {
  mw_router *router; // NULL: nothing was built for the tag
  http_entry *entries;
  size_t count;
} http_surface;

typedef struct http_state { // one a Lua state
  mw_vm *vm;
  http_surface surfaces[MW_HTTP_TAGS];
  int req_meta, res_meta, anchors, on_error;
  int *free_slots; // of the anchors
  size_t free_count, free_cap;
  int next_slot;
} http_state;

typedef enum http_wait { HTTP_WAIT_NONE, HTTP_WAIT_BODY, HTTP_WAIT_DRAIN } http_wait;

struct mw_http_exchange {
  uint32_t magic;
  mw_http_host *host;
  http_state *state;
  const http_entry *entry;
  mw_request *req;
  mw_task *task;    // that answers; NULL while it runs for the first time and when it is over
  mw_task *waiting; // for the body or the drain; may be another than `task`
  http_wait wait;
  struct http_box *box;
  int slot;
  int status; // what res:status set; 0: nothing
  bool gone, body_ended, reading, started;
  bool has_trace;
  char trace[MW_TRACE_ID_LEN];
};

#define MW_HTTP_MAGIC 0x70747468u

typedef struct http_box {
  uint32_t magic;
  mw_http_exchange *exchange; // NULL when it is over
} http_box;

struct mw_http_host {
  mw_server *server;
  mw_loop *loop;
  mw_http_host_opts opts;
  http_state *state;
  mw_buf json; // answers are encoded here
};

/** The state's own data; made by open_module of bind_http.c. NULL before. */
http_state *http_state_of(lua_State *L);
/** Frees what mw_http build made; the references die with the state. */
void http_state_deinit(http_state *state);
/** build(tag, list): see bind_http.h. */
int http_l_build(lua_State *L);

/** Pushes a `req` table for a box that is at `box` on the stack. */
void http_push_req(lua_State *L, const http_state *state, int box);
mw_str http_trace(mw_http_exchange *x);
/** Adds what every answer carries. */
void http_add_headers(mw_http_exchange *x);
/** Lifts the handler's deadline: the answer has begun. */
void http_begun(mw_http_exchange *x, lua_State *L);
