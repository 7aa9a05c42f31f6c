// SPDX-License-Identifier: MIT
#pragma once

// The inside of the SQLite engine. Private to sqlite*.c.
//
// A file (moonwatch.db, app.db, telemetry.db) has one writer thread, some reader threads and queues under one lock. A job is made on a
// worker's loop, goes through a queue, is run by a thread of the file, and comes back through its client's inbox: one post to a
// loop for everything that was answered together. A job's memory belongs to the loop before and after, to the thread between.
//
// Engine writes ("members") are collected during a turn of the loop and handed over at its end; the writer commits all it finds in one
// transaction (sqlite_group.c). Statements (sqlite_query.c) are read by readers and written by the writer; a transaction
// of a task holds the writer until it ends.

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "loop/thread.h"
#include "loop/timer.h"
#include "store/engine.h"
#include "store/sqlite_health.h"

typedef struct mw_sqlite_store mw_sqlite_store;
typedef struct mw_sqlite_client mw_sqlite_client;
typedef struct mw_sqlite_file mw_sqlite_file;
typedef struct mw_sqlite_job mw_sqlite_job;
typedef struct mw_sqlite_tx mw_sqlite_tx;

// ---- connections (sqlite_conn.c) ----

/** A cached statement. */
typedef struct mw_sqlite_stmt {
  mw_list node; // in mw_sqlite_conn.recent, most recently used last
  sqlite3_stmt *stmt;
  char *sql;
  size_t len;
  int params; // highest number of a placeholder
} mw_sqlite_stmt;

/** One connection; used by one thread at a time. */
typedef struct mw_sqlite_conn {
  sqlite3 *db;
  const char *path; // the file's, borrowed
  bool guarded;     // statements of plugins: the authorizer refuses what is not theirs
  bool only_reads;  // opened so; else a refusal to write is the machine's
  bool trusted;     // set around our own BEGIN, COMMIT …
  const char *refused; // what the authorizer refused last, a sentence
  mw_sqlite_job *job;  // what runs; the progress handler looks at its deadline and cancel flag
  int64_t runs_until_ns; // in virtual time: by the machine's clock; 0: not looked at yet
  mw_map cache;        // sql -> mw_sqlite_stmt
  mw_list recent;
} mw_sqlite_conn;

enum { MW_SQLITE_READ_ONLY_FILE = 1, MW_SQLITE_QUERY_ONLY = 2, MW_SQLITE_GUARDED = 4, MW_SQLITE_NORMAL = 8 };

/** Opens a connection with our pragmas. `flags` as above. A file that is not there is made, readable by its owner alone. */
int mw_sqlite_conn_open(mw_sqlite_conn *conn, const char *path, int flags, mw_err *err);
void mw_sqlite_conn_close(mw_sqlite_conn *conn);
/** Runs our own SQL (BEGIN …), which the guard does not look at. Returns SQLite's code. */
int mw_sqlite_control(mw_sqlite_conn *conn, const char *sql);
/** Returns SQLITE_READONLY_DBMOVED when the file is not at its path any more. SQLite itself would go on writing to it, and what is
 *  acknowledged then would be lost at the next start; so this is asked before every commit. */
int mw_sqlite_check_place(mw_sqlite_conn *conn);
/** Finds or prepares a statement that has exactly one statement in it. `*owned` comes back true when it is not cached: free it with
 *  mw_sqlite_stmt_free. */
int mw_sqlite_prepare(mw_sqlite_conn *conn, mw_str sql, mw_sqlite_stmt **out, bool *owned, mw_err *err);
void mw_sqlite_stmt_free(mw_sqlite_stmt *stmt);
/** Translates the last error of the connection; returns our code. */
int mw_sqlite_fail(mw_sqlite_conn *conn, int rc, mw_err *err);
/** Returns "SQLITE_CONSTRAINT_UNIQUE" …; "SQLITE_ERROR" for an unknown number. */
const char *mw_sqlite_result_name(int extended_rc);
/** True when no statement is to blame: disk full, I/O error, damaged file, no memory, lock held by a foreign process. */
bool mw_sqlite_is_environment(int rc);

// ---- jobs ----

typedef enum mw_sqlite_kind {
  MW_SQLITE_WRITE, MW_SQLITE_CLAIM, MW_SQLITE_CODE, MW_SQLITE_CHANGE, MW_SQLITE_NODE, // members of a group
  MW_SQLITE_QUERY, MW_SQLITE_BEGIN, MW_SQLITE_TX_QUERY, MW_SQLITE_TX_END,
} mw_sqlite_kind;

typedef enum mw_sqlite_state { MW_SQLITE_QUEUED, MW_SQLITE_RUNNING, MW_SQLITE_DONE } mw_sqlite_state;

struct mw_sqlite_job {
  mw_query base; // a query's handle; also where `client` is
  mw_list node;  // in a queue, a group, an inbox
  mw_sqlite_kind kind;
  int status;
  size_t bytes;  // what it counts for in queued_bytes
  mw_err *err;   // made when there are words
};

typedef struct mw_sqlite_member {
  mw_sqlite_job job;
  union {
    mw_write write;
    struct { int64_t now_us, clock_us; int limit; int64_t next_due_us; mw_arena arena; mw_claimed *list; size_t count; } claim;
    struct { mw_code *list; size_t count; int64_t now_us; } code;
    struct { mw_str app, kind, subject, actor, detail; int64_t now_us; } change;
    struct { int64_t epoch, now_us; } node;
  };
  union {
    mw_write_cb written;
    mw_claim_cb claimed;
    void (*registered)(int status, const mw_err *err, void *arg);
  } cb;
  void *arg;
  mw_id existing;
  bool has_existing;
  int control;      // of an append with more: the row's
  int64_t until_ms; // of an unattended write: when it is given up
} mw_sqlite_member;

/** What a statement gave; made on a file's thread, read on the loop. */
typedef struct mw_sqlite_result {
  mw_rows rows;
  mw_arena arena;
  mw_value *values; // grows
  size_t cap, bytes;
} mw_sqlite_result;

typedef struct mw_sqlite_query {
  mw_sqlite_job job;
  mw_list client_node; // in mw_sqlite_client.queries
  mw_sqlite_file *file;
  mw_sqlite_state state;     // under the file's lock
  mw_list *queue;            // where it waits while QUEUED
  _Atomic int cancel;        // why it should stop; 0: go on
  int64_t deadline_ns;
  mw_timer timer;
  mw_query_opts opts;        // sql and params point behind this struct
  mw_sqlite_tx *tx;
  bool commit;               // TX_END
  const char *sqlstate;
  mw_sqlite_result result;
  mw_query_cb cb;
  mw_tx_cb tx_cb;
  void *arg;
} mw_sqlite_query;

struct mw_sqlite_tx {
  mw_tx base;
  mw_list client_node; // in mw_sqlite_client.txs
  mw_sqlite_file *file;
  int64_t timeout_ms;
  int64_t deadline_ns;   // the writer's, set when it begins
  int doom;              // the writer's: what every later call answers
  mw_err doom_err;
  const char *doom_state;
  mw_sqlite_query *pending; // the loop's: one at a time
  bool ending;
  bool orphaned;          // its client is gone before its owner ended it, who still has the pointer
  bool released;          // the owner of an orphan has let go of it
  mw_store_client orphan; // stands for the client then
};

// ---- files (sqlite_file.c) ----

struct mw_sqlite_file {
  mw_sqlite_store *store;
  char *path;
  int flags;         // of its connections
  bool has_writer, opened;
  int readers_count;
  mw_thread writer_thread, *reader_threads;
  mw_sqlite_conn writer;

  pthread_mutex_t lock;
  pthread_cond_t write_cond, read_cond;
  mw_list members, writes, tx_jobs, reads; // jobs that wait
  size_t waiting_queries, waiting_query_bytes;
  bool stopping;
  mw_sqlite_tx *tx; // holds the writer; the writer thread alone changes it

  _Atomic size_t queued, queued_bytes;  // members that wait or are being committed
  _Atomic int64_t group_ns;             // smoothed time of one group
  _Atomic int64_t group_started_ns;     // 0: none is being committed
  _Atomic int64_t waiting_since_ns;     // when the oldest of `members` came, about; 0: there are none
  _Atomic int wal_pages;
  _Atomic int checkpoint_mark; // pages of log that call for a checkpoint
  _Atomic int checkpoint; // MW_SQLITE_CP_…
  sqlite3_stmt **prepared; // of sqlite_group.c
  sqlite3_stmt **claim_prepared; // of sqlite_claim.c
  size_t claim_turn;       // which workflow comes first in the next claim
  mw_sqlite_health health;
  int64_t clock_us;        // the writer's: wall clock minus monotonic clock at the last claim; 0: none yet

  // Instead of threads, when the store is served on a loop (mw_store_conf.inline_loop).
  mw_loop *inline_loop;
  bool kicked;           // serve_inline is posted
  mw_sqlite_conn reader;
  mw_timer tx_timer;     // the transaction's deadline
  bool orphans_done;       // the last look found no execution of an earlier epoch
};

enum { MW_SQLITE_GROUP_MEMBERS = 1024 }; // in one transaction

enum { MW_SQLITE_CP_NONE, MW_SQLITE_CP_WANTED, MW_SQLITE_CP_FINISH };

enum { MW_SQLITE_ENGINE_FILE, MW_SQLITE_APP_FILE, MW_SQLITE_TELEMETRY_FILE, MW_SQLITE_FILES };

struct mw_sqlite_store {
  mw_store base;
  mw_sqlite_file files[MW_SQLITE_FILES];
  mw_thread checkpointer;
  bool has_checkpointer, cp_stopping;
  pthread_mutex_t cp_lock;
  pthread_cond_t cp_cond;
};

struct mw_sqlite_client {
  mw_store_client base;
  mw_list outbox; // members of this turn
  size_t outbox_count, outbox_bytes;
  bool flush_due;
  size_t outstanding;
  mw_list again;        // unattended members whose write failed; outstanding
  mw_timer again_timer;
  mw_list queries, txs;
  pthread_mutex_t lock; // guards inbox
  mw_list inbox;
  bool closing;
  void (*closed)(void *arg);
  void *closed_arg;
};

int mw_sqlite_file_open(mw_sqlite_file *file, mw_sqlite_store *store, const char *name, int flags, int readers, mw_err *err);
void mw_sqlite_file_close(mw_sqlite_file *file);
/** Puts a query into a queue of its file and wakes who serves it. False when too much waits already. */
bool mw_sqlite_file_enqueue(mw_sqlite_query *query, mw_list *queue);
/** Members were put into file->members: wakes the writer. The lock is held. */
void mw_sqlite_file_wake(mw_sqlite_file *file);
/** Takes a waiting query out; false when it runs or is done. */
bool mw_sqlite_file_withdraw(mw_sqlite_query *query);
int mw_sqlite_checkpointer_start(mw_sqlite_store *store, mw_err *err);
void mw_sqlite_checkpointer_stop(mw_sqlite_store *store);
/** Asks for a checkpoint of a file in the background. Thread-safe. */
void mw_sqlite_checkpoint(mw_sqlite_file *file);

// ---- running (sqlite_group.c, sqlite_query.c), on the file's threads ----

/** Commits members and answers them. */
void mw_sqlite_group_run(mw_sqlite_file *file, mw_list *members);
void mw_sqlite_group_deinit(mw_sqlite_file *file);
/** Runs a claim, a member of a group. Returns SQLite's code. */
int mw_sqlite_claim_run(mw_sqlite_file *file, mw_sqlite_member *member);
void mw_sqlite_claim_deinit(mw_sqlite_file *file);

void mw_sqlite_query_init(mw_sqlite_query *query);
void mw_sqlite_query_deinit(mw_sqlite_query *query);
/** Runs a statement on a connection; fills status, err, sqlstate and result. `forward` (may be NULL): set instead when it writes. */
void mw_sqlite_query_run(mw_sqlite_conn *conn, mw_sqlite_query *query, bool *forward);
/** Runs statements that stand alone, sharing commits, and answers them. */
void mw_sqlite_writes_run(mw_sqlite_file *file, mw_list *writes);
/** Serves one job of a transaction, or BEGIN, and answers it. */
void mw_sqlite_tx_run(mw_sqlite_file *file, mw_sqlite_query *query);
/** Rolls the file's transaction back because its time is over. */
void mw_sqlite_tx_expire(mw_sqlite_file *file);

// ---- answers (sqlite.c) ----

/** Hands finished jobs back to their loops. Thread-safe. */
void mw_sqlite_answer(mw_list *jobs);
void mw_sqlite_answer_one(mw_sqlite_job *job);
/** Gives a job its error. */
int mw_sqlite_job_fail(mw_sqlite_job *job, int code, const mw_err *err);

// ---- a client's jobs (sqlite.c), its loop only ----

/** One more job is under way: the loop lives until it is answered. */
void mw_sqlite_add_outstanding(mw_sqlite_client *client);
/** Closes a client that is to be closed and has nothing under way. */
void mw_sqlite_try_close(mw_sqlite_client *client);
/** Copies a text to `*at`, which moves behind it. */
mw_str mw_sqlite_pack(char **at, mw_str text);
/** MW_ECANCELED on a client that closes, MW_EDENIED when the store was opened for reading. */
int mw_sqlite_check_writable(const mw_sqlite_client *client);

// ---- members (sqlite_member.c), the client's loop only; the functions of mw_engine with these names ----

int mw_sqlite_write(mw_store_client *client, const mw_write *write, mw_write_cb cb, void *arg);
int mw_sqlite_register_node(mw_store_client *client, void (*cb)(int status, const mw_err *err, void *arg), void *arg);
int mw_sqlite_claim(mw_store_client *client, int64_t now_us, int limit, mw_claim_cb cb, void *arg);
int mw_sqlite_put_code(mw_store_client *client, const mw_code *list, size_t count, mw_write_cb cb, void *arg);
int mw_sqlite_add_change(mw_store_client *client, mw_str app, mw_str kind, mw_str subject, mw_str actor, mw_str detail, mw_write_cb cb, void *arg);
/** Hands what was collected in this turn to the writer. `arg` is the client. */
void mw_sqlite_flush(void *arg);
/** Hands over again what failed and nobody waits for. `arg` is the client. */
void mw_sqlite_on_again(mw_timer *timer, void *arg);
