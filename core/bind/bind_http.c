// SPDX-License-Identifier: MIT

// mw.core.http: what lua/mw/http/*.lua stands on. Functions take the box (res, or req[1]) first.
//
//   build(tag, list)                    setup{req = metatable, res = methods, on_error = fn}, once a state
//   method path target query_text body ip peer via scheme host trace_id tag is_tls minor -> the value; header(box, name) -> text | nil
//   params headers query query_all cookies form -> a table     json(box) -> value | nil, err
//   read(box) -> piece | nil, err        waits for the next piece of a streaming body; nil at its end
//   res methods: status header json text html send; begin write finish is_open add_cookie for the Lua half
//   trace_id() without a box: of the request whose task runs, or nil

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "bind/bind_files.h"
#include "bind/bind_json.h"
#include "bind/http_exchange.h"
#include "http/coding.h"
#include "http/cookie.h"
#include "http/form.h"
#include "vm/scratch.h"

static char state_key;

http_state *http_state_of(lua_State *L) {
  lua_pushlightuserdata(L, &state_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  http_state *state = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return state;
}

/* ---- arguments ---- */

static int throw_error(lua_State *L, int code, const char *message) {
  mw_vm_push_error(L, code, message);
  return lua_error(L);
}

static mw_http_exchange *check(lua_State *L) {
  http_box *box = lua_touserdata(L, 1);
  if (!box || lua_type(L, 1) != LUA_TUSERDATA || lua_objlen(L, 1) != sizeof *box || box->magic != MW_HTTP_MAGIC) {
    throw_error(L, MW_EINVALID, "call it with a colon on req or res, as in res:json(value)");
  }
  if (!box->exchange) throw_error(L, MW_EINVALID, "the request is over: req and res live until the handler returns");
  return box->exchange;
}

static mw_str check_text(lua_State *L, int index, const char *message) {
  size_t len;
  if (lua_type(L, index) != LUA_TSTRING && lua_type(L, index) != LUA_TNUMBER) throw_error(L, MW_EINVALID, message);
  const char *text = lua_tolstring(L, index, &len);
  return mw_str_of(text, len);
}

static void push_str(lua_State *L, mw_str text) { lua_pushlstring(L, text.ptr ? text.ptr : "", text.len); }

/* ---- reading the request ---- */

static int l_method(lua_State *L) {
  push_str(L, mw_request_method(check(L)->req));
  return 1;
}

static int l_path(lua_State *L) {
  push_str(L, mw_request_path(check(L)->req));
  return 1;
}

static int l_target(lua_State *L) {
  push_str(L, mw_request_target(check(L)->req));
  return 1;
}

static int l_query_text(lua_State *L) {
  push_str(L, mw_request_query(check(L)->req));
  return 1;
}

static int l_body(lua_State *L) {
  push_str(L, mw_request_body(check(L)->req));
  return 1;
}

static int l_ip(lua_State *L) {
  push_str(L, mw_request_ip(check(L)->req));
  return 1;
}

static int l_peer(lua_State *L) {
  push_str(L, mw_request_peer(check(L)->req));
  return 1;
}

static int l_via(lua_State *L) {
  static const char *const names[] = {NULL, "proxy", "unknown"};
  const char *name = names[mw_request_via(check(L)->req)];
  if (!name) return 0;
  lua_pushstring(L, name);
  return 1;
}

static int l_scheme(lua_State *L) {
  push_str(L, mw_request_scheme(check(L)->req));
  return 1;
}

static int l_host(lua_State *L) {
  push_str(L, mw_request_host(check(L)->req));
  return 1;
}

static int l_trace_id(lua_State *L) {
  mw_http_exchange *x = NULL;
  if (lua_gettop(L) > 0) {
    x = check(L);
  } else {
    mw_task *task = mw_task_current(L);
    x = task ? mw_task_data(task) : NULL;
    if (!x || x->magic != MW_HTTP_MAGIC) return 0;
  }
  push_str(L, http_trace(x));
  return 1;
}

static int l_tag(lua_State *L) {
  lua_pushinteger(L, mw_request_listener_tag(check(L)->req));
  return 1;
}

static int l_is_tls(lua_State *L) {
  lua_pushboolean(L, mw_request_is_tls(check(L)->req));
  return 1;
}

static int l_streams(lua_State *L) {
  lua_pushboolean(L, mw_request_route(check(L)->req)->stream);
  return 1;
}

static int l_header(lua_State *L) {
  mw_http_exchange *x = check(L);
  mw_str value = mw_request_header(x->req, check_text(L, 2, "a header's name must be a string"));
  if (!value.ptr) return 0;
  push_str(L, value);
  return 1;
}

static int l_params(lua_State *L) {
  mw_http_exchange *x = check(L);
  const mw_route *route = mw_request_route(x->req);
  lua_createtable(L, 0, (int)route->param_count);
  for (size_t i = 0; i < route->param_count; i++) {
    push_str(L, route->param_names[i]);
    push_str(L, mw_request_param(x->req, i));
    lua_rawset(L, -3);
  }
  return 1;
}

static int l_headers(lua_State *L) {
  mw_http_exchange *x = check(L);
  size_t count = mw_request_header_count(x->req);
  char lower[256];
  lua_createtable(L, 0, (int)count);
  for (size_t i = 0; i < count; i++) {
    mw_str name, value;
    mw_request_header_at(x->req, i, &name, &value);
    if (name.len > sizeof lower) continue; // no program asks for such a name
    for (size_t k = 0; k < name.len; k++) {
      char c = name.ptr[k];
      lower[k] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    lua_pushlstring(L, lower, name.len);
    push_str(L, mw_request_header(x->req, name)); // repeated ones come joined
    lua_rawset(L, -3);
  }
  return 1;
}

// Adds to a list under the name on top - 1; the table of lists is at `index`. name, value -> (nothing)
static void add_to_list(lua_State *L, int index) {
  lua_pushvalue(L, -2);
  lua_rawget(L, index); // name, value, list
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, -3);
    lua_pushvalue(L, -2);
    lua_rawset(L, index);
  }
  lua_insert(L, -2); // name, list, value
  lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
  lua_pop(L, 2);
}

static int push_pairs(lua_State *L, mw_str text, bool all, const char *what) {
  mw_buf *scratch = mw_scratch_buf(L);
  char *room = mw_buf_reserve(scratch, text.len + 1), message[200];
  mw_form form;
  mw_str name, value;
  int rc;
  lua_newtable(L);
  int table = lua_gettop(L);
  mw_form_init(&form, text, 0);
  while ((rc = mw_form_next(&form, room, &name, &value)) == 1) {
    push_str(L, name);
    push_str(L, value);
    if (all) add_to_list(L, table);
    else lua_rawset(L, table);
  }
  mw_scratch_free(L, scratch);
  if (rc == 0) return 1;
  snprintf(message, sizeof message, rc == MW_ELIMIT ? "the %s has more than 1000 fields" : "the %s has a \"%%\" that is not followed by two hex digits",
           what);
  return mw_vm_push_failure(L, rc, message);
}

static int l_query(lua_State *L) { return push_pairs(L, mw_request_query(check(L)->req), false, "query"); }
static int l_query_all(lua_State *L) { return push_pairs(L, mw_request_query(check(L)->req), true, "query"); }
static int l_form(lua_State *L) { return push_pairs(L, mw_request_body(check(L)->req), false, "form"); }
static int l_form_all(lua_State *L) { return push_pairs(L, mw_request_body(check(L)->req), true, "form"); }

static int l_cookies(lua_State *L) {
  mw_http_exchange *x = check(L);
  mw_str rest = mw_request_header(x->req, MW_STR("cookie")), name, value;
  lua_newtable(L);
  for (int i = 0; i < MW_COOKIE_MAX && mw_cookie_next(&rest, &name, &value); i++) {
    push_str(L, name);
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    bool is_first = lua_isnil(L, -1); // the first is of the most specific path
    lua_pop(L, 1);
    push_str(L, value);
    if (is_first) lua_rawset(L, -3);
    else lua_pop(L, 2);
  }
  return 1;
}

static int l_json_body(lua_State *L) {
  mw_http_exchange *x = check(L);
  mw_err err;
  int rc = mw_json_push(L, mw_request_body(x->req), NULL, &err);
  return rc ? mw_vm_push_failure(L, rc, err.text) : 1;
}

static void stop_waiting(void *op) {
  mw_http_exchange *x = op;
  x->waiting = NULL;
  x->wait = HTTP_WAIT_NONE;
  mw_request_pause(x->req);
}

static void begin_waiting(mw_http_exchange *x, lua_State *L, http_wait wait) {
  if (x->waiting) throw_error(L, MW_EBUSY, "another task waits for this request already");
  x->waiting = mw_task_current(L);
  x->wait = wait;
}

static int l_read(lua_State *L) {
  mw_http_exchange *x = check(L);
  if (x->body_ended) return 0;
  if (!mw_request_is_open(x->req)) return mw_vm_push_failure(L, MW_ECLOSED, "the rest of the body will not come");
  mw_task_check_yieldable(L, "req:chunks");
  begin_waiting(x, L, HTTP_WAIT_BODY);
  mw_request_resume(x->req);
  return mw_task_suspend(L, stop_waiting, x);
}

/* ---- answering ---- */

static void check_open(mw_http_exchange *x, lua_State *L, const char *what) {
  char message[160];
  if (!mw_response_is_begun(x->req) || !mw_request_is_open(x->req)) {
    if (!mw_response_is_begun(x->req)) return;
    snprintf(message, sizeof message, "%s: the request was answered already", what);
  } else {
    snprintf(message, sizeof message, "%s: an answer was begun with res:write; end it with res:finish", what);
  }
  throw_error(L, MW_ECONFLICT, message);
}

static int l_status(lua_State *L) {
  mw_http_exchange *x = check(L);
  lua_Number status = lua_tonumber(L, 2);
  check_open(x, L, "res:status");
  if (!(status >= 200 && status <= 599) || status != (int)status) {
    return throw_error(L, MW_EINVALID, "res:status: the status must be a whole number from 200 to 599");
  }
  x->status = (int)status;
  lua_settop(L, 1);
  return 1;
}

// What res:status set, nil when it did not.
static int l_current_status(lua_State *L) {
  const mw_http_exchange *x = check(L);
  if (!x->status) return 0;
  lua_pushinteger(L, x->status);
  return 1;
}

// Whether the client, and the route, want gzip.
static int l_takes_gzip(lua_State *L) {
  const mw_http_exchange *x = check(L);
  bool takes = mw_coding_negotiate(mw_request_header(x->req, MW_STR("accept-encoding"))) == MW_CODING_GZIP;
  lua_pushboolean(L, takes && !mw_request_route(x->req)->no_compress);
  return 1;
}

static int l_set_header(lua_State *L) {
  mw_http_exchange *x = check(L);
  mw_str name = check_text(L, 2, "res:header: the name must be a string");
  mw_str value = check_text(L, 3, "res:header: the value must be a string or a number");
  check_open(x, L, "res:header");
  int rc = mw_response_header(x->req, name, value);
  if (rc == MW_EINVALID) {
    lua_pushfstring(L, "res:header: %s cannot be set so: a name is a token, a value has no control characters (no line breaks), and lengths, "
                       "Connection and Date are the server's", name.len < 100 ? name.ptr : "this");
    return throw_error(L, MW_EINVALID, lua_tostring(L, -1));
  }
  if (rc == MW_ELIMIT) return throw_error(L, MW_ELIMIT, "res:header: an answer's headers are limited to 32 KiB");
  lua_settop(L, 1);
  return 1;
}

static int send(mw_http_exchange *x, lua_State *L, mw_str type, mw_str body) {
  http_begun(x, L);
  http_add_headers(x);
  mw_response_send(x->req, x->status ? x->status : 200, type, body);
  return 0;
}

static int l_json(lua_State *L) {
  mw_http_exchange *x = check(L);
  mw_buf *out = &x->host->json;
  mw_err err;
  check_open(x, L, "res:json");
  lua_settop(L, 2);
  mw_buf_reset(out, 256 * 1024);
  mw_json_encode_opts opts = {.sort = x->entry && x->entry->sort};
  int rc = mw_json_encode(L, 2, &opts, out, &err);
  if (rc) {
    lua_pushfstring(L, "res:json: %s", err.text);
    return throw_error(L, rc, lua_tostring(L, -1));
  }
  return send(x, L, MW_STR("application/json"), mw_buf_str(out));
}

static int send_text(lua_State *L, const char *what, mw_str type) {
  mw_http_exchange *x = check(L);
  check_open(x, L, what);
  if (lua_isnoneornil(L, 2)) return send(x, L, type, mw_str_of("", 0));
  return send(x, L, type, check_text(L, 2, "the text must be a string or a number"));
}

static int l_text(lua_State *L) { return send_text(L, "res:text", MW_STR("text/plain; charset=utf-8")); }
static int l_html(lua_State *L) { return send_text(L, "res:html", MW_STR("text/html; charset=utf-8")); }
static int l_send(lua_State *L) { return send_text(L, "res:send", mw_str_of("", 0)); }

static int l_begin(lua_State *L) {
  mw_http_exchange *x = check(L);
  lua_Number length = luaL_optnumber(L, 2, -1);
  check_open(x, L, "res:write");
  http_begun(x, L);
  http_add_headers(x);
  mw_response_begin(x->req, x->status ? x->status : 200, MW_STR("text/plain; charset=utf-8"), length >= 0 ? (int64_t)length : -1);
  return 0;
}

static int l_is_begun(lua_State *L) {
  lua_pushboolean(L, mw_response_is_begun(check(L)->req));
  return 1;
}

static int l_is_open(lua_State *L) {
  lua_pushboolean(L, mw_request_is_open(check(L)->req));
  return 1;
}

static int l_is_compressed(lua_State *L) {
  lua_pushboolean(L, mw_response_is_compressed(check(L)->req));
  return 1;
}

static int end_write(lua_State *L, mw_http_exchange *x, int rc) {
  if (rc == MW_AGAIN) {
    begin_waiting(x, L, HTTP_WAIT_DRAIN);
    return mw_task_suspend(L, stop_waiting, x);
  }
  if (rc == MW_ECLOSED) return mw_vm_push_failure(L, rc, "res:write: the client closed the connection, or the answer is finished");
  if (rc) return mw_vm_push_failure(L, rc, "res:write: more was written than Content-Length says");
  lua_pushboolean(L, 1);
  return 1;
}

static int l_write(lua_State *L) {
  mw_http_exchange *x = check(L);
  mw_str piece = check_text(L, 2, "res:write: the piece must be a string or a number");
  mw_task_check_yieldable(L, "res:write");
  return end_write(L, x, mw_response_write(x->req, piece));
}

// write_file(res, file): what was read last from a file of mw.core.files
static int l_write_file(lua_State *L) {
  mw_http_exchange *x = check(L);
  mw_str piece = mw_files_piece(L, 2);
  mw_task_check_yieldable(L, "res:file");
  int rc = mw_response_write(x->req, piece);
  if (rc == MW_AGAIN) mw_files_drop_piece(L, 2); // the stream has its copy
  return end_write(L, x, rc);
}

static int l_finish(lua_State *L) {
  mw_http_exchange *x = check(L);
  int rc = mw_response_end(x->req);
  if (rc) return mw_vm_push_failure(L, rc, "res:finish: less was written than Content-Length says");
  lua_pushboolean(L, 1);
  return 1;
}

static mw_str opt_field(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name); // left on the stack, so that the text stays
  size_t len = 0;
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
  return mw_str_of(text ? text : "", len);
}

// add_cookie(res, name, value, {path, domain, max_age, same_site, http_only, secure})
static int l_add_cookie(lua_State *L) {
  mw_http_exchange *x = check(L);
  check_open(x, L, "res:cookie");
  mw_cookie cookie = {.name = check_text(L, 2, "res:cookie: the name must be a string"),
                      .value = check_text(L, 3, "res:cookie: the value must be a string"),
                      .path = opt_field(L, 4, "path"),
                      .domain = opt_field(L, 4, "domain"),
                      .same_site = opt_field(L, 4, "same_site"),
                      .max_age_s = -1};
  lua_getfield(L, 4, "max_age");
  if (lua_isnumber(L, -1)) cookie.max_age_s = (int64_t)lua_tonumber(L, -1);
  lua_getfield(L, 4, "http_only");
  cookie.http_only = lua_toboolean(L, -1);
  lua_getfield(L, 4, "secure");
  cookie.secure = lua_toboolean(L, -1);
  mw_buf *out = mw_scratch_buf(L);
  mw_err err;
  int rc = mw_cookie_format(&cookie, out, &err);
  if (!rc) rc = mw_response_header(x->req, MW_STR("set-cookie"), mw_buf_str(out));
  else lua_pushfstring(L, "res:cookie: %s", err.text);
  if (rc) return throw_error(L, rc, rc == MW_EINVALID ? lua_tostring(L, -1) : NULL);
  mw_scratch_free(L, out);
  lua_settop(L, 1);
  return 1;
}

/* ---- the module ---- */

// setup{req = metatable of req, res = metatable of res, on_error = fn}
static int l_setup(lua_State *L) {
  http_state *state = http_state_of(L);
  lua_getfield(L, 1, "req");
  state->req_meta = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getfield(L, 1, "res");
  state->res_meta = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getfield(L, 1, "on_error");
  state->on_error = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static const luaL_Reg functions[] = {
    {"setup", l_setup},
    {"build", http_l_build},
    {"method", l_method},
    {"path", l_path},
    {"target", l_target},
    {"query_text", l_query_text},
    {"body", l_body},
    {"ip", l_ip},
    {"peer", l_peer},
    {"via", l_via},
    {"scheme", l_scheme},
    {"host", l_host},
    {"trace_id", l_trace_id},
    {"tag", l_tag},
    {"is_tls", l_is_tls},
    {"streams", l_streams},
    {"request_header", l_header},
    {"params", l_params},
    {"headers", l_headers},
    {"query", l_query},
    {"query_all", l_query_all},
    {"form", l_form},
    {"form_all", l_form_all},
    {"cookies", l_cookies},
    {"json_body", l_json_body},
    {"read", l_read},
    {"status", l_status},
    {"header", l_set_header},
    {"json", l_json},
    {"text", l_text},
    {"html", l_html},
    {"send", l_send},
    {"begin", l_begin},
    {"is_begun", l_is_begun},
    {"is_open", l_is_open},
    {"is_compressed", l_is_compressed},
    {"write", l_write},
    {"write_file", l_write_file},
    {"current_status", l_current_status},
    {"takes_gzip", l_takes_gzip},
    {"finish", l_finish},
    {"add_cookie", l_add_cookie},
    {NULL, NULL},
};

static int state_gc(lua_State *L) {
  http_state_deinit(lua_touserdata(L, 1));
  return 0;
}

static int open_module(lua_State *L) {
  http_state *state = lua_newuserdata(L, sizeof *state);
  *state = (http_state){.vm = mw_vm_of(L), .req_meta = LUA_NOREF, .res_meta = LUA_NOREF, .anchors = LUA_NOREF, .on_error = LUA_NOREF};
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, state_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pushlightuserdata(L, &state_key);
  lua_insert(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  state->anchors = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}

int mw_open_http(lua_State *L) {
  mw_vm_add_module(L, "mw.core.http", open_module);
  return 0;
}
