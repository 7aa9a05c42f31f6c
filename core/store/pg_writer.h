// SPDX-License-Identifier: MIT
#pragma once

// mw_pg_writer: the connection on which a worker's durable engine writes go: groups (pg_group.h), claims, code,
// changes and the node's lease. Kept open, opened again with backoff. Owner's thread only.
//
// It is up when the database answers and, once the node is registered, when the lease has been renewed on this
// connection.

#include <stdbool.h>

#include "store/pg_array.h"
#include "store/postgres.h"

mw_pg_writer *mw_pg_writer_new(mw_pg_client *client);
/** Answers everything with MW_ECANCELED (from within this call), closes; `gone` comes later. */
void mw_pg_writer_close(mw_pg_writer *writer, void (*gone)(void *arg), void *arg);
/** True when no engine write waits for its answer, or none can come because the database is away. */
bool mw_pg_writer_is_settled(const mw_pg_writer *writer);
bool mw_pg_writer_is_up(const mw_pg_writer *writer);
/** The connection, NULL unless up. */
mw_pg_conn *mw_pg_writer_conn(mw_pg_writer *writer);
mw_pg_client *mw_pg_writer_client(mw_pg_writer *writer);
struct mw_pg_groups *mw_pg_writer_groups(mw_pg_writer *writer);
struct mw_pg_notices *mw_pg_writer_notices(mw_pg_writer *writer);
/** Puts the schema for every `{{schema}}` in `sql`; the caller frees it. */
char *mw_pg_writer_sql(const mw_pg_writer *writer, const char *sql);

/** A statement or a few that the writer runs for the engine, freed when answered. */
typedef struct mw_pg_job mw_pg_job;
struct mw_pg_job {
  mw_list node;
  mw_pg_writer *writer;
  mw_pg_op op; /**< The maker fills `stmts`, `nstmts` and `on_result`. */
  mw_pg_binds binds;
  mw_pg_array arrays[3];
  mw_arena arena;
  mw_timer timer;
  void (*answer)(mw_pg_job *job, int status, const mw_err *err);
  int64_t sent_ms;
  bool waits; /**< For the writer to be up. */
  /* for the maker */
  void (*cb)(void);
  void *arg;
  void *data;
  size_t count;
  int64_t number, token, limit;
};

mw_pg_job *mw_pg_job_new(mw_pg_writer *writer, void (*answer)(mw_pg_job *job, int status, const mw_err *err));
/** Runs it. While the writer is not up it answers MW_EUNAVAILABLE, in the next turn, or when another worker's writer is up, and so
 * this one will be in a moment, after 2 s. */
void mw_pg_job_run(mw_pg_job *job);

/** The functions of mw_engine that the writer serves; pg_node.c and pg_writer.c. */
int mw_pg_register_node(mw_store_client *client, void (*cb)(int status, const mw_err *err, void *arg),
                        void *arg);
int mw_pg_claim(mw_store_client *client, int64_t now_us, int limit, mw_claim_cb cb, void *arg);
int mw_pg_put_code(mw_store_client *client, const mw_code *list, size_t count, mw_write_cb cb, void *arg);
int mw_pg_add_change(mw_store_client *client, mw_str app, mw_str kind, mw_str subject, mw_str actor,
                     mw_str detail, mw_write_cb cb, void *arg);
int mw_pg_write(mw_store_client *client, const mw_write *write, mw_write_cb cb, void *arg);

/** Between the writer and the node's lease (pg_node.c). */
typedef struct mw_pg_node mw_pg_node;
mw_pg_node *mw_pg_node_new(mw_pg_writer *writer);
mw_pg_node *mw_pg_writer_node(mw_pg_writer *writer);
/** Answers a registration under way with `err`; before the connection is closed. */
void mw_pg_node_close(mw_pg_node *node, const mw_err *err);
void mw_pg_node_free(mw_pg_node *node);
/** The connection answers. True when a renewal or a registration has begun, whose end calls
 * mw_pg_writer_become_up. */
bool mw_pg_node_on_conn(mw_pg_node *node, mw_pg_conn *conn);
void mw_pg_node_cancel(mw_pg_node *node);
void mw_pg_writer_become_up(mw_pg_writer *writer);
/** The connection is of no use (read-only, no tables): close it and try again later. */
void mw_pg_writer_reject(mw_pg_writer *writer, const mw_err *err);
