// SPDX-License-Identifier: MIT

// Subscriptions. A topic is a channel or pattern that somebody wants; a member joins a subscription to a topic. Every command asks for one
// thing and is answered by one reply (a confirmation, a pong or an error), so the answers that are no messages match `asks` in order.

#include "store/redis_sub.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "store/redis_impl.h"

#define LOOK_MS 10000 // how often the connection is looked at
#define QUIET_MS 30000 // … and pinged when nothing came for so long

typedef struct topic {
  mw_list members;
  mw_str name; // behind this struct
  bool is_pattern;
  bool wanted;    // what was asked for last
  int unanswered; // asks under way; it stays until they are answered
} topic;

typedef struct member {
  mw_list node; // in the topic
  mw_redis_sub *sub;
  topic *topic;
  bool confirmed;
} member;

struct mw_redis_sub {
  mw_list node; // in subs->all
  mw_redis *redis;
  mw_redis_sub_cb cb;
  void *arg;
  bool was_ready, failed;
  size_t awaited; // topics not confirmed
  size_t count;
  member members[];
};

typedef struct ask {
  mw_list node;
  topic *topic; // NULL: PING
} ask;

struct mw_redis_subs {
  mw_redis *redis;
  mw_redis_conn *conn;
  mw_map topics; // "c" or "p" and the name
  mw_list all;
  mw_list asks;
  mw_timer look, retry;
  int attempt;
};

/* ---- topics ---- */

static void make_key(mw_buf *key, mw_str name, bool is_pattern) {
  mw_buf_add_byte(key, is_pattern ? 'p' : 'c');
  mw_buf_add_str(key, name);
}

static topic *find_topic(mw_redis_subs *subs, mw_str name, bool is_pattern) {
  mw_buf key = MW_BUF_INIT;
  make_key(&key, name, is_pattern);
  topic *found = mw_map_get(&subs->topics, mw_buf_str(&key));
  mw_buf_deinit(&key);
  return found;
}

static topic *need_topic(mw_redis_subs *subs, mw_str name, bool is_pattern) {
  topic *t = find_topic(subs, name, is_pattern);
  if (t) return t;
  t = mw_calloc(1, sizeof *t + name.len);
  if (name.len) memcpy(t + 1, name.ptr, name.len);
  t->name = mw_str_of((const char *)(t + 1), name.len);
  t->is_pattern = is_pattern;
  mw_list_init(&t->members);
  mw_buf key = MW_BUF_INIT;
  make_key(&key, name, is_pattern);
  mw_map_set(&subs->topics, mw_buf_str(&key), t);
  mw_buf_deinit(&key);
  return t;
}

static void maybe_free_topic(mw_redis_subs *subs, topic *t) {
  if (t->unanswered || !mw_list_is_empty(&t->members)) return;
  mw_buf key = MW_BUF_INIT;
  make_key(&key, t->name, t->is_pattern);
  mw_map_remove(&subs->topics, mw_buf_str(&key));
  mw_buf_deinit(&key);
  mw_free(t);
}

/* ---- asking ---- */

static void send_ask(mw_redis_subs *subs, const char *word, topic *t) {
  mw_str argv[2] = {mw_str_from(word), t ? t->name : MW_STR("")};
  mw_redis_command command = {argv, t ? 2 : 1};
  mw_redis_request *request = mw_redis_request_make(subs->redis, &(mw_redis_call){&command, 1, 0});
  ask *a = MW_NEW(ask);
  a->topic = t;
  if (t) t->unanswered++;
  mw_list_push(&subs->asks, &a->node);
  mw_redis_conn_write(subs->conn, mw_str_of(request->bytes, request->len));
  mw_redis_request_free(request);
}

static bool is_up(const mw_redis_subs *subs) { return subs->conn && subs->conn->up; }

static void want(mw_redis_subs *subs, topic *t, bool wanted) {
  if (t->wanted == wanted) return;
  t->wanted = wanted;
  if (!is_up(subs)) return;
  if (wanted) send_ask(subs, t->is_pattern ? "PSUBSCRIBE" : "SUBSCRIBE", t);
  else send_ask(subs, t->is_pattern ? "PUNSUBSCRIBE" : "UNSUBSCRIBE", t);
}

static bool is_confirmed(const mw_redis_subs *subs, const topic *t) { return is_up(subs) && t->wanted && !t->unanswered; }

/* ---- what comes ---- */

static void confirm_members(topic *t) {
  MW_LIST_EACH(&t->members, node) {
    member *m = MW_CONTAINER(node, member, node);
    mw_redis_sub *sub = m->sub;
    if (m->confirmed) continue;
    m->confirmed = true;
    if (--sub->awaited || sub->failed) continue;
    mw_redis_sub_event event = sub->was_ready ? MW_REDIS_SUB_GAP : MW_REDIS_SUB_READY;
    sub->was_ready = true;
    sub->cb(sub, event, NULL, NULL, sub->arg);
  }
}

static void fail(mw_redis_sub *sub, const mw_err *err) {
  if (sub->failed) return;
  sub->failed = true;
  sub->cb(sub, MW_REDIS_SUB_FAILED, NULL, err, sub->arg);
}

static void on_answer(mw_redis_subs *subs, const mw_redis_reply *reply) {
  ask *a = MW_LIST_POP(&subs->asks, ask, node);
  if (!a) {
    mw_redis_conn_abort(subs->conn, MW_EPROTOCOL, "it answers what nobody asked");
    return;
  }
  topic *t = a->topic;
  mw_free(a);
  if (!t) return;
  t->unanswered--;
  if (reply->kind == MW_REDIS_ERROR) {
    mw_err err;
    mw_redis_error_read(reply->str, &err);
    MW_LIST_EACH(&t->members, node) fail(MW_CONTAINER(node, member, node)->sub, &err);
  } else if (is_confirmed(subs, t)) confirm_members(t);
  maybe_free_topic(subs, t);
}

static void on_message(mw_redis_subs *subs, const mw_redis_reply *reply, bool is_pattern) {
  const mw_redis_reply *items = reply->items;
  topic *t = find_topic(subs, items[1].str, is_pattern);
  mw_redis_message message = {.channel = items[is_pattern ? 2 : 1].str, .payload = items[is_pattern ? 3 : 2].str};
  if (is_pattern) message.pattern = items[1].str;
  if (!t) return; // its last member has left
  MW_LIST_EACH(&t->members, node) {
    mw_redis_sub *sub = MW_CONTAINER(node, member, node)->sub;
    if (!sub->failed) sub->cb(sub, MW_REDIS_SUB_MESSAGE, &message, NULL, sub->arg);
  }
}

static void on_push(mw_redis_conn *conn, const mw_redis_reply *reply, void *arg) {
  bool is_list = reply->kind == MW_REDIS_ARRAY && reply->count > 0 && reply->items[0].kind == MW_REDIS_BULK;
  if (is_list && reply->count == 3 && mw_str_eq(reply->items[0].str, MW_STR("message"))) on_message(arg, reply, false);
  else if (is_list && reply->count == 4 && mw_str_eq(reply->items[0].str, MW_STR("pmessage"))) on_message(arg, reply, true);
  else on_answer(arg, reply);
}

/* ---- the connection ---- */

static const mw_redis_conn_events events;

static void forget_asks(mw_redis_subs *subs) {
  for (ask *a; (a = MW_LIST_POP(&subs->asks, ask, node));) {
    topic *t = a->topic;
    mw_free(a);
    if (!t) continue;
    t->unanswered--;
    maybe_free_topic(subs, t);
  }
}

static void on_look(mw_timer *timer, void *arg) {
  mw_redis_subs *subs = arg;
  mw_redis *redis = subs->redis;
  if (mw_list_is_empty(&subs->all)) {
    if (subs->conn) mw_redis_conn_close(subs->conn);
    subs->conn = NULL;
    forget_asks(subs);
    mw_timer_stop(&subs->retry);
    return;
  }
  if (is_up(subs)) {
    int64_t quiet_ms = mw_loop_now_ms(redis->loop) - subs->conn->read_ms;
    if (quiet_ms > QUIET_MS + LOOK_MS + redis->timeout_ms) mw_redis_conn_abort(subs->conn, MW_EUNAVAILABLE, "it has not said anything for long");
    else if (quiet_ms > QUIET_MS) send_ask(subs, "PING", NULL);
  }
  mw_timer_start(redis->loop, timer, LOOK_MS);
}

static int open_conn(mw_redis_subs *subs, mw_err *err) {
  if (subs->conn) return 0;
  return mw_redis_conn_open(subs->redis, &events, subs, &subs->conn, err);
}

static void retry_later(mw_redis_subs *subs) {
  mw_timer_start(subs->redis->loop, &subs->retry, mw_redis_backoff_ms(++subs->attempt));
}

static void on_retry(mw_timer *timer, void *arg) {
  mw_redis_subs *subs = arg;
  mw_err err;
  if (!mw_list_is_empty(&subs->all) && open_conn(subs, &err)) retry_later(subs);
}

static void on_up(mw_redis_conn *conn, void *arg) {
  mw_redis_subs *subs = arg;
  mw_str key;
  void *value;
  subs->attempt = 0;
  mw_redis_note_up(subs->redis);
  for (size_t i = 0; mw_map_next(&subs->topics, &i, &key, &value);) {
    topic *t = value;
    if (t->wanted) send_ask(subs, t->is_pattern ? "PSUBSCRIBE" : "SUBSCRIBE", t);
  }
}

static void on_down(mw_redis_conn *conn, int status, const mw_err *err, void *arg) {
  mw_redis_subs *subs = arg;
  bool was_up = conn->up_since_ms != 0;
  mw_err own = *err;
  own.code = status;
  subs->conn = NULL;
  forget_asks(subs);
  if (!was_up) mw_redis_note_down(subs->redis, status, &own);
  MW_LIST_EACH(&subs->all, node) {
    mw_redis_sub *sub = MW_CONTAINER(node, mw_redis_sub, node);
    sub->awaited = sub->count;
    for (size_t i = 0; i < sub->count; i++) sub->members[i].confirmed = false;
    if (!sub->was_ready) fail(sub, &own); // its caller still waits and can be told
  }
  if (!mw_list_is_empty(&subs->all)) retry_later(subs);
}

static const mw_redis_conn_events events = {.on_up = on_up, .on_down = on_down, .on_push = on_push};

/* ---- subscribing ---- */

static mw_redis_subs *need_subs(mw_redis *redis) {
  if (redis->subs) return redis->subs;
  mw_redis_subs *subs = MW_NEW(mw_redis_subs);
  subs->redis = redis;
  mw_map_init(&subs->topics);
  mw_list_init(&subs->all);
  mw_list_init(&subs->asks);
  mw_timer_init(&subs->look, on_look, subs);
  mw_timer_init(&subs->retry, on_retry, subs);
  return redis->subs = subs;
}

int mw_redis_subscribe(mw_redis *redis, const mw_str *names, size_t count, bool are_patterns, mw_redis_sub_cb cb, void *arg,
                       mw_redis_sub **out, mw_err *err) {
  if (redis->closed) return mw_err_set(err, MW_ECANCELED, "the server is stopping");
  if (redis->down) {
    *err = redis->why;
    return err->code;
  }
  mw_redis_subs *subs = need_subs(redis);
  if (subs->topics.count + count > MW_REDIS_MAX_TOPICS)
    return mw_err_set(err, MW_ELIMIT, "this worker is subscribed to %zu channels already, and at most %d", subs->topics.count, MW_REDIS_MAX_TOPICS);
  int rc = open_conn(subs, err);
  if (rc) return rc;
  mw_redis_sub *sub = mw_calloc(1, sizeof *sub + count * sizeof *sub->members);
  sub->redis = redis;
  sub->cb = cb;
  sub->arg = arg;
  sub->count = count;
  for (size_t i = 0; i < count; i++) {
    topic *t = need_topic(subs, names[i], are_patterns);
    sub->members[i] = (member){.sub = sub, .topic = t};
    mw_list_push(&t->members, &sub->members[i].node);
    want(subs, t, true);
    sub->members[i].confirmed = is_confirmed(subs, t);
    if (!sub->members[i].confirmed) sub->awaited++;
  }
  sub->was_ready = sub->awaited == 0;
  mw_list_push(&subs->all, &sub->node);
  if (!mw_timer_is_armed(&subs->look)) mw_timer_start(redis->loop, &subs->look, LOOK_MS);
  *out = sub;
  return 0;
}

bool mw_redis_sub_is_ready(const mw_redis_sub *sub) { return sub->was_ready; }

void mw_redis_unsubscribe(mw_redis_sub *sub) {
  mw_redis_subs *subs = sub->redis->subs;
  for (size_t i = 0; i < sub->count; i++) {
    topic *t = sub->members[i].topic;
    mw_list_remove(&sub->members[i].node);
    if (mw_list_is_empty(&t->members)) want(subs, t, false);
    maybe_free_topic(subs, t);
  }
  mw_list_remove(&sub->node);
  mw_free(sub);
}

int64_t mw_redis_timeout_ms(const mw_redis *redis) { return redis->timeout_ms; }

void mw_redis_subs_close(mw_redis *redis) {
  mw_redis_subs *subs = redis->subs;
  if (!subs) return;
  mw_timer_stop(&subs->look);
  mw_timer_stop(&subs->retry);
  if (subs->conn) mw_redis_conn_close(subs->conn);
  forget_asks(subs);
  while (!mw_list_is_empty(&subs->all)) mw_redis_unsubscribe(MW_CONTAINER(subs->all.next, mw_redis_sub, node));
  mw_map_deinit(&subs->topics);
  mw_free(subs);
  redis->subs = NULL;
}
