// SPDX-License-Identifier: MIT
// The PostgreSQL engine against a real server: script/postgres run build/dev/pg_test. Without
// MW_TEST_DATABASE_URL it is skipped; the test that stops a server starts one of its own. Run from the root of
// the repository.

#include <ftw.h>
#include <pthread.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/id.h"
#include "harness.h"
#include "loop/work.h"
#include "store/journal.h"
#include "store/migrate.h"
#include "store/pg_sql.h"
#include "store/pg_value.h"
#include "store/store.h"
#include "store/pq.h"

#define SKIP 77

static const char *url, *server_dir;

/* ---- a store of its own for each test: own schema, own data directory ---- */

typedef struct place {
  mw_loop *loop;
  mw_store *store;
  mw_store_client *client;
  char dir[64], schema[32];
  bool up, registered, gone;
  int ups, downs;
} place;

static PGconn *admin;

static void sql(const char *text) {
  PGresult *result = PQexec(admin, text);
  if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK) {
    fprintf(stderr, "%s: %s", text, PQerrorMessage(admin));
    exit(1);
  }
  PQclear(result);
}

static long long sql_int(const char *format, const place *p) {
  char text[512];
  snprintf(text, sizeof text, format, p->schema);
  PGresult *result = PQexec(admin, text);
  if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1) {
    fprintf(stderr, "%s: %s", text, PQerrorMessage(admin));
    exit(1);
  }
  long long value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
  PQclear(result);
  return value;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
  return remove(path);
}

static void on_state(bool up, void *arg) {
  place *p = arg;
  p->up = up;
  if (up)
    p->ups++;
  else
    p->downs++;
}

static void on_registered(int status, const mw_err *err, void *arg) {
  if (status) fprintf(stderr, "register: %s\n", err->text);
  CHECK_INT(status, 0);
  ((place *)arg)->registered = true;
}

static void attach(place *p, int pool_size) {
  mw_err err = {0};
  mw_store_conf conf = {.database_url = url,
                        .data_dir = p->dir,
                        .schema = p->schema,
                        .pg_pool_size = pool_size,
                        .exclusive = true};
  int rc = mw_store_open(&conf, &p->store, &err);
  if (rc) fprintf(stderr, "%s\n", err.text);
  CHECK_INT(rc, 0);
  int count = 0;
  rc = mw_migrate_up(p->store, &count, &err);
  if (rc) fprintf(stderr, "%s\n", err.text);
  CHECK_INT(rc, 0);
  p->loop = mw_loop_new("test");
  p->client = mw_store_attach(p->store, p->loop);
  mw_store_on_state(p->client, on_state, p);
  RUN_UNTIL(p->loop, p->up);
  p->registered = false;
  CHECK_INT(mw_store_register_node(p->client, on_registered, p), 0);
  RUN_UNTIL(p->loop, p->registered);
}

static void on_gone(void *arg) { ((place *)arg)->gone = true; }

static void detach(place *p) {
  p->gone = p->up = false;
  mw_store_detach(p->client, on_gone, p);
  RUN_UNTIL(p->loop, p->gone);
  mw_loop_free(p->loop);
  mw_store_close(p->store);
}

static void open_place(place *p, int pool_size) {
  static int count;
  memset(p, 0, sizeof *p);
  snprintf(p->dir, sizeof p->dir, "/tmp/moonwatch-pg-test.XXXXXX");
  CHECK(mkdtemp(p->dir));
  snprintf(p->schema, sizeof p->schema, "t%d_%d", (int)getpid(), count++);
  char text[128];
  snprintf(text, sizeof text, "CREATE SCHEMA %s", p->schema);
  sql(text);
  attach(p, pool_size);
}

static void close_place(place *p) {
  detach(p);
  char text[128];
  snprintf(text, sizeof text, "DROP SCHEMA %s CASCADE", p->schema);
  sql(text);
  nftw(p->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* ---- queries ---- */

typedef struct answer {
  bool done;
  int status, count;
  int64_t affected;
  mw_value first;
  char text[600], sqlstate[8], error[512];
  mw_tx *tx;
} answer;

static void on_rows(int status, const mw_rows *rows, const mw_err *err, const char *sqlstate, void *arg) {
  answer *a = arg;
  CHECK(!a->done);
  a->done = true;
  a->status = status;
  if (err) snprintf(a->error, sizeof a->error, "%s", err->text);
  if (sqlstate) snprintf(a->sqlstate, sizeof a->sqlstate, "%s", sqlstate);
  if (status) return;
  a->count = (int)rows->count;
  a->affected = rows->affected;
  if (rows->count && rows->columns) a->first = rows->values[0];
  if (a->first.str.ptr) {
    snprintf(a->text, sizeof a->text, "%.*s", MW_STR_FMT(a->first.str));
    a->first.str.ptr = a->text;
  }
}

static void ask(place *p, const char *text, const mw_value *params, size_t nparams, int64_t timeout_ms,
                answer *a, mw_query **query) {
  *a = (answer){0};
  mw_query_opts opts = {
      .sql = mw_str_from(text), .params = params, .nparams = nparams, .timeout_ms = timeout_ms};
  int rc = mw_store_query(p->client, MW_DB_APP, &opts, on_rows, a, query);
  CHECK_INT(rc, 0);
  CHECK(!a->done);
}

static void run(place *p, const char *text, const mw_value *params, size_t nparams, answer *a) {
  ask(p, text, params, nparams, 0, a, NULL);
  RUN_UNTIL(p->loop, a->done);
}

static void test_statement_checks(void) {
  mw_pg_sql s;
  mw_err err = {0};
  CHECK_INT(mw_pg_sql_check(
                MW_STR("SELECT $1, '$9', \"$8\", $$ $7 $$, $a$ $6 $a$, E'\\'$5' -- $4\n /* $3 /* */ */, $2"),
                false, &s, &err),
            0);
  CHECK_INT(s.placeholders, 2);
  const char *denied[] = {"BEGIN",
                          "  commit ",
                          "/* x */ ROLLBACK",
                          "set search_path = x",
                          "LISTEN a",
                          "Prepare x AS SELECT 1",
                          "DISCARD ALL",
                          "COPY t FROM stdin",
                          "CREATE TEMP TABLE x (a int)",
                          "select SET_CONFIG('a.b', 'c', false)",
                          "select pg_advisory_lock(1)",
                          "SAVEPOINT a",
                          "LOCK TABLE x"};
  for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++)
    CHECK_INT(mw_pg_sql_check(mw_str_from(denied[i]), false, &s, &err), MW_EDENIED);
  CHECK(strstr(err.text, "mw.transaction"));
  CHECK_INT(mw_pg_sql_check(MW_STR("SELECT 1; SELECT 2"), false, &s, &err), MW_EINVALID);
  CHECK_INT(mw_pg_sql_check(MW_STR("SELECT ';' ; -- end\n"), false, &s, &err), 0);
  CHECK_INT(mw_pg_sql_check(MW_STR(" -- nothing"), false, &s, &err), MW_EINVALID);
  CHECK_INT(mw_pg_sql_check(MW_STR("UPDATE t SET a = 1"), false, &s, &err), 0);
  CHECK_INT(mw_pg_sql_check(MW_STR("SET LOCAL a.b = 'c'"), true, &s, &err), 0);
  CHECK(!s.leaves_session);
  CHECK_INT(mw_pg_sql_check(MW_STR("SET a.b = 'c'"), true, &s, &err), 0);
  CHECK(s.leaves_session);
  CHECK_INT(mw_pg_sql_check(MW_STR("COMMIT"), true, &s, &err), MW_EDENIED);
  CHECK_INT(mw_pg_sql_check(MW_STR("ROLLBACK TO SAVEPOINT a"), true, &s, &err), 0);
}

static void test_values_go_in_and_out(void) {
  place p;
  open_place(&p, 2);
  answer a;
  mw_value v = MW_VALUE_OF_INT(42);
  run(&p, "SELECT $1::int8", &v, 1, &a);
  CHECK_INT(a.status, 0);
  CHECK_INT(a.first.kind, MW_VALUE_INT);
  CHECK_INT(a.first.i, 42);
  run(&p, "SELECT $1::text", &v, 1, &a);
  CHECK_STR(a.text, "42");
  v = (mw_value){.kind = MW_VALUE_BOOL, .i = 1};
  run(&p, "SELECT $1::bool", &v, 1, &a);
  CHECK_INT(a.first.kind, MW_VALUE_BOOL);
  CHECK_INT(a.first.i, 1);
  v = (mw_value){.kind = MW_VALUE_NUM, .num = 0.1};
  run(&p, "SELECT $1::float8", &v, 1, &a);
  CHECK(a.first.kind == MW_VALUE_NUM && a.first.num == 0.1);
  run(&p, "SELECT $1::numeric", &v, 1, &a);
  CHECK(a.first.kind == MW_VALUE_TEXT);
  CHECK_STR(a.text, "0.1");
  v = MW_VALUE_OF_BLOB(mw_str_of("\0\xff\x01", 3));
  run(&p, "SELECT $1::bytea", &v, 1, &a);
  CHECK_INT(a.first.kind, MW_VALUE_BLOB);
  CHECK(a.first.str.len == 3);
  run(&p, "SELECT '{\"a\": 1}'::jsonb", NULL, 0, &a);
  CHECK_STR(a.text, "{\"a\": 1}");
  run(&p, "SELECT $1::text IS NULL AND $2::text IS NULL", NULL, 0, &a);
  CHECK(a.status == 0 && a.first.i == 1);
  run(&p, "SELECT 1", &v, 1, &a);
  CHECK_INT(a.status, MW_EINVALID);
  CHECK(strstr(a.error, "takes 0 parameters"));
  run(&p, "SELECT generate_series(1, 3)", NULL, 0, &a);
  CHECK_INT(a.count, 3);
  run(&p, "SELECT generate_series(1, 200000)", NULL, 0, &a);
  CHECK_INT(a.status, MW_ELIMIT);
  run(&p, "SELECT 1", NULL, 0, &a);
  CHECK_INT(a.status, 0);
  close_place(&p);
}

static void test_errors_are_told_apart(void) {
  place p;
  open_place(&p, 2);
  answer a;
  char text[256];
  snprintf(text, sizeof text, "CREATE TABLE %s.things (id int PRIMARY KEY)", p.schema);
  run(&p, text, NULL, 0, &a);
  CHECK_INT(a.status, 0);
  snprintf(text, sizeof text, "INSERT INTO %s.things VALUES (1), (2)", p.schema);
  run(&p, text, NULL, 0, &a);
  CHECK_INT(a.affected, 2);
  run(&p, text, NULL, 0, &a);
  CHECK_INT(a.status, MW_ECONSTRAINT);
  CHECK_STR(a.sqlstate, "23505");
  CHECK(strstr(a.error, "duplicate key"));
  run(&p, "SELEKT 1", NULL, 0, &a);
  CHECK_INT(a.status, MW_ESQL);
  CHECK(strstr(a.error, "at character 1"));
  run(&p, "BEGIN", NULL, 0, &a);
  CHECK_INT(a.status, MW_EDENIED);
  close_place(&p);
}

static void test_a_syntax_error_harms_no_neighbour(void) {
  place p;
  open_place(&p, 1);
  answer warm, a[40];
  run(&p, "SELECT 1", NULL, 0, &warm);
  for (int i = 0; i < 40; i++)
    ask(&p,
        i % 4 == 2   ? "SELECT broken syntax here"
        : i % 4 == 3 ? "SELECT 1/0"
                     : "SELECT 7",
        NULL, 0, 0, &a[i], NULL);
  for (int i = 0; i < 40; i++) {
    RUN_UNTIL(p.loop, a[i].done);
    if (i % 4 == 2)
      CHECK_STR(a[i].sqlstate, "42601");
    else if (i % 4 == 3)
      CHECK_STR(a[i].sqlstate, "22012");
    else
      CHECK(a[i].status == 0 && a[i].first.i == 7);
  }
  close_place(&p);
}

static void test_a_slow_statement_times_out_and_neighbours_do_not(void) {
  place p;
  open_place(&p, 1);
  answer warm, slow, quick[8];
  run(&p, "SELECT 1", NULL, 0, &warm);
  int64_t started = mw_clock_mono_ms();
  ask(&p, "SELECT pg_sleep(20)", NULL, 0, 200, &slow, NULL);
  for (int i = 0; i < 8; i++) ask(&p, "SELECT 3", NULL, 0, 5000, &quick[i], NULL);
  RUN_UNTIL(p.loop, slow.done);
  CHECK_INT(slow.status, MW_ETIMEOUT);
  CHECK(mw_clock_mono_ms() - started < 1500);
  for (int i = 0; i < 8; i++) {
    RUN_UNTIL(p.loop, quick[i].done);
    CHECK_INT(quick[i].status, 0);
  }
  CHECK(mw_clock_mono_ms() - started < 3000);
  close_place(&p);
}

static void test_cancelling_answers_at_once_and_stops_the_server(void) {
  place p;
  open_place(&p, 1);
  answer a, b;
  mw_query *query = NULL;
  ask(&p, "SELECT pg_sleep(30) AS moonwatch_cancel_me", NULL, 0, 0, &a, &query);
  for (int i = 0; i < 20; i++) mw_loop_turn(p.loop, false), usleep(5000);
  mw_query_cancel(query);
  CHECK(!a.done);
  RUN_UNTIL(p.loop, a.done);
  CHECK_INT(a.status, MW_ECANCELED);
  run(&p, "SELECT 5", NULL, 0, &b);
  CHECK(b.status == 0 && b.first.i == 5);
  CHECK_INT(sql_int("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE "
                    "'%%pg_sleep(30)%%' AND pid <> pg_backend_pid() AND '%s' <> ''",
                    &p),
            0);
  close_place(&p);
}

static void test_a_changed_table_does_not_break_prepared_statements(void) {
  place p;
  open_place(&p, 1);
  answer a;
  char text[256], select[256];
  snprintf(text, sizeof text, "CREATE TABLE %s.moving (a int)", p.schema);
  run(&p, text, NULL, 0, &a);
  snprintf(select, sizeof select, "SELECT * FROM %s.moving", p.schema);
  for (int i = 0; i < 8; i++) run(&p, select, NULL, 0, &a);
  snprintf(text, sizeof text, "ALTER TABLE %s.moving ADD b text", p.schema);
  run(&p, text, NULL, 0, &a);
  run(&p, select, NULL, 0, &a);
  CHECK_INT(a.status, 0);
  for (int i = 0; i < 600; i++) {
    snprintf(text, sizeof text, "SELECT %d", i);
    run(&p, text, NULL, 0, &a);
    CHECK(a.status == 0 && a.first.i == i);
  }
  run(&p, "SELECT count(*) FROM pg_prepared_statements", NULL, 0, &a);
  CHECK(a.first.i <= 256);
  close_place(&p);
}

/* ---- transactions ---- */

static void on_tx(int status, mw_tx *tx, const mw_err *err, void *arg) {
  answer *a = arg;
  CHECK(!a->done);
  a->done = true;
  a->status = status;
  a->tx = tx;
  if (err) snprintf(a->error, sizeof a->error, "%s", err->text);
}

static mw_tx *begin(place *p, int64_t timeout_ms) {
  answer a = {0};
  CHECK_INT(mw_store_begin(p->client, MW_DB_APP, timeout_ms, on_tx, &a), 0);
  CHECK(!a.done);
  RUN_UNTIL(p->loop, a.done);
  CHECK_INT(a.status, 0);
  return a.tx;
}

static void tx_run(place *p, mw_tx *tx, const char *text, answer *a) {
  *a = (answer){0};
  CHECK_INT(mw_tx_query(tx, &(mw_query_opts){.sql = mw_str_from(text)}, on_rows, a), 0);
  RUN_UNTIL(p->loop, a->done);
}

static void end(place *p, mw_tx *tx, bool commit, answer *a) {
  *a = (answer){0};
  CHECK_INT(mw_tx_end(tx, commit, on_tx, a), 0);
  CHECK(!a->done);
  RUN_UNTIL(p->loop, a->done);
}

static void test_transactions_commit_roll_back_and_are_doomed_by_errors(void) {
  place p;
  open_place(&p, 1);
  answer a;
  char create[128], insert[128], count[128];
  snprintf(create, sizeof create, "CREATE TABLE %s.t (id int PRIMARY KEY)", p.schema);
  snprintf(insert, sizeof insert, "INSERT INTO %s.t VALUES (1)", p.schema);
  snprintf(count, sizeof count, "SELECT count(*) FROM %s.t", p.schema);
  run(&p, create, NULL, 0, &a);
  mw_tx *tx = begin(&p, 0);
  tx_run(&p, tx, insert, &a);
  CHECK_INT(a.status, 0);
  end(&p, tx, false, &a);
  CHECK_INT(a.status, 0);
  run(&p, count, NULL, 0, &a);
  CHECK_INT(a.first.i, 0);

  tx = begin(&p, 0);
  tx_run(&p, tx, insert, &a);
  tx_run(&p, tx, insert, &a);
  CHECK_INT(a.status, MW_ECONSTRAINT);
  tx_run(&p, tx, "SELECT 1", &a);
  CHECK_INT(a.status, MW_ECONSTRAINT);
  end(&p, tx, true, &a);
  CHECK_INT(a.status, MW_ECONSTRAINT);
  run(&p, count, NULL, 0, &a);
  CHECK_INT(a.first.i, 0);

  tx = begin(&p, 0);
  tx_run(&p, tx, insert, &a);
  tx_run(&p, tx, "SET my.own = 'left behind'", &a);
  CHECK_INT(a.status, 0);
  end(&p, tx, true, &a);
  CHECK_INT(a.status, 0);
  run(&p, count, NULL, 0, &a);
  CHECK_INT(a.first.i, 1);
  run(&p, "SELECT coalesce(current_setting('my.own', true), '')", NULL, 0, &a);
  CHECK_STR(a.text, "");
  close_place(&p);
}

static void test_a_transaction_out_of_time_is_rolled_back(void) {
  place p;
  open_place(&p, 1);
  answer a, slow = {0};
  mw_tx *tx = begin(&p, 300);
  CHECK_INT(mw_tx_query(tx, &(mw_query_opts){.sql = MW_STR("SELECT pg_sleep(20)")}, on_rows, &slow), 0);
  RUN_UNTIL(p.loop, slow.done);
  CHECK_INT(slow.status, MW_ETIMEOUT);
  tx_run(&p, tx, "SELECT 1", &a);
  CHECK_INT(a.status, MW_ETIMEOUT);
  end(&p, tx, true, &a);
  CHECK_INT(a.status, MW_ETIMEOUT);
  run(&p, "SELECT 9", NULL, 0, &a);
  CHECK(a.status == 0 && a.first.i == 9);
  close_place(&p);
}

static void test_a_full_pool_makes_wait_and_then_refuses(void) {
  place p;
  open_place(&p, 1);
  answer second = {0}, query, third, a;
  mw_tx *tx = begin(&p, 0);
  CHECK_INT(mw_store_begin(p.client, MW_DB_APP, 200, on_tx, &second), 0);
  ask(&p, "SELECT 1", NULL, 0, 200, &query, NULL);
  RUN_UNTIL(p.loop, second.done && query.done);
  CHECK_INT(second.status, MW_ETIMEOUT);
  CHECK_INT(query.status, MW_ETIMEOUT);
  ask(&p, "SELECT 2", NULL, 0, 0, &third, NULL);
  end(&p, tx, true, &a);
  RUN_UNTIL(p.loop, third.done);
  CHECK(third.status == 0 && third.first.i == 2);
  enum {
    MANY = 1100
  };
  answer *many = mw_calloc(MANY, sizeof *many);
  tx = begin(&p, 0);
  for (int i = 0; i < MANY; i++) ask(&p, "SELECT 1", NULL, 0, 0, &many[i], NULL);
  RUN_UNTIL(p.loop, many[MANY - 1].done);
  CHECK_INT(many[MANY - 1].status, MW_EBUSY);
  end(&p, tx, true, &a);
  RUN_UNTIL(p.loop, many[0].done && many[500].done);
  CHECK_INT(many[0].status, 0);
  close_place(&p);
  CHECK(many[700].done);
  mw_free(many);
}

/* ---- engine writes ---- */

typedef struct written {
  bool done;
  int status;
  mw_id existing;
  char error[512];
} written;

static void on_written(int status, const mw_id *existing, const mw_err *err, void *arg) {
  written *w = arg;
  CHECK(!w->done);
  w->done = true;
  w->status = status;
  if (existing) w->existing = *existing;
  if (err) snprintf(w->error, sizeof w->error, "%s", err->text);
}

static mw_write create_of(mw_id id) {
  return (mw_write){.kind = MW_WRITE_CREATE,
                    .id = id,
                    .fence = 1,
                    .now_us = mw_clock_wall_us(),
                    .workflow = MW_STR("checkout"),
                    .request_hash = MW_STR("aa"),
                    .input = MW_STR("{\"amount\":42}"),
                    .bundle = MW_STR("bb"),
                    .seed = MW_STR("1"),
                    .api_level = 1,
                    .status = MW_STATUS_RUNNING};
}

static mw_write append_of(mw_id id, int64_t fence, int64_t number) {
  return (mw_write){.kind = MW_WRITE_APPEND,
                    .id = id,
                    .fence = fence,
                    .number = number,
                    .now_us = mw_clock_wall_us(),
                    .data = MW_STR("1\n[{\"e\":\"result\"}]")};
}

static void put(place *p, const mw_write *write, written *w) {
  *w = (written){0};
  CHECK_INT(mw_store_write(p->client, write, on_written, w), 0);
  CHECK(!w->done);
}

static void put_now(place *p, const mw_write *write, written *w) {
  put(p, write, w);
  RUN_UNTIL(p->loop, w->done);
}

static void test_a_stale_member_harms_no_other(void) {
  place p;
  open_place(&p, 1);
  enum {
    N = 20
  };
  written w[N];
  mw_id ids[N];
  for (int i = 0; i < N; i++) {
    ids[i] = mw_id_new();
    mw_write create = create_of(ids[i]);
    put(&p, &create, &w[i]);
  }
  for (int i = 0; i < N; i++) {
    RUN_UNTIL(p.loop, w[i].done);
    CHECK_INT(w[i].status, 0);
  }
  for (int i = 0; i < N; i++) {
    mw_write append = append_of(ids[i], i == 7 ? 99 : 1, 1);
    put(&p, &append, &w[i]);
  }
  for (int i = 0; i < N; i++) {
    RUN_UNTIL(p.loop, w[i].done);
    CHECK_INT(w[i].status, i == 7 ? MW_ESTALE : 0);
  }
  CHECK_INT(sql_int("SELECT count(*) FROM %s.journal", &p), N - 1);
  mw_write again = append_of(ids[3], 1, 1);
  put_now(&p, &again, &w[0]);
  CHECK_INT(w[0].status, 0);
  CHECK_INT(sql_int("SELECT count(*) FROM %s.journal", &p), N - 1);
  mw_write final = append_of(ids[3], 1, 2);
  final.status = MW_STATUS_COMPLETED;
  final.output = MW_STR("{\"ok\":true}");
  put_now(&p, &final, &w[0]);
  CHECK_INT(w[0].status, 0);
  CHECK_INT(sql_int("SELECT count(*) FROM %s.executions WHERE status = 8 AND owner IS NULL AND finished_us > 0 "
                    "AND output LIKE '%%true%%'",
                    &p),
            1);
  mw_write late = append_of(ids[3], 1, 3);
  put_now(&p, &late, &w[0]);
  CHECK_INT(w[0].status, MW_ESTALE);
  close_place(&p);
}

/** A trigger stands for whatever the server refuses in one row only. */
static void test_a_poisoned_member_harms_no_other(void) {
  place p;
  open_place(&p, 1);
  char text[512];
  snprintf(text, sizeof text,
           "CREATE FUNCTION %s.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.data LIKE "
           "'%%poison%%' THEN RAISE EXCEPTION "
           "'no poison here'; END IF; RETURN NEW; END$$; CREATE TRIGGER refuse BEFORE INSERT ON %s.journal FOR "
           "EACH ROW EXECUTE "
           "FUNCTION %s.refuse()",
           p.schema, p.schema, p.schema);
  sql(text);
  enum {
    N = 50
  };
  written w[N];
  mw_id ids[N];
  for (int i = 0; i < N; i++) {
    ids[i] = mw_id_new();
    mw_write create = create_of(ids[i]);
    put(&p, &create, &w[i]);
  }
  for (int i = 0; i < N; i++) RUN_UNTIL(p.loop, w[i].done);
  for (int i = 0; i < N; i++) {
    mw_write append = append_of(ids[i], 1, 1);
    if (i == 13 || i == 31) append.data = MW_STR("1\npoison");
    put(&p, &append, &w[i]);
  }
  for (int i = 0; i < N; i++) {
    RUN_UNTIL(p.loop, w[i].done);
    CHECK_INT(w[i].status, i == 13 || i == 31 ? MW_ESQL : 0);
  }
  CHECK(strstr(w[13].error, "no poison here"));
  CHECK_INT(sql_int("SELECT count(*) FROM %s.journal", &p), N - 2);
  close_place(&p);
}

static void test_names_give_one_execution(void) {
  place p;
  open_place(&p, 1);
  written w[6];
  mw_id ids[6];
  for (int i = 0; i < 6; i++) {
    ids[i] = mw_id_new();
    mw_write create = create_of(ids[i]);
    create.key = MW_STR("order-1");
    if (i == 4) create.request_hash = MW_STR("other");
    put(&p, &create, &w[i]);
  }
  for (int i = 0; i < 6; i++) {
    RUN_UNTIL(p.loop, w[i].done);
    CHECK_INT(w[i].status, i == 0 ? 0 : i == 4 ? MW_ECONFLICT : MW_EEXISTS);
    if (i) CHECK(memcmp(&w[i].existing, &ids[0], sizeof ids[0]) == 0);
  }
  mw_write external = create_of(mw_id_new());
  external.external_id = MW_STR("ext");
  put_now(&p, &external, &w[0]);
  CHECK_INT(w[0].status, 0);
  mw_write again = create_of(mw_id_new());
  again.external_id = MW_STR("ext");
  again.key = MW_STR("order-2");
  put_now(&p, &again, &w[1]);
  CHECK_INT(w[1].status, MW_EEXISTS);
  CHECK(memcmp(&w[1].existing, &external.id, sizeof external.id) == 0);
  again.id = mw_id_new();
  again.external_id = MW_STR("");
  put_now(&p, &again, &w[1]);
  CHECK_INT(w[1].status, MW_EEXISTS);
  CHECK(memcmp(&w[1].existing, &external.id, sizeof external.id) == 0);
  char text[256];
  snprintf(text, sizeof text, "UPDATE %s.idempotency SET created_us = created_us - 90000000000", p.schema);
  sql(text);
  mw_write anew = create_of(mw_id_new());
  anew.key = MW_STR("order-1");
  put_now(&p, &anew, &w[2]);
  CHECK_INT(w[2].status, 0);
  CHECK_INT(sql_int("SELECT count(*) FROM %s.executions", &p), 3);
  close_place(&p);
}

typedef struct claims {
  bool done;
  int status;
  size_t count;
  bool interrupted;
  int64_t fence, next_due_us;
  mw_id first;
  char input[64];
} claims;

static void on_claimed(int status, const mw_claimed *list, size_t count, int64_t next_due_us, const mw_err *err,
                       void *arg) {
  claims *c = arg;
  *c = (claims){.done = true, .status = status, .count = count, .next_due_us = next_due_us};
  if (err) fprintf(stderr, "claim: %s\n", err->text);
  if (count == 0) return;
  c->interrupted = list[0].interrupted;
  c->fence = list[0].fence;
  c->first = list[0].id;
  snprintf(c->input, sizeof c->input, "%.*s", MW_STR_FMT(list[0].input));
}

static void claim(place *p, claims *c) {
  c->done = false;
  CHECK_INT(mw_store_claim(p->client, mw_clock_wall_us(), 100, on_claimed, c), 0);
  RUN_UNTIL(p->loop, c->done);
  CHECK_INT(c->status, 0);
}

static void test_claims_what_is_due_and_what_its_owner_left(void) {
  place p;
  open_place(&p, 1);
  written w;
  claims c;
  claim(&p, &c);
  CHECK_INT(c.count, 0);
  CHECK(c.next_due_us == INT64_MAX);
  mw_write queued = create_of(mw_id_new());
  queued.status = MW_STATUS_QUEUED;
  queued.fence = 0;
  queued.due_us = mw_clock_wall_us() - 1000;
  put_now(&p, &queued, &w);
  mw_write later = queued;
  later.id = mw_id_new();
  later.status = MW_STATUS_SLEEPING;
  later.due_us = mw_clock_wall_us() + 3600 * 1000000ll;
  put_now(&p, &later, &w);
  claim(&p, &c);
  CHECK_INT(c.count, 1);
  CHECK(memcmp(&c.first, &queued.id, sizeof c.first) == 0);
  CHECK(!c.interrupted && c.fence == 1 && c.next_due_us == later.due_us);
  CHECK_STR(c.input, "{\"amount\":42}");
  mw_clock_shift(3601 * 1000000ll);
  claim(&p, &c);
  mw_clock_shift(-3601 * 1000000ll);
  CHECK_INT(c.count, 1);
  CHECK(memcmp(&c.first, &later.id, sizeof c.first) == 0);
  mw_write running = create_of(mw_id_new());
  put_now(&p, &running, &w);
  claim(&p, &c);
  CHECK_INT(c.count, 0);
  detach(&p); // As after a crash: the node comes back under the same id with another epoch.
  attach(&p, 1);
  claim(&p, &c);
  CHECK_INT(c.count, 3);
  CHECK(c.interrupted);
  CHECK_INT(sql_int("SELECT min(fence) FROM %s.executions", &p), 2);
  mw_write stale = append_of(running.id, 1, 1);
  put_now(&p, &stale, &w);
  CHECK_INT(w.status, MW_ESTALE);
  mw_write good = append_of(running.id, 2, 1);
  put_now(&p, &good, &w);
  CHECK_INT(w.status, 0);
  CHECK_INT(sql_int("SELECT count(*) FROM %s.nodes WHERE stopped_us IS NULL", &p), 1);
  CHECK(mw_store_lease_until_ms(p.store) > mw_clock_mono_ms());
  close_place(&p);
}

static void test_another_node_takes_over_when_the_lease_is_over(void) {
  place p, q = {0};
  open_place(&p, 1);
  snprintf(q.dir, sizeof q.dir, "/tmp/moonwatch-pg-test.XXXXXX");
  CHECK(mkdtemp(q.dir));
  memcpy(q.schema, p.schema, sizeof q.schema);
  attach(&q, 1);
  CHECK(mw_store_epoch(p.store) != mw_store_epoch(q.store));
  written w;
  claims c;
  mw_write running = create_of(mw_id_new());
  put_now(&p, &running, &w);
  claim(&q, &c);
  CHECK_INT(c.count, 0);
  char text[256];
  snprintf(text, sizeof text, "UPDATE %s.nodes SET lease_until_us = 1 WHERE epoch = %lld", p.schema,
           (long long)mw_store_epoch(p.store));
  sql(text);
  claim(&q, &c);
  CHECK_INT(c.count, 1);
  CHECK(c.interrupted && c.fence == 2);
  mw_write append = append_of(running.id, 1, 1);
  put_now(&p, &append, &w);
  CHECK_INT(w.status, MW_ESTALE);
  append.fence = 2;
  put_now(&q, &append, &w);
  CHECK_INT(w.status, 0);
  detach(&q);
  nftw(q.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
  close_place(&p);
}

static void test_code_and_changes_are_kept_in_order(void) {
  place p;
  open_place(&p, 1);
  written w[12];
  mw_code code[2] = {{MW_STR("h1"), MW_STR("return 1")}, {MW_STR("h2"), MW_STR("return 2")}};
  memset(w, 0, sizeof w);
  CHECK_INT(mw_store_put_code(p.client, code, 2, on_written, &w[10]), 0);
  CHECK_INT(mw_store_put_code(p.client, code, 2, on_written, &w[11]), 0);
  for (int i = 0; i < 10; i++) {
    CHECK_INT(mw_store_add_change(p.client, MW_STR(""), MW_STR("plugin.loaded"), MW_STR("checkout"),
                                  MW_STR("test"), MW_STR("{}"), on_written, &w[i]),
              0);
  }
  for (int i = 0; i < 12; i++) {
    RUN_UNTIL(p.loop, w[i].done);
    CHECK_INT(w[i].status, 0);
  }
  CHECK_INT(sql_int("SELECT count(*) FROM %s.code", &p), 2);
  CHECK_INT(sql_int("SELECT max(number) FROM %s.changes WHERE app = 'default'", &p), 10);
  close_place(&p);
}

/* ---- the server goes away ---- */

static int control(const char *verb) {
  char text[512];
  snprintf(text, sizeof text, "script/postgres %s %s", verb, server_dir);
  return system(text);
}

static PGconn *connect_to(const char *where) {
  const char *keys[] = {"dbname", NULL}, *values[] = {where, NULL};
  return PQconnectdbParams(keys, values, 1);
}

static void connect_admin(void) {
  if (admin) PQfinish(admin);
  admin = connect_to(url);
  if (PQstatus(admin) != CONNECTION_OK) {
    fprintf(stderr, "%s", PQerrorMessage(admin));
    exit(1);
  }
  sql("SET client_min_messages = warning");
}

/** A server of this test's own, because the other one is shared with specs that run beside this. */
static void use_own_server(void) {
  static char own_url[256], own_dir[256];
  char command[64];
  snprintf(command, sizeof command, "script/postgres start %d", (int)getpid());
  FILE *out = popen(command, "r");
  CHECK(out && fgets(own_url, sizeof own_url, out) && fgets(own_dir, sizeof own_dir, out));
  pclose(out);
  own_url[strcspn(own_url, "\n")] = own_dir[strcspn(own_dir, "\n")] = 0;
  url = own_url;
  server_dir = own_dir;
  connect_admin();
}

static void *crash_and_start(void *arg) {
  CHECK_INT(control("crash"), 0);
  usleep(300000);
  CHECK_INT(control("up"), 0);
  *(_Atomic bool *)arg = true;
  return NULL;
}

/** A server that recovers on a busy machine may take longer than RUN_UNTIL waits. */
#define RUN_LONG(loop, condition)                                                                              \
  do {                                                                                                         \
    int64_t end_ms_ = mw_clock_mono_ms() + 120000;                                                             \
    while (!(condition) && mw_clock_mono_ms() < end_ms_) mw_loop_turn((loop), true);                           \
    CHECK(condition);                                                                                          \
  } while (0)

#define RUNS 64
#define STEPS 40

typedef struct flow {
  place *p;
  mw_id id;
  int step, finished;
} flow;

static void next_step(flow *f);

static void on_step(int status, const mw_id *existing, const mw_err *err, void *arg) {
  if (status) fprintf(stderr, "append: %d %s\n", status, err->text);
  CHECK_INT(status, 0);
  flow *f = arg;
  f->step++;
  if (f->step < STEPS)
    next_step(f);
  else
    f->finished = 1;
}

static void next_step(flow *f) {
  mw_write append = append_of(f->id, 1, f->step + 1);
  CHECK_INT(mw_store_write(f->p->client, &append, on_step, f), 0);
}

static void test_appends_survive_a_crash_of_the_server_exactly_once(void) {
  if (system("script/postgres can") != 0) {
    printf("skipped: PostgreSQL's server programs are not here\n");
    return;
  }
  const char *shared_url = url;
  use_own_server();
  place p;
  open_place(&p, 2);
  static flow flows[RUNS];
  static written w[RUNS];
  for (int i = 0; i < RUNS; i++) {
    flows[i] = (flow){.p = &p, .id = mw_id_new()};
    mw_write create = create_of(flows[i].id);
    put(&p, &create, &w[i]);
  }
  for (int i = 0; i < RUNS; i++) RUN_UNTIL(p.loop, w[i].done);
  for (int i = 0; i < RUNS; i++) next_step(&flows[i]);
  RUN_UNTIL(p.loop, flows[0].step >= 3);
  mw_tx *tx = begin(&p, 9000);
  _Atomic bool restarted = false;
  pthread_t thread;
  pthread_create(&thread, NULL, crash_and_start, (void *)&restarted);
  RUN_LONG(p.loop, !p.up);
  CHECK(!mw_store_is_up(p.store));
  char why[256];
  mw_store_why_down(p.store, why, sizeof why);
  CHECK(strstr(why, "PostgreSQL"));
  written refused;
  mw_write create = create_of(mw_id_new());
  put_now(&p, &create, &refused);
  CHECK_INT(refused.status, MW_EUNAVAILABLE);
  answer a;
  ask(&p, "SELECT 1", NULL, 0, 0, &a, NULL);
  RUN_UNTIL(p.loop, a.done);
  CHECK_INT(a.status, MW_EUNAVAILABLE);
  end(&p, tx, true, &a);
  CHECK_INT(a.status, MW_EUNAVAILABLE);
  RUN_LONG(p.loop, p.up);
  pthread_join(thread, NULL);
  CHECK(restarted);
  for (int i = 0; i < RUNS; i++) RUN_LONG(p.loop, flows[i].finished);
  connect_admin();
  CHECK_INT(sql_int("SELECT count(*) FROM %s.journal", &p), RUNS * STEPS);
  CHECK_INT(sql_int("SELECT count(*) FROM %s.executions", &p), RUNS);
  bool answers = false;
  for (int i = 0; i < 100 && !answers; i++) {
    run(&p, "SELECT 1", NULL, 0, &a);
    answers = a.status == 0;
    for (int k = 0; !answers && k < 10; k++) mw_loop_turn(p.loop, false), usleep(5000);
  }
  CHECK(answers);
  close_place(&p);
  url = shared_url;
  connect_admin();
  CHECK_INT(control("stop"), 0);
}

static void test_creates_lost_with_the_connection_are_not_orphaned(void) {
  place p;
  open_place(&p, 1);
  char text[256];
  // The row is committed, but the answer never comes.
  enum {
    N = 30
  };
  static written w[N];
  for (int i = 0; i < N; i++) {
    mw_write create = create_of(mw_id_new());
    put(&p, &create, &w[i]);
  }
  mw_loop_turn(p.loop, false); // Sent at the end of this turn.
  usleep(200000);              // The server commits; nothing is read.
  CHECK_INT(sql_int("SELECT count(*) FROM %s.executions", &p), N);
  snprintf(text, sizeof text,
           "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
           "application_name = 'moonwatch' AND datname = current_database()");
  sql(text);
  for (int i = 0; i < N; i++) RUN_UNTIL(p.loop, w[i].done);
  RUN_UNTIL(p.loop, p.up);
  if (w[0].status == 0) {
    CHECK_INT(sql_int("SELECT count(*) FROM %s.executions WHERE status = 2", &p), N);
  } else {
    CHECK_INT(w[0].status, MW_EUNAVAILABLE);
    RUN_UNTIL(p.loop,
              sql_int("SELECT count(*) FROM %s.executions WHERE status = 1 AND owner IS NULL", &p) == N);
  }
  close_place(&p);
}

/** libpq closes its socket by itself when it finds it broken while sending; libuv aborts on one that is closed and watched. */
static void test_a_connection_that_breaks_while_a_large_statement_is_sent(void) {
  place p;
  open_place(&p, 1);
  answer warm, large, after = {0};
  run(&p, "SELECT 1", NULL, 0, &warm);
  size_t len = 15 << 20;
  char *text = mw_alloc(len);
  memset(text, 'x', len);
  mw_value param = MW_VALUE_OF_TEXT(mw_str_of(text, len));
  ask(&p, "SELECT length($1)", &param, 1, 0, &large, NULL);
  sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'moonwatch' AND datname = "
      "current_database()");
  while (sql_int("SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'moonwatch' AND datname = "
                 "current_database() AND '%s' <> ''",
                 &p)) {
    sql("SELECT pg_sleep(0.01)");
  }
  RUN_UNTIL(p.loop, large.done);
  CHECK_INT(large.status, MW_EUNAVAILABLE);
  while (!after.done || after.status) run(&p, "SELECT 3", NULL, 0, &after);
  CHECK_INT(after.first.i, 3);
  mw_free(text);
  close_place(&p);
}

/* ---- how fast: MW_PG_BENCH=seconds ---- */

typedef struct bench {
  place *p;
  mw_id id;
  int step;
  bool stop;
} bench;

static long long bench_done, bench_commits;

static void bench_next(bench *b);

static void on_bench(int status, const mw_id *existing, const mw_err *err, void *arg) {
  bench *b = arg;
  if (status == MW_ECANCELED) return;
  CHECK_INT(status, 0);
  bench_commits++;
  if (b->step == 4) {
    bench_done++;
    b->step = 0;
    if (b->stop) return;
  }
  bench_next(b);
}

static void bench_next(bench *b) {
  if (b->step == 0) b->id = mw_id_new();
  mw_write write = b->step == 0 ? create_of(b->id) : append_of(b->id, 1, b->step);
  if (b->step == 3) {
    write.status = MW_STATUS_COMPLETED;
    write.output = MW_STR("{\"emailed\":true}");
  }
  b->step++;
  CHECK_INT(mw_store_write(b->p->client, &write, on_bench, b), 0);
}

static void bench_with(int concurrent, int seconds) {
  place p;
  open_place(&p, 1);
  bench *all = mw_calloc((size_t)concurrent, sizeof *all);
  bench_done = bench_commits = 0;
  for (int i = 0; i < concurrent; i++) {
    all[i].p = &p;
    bench_next(&all[i]);
  }
  int64_t started = mw_clock_mono_ms(), half = 0, half_done = 0;
  while (mw_clock_mono_ms() - started < seconds * 1000) {
    mw_loop_turn(p.loop, true);
    if (!half && mw_clock_mono_ms() - started > seconds * 500) {
      half = mw_clock_mono_ms();
      half_done = bench_done;
    }
  }
  double rate = (double)(bench_done - half_done) * 1000.0 / (double)(mw_clock_mono_ms() - half);
  printf("%5d at once: %.0f three-step executions/s (%.0f durable writes/s)\n", concurrent, rate, rate * 4);
  fflush(stdout);
  for (int i = 0; i < concurrent; i++) all[i].stop = true;
  close_place(&p);
  mw_free(all);
}

/** So that nothing here reaches specs that run beside this on the same server. */
static void use_own_database(void) {
  static char own[512];
  char text[64];
  connect_admin();
  snprintf(text, sizeof text, "CREATE DATABASE pg_test_%d", (int)getpid());
  sql(text);
  const char *host = strstr(url, "://") + 3, *slash = strchr(host, '/');
  snprintf(own, sizeof own, "%.*s/pg_test_%d", slash ? (int)(slash - url) : (int)strlen(url), url,
           (int)getpid());
  url = own;
  connect_admin();
}

int main(int argc, char **argv) {
  CHECK_INT(mw_pq_load(NULL), 0);
  url = getenv("MW_TEST_DATABASE_URL");
  if (!url || !url[0]) {
    printf("skipped: MW_TEST_DATABASE_URL is not set (script/postgres run %s)\n", argv[0]);
    return SKIP;
  }
  use_own_database();
  mw_log_configure(MW_LOG_ERROR, MW_LOG_FORMAT_AUTO);
  const char *seconds = getenv("MW_PG_BENCH");
  if (seconds) {
    bench_with(1, atoi(seconds));
    bench_with(64, atoi(seconds));
    bench_with(1000, atoi(seconds));
    bench_with(4000, atoi(seconds));
    return 0;
  }
  const test tests[] = {
      TEST(test_statement_checks),
      TEST(test_values_go_in_and_out),
      TEST(test_errors_are_told_apart),
      TEST(test_a_syntax_error_harms_no_neighbour),
      TEST(test_a_slow_statement_times_out_and_neighbours_do_not),
      TEST(test_cancelling_answers_at_once_and_stops_the_server),
      TEST(test_a_changed_table_does_not_break_prepared_statements),
      TEST(test_transactions_commit_roll_back_and_are_doomed_by_errors),
      TEST(test_a_transaction_out_of_time_is_rolled_back),
      TEST(test_a_full_pool_makes_wait_and_then_refuses),
      TEST(test_a_stale_member_harms_no_other),
      TEST(test_a_poisoned_member_harms_no_other),
      TEST(test_names_give_one_execution),
      TEST(test_claims_what_is_due_and_what_its_owner_left),
      TEST(test_another_node_takes_over_when_the_lease_is_over),
      TEST(test_code_and_changes_are_kept_in_order),
      TEST(test_appends_survive_a_crash_of_the_server_exactly_once),
      TEST(test_creates_lost_with_the_connection_are_not_orphaned),
      TEST(test_a_connection_that_breaks_while_a_large_statement_is_sent),
  };
  int rc = RUN_TESTS(argc, argv, tests);
  PQfinish(admin);
  mw_work_shutdown();
  return rc;
}
