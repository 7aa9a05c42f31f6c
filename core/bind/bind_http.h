// SPDX-License-Identifier: MIT
#pragma once

// mw_http_host: the HTTP server of one worker with Lua behind it. Routes are built inside a vm while it loads (so a bad or doubled
// route is a load error), and served from the moment that vm is installed. Requests that began on an older vm end there.
//
//   on the loader thread, in Lua:   require("mw.http.routes").build(tag, list)   -- raises, naming the route and its place
//   on the worker:                  mw_http_host *h = mw_http_host_new(loop, &opts);
//                                   mw_http_host_listen(h, fd, NULL, tag, &err);
//                                   mw_vm_adopt(vm, loop); mw_http_host_install(h, vm);      // again for each generation
//                                   mw_http_host_drain(h, 30000, cb, arg); … mw_http_host_free(h);
//
// A list entry: { methods = {"GET"} or {"*"}, pattern = "/x/:id", chain = {middleware…, handler} or handler = fn,
//   opts = {body = bytes, timeout = seconds, stream = bool, raw_body = bool, no_compress = bool, secret_query = bool, reserved = bool}, what = "GET /x/:id", where = "plugins/a.lua:12", plugin = "a.lua",
//   sort = bool (members of res:json in order of their names), on_error = function(req, res, err) … end (optional: answers in the surface's own error shape) }.
//
// Each request is one task: handler(req, res). See lua/mw/http/request.lua and response.lua for what those are, and
// lua/mw/http/problem.lua for how a raised error is answered. mw_task_data of that task is its mw_http_exchange, which begins with a
// uint32_t that tells it from whatever other layers put there.

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "http/server.h"
#include "vm/vm.h"

typedef struct mw_http_host mw_http_host;
typedef struct mw_http_exchange mw_http_exchange;

typedef struct mw_http_host_opts {
  mw_server_conf server;
  bool development;      /**< Answers of unexpected errors say what went wrong. */
  int64_t drain_hint_s;  /**< `Retry-After` while no vm is installed. 0: 1 s. */
} mw_http_host_opts;

/** Makes the server on a worker's loop. Answers 503 until a vm is installed. */
mw_http_host *mw_http_host_new(mw_loop *loop, const mw_http_host_opts *opts);
/** Serves a bound, listening descriptor, which it takes. `tag` chooses among the lists that were built. */
int mw_http_host_listen(mw_http_host *host, int fd, mw_tls_context *tls, int tag, mw_err *err);
/** Serves the routes that were built in `vm`, on all tags at once, for requests whose handler did not start yet. */
void mw_http_host_install(mw_http_host *host, mw_vm *vm);
/** Forgets a vm that will not serve any more; when it is the installed one, requests get 503. Call before mw_vm_free unless another
 *  vm was installed since. */
void mw_http_host_remove(mw_http_host *host, mw_vm *vm);
/** See mw_server_wind_down. */
void mw_http_host_wind_down(mw_http_host *host);
/** See mw_server_drain. */
void mw_http_host_drain(mw_http_host *host, int64_t bound_ms, void (*cb)(void *arg), void *arg);
/** After the drain's callback. */
void mw_http_host_free(mw_http_host *host);
mw_server *mw_http_host_server(mw_http_host *host);

/** Registers `mw.core.http`. Part of mw_vm_conf.modules. */
int mw_open_http(lua_State *L);
