// SPDX-License-Identifier: MIT

// One connection: look-up, connect to one address after the other, then AUTH, SELECT and PING in one write; after that, replies in order.
// Its memory goes in the last callback of its stream (or of its look-up).

#include <hiredis/read.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/redis_impl.h"

#define READER_SLACK (64 * 1024)

static void connect_next(mw_redis_conn *conn, int status, const char *why);

/* ---- ending ---- */

static void free_conn(mw_redis_conn *conn) {
  mw_redis *redis = conn->redis;
  mw_timer_stop(&conn->deadline);
  if (conn->reader) redisReaderFree(conn->reader);
  mw_arena_deinit(&conn->scratch);
  mw_free(conn);
  redis->conns--;
  mw_redis_maybe_free(redis);
}

// Begins to close; false when it is closing already.
static bool shut(mw_redis_conn *conn, int status, const char *why) {
  if (conn->closing) return false;
  conn->closing = true;
  conn->up = false;
  mw_timer_stop(&conn->deadline);
  mw_err_set(&conn->why, status, "Redis at %s: %s", conn->redis->target->shown, why);
  if (conn->dns) mw_dns_cancel(conn->dns);
  else if (conn->stream) mw_stream_close(conn->stream);
  return true;
}

void mw_redis_conn_abort(mw_redis_conn *conn, int status, const char *why) { shut(conn, status, why); }

void mw_redis_conn_close(mw_redis_conn *conn) {
  conn->events = NULL;
  shut(conn, MW_ECANCELED, "the connection was closed");
  mw_err err;
  mw_err_set(&err, MW_ECANCELED, "the connection was closed");
  mw_redis_requests_fail(&conn->sent, MW_ECANCELED, &err, true);
}

// The last callback: whoever is concerned hears of it.
static void finish(mw_redis_conn *conn) {
  const mw_redis_conn_events *events = conn->events;
  bool is_limit = conn->why.code == MW_ELIMIT || conn->why.code == MW_EPROTOCOL;
  if (is_limit && !mw_list_is_empty(&conn->sent)) { // of the one in front alone
    mw_list first;
    mw_list_init(&first);
    mw_list *node = mw_list_pop(&conn->sent);
    mw_list_push(&first, node);
    mw_redis_requests_fail(&first, conn->why.code, &conn->why, true);
  }
  int status = conn->why.code;
  if (status != MW_EDENIED && status != MW_ECONFIG && status != MW_ETLS && status != MW_ECANCELED) status = MW_EUNAVAILABLE;
  conn->why.code = status;
  mw_redis_requests_fail(&conn->sent, status, &conn->why, true);
  if (conn->events && events->on_down) events->on_down(conn, status, &conn->why, conn->arg);
  free_conn(conn);
}

/* ---- replies ---- */

static mw_redis_request *front_of(mw_redis_conn *conn) {
  return mw_list_is_empty(&conn->sent) ? NULL : MW_CONTAINER(conn->sent.next, mw_redis_request, node);
}

// Those of a pipeline somebody waits for are kept until the last one; all others live for one callback.
static void aim(mw_redis_conn *conn) {
  mw_redis_request *front = front_of(conn);
  conn->sink.arena = front && front->cb && front->count > 1 ? &front->arena : &conn->scratch;
}

static bool takes_pushes(const mw_redis_conn *conn) { return conn->up && conn->events && conn->events->on_push; }

static void unasked(mw_redis_conn *conn) { shut(conn, MW_EPROTOCOL, "it answers what nobody asked"); }

static void deliver(mw_redis_conn *conn, mw_redis_reply *reply) {
  if (takes_pushes(conn)) {
    conn->events->on_push(conn, reply, conn->arg);
    return;
  }
  mw_redis_request *request = front_of(conn);
  if (request->is_partial) { // the lane is still writing it
    shut(conn, MW_EPROTOCOL, "it answers a command before it has all of it");
    return;
  }
  request->got++;
  if (request->count > 1 && request->cb && conn->sink.arena == &request->arena) {
    if (!request->replies) request->replies = mw_arena_alloc(&request->arena, request->count * sizeof *request->replies);
    request->replies[request->got - 1] = *reply;
  }
  if (request->got < request->count) return;
  mw_list_remove(&request->node);
  mw_redis_request_answer(request, 0, request->count > 1 ? request->replies : reply, NULL);
  mw_redis_request_free(request);
}

static void read_failed(mw_redis_conn *conn) {
  char text[200];
  if (conn->sink.is_over) {
    snprintf(text, sizeof text, "a reply is larger than %zu MiB: ask for less at a time", MW_REDIS_MAX_REPLY >> 20);
    shut(conn, MW_ELIMIT, text);
    return;
  }
  snprintf(text, sizeof text, "it does not speak the protocol of Redis: %s", conn->reader->errstr);
  shut(conn, MW_EPROTOCOL, text);
}

static void on_data(mw_stream *stream, mw_str data, void *arg) {
  mw_redis_conn *conn = arg;
  if (conn->closing) return;
  conn->read_ms = mw_loop_now_ms(conn->redis->loop);
  conn->unread_bytes += data.len;
  if (conn->unread_bytes > MW_REDIS_MAX_REPLY + READER_SLACK) conn->sink.is_over = true;
  if (conn->sink.is_over || redisReaderFeed(conn->reader, data.ptr, data.len) != REDIS_OK) {
    read_failed(conn);
    return;
  }
  while (!conn->closing) {
    void *reply = NULL;
    // Also half a reply: the next request must not take its rest for an answer, in memory that is not its own.
    if (conn->unread_bytes && !takes_pushes(conn) && !front_of(conn)) {
      unasked(conn);
      return;
    }
    aim(conn);
    if (redisReaderGetReply(conn->reader, &reply) != REDIS_OK) {
      read_failed(conn);
      return;
    }
    if (!reply) return;
    conn->unread_bytes = conn->reader->len - conn->reader->pos;
    deliver(conn, reply);
    mw_arena_reset(&conn->scratch);
  }
}

static void on_end(mw_stream *stream, void *arg) { shut(arg, MW_EUNAVAILABLE, "it closed the connection"); }

static void on_drain(mw_stream *stream, void *arg) {
  mw_redis_conn *conn = arg;
  if (conn->up && conn->events && conn->events->on_drain) conn->events->on_drain(conn, conn->arg);
}

static void on_close(mw_stream *stream, int status, void *arg) {
  mw_redis_conn *conn = arg;
  if (!conn->closing) {
    char why[300];
    snprintf(why, sizeof why, "%s", status ? mw_stream_error(stream) : "it closed the connection");
    conn->stream = NULL;
    shut(conn, status == MW_ETLS ? MW_ETLS : MW_EUNAVAILABLE, why);
  }
  finish(conn);
}

static const mw_stream_handler handler = {.on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_close = on_close};

/* ---- being let in ---- */

void mw_redis_conn_push(mw_redis_conn *conn, mw_redis_request *request) {
  request->conn = conn;
  request->sent_ms = mw_loop_now_ms(conn->redis->loop);
  mw_list_push(&conn->sent, &request->node);
}

void mw_redis_conn_write(mw_redis_conn *conn, mw_str bytes) {
  if (!conn->closing) mw_stream_write(conn->stream, bytes); // a failed write closes the stream, which answers what was sent
}

void mw_redis_conn_send(mw_redis_conn *conn, mw_redis_request *request) {
  mw_redis_conn_push(conn, request);
  mw_redis_conn_write(conn, mw_str_of(request->bytes, request->len));
}

static void on_greeted(int status, const mw_redis_reply *replies, size_t count, const mw_err *err, void *arg) {
  mw_redis_conn *conn = arg;
  if (status || conn->closing) return; // finish() tells it
  for (size_t i = 0; i < count; i++) {
    mw_err why;
    if (replies[i].kind != MW_REDIS_ERROR) continue;
    int code = mw_redis_error_read(replies[i].str, &why);
    bool is_ping = i + 1 == count;
    if (is_ping && mw_str_eq(mw_redis_error_word(replies[i].str), MW_STR("NOPERM"))) continue; // let in, and kept short
    bool is_auth = i == 0 && conn->redis->target->password;
    if (code == MW_EREDIS) code = is_auth ? MW_EDENIED : is_ping ? MW_EUNAVAILABLE : MW_ECONFIG;
    shut(conn, code, why.text);
    return;
  }
  conn->up = true;
  conn->up_since_ms = mw_loop_now_ms(conn->redis->loop);
  mw_timer_stop(&conn->deadline);
  if (conn->events) conn->events->on_up(conn, conn->arg);
}

static void greet(mw_redis_conn *conn) {
  const mw_redis_target *target = conn->redis->target;
  char db[16];
  snprintf(db, sizeof db, "%d", target->db);
  mw_str auth[3] = {MW_STR("AUTH")}, select[2] = {MW_STR("SELECT"), mw_str_from(db)}, ping[1] = {MW_STR("PING")};
  mw_redis_command commands[3];
  size_t count = 0, argc = 1;
  if (target->user) auth[argc++] = mw_str_from(target->user);
  if (target->password) {
    auth[argc++] = mw_str_from(target->password);
    commands[count++] = (mw_redis_command){auth, argc};
  }
  if (target->db) commands[count++] = (mw_redis_command){select, 2};
  commands[count++] = (mw_redis_command){ping, 1};
  mw_redis_request *request = mw_redis_request_make(conn->redis, &(mw_redis_call){commands, count, 0});
  request->cb = on_greeted;
  request->arg = conn;
  mw_redis_conn_send(conn, request);
  explicit_bzero(request->bytes, request->len); // the password; the stream's own copy is short-lived
}

/* ---- connecting ---- */

static void give_up(mw_redis_conn *conn, int status, const char *why) {
  shut(conn, status, why);
  finish(conn);
}

static void on_connected(mw_stream *stream, int status, void *arg) {
  mw_redis_conn *conn = arg;
  if (conn->closing) {
    if (status) finish(conn); // given up meanwhile, and this is the stream's last callback
    else mw_stream_set_handler(stream, &handler, conn);
    return;
  }
  if (status) {
    char why[300];
    snprintf(why, sizeof why, "%s", mw_stream_error(stream));
    conn->stream = NULL;
    if (status == MW_ETLS) give_up(conn, status, why);
    else connect_next(conn, status, why);
    return;
  }
  mw_stream_set_handler(stream, &handler, conn);
  greet(conn);
}

// The time that is left is shared by the addresses that are left, the first getting half of it.
static int64_t share_of_time(const mw_redis_conn *conn) {
  int64_t left = conn->deadline_ms - mw_loop_now_ms(conn->redis->loop);
  if (conn->next_address + 1 < conn->address_count) left /= 2;
  return left > 1 ? left : 1;
}

static void connect_next(mw_redis_conn *conn, int status, const char *why) {
  const mw_redis *redis = conn->redis;
  while (conn->next_address < conn->address_count) {
    mw_stream_connect_opts opts = {.address = conn->addresses[conn->next_address], .tls = redis->target->is_tls ? redis->tls : NULL,
                                   .server_name = redis->target->host, .timeout_ms = share_of_time(conn)};
    conn->next_address++;
    status = mw_stream_connect(redis->loop, &opts, on_connected, conn, &conn->stream);
    if (status == 0) return;
    conn->stream = NULL;
    why = mw_err_text(status);
  }
  give_up(conn, MW_EUNAVAILABLE, why);
}

static void on_resolved(int status, const mw_address *addresses, size_t count, void *arg) {
  mw_redis_conn *conn = arg;
  conn->dns = NULL;
  if (conn->closing) {
    finish(conn);
    return;
  }
  if (status) {
    give_up(conn, MW_EUNAVAILABLE, mw_err_text(status));
    return;
  }
  conn->address_count = count < 8 ? count : 8;
  memcpy(conn->addresses, addresses, conn->address_count * sizeof *addresses);
  connect_next(conn, MW_EDNS, mw_err_text(MW_EDNS));
}

static void on_deadline(mw_timer *timer, void *arg) {
  mw_redis_conn *conn = arg;
  char why[100];
  snprintf(why, sizeof why, "no connection within %lld ms", (long long)conn->redis->timeout_ms);
  shut(conn, MW_EUNAVAILABLE, why);
}

static void on_unix(void *arg) {
  mw_redis_conn *conn = arg;
  if (conn->closing) finish(conn);
  else connect_next(conn, MW_EUNAVAILABLE, "");
}

static int begin(mw_redis_conn *conn, mw_err *err) {
  mw_redis *redis = conn->redis;
  const mw_redis_target *target = redis->target;
  int rc = 0;
  if (target->is_tls && !redis->tls) rc = mw_tls_client_new(&(mw_tls_client_opts){.ca_file = redis->ca_file}, &redis->tls, err);
  if (rc) return rc;
  if (!target->path) {
    rc = mw_dns_resolve(redis->loop, target->host, target->port, on_resolved, conn, &conn->dns);
    return rc ? mw_err_set(err, rc, "%s: %s", target->shown, mw_err_text(rc)) : 0;
  }
  if ((rc = mw_address_parse(mw_str_from(target->shown), &conn->addresses[0], err))) return rc;
  conn->address_count = 1;
  mw_loop_post(redis->loop, on_unix, conn);
  return 0;
}

int mw_redis_conn_open(mw_redis *redis, const mw_redis_conn_events *events, void *arg, mw_redis_conn **out, mw_err *err) {
  mw_redis_conn *conn = MW_NEW(mw_redis_conn);
  conn->redis = redis;
  conn->events = events;
  conn->arg = arg;
  mw_list_init(&conn->sent);
  mw_arena_init(&conn->scratch);
  conn->sink = (mw_redis_sink){&conn->scratch, MW_REDIS_MAX_REPLY, false};
  conn->reader = mw_redis_reader_new(&conn->sink);
  mw_timer_init(&conn->deadline, on_deadline, conn);
  conn->deadline_ms = mw_loop_now_ms(redis->loop) + redis->timeout_ms;
  redis->conns++;
  int rc = begin(conn, err);
  if (rc) {
    free_conn(conn);
    return rc;
  }
  mw_timer_start(redis->loop, &conn->deadline, redis->timeout_ms);
  *out = conn;
  return 0;
}
