// SPDX-License-Identifier: MIT

// The store on both engines, each test on each: SQLite in a fresh directory, PostgreSQL in a fresh schema of the server that
// MW_TEST_DATABASE_URL names (without it those are pending).

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "harness.h"
#include "loop/thread.h"
#include "loop/virtual.h"
#include "store/journal.h"
#include "store/migrate.h"
#include "store/store.h"

typedef struct fixture {
  mw_loop *loop;
  mw_store *store;
  mw_store_client *client;
  mw_store_conf conf;
  char dir[64], schema[64];
} fixture;

static const char *url; // NULL: SQLite
static bool on_loop;    // SQLite without threads of its own
static int serial;

static bool is_sqlite(void) { return url == NULL; }

// ---- a store to test ----

static void on_done(void *arg) { *(bool *)arg = true; }

static void on_registered(int status, const mw_err *err, void *arg) {
  if (status) fprintf(stderr, "register: %s\n", err ? err->text : mw_err_text(status));
  *(int *)arg = status ? status : 1;
}

static void start(fixture *f) {
  mw_err err = {0};
  f->loop = mw_loop_new("spec");
  f->conf.inline_loop = on_loop ? f->loop : NULL;
  if (mw_store_open(&f->conf, &f->store, &err)) {
    fprintf(stderr, "open: %s\n", err.text);
    exit(1);
  }
  int count;
  if (mw_migrate_up(f->store, &count, &err)) {
    fprintf(stderr, "migrate: %s\n", err.text);
    exit(1);
  }
  f->client = mw_store_attach(f->store, f->loop);
  mw_loop_hold(f->loop);
  RUN_UNTIL(f->loop, mw_store_is_up(f->store));
  int registered = 0;
  CHECK_INT(mw_store_register_node(f->client, on_registered, &registered), 0);
  RUN_UNTIL(f->loop, registered);
  CHECK_INT(registered, 1);
}

static void stop(fixture *f) {
  bool gone = false;
  mw_store_detach(f->client, on_done, &gone);
  RUN_UNTIL(f->loop, gone);
  while (on_loop && !mw_loop_is_quiet(f->loop)) mw_loop_turn(f->loop, false);
  mw_store_close(f->store);
  mw_loop_unhold(f->loop);
  mw_loop_free(f->loop);
}

static void setup(fixture *f) {
  *f = (fixture){0};
  strcpy(f->dir, "/tmp/mw_store_XXXXXX");
  CHECK(mkdtemp(f->dir));
  snprintf(f->schema, sizeof f->schema, "spec_%d_%d", getpid(), serial++);
  f->conf = (mw_store_conf){.database_url = url, .data_dir = f->dir, .schema = f->schema, .exclusive = true};
  start(f);
}

static void remove_dir(const char *dir) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", dir);
  CHECK_INT(system(command), 0);
}

// ---- statements ----

typedef struct result {
  bool done;
  int status;
  char text[500], sqlstate[64], cell[256];
  size_t count;
  int64_t affected, number;
  mw_value_kind kind;
} result;

static void on_rows(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  result *r = arg;
  CHECK(!r->done);
  *r = (result){.done = true, .status = status};
  if (err) snprintf(r->text, sizeof r->text, "%s", err->text);
  if (sqlstate) snprintf(r->sqlstate, sizeof r->sqlstate, "%s", sqlstate);
  if (status) {
    CHECK(err && err->code == status);
    return;
  }
  r->count = rows->count;
  r->affected = rows->affected;
  if (!rows->count || !rows->columns) return;
  r->kind = rows->values[0].kind;
  r->number = rows->values[0].i;
  if (r->kind == MW_VALUE_TEXT || r->kind == MW_VALUE_BLOB) {
    memcpy(r->cell, rows->values[0].str.ptr, rows->values[0].str.len < 255 ? rows->values[0].str.len : 255);
  }
}

static result ask_with(fixture *f, mw_db db, mw_query_opts opts) {
  result r = {0};
  int code = mw_store_query(f->client, db, &opts, on_rows, &r, NULL);
  if (code) return (result){.done = true, .status = code};
  RUN_UNTIL(f->loop, r.done);
  return r;
}

static result ask(fixture *f, mw_db db, const char *sql) {
  return ask_with(f, db, (mw_query_opts){.sql = mw_str_from(sql)});
}

static void must(fixture *f, mw_db db, const char *sql) {
  result r = ask(f, db, sql);
  if (r.status) fprintf(stderr, "%s: %s\n", sql, r.text);
  CHECK_INT(r.status, 0);
}

/** SQL of our own tables: on PostgreSQL they are in a schema. */
static int64_t engine_number(fixture *f, const char *sql) {
  result r = ask(f, MW_DB_ENGINE, sql);
  if (r.status) fprintf(stderr, "%s: %s\n", sql, r.text);
  CHECK_INT(r.status, 0);
  CHECK_INT(r.count, 1);
  return r.number;
}

// ---- engine writes ----

typedef struct answer {
  bool done;
  int status;
  bool has_existing;
  mw_id existing;
  char text[500];
} answer;

static void on_written(int status, const mw_id *existing, const mw_err *err, void *arg) {
  answer *a = arg;
  CHECK(!a->done);
  *a = (answer){.done = true, .status = status, .has_existing = existing != NULL};
  if (existing) a->existing = *existing;
  if (err) snprintf(a->text, sizeof a->text, "%s", err->text);
}

static answer commit(fixture *f, mw_write w) {
  answer a = {0};
  int code = mw_store_write(f->client, &w, on_written, &a);
  if (code) return (answer){.done = true, .status = code};
  RUN_UNTIL(f->loop, a.done);
  return a;
}

static mw_write create(mw_id id, mw_status status) {
  return (mw_write){.kind = MW_WRITE_CREATE, .id = id, .fence = status == MW_STATUS_RUNNING, .now_us = mw_clock_wall_us(),
                    .workflow = MW_STR("checkout"), .request_hash = MW_STR("h1"), .input = MW_STR("{\"a\":\"\\u0000\"}"),
                    .bundle = MW_STR("b1"), .seed = MW_STR("s1"), .api_level = 1, .status = status, .due_us = 1};
}

static mw_write append(mw_id id, int64_t fence, int64_t number, mw_status status) {
  return (mw_write){.kind = MW_WRITE_APPEND, .id = id, .fence = fence, .now_us = mw_clock_wall_us(), .number = number,
                    .data = MW_STR("1\n{\"x\":1}"), .status = status};
}

static mw_id running(fixture *f) {
  mw_id id = mw_id_new();
  CHECK_INT(commit(f, create(id, MW_STATUS_RUNNING)).status, 0);
  return id;
}

static int64_t status_of(fixture *f, mw_id id) {
  char text[MW_ID_TEXT];
  mw_id_format(&id, text);
  mw_value param = MW_VALUE_OF_TEXT(mw_str_from(text));
  result r = ask_with(f, MW_DB_ENGINE, (mw_query_opts){.sql = MW_STR("SELECT status FROM executions WHERE id = mw_uuid($1)"),
                                                       .params = &param, .nparams = 1});
  CHECK_INT(r.status, 0);
  CHECK_INT(r.count, 1);
  return r.number;
}

static void test_an_execution_is_created_appended_to_and_completed(void) {
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  CHECK_INT(commit(&f, append(id, 1, 1, MW_STATUS_NONE)).status, 0);
  CHECK_INT(commit(&f, append(id, 1, 2, MW_STATUS_NONE)).status, 0);
  mw_write last = append(id, 1, 3, MW_STATUS_COMPLETED);
  last.output = MW_STR("{\"ok\":true}");
  CHECK_INT(commit(&f, last).status, 0);
  CHECK_INT(status_of(&f, id), MW_STATUS_COMPLETED);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM journal"), 3);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions WHERE owner IS NULL AND finished_us IS NOT NULL"), 1);
  result r = ask(&f, MW_DB_ENGINE, "SELECT output FROM executions");
  CHECK_STR(r.cell, "{\"ok\":true}");
  r = ask(&f, MW_DB_ENGINE, "SELECT status FROM executions_view WHERE finished_at LIKE '20%Z'");
  CHECK_STR(r.cell, "completed");
  stop(&f);
  remove_dir(f.dir);
}

static void test_an_append_with_a_stale_fence_changes_nothing(void) {
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  CHECK_INT(commit(&f, append(id, 2, 1, MW_STATUS_COMPLETED)).status, MW_ESTALE);
  CHECK_INT(commit(&f, append(mw_id_new(), 1, 1, MW_STATUS_NONE)).status, MW_ESTALE);
  CHECK_INT(commit(&f, append(id, 2, 0, MW_STATUS_QUEUED)).status, MW_ESTALE);
  CHECK_INT(status_of(&f, id), MW_STATUS_RUNNING);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM journal"), 0);
  CHECK_INT(commit(&f, append(id, 1, 0, MW_STATUS_PAUSED)).status, 0);
  CHECK_INT(commit(&f, append(id, 1, 1, MW_STATUS_NONE)).status, MW_ESTALE); // it has no owner now
  CHECK_INT(status_of(&f, id), MW_STATUS_PAUSED);
  stop(&f);
  remove_dir(f.dir);
}

/** On a disk that fails three times, an append is told so; one that nobody waits for is stored all the same. */
static void test_what_nobody_waits_for_is_stored_when_the_disk_works_again(void) {
#ifdef MW_DEBUG
  if (!is_sqlite()) return;
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  CHECK_INT(mw_fault_arm("sqlite_commit=times=1", 0, NULL), 0);
  CHECK_INT(commit(&f, append(id, 1, 1, MW_STATUS_QUEUED)).status, MW_EIO);
  mw_write w = append(id, 1, 1, MW_STATUS_QUEUED);
  w.unattended = true;
  CHECK_INT(mw_fault_arm("sqlite_commit=times=2", 0, NULL), 0);
  CHECK_INT(commit(&f, w).status, 0);
  CHECK_INT(mw_fault_fired("sqlite_commit"), 2);
  CHECK_INT(status_of(&f, id), MW_STATUS_QUEUED);

  mw_id other = running(&f); // the client closes before the disk works again
  answer a = {0};
  w = append(other, 1, 1, MW_STATUS_QUEUED);
  w.unattended = true;
  CHECK_INT(mw_fault_arm("sqlite_commit", 0, NULL), 0);
  CHECK_INT(mw_store_write(f.client, &w, on_written, &a), 0);
  RUN_UNTIL(f.loop, mw_fault_fired("sqlite_commit") > 0);
  for (int i = 0; i < 20; i++) usleep(1000), mw_loop_turn(f.loop, false);
  CHECK(!a.done);
  mw_fault_disarm();
  stop(&f);
  CHECK(a.done);
  CHECK_INT(a.status, MW_EIO);
  remove_dir(f.dir);
#endif
}

static void test_the_same_append_again_is_answered_like_the_first(void) {
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  CHECK_INT(commit(&f, append(id, 1, 1, MW_STATUS_NONE)).status, 0);
  CHECK_INT(commit(&f, append(id, 1, 1, MW_STATUS_NONE)).status, 0);
  CHECK_INT(commit(&f, append(id, 1, 2, MW_STATUS_COMPLETED)).status, 0);
  CHECK_INT(commit(&f, append(id, 1, 2, MW_STATUS_COMPLETED)).status, 0);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM journal"), 2);
  stop(&f);
  remove_dir(f.dir);
}

static void test_an_idempotency_key_names_one_execution(void) {
  fixture f;
  setup(&f);
  mw_id first = mw_id_new();
  mw_write w = create(first, MW_STATUS_QUEUED);
  w.key = MW_STR("order-1");
  CHECK_INT(commit(&f, w).status, 0);
  w.id = mw_id_new();
  answer a = commit(&f, w);
  CHECK_INT(a.status, MW_EEXISTS);
  CHECK(a.has_existing && memcmp(&a.existing, &first, sizeof first) == 0);
  w.request_hash = MW_STR("h2");
  a = commit(&f, w);
  CHECK_INT(a.status, MW_ECONFLICT);
  CHECK(a.has_existing && memcmp(&a.existing, &first, sizeof first) == 0);
  w.now_us += (int64_t)25 * 3600 * 1000000;
  CHECK_INT(commit(&f, w).status, 0); // a day later it may be used again
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions"), 2);
  stop(&f);
  remove_dir(f.dir);
}

static void test_an_external_id_is_unique_in_a_workflow(void) {
  fixture f;
  setup(&f);
  mw_id first = mw_id_new();
  mw_write w = create(first, MW_STATUS_QUEUED);
  w.external_id = MW_STR("ext");
  CHECK_INT(commit(&f, w).status, 0);
  w.id = mw_id_new();
  answer a = commit(&f, w);
  CHECK_INT(a.status, MW_EEXISTS);
  CHECK(a.has_existing && memcmp(&a.existing, &first, sizeof first) == 0);
  w.request_hash = MW_STR("h2");
  CHECK_INT(commit(&f, w).status, MW_ECONFLICT);
  w.workflow = MW_STR("other");
  CHECK_INT(commit(&f, w).status, 0);
  stop(&f);
  remove_dir(f.dir);
}

static void test_the_same_key_at_once_makes_one_execution(void) {
  enum { AT_ONCE = 40 };
  fixture f;
  setup(&f);
  answer answers[AT_ONCE] = {0};
  mw_id ids[AT_ONCE];
  for (int i = 0; i < AT_ONCE; i++) {
    ids[i] = mw_id_new();
    mw_write w = create(ids[i], MW_STATUS_QUEUED);
    w.key = MW_STR("same");
    CHECK_INT(mw_store_write(f.client, &w, on_written, &answers[i]), 0);
  }
  int made = 0;
  mw_id winner = {0};
  for (int i = 0; i < AT_ONCE; i++) {
    RUN_UNTIL(f.loop, answers[i].done);
    if (answers[i].status == 0) made++, winner = ids[i];
  }
  CHECK_INT(made, 1);
  for (int i = 0; i < AT_ONCE; i++) {
    if (answers[i].status == 0) continue;
    CHECK_INT(answers[i].status, MW_EEXISTS);
    CHECK(memcmp(&answers[i].existing, &winner, sizeof winner) == 0);
  }
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions"), 1);
  stop(&f);
  remove_dir(f.dir);
}

static void test_bad_members_of_a_group_do_not_harm_the_others(void) {
  enum { MEMBERS = 300 };
  fixture f;
  setup(&f);
  if (is_sqlite()) { // a trigger that rolls the whole group back: found by halving
    must(&f, MW_DB_ENGINE, "CREATE TRIGGER bad BEFORE INSERT ON executions WHEN new.workflow = 'bad'"
                           " BEGIN SELECT raise(ROLLBACK, 'the culprit'); END");
  } else {
    must(&f, MW_DB_ENGINE, "ALTER TABLE executions ADD CONSTRAINT bad CHECK (workflow <> 'bad')");
  }
  static answer answers[MEMBERS];
  memset(answers, 0, sizeof answers);
  mw_id owned = running(&f);
  for (int i = 0; i < MEMBERS; i++) {
    mw_write w = create(mw_id_new(), MW_STATUS_QUEUED);
    if (i % 100 == 17) w.workflow = MW_STR("bad");
    if (i % 100 == 50) w = append(owned, 9, 1, MW_STATUS_NONE);
    CHECK_INT(mw_store_write(f.client, &w, on_written, &answers[i]), 0);
  }
  for (int i = 0; i < MEMBERS; i++) {
    RUN_UNTIL(f.loop, answers[i].done);
    if (i % 100 == 17) {
      CHECK(answers[i].status == MW_ECONSTRAINT);
      CHECK(strstr(answers[i].text, is_sqlite() ? "the culprit" : "bad"));
    } else {
      CHECK_INT(answers[i].status, i % 100 == 50 ? MW_ESTALE : 0);
    }
  }
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions"), MEMBERS - 6 + 1);
  stop(&f);
  remove_dir(f.dir);
}

static void test_writes_are_checked_before_they_join_a_group(void) {
  fixture f;
  setup(&f);
  mw_write w = create(mw_id_new(), MW_STATUS_QUEUED);
  w.input = MW_STR("\"\xff\"");
  CHECK_INT(commit(&f, w).status, MW_EUTF8);
  w.input = MW_STR("\"\0\"");
  CHECK_INT(commit(&f, w).status, MW_EUTF8);
  size_t size = 1024 * 1024 + 1;
  char *big = mw_alloc(size);
  memset(big, ' ', size);
  w.input = mw_str_of(big, size);
  CHECK_INT(commit(&f, w).status, MW_ELIMIT);
  w.input = mw_str_of(big, size - 1);
  CHECK_INT(commit(&f, w).status, 0);
  mw_free(big);
  w.workflow = MW_STR("");
  CHECK_INT(commit(&f, w).status, MW_EINVALID);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions"), 1);
  stop(&f);
  remove_dir(f.dir);
}

typedef struct claims {
  bool done;
  int status;
  size_t count;
  int64_t next_due_us;
  mw_claimed first;
  char input[64], bundle[64], group[64], state[64];
  int control;
  mw_id ids[64];
  int64_t fences[64];
  bool interrupted[64];
} claims;

static void on_claimed(int status, const mw_claimed *list, size_t count, int64_t next_due_us, const mw_err *err, void *arg) {
  claims *c = arg;
  *c = (claims){.done = true, .status = status, .count = count, .next_due_us = next_due_us};
  for (size_t i = 0; i < count && i < 64; i++) {
    c->ids[i] = list[i].id;
    c->fences[i] = list[i].fence;
    c->interrupted[i] = list[i].interrupted;
  }
  if (!count) return;
  c->control = list[0].control;
  snprintf(c->group, sizeof c->group, "%.*s", MW_STR_FMT(list[0].group));
  snprintf(c->state, sizeof c->state, "%.*s", MW_STR_FMT(list[0].state));
  snprintf(c->input, sizeof c->input, "%.*s", MW_STR_FMT(list[0].input));
  snprintf(c->bundle, sizeof c->bundle, "%.*s", MW_STR_FMT(list[0].bundle));
}

static claims claim(fixture *f, int64_t now_us, int limit) {
  claims c = {0};
  CHECK_INT(mw_store_claim(f->client, now_us, limit, on_claimed, &c), 0);
  RUN_UNTIL(f->loop, c.done);
  return c;
}

static void test_what_is_due_is_claimed_oldest_first(void) {
  fixture f;
  setup(&f);
  int64_t now_us = mw_clock_wall_us();
  const int64_t hour_us = (int64_t)3600 * 1000000;
  mw_id ids[3];
  for (int i = 0; i < 3; i++) {
    mw_write w = create(ids[i] = mw_id_new(), i < 2 ? MW_STATUS_QUEUED : MW_STATUS_SLEEPING);
    w.due_us = i == 0 ? now_us - 1000 : i == 1 ? now_us - 2000 : now_us + hour_us;
    CHECK_INT(commit(&f, w).status, 0);
  }
  claims c = claim(&f, now_us, 1);
  CHECK_INT(c.status, 0);
  CHECK_INT(c.count, 1);
  CHECK(memcmp(&c.ids[0], &ids[1], sizeof *ids) == 0);
  CHECK_INT(c.fences[0], 1);
  CHECK(!c.interrupted[0]);
  CHECK_STR(c.input, "{\"a\":\"\\u0000\"}");
  CHECK_STR(c.bundle, "b1");
  CHECK(c.next_due_us <= mw_clock_wall_us()); // there may be more
  c = claim(&f, now_us, 10);
  CHECK_INT(c.count, 1);
  CHECK(memcmp(&c.ids[0], &ids[0], sizeof *ids) == 0);
  CHECK_INT(c.next_due_us, now_us + hour_us);
  CHECK_INT(claim(&f, now_us, 10).count, 0);
  CHECK_INT(status_of(&f, ids[0]), MW_STATUS_RUNNING);
  mw_write sleeps = append(ids[0], 1, 1, MW_STATUS_SLEEPING);
  sleeps.due_us = now_us + hour_us / 2;
  CHECK_INT(commit(&f, sleeps).status, 0);
  CHECK_INT(claim(&f, now_us, 10).next_due_us, now_us + hour_us / 2);
  stop(&f);
  remove_dir(f.dir);
}

// Queued by a node whose clock is ahead, or before ours was set back.
static void test_what_is_queued_is_due_whatever_the_clocks_say(void) {
  fixture f;
  setup(&f);
  int64_t now_us = mw_clock_wall_us();
  mw_id ids[3];
  for (int i = 0; i < 3; i++) {
    mw_write w = create(ids[i] = mw_id_new(), i < 2 ? MW_STATUS_QUEUED : MW_STATUS_SLEEPING);
    w.due_us = now_us + (int64_t)3600 * 1000000;
    CHECK_INT(commit(&f, w).status, 0);
  }
  CHECK_INT(claim(&f, now_us, 1).count, 1);
  claims c = claim(&f, now_us, 10);
  CHECK_INT(c.count, 1);
  CHECK(memcmp(&c.ids[0], &ids[1], sizeof *ids) == 0);
  CHECK_INT(claim(&f, now_us, 10).count, 0);
  stop(&f);
  remove_dir(f.dir);
}

static void test_running_executions_are_claimed_again_after_a_restart(void) {
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  CHECK_INT(claim(&f, mw_clock_wall_us(), 10).count, 0);
  int64_t epoch = mw_store_epoch(f.store);
  stop(&f);
  start(&f);
  CHECK(mw_store_epoch(f.store) > epoch);
  claims c = claim(&f, mw_clock_wall_us(), 10);
  CHECK_INT(c.count, 1);
  CHECK(memcmp(&c.ids[0], &id, sizeof id) == 0);
  CHECK_INT(c.fences[0], 2);
  CHECK(c.interrupted[0]);
  CHECK_INT(commit(&f, append(id, 1, 1, MW_STATUS_NONE)).status, MW_ESTALE);
  CHECK_INT(commit(&f, append(id, 2, 1, MW_STATUS_COMPLETED)).status, 0);
  CHECK_INT(claim(&f, mw_clock_wall_us(), 10).count, 0);
  stop(&f);
  remove_dir(f.dir);
}

// ---- runs that wait, children, groups, shares ----

static answer commit_more(fixture *f, mw_write w, mw_write_more more) {
  w.more = &more;
  return commit(f, w);
}

/** Sends a signal as mw.core.store does; returns how many rows it made. */
static int64_t send_signal(fixture *f, mw_id id, const char *signal, const char *name) {
  char text[MW_ID_TEXT];
  mw_id_format(&id, text);
  mw_value params[] = {MW_VALUE_OF_TEXT(mw_str_from(text)), MW_VALUE_OF_TEXT(mw_str_from(signal)), MW_VALUE_OF_TEXT(mw_str_from(name))};
  result r = ask_with(f, MW_DB_ENGINE,
                      (mw_query_opts){.sql = MW_STR("INSERT INTO signals (execution, id, name, data, sent_us) SELECT id, CAST($2 AS text),"
                                                    " CAST($3 AS text), '1', 1 FROM executions WHERE id = mw_uuid($1) AND status < 8"
                                                    " ON CONFLICT DO NOTHING"),
                                      .params = params, .nparams = 3});
  if (r.status) fprintf(stderr, "%s\n", r.text);
  CHECK_INT(r.status, 0);
  return r.affected;
}

static mw_write wait_of(mw_id id, int64_t fence, int64_t number) {
  mw_write w = append(id, fence, number, MW_STATUS_WAITING);
  w.due_us = INT64_MAX;
  return w;
}

static void test_a_signal_ends_the_wait_for_its_name(void) {
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  mw_write_more names = {.waits = MW_STR("\na\nb\n"), .state = MW_STR("{\"at\":1}")};
  CHECK_INT(commit_more(&f, wait_of(id, 1, 1), names).status, 0);
  CHECK_INT(status_of(&f, id), MW_STATUS_WAITING);
  claims c = claim(&f, mw_clock_wall_us(), 10);
  CHECK_INT(c.count, 0);
  CHECK(c.next_due_us == INT64_MAX);
  CHECK_INT(send_signal(&f, id, "s1", "other"), 1);
  CHECK_INT(status_of(&f, id), MW_STATUS_WAITING);
  CHECK_INT(send_signal(&f, id, "s2", "b"), 1);
  CHECK_INT(status_of(&f, id), MW_STATUS_QUEUED);
  c = claim(&f, mw_clock_wall_us(), 10);
  CHECK_INT(c.count, 1);
  CHECK_STR(c.state, "{\"at\":1}");
  CHECK_INT(send_signal(&f, id, "s2", "b"), 0); // the same again is no other
  stop(&f);
  remove_dir(f.dir);
}

static void test_a_signal_that_came_before_the_wait_is_not_lost(void) {
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  CHECK_INT(send_signal(&f, id, "s1", "a"), 1);
  mw_write_more names = {.waits = MW_STR("\na\n")};
  CHECK_INT(commit_more(&f, wait_of(id, 1, 1), names).status, 0);
  CHECK_INT(status_of(&f, id), MW_STATUS_QUEUED);
  CHECK_INT(claim(&f, mw_clock_wall_us(), 10).count, 1);
  names.take = MW_STR("s1\nunknown");
  CHECK_INT(commit_more(&f, wait_of(id, 1, 2), names).status, MW_ESTALE); // of the owner before: takes nothing
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM signals WHERE taken_us IS NULL"), 1);
  CHECK_INT(commit_more(&f, wait_of(id, 2, 2), names).status, 0);
  CHECK_INT(status_of(&f, id), MW_STATUS_WAITING); // what is taken ends no wait
  CHECK_INT(send_signal(&f, id, "s1", "a"), 0);
  CHECK_INT(status_of(&f, id), MW_STATUS_WAITING);
  CHECK_INT(send_signal(&f, id, "s2", "a"), 1);
  CHECK_INT(claim(&f, mw_clock_wall_us(), 10).count, 1);
  CHECK_INT(commit(&f, append(id, 3, 3, MW_STATUS_COMPLETED)).status, 0);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM signals"), 0);
  CHECK_INT(send_signal(&f, id, "s3", "a"), 0);
  stop(&f);
  remove_dir(f.dir);
}

static void test_signals_and_waits_at_once_leave_nobody_waiting(void) {
  enum { RUNS = 60 };
  fixture f;
  setup(&f);
  static answer waits[RUNS];
  static result sent[RUNS];
  static char texts[RUNS][MW_ID_TEXT];
  memset(waits, 0, sizeof waits);
  memset(sent, 0, sizeof sent);
  mw_id ids[RUNS];
  for (int i = 0; i < RUNS; i++) ids[i] = running(&f), mw_id_format(&ids[i], texts[i]);
  mw_write_more names = {.waits = MW_STR("\na\n")};
  for (int i = 0; i < RUNS; i++) {
    mw_write w = wait_of(ids[i], 1, 1);
    w.more = &names;
    mw_value param = MW_VALUE_OF_TEXT(mw_str_from(texts[i]));
    mw_query_opts send = {.sql = MW_STR("INSERT INTO signals (execution, id, name, sent_us) VALUES (mw_uuid($1), 's', 'a', 1)"),
                          .params = &param, .nparams = 1};
    if (i % 2) CHECK_INT(mw_store_query(f.client, MW_DB_ENGINE, &send, on_rows, &sent[i], NULL), 0);
    CHECK_INT(mw_store_write(f.client, &w, on_written, &waits[i]), 0);
    if (i % 2 == 0) CHECK_INT(mw_store_query(f.client, MW_DB_ENGINE, &send, on_rows, &sent[i], NULL), 0);
    if (i % 7 == 0) mw_loop_turn(f.loop, false);
  }
  for (int i = 0; i < RUNS; i++) {
    RUN_UNTIL(f.loop, waits[i].done && sent[i].done);
    CHECK_INT(waits[i].status, 0);
    CHECK_INT(sent[i].status, 0);
  }
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions WHERE status = 1"), RUNS);
  stop(&f);
  remove_dir(f.dir);
}

static void test_the_end_of_a_child_is_a_signal_to_its_parent(void) {
  fixture f;
  setup(&f);
  mw_id parent = running(&f), child = mw_id_new();
  mw_write_more more = {.has_parent = true, .parent = parent, .parent_key = MW_STR("pay"), .own_id = true};
  mw_write w = create(child, MW_STATUS_RUNNING);
  CHECK_INT(commit_more(&f, w, more).status, 0);
  answer again = commit_more(&f, w, more);
  CHECK_INT(again.status, MW_EEXISTS);
  CHECK(again.has_existing && memcmp(&again.existing, &child, sizeof child) == 0);
  CHECK_INT(commit_more(&f, wait_of(parent, 1, 1), (mw_write_more){.waits = MW_STR("\n$child:pay\n")}).status, 0);
  CHECK_INT(status_of(&f, parent), MW_STATUS_WAITING);
  mw_write last = append(child, 1, 1, MW_STATUS_COMPLETED);
  last.output = MW_STR("{\"ok\":true}");
  CHECK_INT(commit(&f, last).status, 0);
  CHECK_INT(status_of(&f, parent), MW_STATUS_QUEUED);
  CHECK_STR(ask(&f, MW_DB_ENGINE, "SELECT data FROM signals WHERE name = '$child:pay'").cell,
            "{\"status\":\"completed\",\"output\":{\"ok\":true},\"error\":null}");
  stop(&f);
  remove_dir(f.dir);
}

static mw_write in_group(mw_status status, int64_t due_us) {
  mw_write w = create(mw_id_new(), status);
  w.due_us = due_us;
  return w;
}

static void test_a_group_has_no_more_runs_than_slots(void) {
  enum { RUNS = 40, SLOTS = 3 };
  fixture f;
  setup(&f);
  mw_write_more more = {.group = MW_STR("customer:7"), .group_slots = SLOTS};
  static answer answers[RUNS];
  memset(answers, 0, sizeof answers);
  for (int i = 0; i < RUNS; i++) {
    mw_write w = in_group(MW_STATUS_QUEUED, 1);
    w.more = &more;
    CHECK_INT(mw_store_write(f.client, &w, on_written, &answers[i]), 0);
  }
  for (int i = 0; i < RUNS; i++) {
    RUN_UNTIL(f.loop, answers[i].done);
    CHECK_INT(answers[i].status, 0);
  }
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions WHERE status = 1"), SLOTS);
  int ended = 0;
  for (int round = 0; round < RUNS && ended < RUNS; round++) {
    claims c = claim(&f, mw_clock_wall_us(), 64);
    CHECK(c.count <= SLOTS);
    CHECK_STR(c.group, "customer:7");
    for (size_t i = 0; i < c.count; i++, ended++) {
      CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions WHERE slot = 1"), RUNS - ended < SLOTS ? RUNS - ended : SLOTS);
      mw_status last = ended % 3 ? MW_STATUS_COMPLETED : MW_STATUS_FAILED;
      CHECK_INT(commit(&f, append(c.ids[i], c.fences[i], 1, last)).status, 0);
    }
  }
  CHECK_INT(ended, RUNS);
  CHECK_INT(engine_number(&f, "SELECT running FROM workflow_groups"), 0);
  CHECK_INT(commit_more(&f, create(mw_id_new(), MW_STATUS_RUNNING), more).status, MW_EINVALID);
  stop(&f);
  remove_dir(f.dir);
}

static void test_a_run_of_a_group_takes_its_slot_when_its_time_has_come(void) {
  fixture f;
  setup(&f);
  mw_write_more more = {.group = MW_STR("g"), .group_slots = 1};
  int64_t now_us = mw_clock_wall_us();
  mw_write later = in_group(MW_STATUS_SLEEPING, now_us - 1), first = in_group(MW_STATUS_QUEUED, 1);
  CHECK_INT(commit_more(&f, later, more).status, 0);
  CHECK_INT(commit_more(&f, first, more).status, 0);
  claims c = claim(&f, now_us, 10);
  CHECK_INT(c.count, 1);
  CHECK(memcmp(&c.ids[0], &first.id, sizeof first.id) == 0);
  CHECK_INT(status_of(&f, later.id), MW_STATUS_BLOCKED);
  CHECK_INT(claim(&f, now_us, 10).count, 0);
  mw_write sleeps = append(first.id, 1, 1, MW_STATUS_SLEEPING); // keeps its slot
  sleeps.due_us = now_us - 1;
  CHECK_INT(commit(&f, sleeps).status, 0);
  c = claim(&f, now_us, 10);
  CHECK_INT(c.count, 1);
  CHECK_INT(commit(&f, append(first.id, 2, 2, MW_STATUS_CANCELLED)).status, 0);
  c = claim(&f, now_us, 10);
  CHECK_INT(c.count, 1);
  CHECK(memcmp(&c.ids[0], &later.id, sizeof later.id) == 0);
  stop(&f);
  remove_dir(f.dir);
}

static mw_id queue(fixture *f, const char *workflow, int priority, int64_t due_us) {
  mw_write w = create(mw_id_new(), MW_STATUS_QUEUED);
  w.workflow = mw_str_from(workflow);
  w.due_us = due_us;
  CHECK_INT(commit_more(f, w, (mw_write_more){.priority = priority}).status, 0);
  return w.id;
}

static void test_workflows_get_equal_shares_of_a_claim(void) {
  fixture f;
  setup(&f);
  int64_t now_us = mw_clock_wall_us();
  for (int i = 0; i < 30; i++) queue(&f, "flood", 0, now_us - 1000000);
  mw_id one = queue(&f, "small", 0, now_us - 1), other = queue(&f, "small", 0, now_us - 2);
  claims c = claim(&f, now_us, 8);
  CHECK_INT(c.count, 8);
  int found = 0;
  for (size_t i = 0; i < c.count; i++)
    found += memcmp(&c.ids[i], &one, sizeof one) == 0 || memcmp(&c.ids[i], &other, sizeof other) == 0;
  CHECK_INT(found, 2);
  CHECK_INT(claim(&f, now_us, 64).count, 24);
  stop(&f);
  remove_dir(f.dir);
}

static void test_priorities_come_first_and_age_raises_them(void) {
  fixture f;
  setup(&f);
  int64_t now_us = mw_clock_wall_us();
  const int64_t minute_us = 60000000;
  mw_id low = queue(&f, "w", 0, now_us - minute_us / 2), high = queue(&f, "w", 5, now_us - 1), old = queue(&f, "w", -5, now_us - 11 * minute_us);
  mw_id order[] = {old, high, low};
  for (int i = 0; i < 3; i++) {
    claims c = claim(&f, now_us, 1);
    CHECK_INT(c.count, 1);
    CHECK(memcmp(&c.ids[0], &order[i], sizeof low) == 0);
  }
  CHECK_INT(commit_more(&f, create(mw_id_new(), MW_STATUS_QUEUED), (mw_write_more){.priority = 101}).status, MW_EINVALID);
  stop(&f);
  remove_dir(f.dir);
}

static void test_what_is_paused_is_not_claimed(void) {
  fixture f;
  setup(&f);
  int64_t now_us = mw_clock_wall_us();
  queue(&f, "a", 0, 1);
  queue(&f, "b", 0, 1);
  must(&f, MW_DB_ENGINE, "INSERT INTO workflow_pauses (app, workflow, actor, at_us) VALUES ('default', 'a', 'me', 1)");
  claims c = claim(&f, now_us, 10);
  CHECK_INT(c.count, 1);
  CHECK(c.next_due_us > now_us); // and nobody asks again and again
  queue(&f, "b", 0, 1);
  must(&f, MW_DB_ENGINE, "UPDATE workflow_pauses SET workflow = '*'");
  CHECK_INT(claim(&f, now_us, 10).count, 0);
  must(&f, MW_DB_ENGINE, "DELETE FROM workflow_pauses");
  CHECK_INT(claim(&f, now_us, 10).count, 2);
  stop(&f);
  remove_dir(f.dir);
}

static void test_what_is_cancelled_is_claimed_also_when_it_is_paused(void) {
  fixture f;
  setup(&f);
  int64_t now_us = mw_clock_wall_us();
  for (int i = 0; i < 8; i++) queue(&f, "a", 0, 1);
  must(&f, MW_DB_ENGINE, "UPDATE executions SET control = 3");
  mw_id held = queue(&f, "a", 0, 1), free = queue(&f, "b", 0, 1);
  must(&f, MW_DB_ENGINE, "INSERT INTO workflow_pauses (app, workflow, actor, at_us) VALUES ('default', 'a', 'me', 1)");
  claims c = claim(&f, now_us, 4); // many of them leave room for others
  CHECK_INT(c.count, 4);
  int found = 0;
  for (size_t i = 0; i < c.count; i++) found += memcmp(&c.ids[i], &free, sizeof free) == 0;
  CHECK_INT(found, 1);
  must(&f, MW_DB_ENGINE, "UPDATE workflow_pauses SET workflow = '*'");
  CHECK_INT(claim(&f, now_us, 10).count, 5);
  CHECK_INT(claim(&f, now_us, 10).count, 0);
  CHECK_INT(status_of(&f, held), MW_STATUS_QUEUED);
  stop(&f);
  remove_dir(f.dir);
}

static void test_an_owner_is_told_what_an_operator_wants(void) {
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  int control = -1;
  mw_write_more more = {.state = MW_STR("1"), .control = &control};
  CHECK_INT(commit_more(&f, append(id, 1, 1, MW_STATUS_NONE), more).status, 0);
  CHECK_INT(control, 0);
  must(&f, MW_DB_ENGINE, "UPDATE executions SET control = 2");
  CHECK_INT(commit_more(&f, append(id, 1, 2, MW_STATUS_NONE), more).status, 0);
  CHECK_INT(control, 2);
  CHECK_INT(status_of(&f, id), MW_STATUS_RUNNING);
  CHECK_STR(ask(&f, MW_DB_ENGINE, "SELECT state FROM executions").cell, "1");
  CHECK_INT(commit(&f, append(id, 1, 3, MW_STATUS_QUEUED)).status, 0);
  CHECK_INT(claim(&f, mw_clock_wall_us(), 1).control, 2);
  stop(&f);
  remove_dir(f.dir);
}

static void test_code_is_stored_once_by_content(void) {
  fixture f;
  setup(&f);
  for (int i = 0; i < 2; i++) {
    answer a = {0};
    mw_code list[] = {{MW_STR("hash-a"), MW_STR("return 1")}, {MW_STR("hash-b"), MW_STR("return 2")}};
    CHECK_INT(mw_store_put_code(f.client, list, 2, on_written, &a), 0);
    RUN_UNTIL(f.loop, a.done);
    CHECK_INT(a.status, 0);
  }
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM code"), 2);
  stop(&f);
  remove_dir(f.dir);
}

static void test_changes_are_numbered_without_a_gap(void) {
  enum { CHANGES = 50 };
  fixture f;
  setup(&f);
  answer answers[CHANGES] = {0};
  for (int i = 0; i < CHANGES; i++)
    CHECK_INT(mw_store_add_change(f.client, i % 2 ? MW_STR("") : MW_STR("shop"), MW_STR("reload"), MW_STR("plugins"), MW_STR("cli"),
                                  MW_STR("{}"), on_written, &answers[i]), 0);
  for (int i = 0; i < CHANGES; i++) {
    RUN_UNTIL(f.loop, answers[i].done);
    CHECK_INT(answers[i].status, 0);
  }
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM changes WHERE app = 'default'"), CHANGES / 2);
  CHECK_INT(engine_number(&f, "SELECT max(number) FROM changes WHERE app = 'shop'"), CHANGES / 2);
  CHECK_INT(engine_number(&f, "SELECT last FROM change_counters WHERE app = 'shop'"), CHANGES / 2);
  stop(&f);
  remove_dir(f.dir);
}

// ---- statements of plugins ----

static void test_values_go_in_and_come_out(void) {
  fixture f;
  setup(&f);
  must(&f, MW_DB_APP, "DROP TABLE IF EXISTS mw_spec_values");
  must(&f, MW_DB_APP, "CREATE TABLE mw_spec_values (a bigint, b text)");
  mw_value params[] = {MW_VALUE_OF_INT(INT64_MAX), MW_VALUE_OF_TEXT(MW_STR("gr\xc3\xbc\xc3\x9f"))};
  mw_query_opts insert = {.sql = MW_STR("INSERT INTO mw_spec_values (b, a) VALUES ($2, $1)"), .params = params, .nparams = 2};
  result r = ask_with(&f, MW_DB_APP, insert);
  CHECK_INT(r.status, 0);
  CHECK_INT(r.affected, 1);
  r = ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_values");
  CHECK_INT(r.kind, MW_VALUE_INT);
  CHECK(r.number == INT64_MAX);
  CHECK_INT(r.affected, 0);
  r = ask(&f, MW_DB_APP, "SELECT b FROM mw_spec_values");
  CHECK_STR(r.cell, "gr\xc3\xbc\xc3\x9f");
  insert.nparams = 1; // the rest is NULL
  CHECK_INT(ask_with(&f, MW_DB_APP, insert).status, 0);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_values WHERE b IS NULL").count, 1);
  mw_query_opts none = {.sql = MW_STR("SELECT 1"), .params = params, .nparams = 2};
  CHECK_INT(ask_with(&f, MW_DB_APP, none).status, MW_EINVALID);
  r = ask(&f, MW_DB_APP, "DELETE FROM mw_spec_values");
  CHECK_INT(r.affected, 2);
  must(&f, MW_DB_APP, "DROP TABLE mw_spec_values");
  stop(&f);
  remove_dir(f.dir);
}

static void test_errors_carry_the_words_and_the_state_of_the_database(void) {
  fixture f;
  setup(&f);
  must(&f, MW_DB_APP, "DROP TABLE IF EXISTS mw_spec_unique");
  must(&f, MW_DB_APP, "CREATE TABLE mw_spec_unique (a bigint UNIQUE)");
  must(&f, MW_DB_APP, "INSERT INTO mw_spec_unique VALUES (1)");
  result r = ask(&f, MW_DB_APP, "INSERT INTO mw_spec_unique VALUES (1)");
  CHECK_INT(r.status, MW_ECONSTRAINT);
  CHECK_STR(r.sqlstate, is_sqlite() ? "SQLITE_CONSTRAINT_UNIQUE" : "23505");
  CHECK(strstr(r.text, "mw_spec_unique"));
  r = ask(&f, MW_DB_APP, "SELEC 1");
  CHECK_INT(r.status, MW_ESQL);
  CHECK_STR(r.sqlstate, is_sqlite() ? "SQLITE_ERROR" : "42601");
  CHECK(strstr(r.text, "SELEC"));
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT 1; SELECT 2").status, MW_EINVALID);
  mw_value bad = MW_VALUE_OF_TEXT(MW_STR("a\0b"));
  CHECK_INT(ask_with(&f, MW_DB_APP, (mw_query_opts){.sql = MW_STR("SELECT $1"), .params = &bad, .nparams = 1}).status, MW_EUTF8);
  bad = MW_VALUE_OF_TEXT(MW_STR("\xff"));
  CHECK_INT(ask_with(&f, MW_DB_APP, (mw_query_opts){.sql = MW_STR("SELECT $1"), .params = &bad, .nparams = 1}).status, MW_EUTF8);
  must(&f, MW_DB_APP, "DROP TABLE mw_spec_unique");
  stop(&f);
  remove_dir(f.dir);
}

static void test_transaction_control_is_refused_outside_a_transaction(void) {
  fixture f;
  setup(&f);
  static const char *const refused[] = {"BEGIN", "COMMIT", "  rollback", "SAVEPOINT a", "/* x */ BEGIN"};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    result r = ask(&f, MW_DB_APP, refused[i]);
    CHECK_INT(r.status, MW_EDENIED);
    CHECK(strstr(r.text, "mw.transaction"));
  }
  if (is_sqlite()) {
    static const char *const sqlite_only[] = {"ATTACH 'x.db' AS x", "DETACH main", "PRAGMA journal_mode = DELETE",
                                              "PRAGMA query_only = 0", "VACUUM INTO '/tmp/mw_spec_vacuum.db'"};
    for (size_t i = 0; i < sizeof sqlite_only / sizeof *sqlite_only; i++)
      CHECK_INT(ask(&f, MW_DB_APP, sqlite_only[i]).status, MW_EDENIED);
    CHECK_INT(ask(&f, MW_DB_APP, "PRAGMA table_info('x')").status, 0);
  } else {
    CHECK_INT(ask(&f, MW_DB_APP, "SET search_path = x").status, MW_EDENIED);
  }
  stop(&f);
  remove_dir(f.dir);
}

static const char *endless(void) {
  return is_sqlite() ? "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n" : "SELECT pg_sleep(60)";
}

static void test_a_statement_that_takes_too_long_is_cancelled(void) {
  fixture f;
  setup(&f);
  int64_t started = mw_clock_mono_ms();
  result r = ask_with(&f, MW_DB_APP, (mw_query_opts){.sql = mw_str_from(endless()), .timeout_ms = 100});
  CHECK_INT(r.status, MW_ETIMEOUT);
  CHECK(mw_clock_mono_ms() - started < 5000);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT 1").status, 0);
  stop(&f);
  remove_dir(f.dir);
}

static void test_a_statement_can_be_cancelled_while_it_runs_and_while_it_waits(void) {
  enum { MANY = 6 };
  fixture f;
  setup(&f);
  result results[MANY] = {0};
  mw_query *queries[MANY];
  mw_query_opts opts = {.sql = mw_str_from(endless())};
  for (int i = 0; i < MANY; i++) CHECK_INT(mw_store_query(f.client, MW_DB_APP, &opts, on_rows, &results[i], &queries[i]), 0);
  for (int i = 0; i < 20; i++) mw_loop_turn(f.loop, false);
  for (int i = 0; i < MANY; i++) {
    mw_query_cancel(queries[i]);
    CHECK(!results[i].done);
  }
  for (int i = 0; i < MANY; i++) {
    RUN_UNTIL(f.loop, results[i].done);
    CHECK_INT(results[i].status, MW_ECANCELED);
  }
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT 1").status, 0);
  stop(&f);
  remove_dir(f.dir);
}

static void test_a_result_over_its_limit_is_refused_not_cut(void) {
  fixture f;
  setup(&f);
  mw_str three = MW_STR("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3");
  CHECK_INT(ask_with(&f, MW_DB_APP, (mw_query_opts){.sql = three, .max_rows = 2}).status, MW_ELIMIT);
  CHECK_INT(ask_with(&f, MW_DB_APP, (mw_query_opts){.sql = three, .max_rows = 3}).count, 3);
  must(&f, MW_DB_APP, "DROP TABLE IF EXISTS mw_spec_limit");
  must(&f, MW_DB_APP, "CREATE TABLE mw_spec_limit (a bigint)");
  mw_query_opts returning = {.sql = MW_STR("INSERT INTO mw_spec_limit VALUES (1), (2), (3) RETURNING a"), .max_rows = 2};
  CHECK_INT(ask_with(&f, MW_DB_APP, returning).status, MW_ELIMIT);
  if (is_sqlite()) CHECK_INT(ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_limit").count, 0);
  must(&f, MW_DB_APP, "DROP TABLE mw_spec_limit");
  stop(&f);
  remove_dir(f.dir);
}

static void test_one_bad_statement_does_not_harm_those_that_share_its_commit(void) {
  enum { MANY = 60 };
  fixture f;
  setup(&f);
  must(&f, MW_DB_APP, "DROP TABLE IF EXISTS mw_spec_share");
  must(&f, MW_DB_APP, "CREATE TABLE mw_spec_share (a bigint PRIMARY KEY)");
  result results[MANY] = {0};
  char sql[MANY][80];
  for (int i = 0; i < MANY; i++) {
    const char *or = is_sqlite() && i == 30 ? "OR ROLLBACK" : "";
    snprintf(sql[i], sizeof sql[i], "INSERT %s INTO mw_spec_share VALUES (%d)", or, i % 10 == 0 ? 0 : i);
    mw_query_opts opts = {.sql = mw_str_from(sql[i])};
    CHECK_INT(mw_store_query(f.client, MW_DB_APP, &opts, on_rows, &results[i], NULL), 0);
  }
  for (int i = 0; i < MANY; i++) RUN_UNTIL(f.loop, results[i].done);
  int failed = 0;
  for (int i = 0; i < MANY; i++) {
    if (i % 10) CHECK_INT(results[i].status, 0);
    else if (results[i].status) CHECK_INT((failed++, results[i].status), MW_ECONSTRAINT);
  }
  CHECK_INT(failed, 5);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT count(*) FROM mw_spec_share").number, MANY - 5);
  must(&f, MW_DB_APP, "DROP TABLE mw_spec_share");
  stop(&f);
  remove_dir(f.dir);
}

// ---- transactions ----

typedef struct tx_state {
  bool done;
  int status;
  mw_tx *tx;
  char text[500];
} tx_state;

static void on_tx(int status, mw_tx *tx, const mw_err *err, void *arg) {
  *(tx_state *)arg = (tx_state){.done = true, .status = status, .tx = tx};
  if (err) snprintf(((tx_state *)arg)->text, 500, "%s", err->text);
}

static mw_tx *begin(fixture *f, int64_t timeout_ms) {
  tx_state s = {0};
  CHECK_INT(mw_store_begin(f->client, MW_DB_APP, timeout_ms, on_tx, &s), 0);
  RUN_UNTIL(f->loop, s.done);
  CHECK_INT(s.status, 0);
  return s.tx;
}

static result tx_ask(fixture *f, mw_tx *tx, const char *sql) {
  result r = {0};
  CHECK_INT(mw_tx_query(tx, &(mw_query_opts){.sql = mw_str_from(sql)}, on_rows, &r), 0);
  RUN_UNTIL(f->loop, r.done);
  return r;
}

static int tx_finish(fixture *f, mw_tx *tx, bool commits) {
  tx_state s = {0};
  CHECK_INT(mw_tx_end(tx, commits, on_tx, &s), 0);
  RUN_UNTIL(f->loop, s.done);
  return s.status;
}

static void setup_tx(fixture *f) {
  setup(f);
  must(f, MW_DB_APP, "DROP TABLE IF EXISTS mw_spec_tx");
  must(f, MW_DB_APP, "CREATE TABLE mw_spec_tx (a bigint UNIQUE)");
}

static void stop_tx(fixture *f) {
  must(f, MW_DB_APP, "DROP TABLE mw_spec_tx");
  stop(f);
  remove_dir(f->dir);
}

static void test_a_transaction_commits_or_leaves_nothing(void) {
  fixture f;
  setup_tx(&f);
  mw_tx *tx = begin(&f, 0);
  CHECK_INT(tx_ask(&f, tx, "INSERT INTO mw_spec_tx VALUES (1)").affected, 1);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_tx").count, 0); // not seen outside
  CHECK_INT(tx_ask(&f, tx, "SELECT a FROM mw_spec_tx").count, 1);
  CHECK_INT(tx_finish(&f, tx, true), 0);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_tx").count, 1);
  tx = begin(&f, 0);
  CHECK_INT(tx_ask(&f, tx, "INSERT INTO mw_spec_tx VALUES (2)").status, 0);
  CHECK_INT(tx_finish(&f, tx, false), 0);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_tx").count, 1);
  stop_tx(&f);
}

static void test_an_error_dooms_its_transaction(void) {
  fixture f;
  setup_tx(&f);
  mw_tx *tx = begin(&f, 0);
  CHECK_INT(tx_ask(&f, tx, "INSERT INTO mw_spec_tx VALUES (1)").status, 0);
  CHECK_INT(tx_ask(&f, tx, "INSERT INTO mw_spec_tx VALUES (1)").status, MW_ECONSTRAINT);
  CHECK(tx_ask(&f, tx, "INSERT INTO mw_spec_tx VALUES (2)").status != 0);
  CHECK_INT(tx_finish(&f, tx, true), MW_ECONSTRAINT);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_tx").count, 0);
  stop_tx(&f);
}

static void test_a_transaction_is_rolled_back_when_its_time_is_over(void) {
  fixture f;
  setup_tx(&f);
  mw_tx *tx = begin(&f, 100);
  CHECK_INT(tx_ask(&f, tx, "INSERT INTO mw_spec_tx VALUES (1)").status, 0);
  result other = {0};
  if (is_sqlite()) { // waits for the writer, and gets it
    mw_query_opts opts = {.sql = MW_STR("INSERT INTO mw_spec_tx VALUES (7)")};
    CHECK_INT(mw_store_query(f.client, MW_DB_APP, &opts, on_rows, &other, NULL), 0);
    RUN_UNTIL(f.loop, other.done);
    CHECK_INT(other.status, 0);
  } else {
    bool late = false;
    mw_timer timer;
    mw_timer_init(&timer, harness_on_timer, &late);
    mw_timer_start(f.loop, &timer, 300);
    RUN_UNTIL(f.loop, late);
  }
  CHECK_INT(tx_ask(&f, tx, "INSERT INTO mw_spec_tx VALUES (2)").status, MW_ETIMEOUT);
  CHECK_INT(tx_finish(&f, tx, true), MW_ETIMEOUT);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_tx").count, is_sqlite() ? 1 : 0);
  tx = begin(&f, 100);
  CHECK_INT(tx_ask(&f, tx, endless()).status, MW_ETIMEOUT);
  CHECK_INT(tx_finish(&f, tx, true), MW_ETIMEOUT);
  stop_tx(&f);
}

static void test_detaching_cancels_what_is_under_way(void) {
  fixture f;
  setup_tx(&f);
  mw_loop *loop = mw_loop_new("second");
  mw_loop_hold(loop);
  fixture g = f;
  g.loop = loop;
  g.client = mw_store_attach(f.store, loop);
  result queries[4] = {0};
  RUN_UNTIL(loop, ask(&g, MW_DB_APP, "SELECT 1").status == 0);
  mw_tx *tx = begin(&g, 0);
  CHECK_INT(tx_ask(&g, tx, "INSERT INTO mw_spec_tx VALUES (1)").status, 0);
  mw_query_opts opts = {.sql = mw_str_from(endless())};
  for (int i = 0; i < 4; i++) CHECK_INT(mw_store_query(g.client, MW_DB_APP, &opts, on_rows, &queries[i], NULL), 0);
  answer a = {0};
  mw_write w = create(mw_id_new(), MW_STATUS_QUEUED);
  CHECK_INT(mw_store_write(g.client, &w, on_written, &a), 0);
  bool gone = false;
  mw_store_detach(g.client, on_done, &gone);
  RUN_UNTIL(loop, gone);
  for (int i = 0; i < 4; i++) CHECK_INT(queries[i].status, MW_ECANCELED);
  CHECK(a.done);
  result late = {0};
  if (mw_tx_query(tx, &(mw_query_opts){.sql = MW_STR("SELECT 1")}, on_rows, &late)) late.done = true, late.status = MW_ECANCELED;
  RUN_UNTIL(loop, late.done);
  CHECK_INT(late.status, MW_ECANCELED);
  tx_state end = {0};
  if (mw_tx_end(tx, true, on_tx, &end)) end.done = true, end.status = MW_ECANCELED;
  RUN_UNTIL(loop, end.done);
  CHECK_INT(end.status, MW_ECANCELED);
  mw_loop_unhold(loop);
  mw_loop_free(loop);
  CHECK_INT(ask(&f, MW_DB_APP, "SELECT a FROM mw_spec_tx").count, 0); // its transaction was rolled back
  must(&f, MW_DB_APP, "INSERT INTO mw_spec_tx VALUES (3)");
  stop_tx(&f);
}

static void test_engine_writes_handed_over_before_detaching_are_stored(void) {
  fixture f;
  setup(&f);
  mw_id id = running(&f);
  answer a = {0};
  mw_write w = append(id, 1, 1, MW_STATUS_QUEUED);
  CHECK_INT(mw_store_write(f.client, &w, on_written, &a), 0);
  stop(&f);
  CHECK(a.done);
  CHECK_INT(a.status, 0);
  start(&f);
  claims c = claim(&f, mw_clock_wall_us(), 10);
  CHECK_INT(c.count, 1);
  CHECK(!c.interrupted[0]);
  stop(&f);
  remove_dir(f.dir);
}

// ---- migrations and the data directory ----

static void test_migrations_go_up_and_down(void) {
  fixture f;
  setup(&f);
  mw_err err = {0};
  mw_migration *list;
  size_t count;
  CHECK_INT(mw_migrate_status(f.store, &list, &count, &err), 0);
  CHECK(count >= 1);
  CHECK_INT(list[0].version, 1);
  CHECK_STR(list[0].name, "first");
  for (size_t i = 0; i < count; i++) CHECK(list[i].applied && list[i].applied_us > 0);
  mw_free(list);
  int changed;
  CHECK_INT(mw_migrate_up(f.store, &changed, &err), 0);
  CHECK_INT(changed, 0);
  CHECK_INT(mw_migrate_down(f.store, (int)count, &changed, &err), 0);
  CHECK_INT(changed, (int)count);
  CHECK(ask(&f, MW_DB_ENGINE, "SELECT 1 FROM executions").status != 0);
  CHECK_INT(mw_migrate_up(f.store, &changed, &err), 0);
  CHECK_INT(changed, (int)count);
  CHECK_INT(ask(&f, MW_DB_ENGINE, "SELECT 1 FROM executions").status, 0);
  stop(&f);
  remove_dir(f.dir);
}

static void test_a_database_of_another_version_is_refused(void) {
  fixture f;
  setup(&f);
  mw_err err = {0};
  int changed;
  must(&f, MW_DB_ENGINE, "UPDATE schema_migrations SET checksum = 'other' WHERE version = 1");
  CHECK_INT(mw_migrate_up(f.store, &changed, &err), MW_EVERSION);
  CHECK(strstr(err.text, "0001_first"));
  must(&f, MW_DB_ENGINE, "INSERT INTO schema_migrations VALUES (9999, 'future', 'x', 1)");
  CHECK_INT(mw_migrate_up(f.store, &changed, &err), MW_EVERSION);
  CHECK(strstr(err.text, "9999"));
  stop(&f);
  remove_dir(f.dir);
}

static void test_a_data_directory_in_use_is_refused_with_the_pid(void) {
  fixture f;
  setup(&f);
  mw_store *second;
  mw_err err = {0};
  CHECK_INT(mw_store_open(&f.conf, &second, &err), MW_ELOCKED);
  char pid[32];
  snprintf(pid, sizeof pid, "process %d", getpid());
  CHECK(strstr(err.text, pid));
  stop(&f);
  CHECK_INT(mw_store_open(&f.conf, &second, &err), 0);
  mw_store_close(second);
  remove_dir(f.dir);
}

// ---- SQLite alone ----

static void test_a_store_that_is_open_for_reading_does_not_write(void) {
  if (!is_sqlite()) return;
  fixture f;
  setup(&f);
  mw_store_conf conf = f.conf;
  conf.exclusive = false;
  fixture g = f;
  mw_err err = {0};
  CHECK_INT(mw_store_open(&conf, &g.store, &err), 0); // beside the one that holds the lock
  g.client = mw_store_attach(g.store, f.loop);
  CHECK_INT(engine_number(&g, "SELECT count(*) FROM executions"), 0);
  CHECK_INT(ask(&g, MW_DB_ENGINE, "DELETE FROM executions").status, MW_EDENIED);
  mw_write w = create(mw_id_new(), MW_STATUS_QUEUED);
  CHECK_INT(mw_store_write(g.client, &w, on_written, NULL), MW_EDENIED);
  bool gone = false;
  mw_store_detach(g.client, on_done, &gone);
  RUN_UNTIL(f.loop, gone);
  mw_store_close(g.store);
  stop(&f);
  remove_dir(f.dir);
}

static void test_the_log_is_reused_and_stays_bounded(void) {
  if (!is_sqlite()) return;
  enum { ROUNDS = 120, EACH = 400 };
  fixture f;
  setup(&f);
  char *input = mw_alloc(1002);
  memset(input, 'x', 1002);
  input[0] = input[1001] = '"';
  static answer answers[EACH];
  for (int round = 0; round < ROUNDS; round++) {
    memset(answers, 0, sizeof answers);
    for (int i = 0; i < EACH; i++) {
      mw_write w = create(mw_id_new(), MW_STATUS_RUNNING);
      w.input = mw_str_of(input, 1002);
      CHECK_INT(mw_store_write(f.client, &w, on_written, &answers[i]), 0);
    }
    for (int i = 0; i < EACH; i++) RUN_UNTIL(f.loop, answers[i].done);
  }
  char path[128];
  struct stat info;
  snprintf(path, sizeof path, "%s/moonwatch.db-wal", f.dir);
  CHECK_INT(stat(path, &info), 0);
  CHECK(info.st_size < 100 * 1024 * 1024); // more than 230 MiB went through it
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions"), ROUNDS * EACH);
  mw_free(input);
  stop(&f);
  remove_dir(f.dir);
}

static void limit_file_size(rlim_t bytes) {
  struct rlimit limit;
  CHECK_INT(getrlimit(RLIMIT_FSIZE, &limit), 0);
  limit.rlim_cur = bytes;
  CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_a_write_that_the_disk_refuses_is_an_error_and_passes(void) {
  if (!is_sqlite()) return;
  fixture f;
  setup_tx(&f);
  char *input = mw_alloc(500002);
  memset(input, 'x', 500002);
  input[0] = input[500001] = '"';
  mw_write w = create(mw_id_new(), MW_STATUS_QUEUED);
  w.input = mw_str_of(input, 500002);
  mw_value big = MW_VALUE_OF_TEXT(w.input);
  mw_query_opts insert = {.sql = MW_STR("INSERT INTO mw_spec_big VALUES ($1)"), .params = &big, .nparams = 1};
  must(&f, MW_DB_APP, "CREATE TABLE mw_spec_big (a text)");
  signal(SIGXFSZ, SIG_IGN);
  limit_file_size(300000);
  answer a = commit(&f, w);
  result r = ask_with(&f, MW_DB_APP, insert);
  limit_file_size(RLIM_INFINITY);
  CHECK_INT(a.status, MW_EIO);
  CHECK(strstr(a.text, "moonwatch.db"));
  CHECK_INT(r.status, MW_EIO);
  CHECK(strstr(r.text, "app.db"));
  CHECK_INT(commit(&f, w).status, 0);
  CHECK_INT(ask_with(&f, MW_DB_APP, insert).status, 0);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions"), 1);
  mw_free(input);
  stop_tx(&f);
}

static void test_executions_are_refused_while_too_much_waits(void) {
  if (!is_sqlite()) return;
  enum { MANY = 100 };
  fixture f;
  setup(&f);
  tx_state s = {0}; // holds the writer
  CHECK_INT(mw_store_begin(f.client, MW_DB_ENGINE, 0, on_tx, &s), 0);
  RUN_UNTIL(f.loop, s.done);
  size_t size = 1024 * 1024;
  char *big = mw_alloc(size);
  memset(big, ' ', size);
  static answer answers[MANY];
  memset(answers, 0, sizeof answers);
  mw_id owned = {0};
  int taken = 0, refused = 0;
  for (int i = 0; i < MANY; i++) {
    mw_write w = create(mw_id_new(), MW_STATUS_RUNNING);
    w.input = mw_str_of(big, size);
    int code = mw_store_write(f.client, &w, on_written, &answers[taken]);
    if (!code) taken++, owned = w.id;
    else CHECK_INT((refused++, code), MW_EBUSY);
  }
  CHECK(taken > 10 && refused > 10);
  answer last = {0}; // what has happened already is always recorded
  mw_write w = append(owned, 1, 1, MW_STATUS_NONE);
  CHECK_INT(mw_store_write(f.client, &w, on_written, &last), 0);
  CHECK_INT(tx_finish(&f, s.tx, true), 0);
  RUN_UNTIL(f.loop, last.done);
  CHECK_INT(last.status, 0);
  for (int i = 0; i < taken; i++) CHECK(answers[i].done && answers[i].status == 0);
  CHECK_INT(commit(&f, create(mw_id_new(), MW_STATUS_QUEUED)).status, 0);
  mw_free(big);
  stop(&f);
  remove_dir(f.dir);
}

static void test_keys_that_are_over_make_room(void) {
  if (!is_sqlite()) return;
  fixture f;
  setup(&f);
  char key[16];
  for (int i = 0; i < 20; i++) {
    mw_write w = create(mw_id_new(), MW_STATUS_QUEUED);
    w.key = mw_str_of(key, (size_t)snprintf(key, sizeof key, "key-%d", i));
    if (i < 10) w.now_us -= (int64_t)48 * 3600 * 1000000;
    CHECK_INT(commit(&f, w).status, 0);
  }
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM idempotency"), 10);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions"), 20);
  stop(&f);
  remove_dir(f.dir);
}

// ---- threads ----

enum { WORKERS = 3, RUNS = 300 };

typedef struct worker {
  fixture f;
  mw_thread thread;
  int done, failed;
} worker;

typedef struct run {
  worker *w;
  mw_id id;
  int step;
} run;

static void on_run(int status, const mw_id *existing, const mw_err *err, void *arg) {
  run *r = arg;
  if (status && r->w->failed++ == 0) fprintf(stderr, "step %d: %s\n", r->step, err ? err->text : mw_err_text(status));
  if (status || r->step == 3) {
    r->w->done++;
    return;
  }
  r->step++;
  mw_write w = append(r->id, 1, r->step, r->step == 3 ? MW_STATUS_COMPLETED : MW_STATUS_NONE);
  if (mw_store_write(r->w->f.client, &w, on_run, r)) r->w->done++, r->w->failed++;
}

/** Writes something harmless: on PostgreSQL a new client first has to connect. */
static int probe(fixture *f) {
  answer a = {0};
  mw_code code = {MW_STR("probe"), MW_STR("1")};
  if (mw_store_put_code(f->client, &code, 1, on_written, &a)) return MW_EUNAVAILABLE;
  RUN_UNTIL(f->loop, a.done);
  return a.status;
}

static void run_worker(void *arg) {
  worker *w = arg;
  static _Thread_local run runs[RUNS];
  w->f.loop = mw_loop_new("worker");
  mw_loop_hold(w->f.loop);
  w->f.client = mw_store_attach(w->f.store, w->f.loop);
  RUN_UNTIL(w->f.loop, probe(&w->f) == 0);
  for (int i = 0; i < RUNS; i++) {
    runs[i] = (run){.w = w, .id = mw_id_new()};
    mw_write create_it = create(runs[i].id, MW_STATUS_RUNNING);
    CHECK_INT(mw_store_write(w->f.client, &create_it, on_run, &runs[i]), 0);
  }
  RUN_UNTIL(w->f.loop, w->done == RUNS);
  bool gone = false;
  mw_store_detach(w->f.client, on_done, &gone);
  RUN_UNTIL(w->f.loop, gone);
  mw_loop_unhold(w->f.loop);
  mw_loop_free(w->f.loop);
}

static void test_workers_write_at_the_same_time(void) {
  fixture f;
  setup(&f);
  worker workers[WORKERS] = {0};
  for (int i = 0; i < WORKERS; i++) {
    workers[i].f = f;
    CHECK_INT(mw_thread_start(&workers[i].thread, "worker", run_worker, &workers[i]), 0);
  }
  for (int i = 0; i < WORKERS; i++) {
    mw_thread_join(&workers[i].thread);
    CHECK_INT(workers[i].failed, 0);
  }
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM executions WHERE status = 8"), WORKERS * RUNS);
  CHECK_INT(engine_number(&f, "SELECT count(*) FROM journal"), WORKERS * RUNS * 3);
  stop(&f);
  remove_dir(f.dir);
}

// ---- a list for each engine ----

static const test tests[] = {
    TEST(test_an_execution_is_created_appended_to_and_completed),
    TEST(test_an_append_with_a_stale_fence_changes_nothing),
    TEST(test_what_nobody_waits_for_is_stored_when_the_disk_works_again),
    TEST(test_the_same_append_again_is_answered_like_the_first),
    TEST(test_an_idempotency_key_names_one_execution),
    TEST(test_an_external_id_is_unique_in_a_workflow),
    TEST(test_the_same_key_at_once_makes_one_execution),
    TEST(test_bad_members_of_a_group_do_not_harm_the_others),
    TEST(test_writes_are_checked_before_they_join_a_group),
    TEST(test_what_is_due_is_claimed_oldest_first),
    TEST(test_what_is_queued_is_due_whatever_the_clocks_say),
    TEST(test_running_executions_are_claimed_again_after_a_restart),
    TEST(test_a_signal_ends_the_wait_for_its_name),
    TEST(test_a_signal_that_came_before_the_wait_is_not_lost),
    TEST(test_signals_and_waits_at_once_leave_nobody_waiting),
    TEST(test_the_end_of_a_child_is_a_signal_to_its_parent),
    TEST(test_a_group_has_no_more_runs_than_slots),
    TEST(test_a_run_of_a_group_takes_its_slot_when_its_time_has_come),
    TEST(test_workflows_get_equal_shares_of_a_claim),
    TEST(test_priorities_come_first_and_age_raises_them),
    TEST(test_what_is_paused_is_not_claimed),
    TEST(test_what_is_cancelled_is_claimed_also_when_it_is_paused),
    TEST(test_an_owner_is_told_what_an_operator_wants),
    TEST(test_code_is_stored_once_by_content),
    TEST(test_changes_are_numbered_without_a_gap),
    TEST(test_values_go_in_and_come_out),
    TEST(test_errors_carry_the_words_and_the_state_of_the_database),
    TEST(test_transaction_control_is_refused_outside_a_transaction),
    TEST(test_a_statement_that_takes_too_long_is_cancelled),
    TEST(test_a_statement_can_be_cancelled_while_it_runs_and_while_it_waits),
    TEST(test_a_result_over_its_limit_is_refused_not_cut),
    TEST(test_one_bad_statement_does_not_harm_those_that_share_its_commit),
    TEST(test_a_transaction_commits_or_leaves_nothing),
    TEST(test_an_error_dooms_its_transaction),
    TEST(test_a_transaction_is_rolled_back_when_its_time_is_over),
    TEST(test_detaching_cancels_what_is_under_way),
    TEST(test_engine_writes_handed_over_before_detaching_are_stored),
    TEST(test_migrations_go_up_and_down),
    TEST(test_a_database_of_another_version_is_refused),
    TEST(test_a_data_directory_in_use_is_refused_with_the_pid),
    TEST(test_a_store_that_is_open_for_reading_does_not_write),
    TEST(test_the_log_is_reused_and_stays_bounded),
    TEST(test_a_write_that_the_disk_refuses_is_an_error_and_passes),
    TEST(test_executions_are_refused_while_too_much_waits),
    TEST(test_keys_that_are_over_make_room),
    TEST(test_workers_write_at_the_same_time),
};

// A loop that runs a statement sees nothing else meanwhile, and is the only one: what needs a second thread is not here.
static const test loop_tests[] = {
    TEST(test_an_execution_is_created_appended_to_and_completed),
    TEST(test_an_append_with_a_stale_fence_changes_nothing),
    TEST(test_the_same_append_again_is_answered_like_the_first),
    TEST(test_an_idempotency_key_names_one_execution),
    TEST(test_an_external_id_is_unique_in_a_workflow),
    TEST(test_the_same_key_at_once_makes_one_execution),
    TEST(test_bad_members_of_a_group_do_not_harm_the_others),
    TEST(test_what_is_due_is_claimed_oldest_first),
    TEST(test_running_executions_are_claimed_again_after_a_restart),
    TEST(test_a_signal_ends_the_wait_for_its_name),
    TEST(test_a_signal_that_came_before_the_wait_is_not_lost),
    TEST(test_signals_and_waits_at_once_leave_nobody_waiting),
    TEST(test_the_end_of_a_child_is_a_signal_to_its_parent),
    TEST(test_a_group_has_no_more_runs_than_slots),
    TEST(test_a_run_of_a_group_takes_its_slot_when_its_time_has_come),
    TEST(test_workflows_get_equal_shares_of_a_claim),
    TEST(test_priorities_come_first_and_age_raises_them),
    TEST(test_what_is_paused_is_not_claimed),
    TEST(test_what_is_cancelled_is_claimed_also_when_it_is_paused),
    TEST(test_an_owner_is_told_what_an_operator_wants),
    TEST(test_code_is_stored_once_by_content),
    TEST(test_changes_are_numbered_without_a_gap),
    TEST(test_values_go_in_and_come_out),
    TEST(test_errors_carry_the_words_and_the_state_of_the_database),
    TEST(test_a_statement_that_takes_too_long_is_cancelled),
    TEST(test_a_result_over_its_limit_is_refused_not_cut),
    TEST(test_one_bad_statement_does_not_harm_those_that_share_its_commit),
    TEST(test_a_transaction_commits_or_leaves_nothing),
    TEST(test_an_error_dooms_its_transaction),
    TEST(test_a_transaction_is_rolled_back_when_its_time_is_over),
    TEST(test_engine_writes_handed_over_before_detaching_are_stored),
    TEST(test_the_log_is_reused_and_stays_bounded),
};

int main(int argc, char **argv) {
  mw_log_configure(MW_LOG_ERROR, MW_LOG_FORMAT_PRETTY);
  printf("# SQLite\n");
  int failed = RUN_TESTS(argc, argv, tests);
  printf("# SQLite on the loop\n");
  on_loop = true;
  if (argc < 2) failed |= RUN_TESTS(argc, argv, loop_tests);
  on_loop = false;
  url = getenv("MW_TEST_DATABASE_URL");
  if (!url || !*url) {
    printf("# PostgreSQL: pending, MW_TEST_DATABASE_URL names no server\n");
    return failed;
  }
  printf("# PostgreSQL\n");
  return failed | RUN_TESTS(argc, argv, tests);
}
