// SPDX-License-Identifier: MIT

// From requests to tasks and back. One request is one task; whoever finishes last, the exchange or the task, lets go of the request.

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/log.h"
#include "bind/http_exchange.h"
#include "http/problem.h"

/* ---- what every answer carries ---- */

mw_str http_trace(mw_http_exchange *x) {
  if (!x->has_trace) {
    x->has_trace = true;
    mw_http_trace_id(mw_request_header(x->req, MW_STR("traceparent")), x->trace);
  }
  return mw_str_of(x->trace, MW_TRACE_ID_LEN);
}

static void add_trace_line(mw_request *req, const char *trace) {
  char line[12 + MW_TRACE_ID_LEN + 2];
  memcpy(line, "x-trace-id: ", 12);
  memcpy(line + 12, trace, MW_TRACE_ID_LEN);
  memcpy(line + 12 + MW_TRACE_ID_LEN, "\r\n", 2);
  mw_response_add_line(req, mw_str_of(line, sizeof line));
}

void http_add_headers(mw_http_exchange *x) { add_trace_line(x->req, http_trace(x).ptr); }

// An answer that no Lua code had a part in.
static void answer_problem(mw_request *req, int status, const char *detail, const char *hint) {
  mw_buf body = MW_BUF_INIT;
  char trace[MW_TRACE_ID_LEN];
  mw_http_exchange *x = mw_request_data(req);
  if (x) memcpy(trace, http_trace(x).ptr, sizeof trace);
  else mw_http_trace_id(mw_request_header(req, MW_STR("traceparent")), trace);
  add_trace_line(req, trace);
  mw_problem problem = {.status = status, .detail = mw_str_from(detail), .hint = mw_str_from(hint),
                        .trace_id = mw_str_of(trace, sizeof trace)};
  mw_problem_format(&problem, &body);
  mw_response_send(req, status, MW_STR("application/problem+json"), mw_buf_str(&body));
  mw_buf_deinit(&body);
}

/* ---- the Lua values of an exchange ---- */

static int take_slot(http_state *state) {
  return state->free_count ? state->free_slots[--state->free_count] : ++state->next_slot;
}

static void give_slot(http_state *state, int slot) {
  if (state->free_count == state->free_cap) {
    state->free_cap = state->free_cap ? 2 * state->free_cap : 64;
    state->free_slots = mw_realloc(state->free_slots, state->free_cap * sizeof *state->free_slots);
  }
  state->free_slots[state->free_count++] = slot;
}

void http_push_req(lua_State *L, const http_state *state, int box) {
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, box);
  lua_rawseti(L, -2, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->req_meta);
  lua_setmetatable(L, -2);
}

// Pushes req and res. The box stays in the anchors until its slot is used again.
static void push_values(lua_State *L, mw_http_exchange *x) {
  http_state *state = x->state;
  http_box *box = lua_newuserdata(L, sizeof *box); // res
  *box = (http_box){MW_HTTP_MAGIC, x};
  x->box = box;
  x->slot = take_slot(state);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->res_meta);
  lua_setmetatable(L, -2);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->anchors); // res, anchors
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, x->slot);
  lua_pop(L, 1);
  http_push_req(L, state, lua_gettop(L)); // res, req
  lua_insert(L, -2);
}

static void release(mw_http_exchange *x) {
  x->box->exchange = NULL;
  give_slot(x->state, x->slot);
  mw_request *req = x->req;
  mw_request_set_data(req, NULL);
  mw_request_unref(req);
}

/* ---- the end of a task ---- */

static void log_failure(const mw_http_exchange *x, const char *text, const char *trace) {
  mw_log(MW_LOG_ERROR, "plugin", "the handler failed", MW_LOG_S("route", x->entry->what), MW_LOG_S("where", x->entry->where),
         MW_LOG_S("error", text), MW_LOG_STR("trace_id", mw_str_of(x->trace, x->has_trace ? MW_TRACE_ID_LEN : 0)),
         MW_LOG_S("traceback", trace));
}

// Calls on_error(req, res, err, development) with the error on top of `co`.
static void answer_error(mw_http_exchange *x, lua_State *co, const mw_err *err) {
  mw_vm *vm = x->state->vm;
  lua_State *L = mw_vm_lua(vm);
  char trace[4096];
  snprintf(trace, sizeof trace, "%s", mw_vm_traceback(vm));
  http_trace(x);
  bool was_begun = mw_response_is_begun(x->req);
  int top = lua_gettop(L), status = 500; // what was answered says whether it is worth a line in the log
  lua_rawgeti(L, LUA_REGISTRYINDEX, x->entry->on_error == LUA_NOREF ? x->state->on_error : x->entry->on_error);
  lua_rawgeti(L, LUA_REGISTRYINDEX, x->state->anchors);
  lua_rawgeti(L, -1, x->slot);
  lua_remove(L, -2); // fn, res
  http_push_req(L, x->state, lua_gettop(L));
  lua_insert(L, -2); // fn, req, res
  lua_pushvalue(co, -1);
  lua_xmove(co, L, 1);
  lua_pushboolean(L, x->host->opts.development);
  mw_err failed;
  x->status = 0;
  if (was_begun) {
    lua_settop(L, top);
  } else if (mw_vm_call(vm, 4, 1, &failed)) {
    log_failure(x, failed.text, mw_vm_traceback(vm));
  } else if (lua_isnumber(L, -1)) {
    status = (int)lua_tointeger(L, -1);
  } else if (x->status && mw_response_is_begun(x->req)) {
    status = x->status;
  }
  lua_settop(L, top);
  if (was_begun || (status >= 500 && status != 503) || err->code == MW_EKILLED || err->code == MW_EMEMORY) {
    log_failure(x, err->text, trace);
  }
  if (!mw_request_is_open(x->req)) return;
  if (mw_response_is_begun(x->req)) mw_response_abort(x->req); // the client sees that it is not whole
  else answer_problem(x->req, 500, "the handler failed", NULL);
}

static void answer_silence(mw_http_exchange *x) {
  if (mw_response_is_begun(x->req)) {
    mw_response_end(x->req);
  } else if (x->status) {
    http_add_headers(x);
    mw_response_send(x->req, x->status, mw_str_of("", 0), mw_str_of("", 0));
  } else {
    http_trace(x);
    log_failure(x, "the handler ended without an answer", NULL);
    answer_problem(x->req, 500, "the handler ended without an answer",
                   "end every path of the handler with res:json, res:text, res:html, res:redirect or res:finish");
  }
}

static void on_done(mw_task *task, lua_State *L, int status, const mw_err *err, void *arg) {
  mw_http_exchange *x = arg;
  x->task = NULL;
  if (mw_request_is_open(x->req)) {
    if (status) answer_error(x, L, err);
    else answer_silence(x);
  } else if (status && !(x->gone && (status == MW_ETIMEOUT || status == MW_ECLOSED || status == MW_ECANCELED || status == MW_EPROTOCOL || status == MW_ELIMIT))) {
    log_failure(x, err->text, mw_vm_traceback(x->state->vm)); // after its answer
  }
  release(x);
}

void http_begun(mw_http_exchange *x, lua_State *L) {
  mw_task *task = x->task ? x->task : mw_task_current(L);
  if (task && mw_task_data(task) == x) mw_task_set_timeout(task, 0);
}

/* ---- what the server tells ---- */

static void on_request(mw_request *req, void *arg) {
  mw_http_host *host = arg;
  http_state *state = host->state;
  const mw_route *route = mw_request_route(req);
  mw_http_exchange *x = mw_arena_calloc(mw_request_arena(req), sizeof *x);
  x->magic = MW_HTTP_MAGIC;
  x->host = host;
  x->state = state;
  x->entry = &state->surfaces[mw_request_listener_tag(req)].entries[route->id];
  x->req = req;
  mw_request_set_data(req, x);
  mw_request_ref(req);
  x->body_ended = mw_request_body_is_over(req);
  if (!x->body_ended) mw_request_pause(req); // until the handler asks for it
  lua_State *L = mw_vm_lua(state->vm);
  lua_rawgeti(L, LUA_REGISTRYINDEX, x->entry->handler);
  push_values(L, x);
  int64_t timeout_ms = route->timeout_ms ? route->timeout_ms : host->opts.server.handler_timeout_ms;
  // The server ends the exchange first; the task, which may look at what it has left, a moment later.
  mw_task_opts opts = {.what = x->entry->what, .timeout_ms = timeout_ms + 5, .done = on_done, .arg = x, .data = x};
  mw_task *task = mw_task_start(state->vm, 2, &opts);
  if (task) x->task = task;
}

static void on_no_route(mw_request *req, int status, void *arg) {
  mw_http_host *host = arg;
  char text[300];
  mw_str method = mw_request_method(req), path = mw_request_path(req);
  int shown = path.len > 200 ? 200 : (int)path.len;
  if (status == 503) {
    char seconds[24];
    snprintf(seconds, sizeof seconds, "%lld", (long long)(host->opts.drain_hint_s ? host->opts.drain_hint_s : 1));
    mw_response_header(req, MW_STR("Retry-After"), mw_str_from(seconds));
    answer_problem(req, 503, "the server is not ready to serve yet, or not any more", "try again in a moment");
  } else if (status == 405) {
    snprintf(text, sizeof text, "%.*s is not allowed on %.*s", MW_STR_FMT(method), shown, path.ptr);
    answer_problem(req, 405, text, "the Allow header lists the methods that are");
  } else {
    snprintf(text, sizeof text, "no route answers %.*s %.*s", MW_STR_FMT(method), shown, path.ptr);
    answer_problem(req, status, text, NULL);
  }
}

static void on_refused(mw_request *req, int status, const char *why, void *arg) {
  if (status == 503) mw_response_header(req, MW_STR("Retry-After"), MW_STR("1"));
  answer_problem(req, status, why, NULL);
}

// How the handler sees it: what exactly the socket said is of no use there.
static int gone_code(int status) {
  return status == MW_ETIMEOUT || status == MW_ELIMIT || status == MW_EPROTOCOL ? status : MW_ECLOSED;
}

static const char *why_gone(int status) {
  if (status == MW_ETIMEOUT) return "the request took longer than it may";
  if (status == MW_ELIMIT) return "the request's body is larger than this route takes";
  if (status == MW_EPROTOCOL) return "the client broke the protocol";
  return "the client closed the connection";
}

static mw_task *take_waiting(mw_http_exchange *x) {
  mw_task *task = x->waiting;
  x->waiting = NULL;
  x->wait = HTTP_WAIT_NONE;
  return task;
}

static void on_gone(mw_request *req, int status, void *arg) {
  mw_http_exchange *x = mw_request_data(req);
  if (!x) return;
  x->gone = status != 0;
  if (status == MW_ETIMEOUT && x->task) {
    mw_task_cancel(x->task, status, why_gone(status));
    return;
  }
  // A handler that is doing something else finishes it; one that waits for the client waits for nothing.
  mw_task *task = take_waiting(x);
  if (task) mw_task_resume_error(task, gone_code(status), why_gone(status));
}

static int push_piece(lua_State *L, void *arg) {
  const mw_str *piece = arg;
  lua_pushlstring(L, piece->ptr, piece->len);
  return 1;
}

static void on_body(mw_request *req, mw_str piece, bool end, void *arg) {
  mw_http_exchange *x = mw_request_data(req);
  x->body_ended = end;
  if (!piece.len && !end) return;
  mw_request_pause(req);
  mw_task *task = x->wait == HTTP_WAIT_BODY ? take_waiting(x) : NULL;
  if (!task) return;
  if (piece.len) mw_task_resume_with(task, push_piece, &piece);
  else mw_task_resume(task, 0);
}

static void on_drain(mw_request *req, void *arg) {
  mw_http_exchange *x = mw_request_data(req);
  mw_task *task = x && x->wait == HTTP_WAIT_DRAIN ? take_waiting(x) : NULL;
  if (!task) return;
  lua_pushboolean(mw_task_lua(task), 1);
  mw_task_resume(task, 1);
}

static const mw_server_handler handler = {on_request, on_no_route, on_refused, on_gone, on_body, on_drain};

/* ---- the host ---- */

mw_http_host *mw_http_host_new(mw_loop *loop, const mw_http_host_opts *opts) {
  mw_http_host *host = MW_NEW(mw_http_host);
  host->loop = loop;
  if (opts) host->opts = *opts;
  if (!host->opts.server.handler_timeout_ms) host->opts.server.handler_timeout_ms = 30000;
  host->server = mw_server_new(loop, &host->opts.server, &handler, host);
  return host;
}

int mw_http_host_listen(mw_http_host *host, int fd, mw_tls_context *tls, int tag, mw_err *err) {
  if (tag < 0 || tag >= MW_HTTP_TAGS) return mw_err_set(err, MW_EINVALID, "a listener's tag is 0 to %d", MW_HTTP_TAGS - 1);
  int rc = mw_server_listen(host->server, fd, tls, tag);
  if (rc) return mw_err_set(err, rc, "cannot accept connections: %s", mw_err_text(rc));
  return 0;
}

static void set_routers(mw_http_host *host, http_state *state) {
  host->state = state;
  for (int tag = 0; tag < MW_HTTP_TAGS; tag++) {
    mw_server_set_router(host->server, tag, state ? state->surfaces[tag].router : NULL);
  }
}

void mw_http_host_install(mw_http_host *host, mw_vm *vm) { set_routers(host, http_state_of(mw_vm_lua(vm))); }

void mw_http_host_remove(mw_http_host *host, mw_vm *vm) {
  if (host->state && host->state->vm == vm) set_routers(host, NULL);
}

void mw_http_host_wind_down(mw_http_host *host) { mw_server_wind_down(host->server); }

void mw_http_host_drain(mw_http_host *host, int64_t bound_ms, void (*cb)(void *arg), void *arg) {
  mw_server_drain(host->server, bound_ms, cb, arg);
}

void mw_http_host_free(mw_http_host *host) {
  if (!host) return;
  mw_server_free(host->server);
  mw_buf_deinit(&host->json);
  mw_free(host);
}

mw_server *mw_http_host_server(mw_http_host *host) { return host->server; }
