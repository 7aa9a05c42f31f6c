// SPDX-License-Identifier: MIT

// The limit that PostgreSQL sets: the rows of a 3-step execution in four group commits of multi-row statements on one connection,
// nothing else. Prints {"rate":executions/s,"p50_ms":time of the first three commits of a group}. PAUSE-MS is
// slept after each group, so that the engine is idle when the next begins.
//
//   bench_raw_postgres URL EXECUTIONS-A-COMMIT [EXECUTIONS [PAUSE-MS]]

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static PGconn *connection;

static void check(PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
    fprintf(stderr, "postgres: %s", PQresultErrorMessage(result));
    exit(1);
  }
  PQclear(result);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// How long the first three commits of each group took: what lies between created_us and finished_us of a real execution.
static double took_ms[100000];

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int total = argc > 3 ? atoi(argv[3]) : 10240, pause_ms = argc > 4 ? atoi(argv[4]) : 0, groups = 0;
  int group = atoi(argv[2]);
  connection = PQconnectdb(argv[1]);
  if (PQstatus(connection) != CONNECTION_OK) {
    fprintf(stderr, "postgres: %s", PQerrorMessage(connection));
    return 1;
  }
  // A fresh table has no statistics, and a plan made then would read it whole for every group.
  check(PQexec(connection, "SET client_min_messages = warning; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"));
  check(PQexec(connection, "DROP SCHEMA IF EXISTS bench_raw CASCADE"));
  check(PQexec(connection, "CREATE SCHEMA bench_raw"));
  check(PQexec(connection, "CREATE TABLE bench_raw.e(id uuid PRIMARY KEY, workflow text, status smallint, owner bigint, fence bigint,"
                           " due_us bigint, input text, output text, created_us bigint, finished_us bigint)"));
  check(PQexec(connection, "CREATE INDEX ON bench_raw.e(workflow, status, id)"));
  check(PQexec(connection, "CREATE INDEX ON bench_raw.e(owner) WHERE status = 2"));
  check(PQexec(connection, "CREATE TABLE bench_raw.j(execution uuid, number int, fence bigint, at_us bigint, data text,"
                           " PRIMARY KEY(execution, number))"));
  check(PQprepare(connection, "create", "INSERT INTO bench_raw.e SELECT id,'bench',2,1,1,0,'{\"batch\":\"x\"}',NULL,1,NULL"
                                        " FROM unnest($1::uuid[]) id", 1, NULL));
  check(PQprepare(connection, "append", "INSERT INTO bench_raw.j SELECT m.id,$2::int,1,1,'1 [[\"r\",{\"n\":1}],[\"a\",\"b\",1]]'"
                                        " FROM unnest($1::uuid[]) AS m(id) JOIN bench_raw.e e ON e.id=m.id AND e.owner=1 AND e.fence=1"
                                        " RETURNING execution", 2, NULL));
  check(PQprepare(connection, "finish", "WITH u AS (UPDATE bench_raw.e SET status=8, output='{\"n\":3}', finished_us=2"
                                        " WHERE id = ANY($1::uuid[]) AND owner=1 AND fence=1 RETURNING id)"
                                        " INSERT INTO bench_raw.j SELECT id,3,1,1,'1 [[\"r\",{\"n\":1}],[\"a\",\"b\",1]]' FROM u RETURNING execution",
                  1, NULL));
  char *ids = malloc((size_t)group * 40 + 8);
  double from = now();
  for (int first = 0; first < total; first += group) {
    char *at = ids;
    *at++ = '{';
    for (int i = first; i < first + group; i++) at += sprintf(at, "%s%08x-0000-7000-8000-%012x", i > first ? "," : "", i, i * 7919);
    strcpy(at, "}");
    const char *values[2] = {ids, NULL};
    double began = now();
    check(PQexecPrepared(connection, "create", 1, values, NULL, NULL, 0));
    for (int number = 1; number < 3; number++) {
      values[1] = number == 1 ? "1" : "2";
      check(PQexecPrepared(connection, "append", 2, values, NULL, NULL, 0));
    }
    if (groups < 100000) took_ms[groups++] = (now() - began) * 1000;
    check(PQexecPrepared(connection, "finish", 1, values, NULL, NULL, 0));
    if (pause_ms) usleep((useconds_t)pause_ms * 1000);
  }
  double took = now() - from;
  qsort(took_ms, (size_t)groups, sizeof *took_ms, by_size);
  check(PQexec(connection, "DROP SCHEMA bench_raw CASCADE"));
  printf("{\"engine\":\"postgres\",\"group\":%d,\"rate\":%.0f,\"p50_ms\":%.3f}\n", group, total / took, took_ms[groups / 2]);
  PQfinish(connection);
  return 0;
}
