// SPDX-License-Identifier: MIT

// The client: its shared lane with reconnecting, sessions, and what it takes to end.

#include "store/redis.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rand.h"
#include "store/redis_impl.h"

#define DEFAULT_TIMEOUT_MS 5000
#define SHORT_LIFE_MS 1000 // a connection that is lost sooner is not worth another at once
#define SHORT_LIVES 3      // … more than this often in a row
#define SLICE_BYTES ((size_t)256 << 10) // of a large request that are written at a time
#define IDLE_SESSIONS 4
#define IDLE_MS 30000

int64_t mw_redis_backoff_ms(int attempt) {
  int64_t full = attempt > 7 ? 5000 : 50 << (attempt > 1 ? attempt - 1 : 0);
  if (full > 5000) full = 5000;
  return full / 2 + (int64_t)(mw_rand_unit() * (double)(full / 2));
}

/* ---- lanes ---- */

static const mw_redis_conn_events lane_events;

static void lane_init(mw_redis_lane *lane, mw_redis *redis, bool is_session) {
  *lane = (mw_redis_lane){.redis = redis, .is_session = is_session};
  mw_list_init(&lane->waiting);
  mw_list_init(&lane->node);
}

static bool can_write(const mw_redis_conn *conn) {
  return conn->up && !mw_stream_is_closing(conn->stream) && !mw_redis_conn_is_full(conn);
}

// Sends what the stream takes of a large request; the rest follows when it has drained.
static void send_slices(mw_redis_lane *lane) {
  while (lane->partial && can_write(lane->conn)) {
    mw_redis_request *request = lane->partial;
    size_t left = request->len - request->written, n = left < SLICE_BYTES ? left : SLICE_BYTES;
    mw_redis_conn_write(lane->conn, mw_str_of(request->bytes + request->written, n));
    request->written += n;
    if (n < left) continue;
    request->is_partial = false;
    lane->partial = NULL;
  }
}

// Gathers small requests in `out`; a large one comes next, alone.
static void gather(mw_redis_lane *lane, mw_buf *out) {
  while (!mw_list_is_empty(&lane->waiting) && !lane->partial && out->len < MW_STREAM_HIGH_MARK) {
    mw_redis_request *request = MW_LIST_POP(&lane->waiting, mw_redis_request, node);
    mw_redis_conn_push(lane->conn, request);
    request->is_partial = request->len > SLICE_BYTES;
    if (request->is_partial) lane->partial = request;
    else mw_buf_add(out, request->bytes, request->len);
  }
}

// Sends what waits, small requests in one write.
static void flush(mw_redis_lane *lane) {
  mw_redis_conn *conn = lane->conn;
  if (!conn || !conn->up) return;
  mw_buf out = MW_BUF_INIT;
  send_slices(lane);
  while (!lane->partial && !mw_list_is_empty(&lane->waiting) && can_write(conn)) {
    mw_buf_reset(&out, MW_STREAM_HIGH_MARK);
    gather(lane, &out);
    if (out.len) mw_redis_conn_write(conn, mw_buf_str(&out));
    send_slices(lane);
  }
  mw_buf_deinit(&out);
}

static void on_flush(void *arg) {
  mw_redis_lane *lane = arg;
  mw_redis *redis = lane->redis;
  lane->flush_due = false;
  redis->flushes--;
  if (lane->gone) {
    if (lane->is_session) mw_free(lane);
    mw_redis_maybe_free(redis);
    return;
  }
  flush(lane);
}

static void flush_later(mw_redis_lane *lane) {
  if (lane->flush_due) return;
  lane->flush_due = true;
  lane->redis->flushes++;
  mw_loop_defer(lane->redis->loop, on_flush, lane);
}

static int lane_connect(mw_redis_lane *lane, mw_err *err) {
  if (lane->conn) return 0;
  int rc = mw_redis_conn_open(lane->redis, &lane_events, lane, &lane->conn, err);
  if (rc) mw_redis_note_down(lane->redis, rc, err);
  return rc;
}

static void fail_waiting(mw_redis_lane *lane, int status, const mw_err *err) {
  mw_redis_requests_fail(&lane->waiting, status, err, false);
}

static void on_up(mw_redis_conn *conn, void *arg) {
  mw_redis_note_up(conn->redis);
  flush(arg);
}

static void on_drain(mw_redis_conn *conn, void *arg) { flush_later(arg); }

// Whether a lane whose connection was lost after it had been up may connect again at once.
static bool may_reconnect(mw_redis *redis, int64_t lived_ms) {
  redis->short_lived = lived_ms < SHORT_LIFE_MS ? redis->short_lived + 1 : 0;
  return redis->short_lived <= SHORT_LIVES;
}

static void on_down(mw_redis_conn *conn, int status, const mw_err *err, void *arg) {
  mw_redis_lane *lane = arg;
  mw_redis *redis = lane->redis;
  mw_err own = *err, why;
  bool was_up = conn->up_since_ms != 0;
  lane->conn = NULL;
  lane->partial = NULL;
  if (lane->is_session) {
    lane->broken = true;
    if (!was_up) mw_redis_note_down(redis, status, &own);
    fail_waiting(lane, status, &own);
    return;
  }
  if (was_up && may_reconnect(redis, mw_loop_now_ms(redis->loop) - conn->up_since_ms)) {
    if (mw_list_is_empty(&lane->waiting) || lane_connect(lane, &why) == 0) return; // what was not sent goes out on the next one
    own = why;
  } else mw_redis_note_down(redis, status, &own);
  fail_waiting(lane, own.code, &own);
}

static const mw_redis_conn_events lane_events = {.on_up = on_up, .on_down = on_down, .on_drain = on_drain};

/* ---- up and down ---- */

static void on_retry(mw_timer *timer, void *arg) {
  mw_redis *redis = arg;
  mw_err err;
  if (redis->closed) return;
  if (redis->lane.conn && redis->lane.conn->up) mw_redis_note_up(redis);
  else lane_connect(&redis->lane, &err);
}

void mw_redis_note_down(mw_redis *redis, int status, const mw_err *err) {
  mw_err own = *err;
  own.code = status;
  bool is_shared_up = redis->lane.conn && redis->lane.conn->up; // then it is not Redis that is away
  if (redis->closed || is_shared_up) return;
  if (!redis->down)
    mw_log(MW_LOG_WARN, "redis", "Redis is away; commands fail until it is back", MW_LOG_S("error", own.text));
  redis->down = true;
  redis->why = own;
  redis->attempt++;
  if (!mw_timer_is_armed(&redis->retry)) mw_timer_start(redis->loop, &redis->retry, mw_redis_backoff_ms(redis->attempt));
}

void mw_redis_note_up(mw_redis *redis) {
  if (redis->down) mw_log(MW_LOG_INFO, "redis", "Redis is back", MW_LOG_S("address", redis->target->shown));
  redis->down = false;
  redis->attempt = 0;
  mw_timer_stop(&redis->retry);
}

/* ---- calls ---- */

static int check_up(const mw_redis *redis, mw_err *err) {
  if (redis->closed) return mw_err_set(err, MW_ECANCELED, "the server is stopping");
  if (!redis->down) return 0;
  *err = redis->why;
  return err->code;
}

int mw_redis_send(mw_redis *redis, mw_redis_session *session, const mw_redis_call *call, mw_redis_cb cb, void *arg, mw_redis_request **out,
                  mw_err *err) {
  mw_redis_lane *lane = session ? &session->lane : &redis->lane;
  mw_redis_request *request;
  int rc = session ? 0 : check_up(redis, err);
  if (session && lane->broken) rc = mw_err_set(err, MW_EUNAVAILABLE, "the connection to Redis was lost");
  if (!rc) rc = lane_connect(lane, err);
  if (!rc) rc = mw_redis_request_new(redis, call, &request, err);
  if (rc) return rc;
  request->cb = cb;
  request->arg = arg;
  mw_list_push(&lane->waiting, &request->node);
  mw_timer_start(redis->loop, &request->timer, request->timeout_ms);
  flush_later(lane);
  if (out) *out = request;
  return 0;
}

/* ---- sessions ---- */

static void end_session(mw_redis_session *session) {
  mw_redis_lane *lane = &session->lane;
  mw_err err;
  mw_err_set(&err, MW_ECANCELED, "the connection was closed");
  mw_list_remove(&lane->node);
  lane->gone = true;
  if (lane->conn) mw_redis_conn_close(lane->conn);
  lane->conn = NULL;
  fail_waiting(lane, MW_ECANCELED, &err);
  lane->redis->sessions--;
  if (!lane->flush_due) mw_free(session); // else at the end of the turn
}

static size_t count_idle(mw_redis *redis) {
  size_t count = 0;
  MW_LIST_EACH(&redis->idle, node) count++;
  return count;
}

static mw_redis_session *oldest_idle(mw_redis *redis) {
  return mw_list_is_empty(&redis->idle) ? NULL : MW_CONTAINER(redis->idle.next, mw_redis_session, lane.node);
}

static void on_idle(mw_timer *timer, void *arg) {
  mw_redis *redis = arg;
  int64_t now = mw_loop_now_ms(redis->loop);
  for (mw_redis_session *session; (session = oldest_idle(redis));) {
    int64_t left = session->lane.idle_since_ms + IDLE_MS - now;
    if (left > 0) {
      mw_timer_start(redis->loop, timer, left);
      return;
    }
    end_session(session);
  }
}

int mw_redis_session_open(mw_redis *redis, mw_redis_session **out, mw_err *err) {
  int rc = check_up(redis, err);
  if (rc) return rc;
  for (mw_redis_session *session; (session = oldest_idle(redis));) {
    if (session->lane.conn && session->lane.conn->up) {
      mw_list_remove(&session->lane.node);
      *out = session;
      return 0;
    }
    end_session(session); // lost while it was idle
  }
  if (redis->sessions >= MW_REDIS_MAX_SESSIONS)
    return mw_err_set(err, MW_EBUSY, "%d transactions and blocking commands of Redis are under way already on this worker", MW_REDIS_MAX_SESSIONS);
  mw_redis_session *session = MW_NEW(mw_redis_session);
  lane_init(&session->lane, redis, true);
  if ((rc = lane_connect(&session->lane, err))) {
    mw_free(session);
    return rc;
  }
  redis->sessions++;
  *out = session;
  return 0;
}

void mw_redis_session_close(mw_redis_session *session, bool is_clean) {
  mw_redis_lane *lane = &session->lane;
  mw_redis *redis = lane->redis;
  bool is_quiet = lane->conn && lane->conn->up && mw_list_is_empty(&lane->waiting) && mw_list_is_empty(&lane->conn->sent);
  if (!is_clean || !is_quiet || redis->closed || count_idle(redis) >= IDLE_SESSIONS) {
    end_session(session);
    return;
  }
  lane->idle_since_ms = mw_loop_now_ms(redis->loop);
  mw_list_push(&redis->idle, &lane->node);
  if (!mw_timer_is_armed(&redis->idle_timer)) mw_timer_start(redis->loop, &redis->idle_timer, IDLE_MS);
}

/* ---- begin and end ---- */

int mw_redis_new(mw_loop *loop, const mw_redis_conf *conf, mw_redis **out, mw_err *err) {
  mw_redis_target *target;
  int rc = mw_redis_target_new(mw_str_from(conf->url), &target, err);
  if (rc) {
    mw_err_wrap(err, "the URL of Redis");
    return rc;
  }
  mw_redis *redis = MW_NEW(mw_redis);
  redis->loop = loop;
  redis->target = target;
  redis->ca_file = conf->ca_file && *conf->ca_file ? mw_strdup(conf->ca_file) : NULL;
  redis->timeout_ms = conf->timeout_ms > 0 ? conf->timeout_ms : DEFAULT_TIMEOUT_MS;
  lane_init(&redis->lane, redis, false);
  mw_list_init(&redis->idle);
  mw_timer_init(&redis->idle_timer, on_idle, redis);
  mw_timer_init(&redis->retry, on_retry, redis);
  *out = redis;
  return 0;
}

void mw_redis_maybe_free(mw_redis *redis) {
  if (!redis->closed || redis->conns || redis->flushes) return;
  void (*cb)(void *arg) = redis->gone;
  void *arg = redis->gone_arg;
  mw_tls_unref(redis->tls);
  mw_redis_target_free(redis->target);
  mw_free(redis->ca_file);
  mw_free(redis);
  if (cb) cb(arg);
}

static void do_close(void *arg) {
  mw_redis *redis = arg;
  redis->flushes--;
  mw_redis_maybe_free(redis);
}

void mw_redis_close(mw_redis *redis, void (*cb)(void *arg), void *arg) {
  mw_err err;
  mw_err_set(&err, MW_ECANCELED, "the server is stopping");
  redis->closed = true;
  redis->gone = cb;
  redis->gone_arg = arg;
  mw_timer_stop(&redis->retry);
  mw_timer_stop(&redis->idle_timer);
  mw_redis_subs_close(redis);
  for (mw_redis_session *session; (session = oldest_idle(redis));) end_session(session);
  fail_waiting(&redis->lane, MW_ECANCELED, &err);
  if (redis->lane.conn) mw_redis_conn_close(redis->lane.conn);
  redis->lane.conn = NULL;
  redis->lane.gone = true;
  redis->flushes++; // never from within this call
  mw_loop_post(redis->loop, do_close, redis);
}
