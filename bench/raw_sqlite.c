// SPDX-License-Identifier: MIT

// The limit that SQLite sets: the rows of a 3-step execution (one with three indexes, three journal rows, one conditional update) in four
// group commits, nothing else. Prints {"rate":executions/s,"p50_ms":time of the first three commits of a group}. PAUSE-MS is slept
// after each group, so that the engine is idle when the next begins.
//
//   bench_raw_sqlite FILE EXECUTIONS-A-COMMIT [EXECUTIONS [PAUSE-MS]]

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static sqlite3 *db;

static void check(int rc) {
  if (rc == SQLITE_OK || rc == SQLITE_DONE || rc == SQLITE_ROW) return;
  fprintf(stderr, "sqlite: %s\n", sqlite3_errmsg(db));
  exit(1);
}

static void run(const char *sql) { check(sqlite3_exec(db, sql, NULL, NULL, NULL)); }

static sqlite3_stmt *prepare(const char *sql) {
  sqlite3_stmt *statement;
  check(sqlite3_prepare_v2(db, sql, -1, &statement, NULL));
  return statement;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void make_id(uint64_t number, unsigned char id[16]) {
  uint64_t random = number * 0x9E3779B97F4A7C15u;
  for (int i = 0; i < 8; i++) id[i] = (unsigned char)(number >> (56 - 8 * i));
  memcpy(id + 8, &random, 8);
}

// How long the first three commits of each group took: what lies between created_us and finished_us of a real execution.
static double took_ms[100000];

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  static const char entry[] = "1\n[[\"r\",{\"n\":1}],[\"a\",\"b\",1]]";
  if (argc < 3) return 2;
  int total = argc > 3 ? atoi(argv[3]) : 20480, pause_ms = argc > 4 ? atoi(argv[4]) : 0, groups = 0;
  int group = atoi(argv[2]);
  check(sqlite3_open(argv[1], &db));
  run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
      "CREATE TABLE e(id BLOB PRIMARY KEY, workflow TEXT, status INT, owner INT, fence INT, due_us INT, input TEXT, output TEXT,"
      " created_us INT, finished_us INT) WITHOUT ROWID;"
      "CREATE INDEX e1 ON e(workflow, status, id); CREATE INDEX e2 ON e(owner) WHERE status = 2;"
      "CREATE TABLE j(execution BLOB, number INT, fence INT, at_us INT, data TEXT, PRIMARY KEY(execution, number)) WITHOUT ROWID;");
  sqlite3_stmt *create = prepare("INSERT INTO e VALUES(?1,'bench',2,1,1,0,'{\"batch\":\"x\"}',NULL,1,NULL)");
  sqlite3_stmt *append = prepare("INSERT INTO j SELECT ?1,?2,1,1,?3 WHERE EXISTS(SELECT 1 FROM e WHERE id=?1 AND owner=1 AND fence=1)");
  sqlite3_stmt *finish = prepare("UPDATE e SET status=8, output='{\"n\":3}', finished_us=2 WHERE id=?1 AND owner=1 AND fence=1");
  double from = now();
  for (int first = 0; first < total; first += group) {
    double began = now();
    for (int commit = 0; commit < 4; commit++) {
      if (commit == 3 && groups < 100000) took_ms[groups++] = (now() - began) * 1000;
      run("BEGIN IMMEDIATE");
      for (int i = first; i < first + group; i++) {
        unsigned char id[16];
        make_id((uint64_t)i, id);
        sqlite3_stmt *statement = commit ? append : create;
        check(sqlite3_bind_blob(statement, 1, id, 16, SQLITE_STATIC));
        if (commit) {
          check(sqlite3_bind_int(statement, 2, commit));
          check(sqlite3_bind_text(statement, 3, entry, sizeof entry - 1, SQLITE_STATIC));
        }
        check(sqlite3_step(statement));
        sqlite3_reset(statement);
        if (commit < 3) continue;
        check(sqlite3_bind_blob(finish, 1, id, 16, SQLITE_STATIC));
        check(sqlite3_step(finish));
        sqlite3_reset(finish);
      }
      run("COMMIT");
    }
    if (pause_ms) usleep((useconds_t)pause_ms * 1000);
  }
  double rate = total / (now() - from);
  qsort(took_ms, (size_t)groups, sizeof *took_ms, by_size);
  printf("{\"engine\":\"sqlite\",\"group\":%d,\"rate\":%.0f,\"p50_ms\":%.3f}\n", group, rate, took_ms[groups / 2]);
  return 0;
}
