// SPDX-License-Identifier: MIT
#pragma once

// The statements of a group: its members as arrays, the SQL, and which members came back. Knows nothing of when
// groups run (pg_group.h).

#include "base/map.h"
#include "store/journal.h"
#include "store/pg_array.h"
#include "store/pg_conn.h"

typedef struct mw_pg_writer mw_pg_writer;

/** A write with its strings copied behind it; one allocation. */
typedef struct mw_pg_member {
  mw_list node;
  mw_write w; /**< `more` points to the next. */
  mw_write_more more;
  mw_write_cb cb;
  void *arg;
  uint64_t sequence;
  int64_t queued_ms, until_ms;
  size_t bytes;
  int control; /**< Of an append with more: the row's. */
  int outcome; /**< Of the group under way: MW_ESTALE until it came back. */
  mw_id existing;
} mw_pg_member;

mw_pg_member *mw_pg_member_new(const mw_write *write, mw_write_cb cb, void *arg);

/** The names (idempotency keys, external ids) in a group, each of which may be there once. */
typedef struct mw_pg_names {
  mw_map map;
  mw_buf name;
} mw_pg_names;
void mw_pg_names_init(mw_pg_names *names);
void mw_pg_names_deinit(mw_pg_names *names);
/** Returns false when a name of `write` is in use. */
bool mw_pg_names_add(mw_pg_names *names, const mw_write *write);

typedef struct mw_pg_batch_sql {
  char *lock_rows, *take_groups, *create, *create_more, *take_keys, *create_named, *create_named_more, *append_more, *take_signals, *point_keys, *find_named, *append, *check, *release, *release_claims;
} mw_pg_batch_sql;
void mw_pg_batch_sql_init(mw_pg_batch_sql *sql, const mw_pg_writer *writer);
void mw_pg_batch_sql_deinit(mw_pg_batch_sql *sql);

#define MW_PG_BATCH_ARRAYS 32

/** What a group under way holds; used again for the next one. */
typedef struct mw_pg_batch {
  mw_pg_array arrays[MW_PG_BATCH_ARRAYS];
  mw_pg_binds binds[MW_PG_STMTS_MAX];
  bool named; /**< Some member has a key or an external id. */
  bool more;  /**< Some member is not a plain run's. */
  int writes; /**< Which statement writes the members, and says which it wrote. */
} mw_pg_batch;
void mw_pg_batch_deinit(mw_pg_batch *batch);

/** Fills the statements of `op`. `members` are in the order of their ids. */
void mw_pg_batch_fill(mw_pg_batch *batch, mw_write_kind kind, const mw_pg_batch_sql *sql, int64_t epoch,
                      mw_pg_member **members, int count, mw_pg_op *op);
/** Sets the outcome of the members that a result names. */
void mw_pg_batch_take(mw_write_kind kind, const mw_pg_batch *batch, int stmt, mw_pg_member **members, int count,
                      const PGresult *result);
/** Asks which appends are there already, with the same fence. */
void mw_pg_batch_fill_check(mw_pg_batch *batch, const mw_pg_batch_sql *sql, mw_pg_member **members, int count,
                            mw_pg_op *op);
void mw_pg_batch_take_check(mw_pg_member **members, int count, const PGresult *result);
