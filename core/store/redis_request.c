// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/redis_impl.h"

#define MAX_ARGS 1000000

/* ---- encoding ---- */

// "*3\r\n", "$5\r\n"
static size_t head(char out[24], char kind, size_t n) { return (size_t)snprintf(out, 24, "%c%zu\r\n", kind, n); }

static size_t encoded_size(const mw_redis_command *command) {
  char text[24];
  size_t size = head(text, '*', command->argc);
  for (size_t i = 0; i < command->argc; i++) size += head(text, '$', command->argv[i].len) + command->argv[i].len + 2;
  return size;
}

static char *encode(char *to, const mw_redis_command *command) {
  to += head(to, '*', command->argc);
  for (size_t i = 0; i < command->argc; i++) {
    char text[24];
    size_t len = head(text, '$', command->argv[i].len);
    memcpy(to, text, len);
    to += len;
    if (command->argv[i].len) memcpy(to, command->argv[i].ptr, command->argv[i].len);
    to += command->argv[i].len;
    memcpy(to, "\r\n", 2);
    to += 2;
  }
  return to;
}

static void take_name(mw_redis_request *request, mw_str name) {
  size_t n = 0;
  for (; n < name.len && n + 1 < sizeof request->name; n++) {
    unsigned char c = (unsigned char)name.ptr[n];
    request->name[n] = (char)(c >= 'a' && c <= 'z' ? c - 32 : c > ' ' && c < 127 ? c : '?');
  }
  request->name[n] = 0;
}

static void on_timeout(mw_timer *timer, void *arg);

mw_redis_request *mw_redis_request_make(mw_redis *redis, const mw_redis_call *call) {
  size_t size = 0;
  for (size_t i = 0; i < call->count; i++) size += encoded_size(&call->commands[i]);
  mw_redis_request *request = mw_alloc(sizeof *request + size);
  *request = (mw_redis_request){.redis = redis, .count = call->count, .len = size,
                                .timeout_ms = call->timeout_ms > 0 ? call->timeout_ms : redis->timeout_ms};
  mw_list_init(&request->node);
  mw_arena_init(&request->arena);
  mw_timer_init(&request->timer, on_timeout, request);
  take_name(request, call->commands[0].argv[0]);
  char *to = request->bytes;
  for (size_t i = 0; i < call->count; i++) to = encode(to, &call->commands[i]);
  redis->commands += request->count;
  redis->bytes += request->len;
  return request;
}

int mw_redis_request_new(mw_redis *redis, const mw_redis_call *call, mw_redis_request **out, mw_err *err) {
  size_t size = 0, args = 0;
  if (call->count < 1 || call->count > MW_REDIS_MAX_COMMANDS)
    return mw_err_set(err, MW_EINVALID, "a pipeline has 1 to %d commands", MW_REDIS_MAX_COMMANDS);
  for (size_t i = 0; i < call->count; i++) {
    if (!call->commands[i].argc) return mw_err_set(err, MW_EINVALID, "a command has at least a name");
    args += call->commands[i].argc;
    for (size_t k = 0; k < call->commands[i].argc; k++) size += call->commands[i].argv[k].len + 16;
  }
  if (args > MAX_ARGS || size > MW_REDIS_MAX_BYTES)
    return mw_err_set(err, MW_ELIMIT, "it is larger than %zu MiB, or has more than %d arguments: send it in parts", MW_REDIS_MAX_BYTES >> 20, MAX_ARGS);
  if (redis->commands + call->count > MW_REDIS_MAX_COMMANDS || redis->bytes + size > MW_REDIS_MAX_BYTES)
    return mw_err_set(err, MW_EBUSY, "%zu commands for Redis are under way already on this worker", redis->commands);
  *out = mw_redis_request_make(redis, call);
  return 0;
}

/* ---- ending ---- */

void mw_redis_request_answer(mw_redis_request *request, int status, const mw_redis_reply *replies, const mw_err *err) {
  mw_redis_cb cb = request->cb;
  request->cb = NULL;
  mw_timer_stop(&request->timer);
  if (cb) cb(status, replies, status ? 0 : request->count, err, request->arg);
}

void mw_redis_request_free(mw_redis_request *request) {
  mw_timer_stop(&request->timer);
  mw_list_remove(&request->node);
  request->redis->commands -= request->count;
  request->redis->bytes -= request->len;
  mw_arena_deinit(&request->arena);
  mw_free(request);
}

void mw_redis_requests_fail(mw_list *list, int status, const mw_err *err, bool were_sent) {
  mw_list failed;
  mw_list_init(&failed);
  mw_list_splice(&failed, list);
  for (mw_redis_request *request; (request = MW_LIST_POP(&failed, mw_redis_request, node));) {
    mw_err own = *err;
    if (were_sent) mw_err_set(&own, status, "%s: %s; it may have been executed", request->name, err->text);
    else mw_err_set(&own, status, "%s: %s; it was not sent", request->name, err->text);
    mw_redis_request_answer(request, status, NULL, &own);
    mw_redis_request_free(request);
  }
}

void mw_redis_cancel(mw_redis_request *request) {
  request->cb = NULL;
  mw_timer_stop(&request->timer);
  if (!request->conn) mw_redis_request_free(request);
}

static void on_timeout(mw_timer *timer, void *arg) {
  mw_redis_request *request = arg;
  mw_redis_conn *conn = request->conn;
  mw_err err;
  long long ms = (long long)request->timeout_ms;
  const char *shown = request->redis->target->shown;
  if (!conn) {
    mw_err_set(&err, MW_ETIMEOUT, "%s: Redis at %s could not be reached within %lld ms; it was not sent", request->name, shown, ms);
    mw_redis_request_answer(request, MW_ETIMEOUT, NULL, &err);
    mw_redis_request_free(request);
    return;
  }
  if (request->cb) {
    mw_redis_cb cb = request->cb;
    request->cb = NULL; // answered, and still in its place
    // When nothing at all comes for as long again, the other side may be gone without a word. One impatient caller is no reason.
    int64_t client_ms = request->redis->timeout_ms, wait_ms = request->timeout_ms;
    mw_timer_start(request->redis->loop, &request->timer, wait_ms > client_ms ? wait_ms : 2 * client_ms - wait_ms);
    mw_err_set(&err, MW_ETIMEOUT, "%s: Redis at %s did not answer within %lld ms; it may still be executed", request->name, shown, ms);
    cb(MW_ETIMEOUT, NULL, 0, &err, request->arg);
  } else if (!conn->closing && conn->read_ms < request->sent_ms)
    mw_redis_conn_abort(conn, MW_EUNAVAILABLE, "it has not said anything for long");
}
