// SPDX-License-Identifier: MIT
#pragma once

// The engine's writes: executions and their journal. Writes of many executions share one commit (group commit), and a bad or
// stale member never harms the others: each is answered for itself.
//
// An execution is owned by a node (its epoch) and fenced by a number that grows with every claim. A write that carries another
// owner or fence changes nothing and answers MW_ESTALE. The journal of an execution is append-only, keyed (execution, number);
// appending the same number again with the same fence (after a lost connection) succeeds once and is answered 0 both times.
//
// While PostgreSQL is away a CREATE is answered MW_EUNAVAILABLE; an APPEND waits (up to `patience_ms`) and is sent again,
// because its effect has happened already and only its record is missing.
//
//   mw_write w = {.kind = MW_WRITE_APPEND, …};
//   rc = mw_store_write(client, &w, on_written, arg);       // the strings of w are copied

#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "base/str.h"
#include "store/store.h"

/** Statuses as stored. The first seven are unfinished. */
#define MW_STATUS_TABLE(X)                                                                                     \
  X(QUEUED, 1, "queued") X(RUNNING, 2, "running") X(SLEEPING, 3, "sleeping") X(WAITING, 4, "waiting")          \
  X(PAUSED, 5, "paused") X(BLOCKED, 6, "blocked") X(STUCK, 7, "stuck")                                         \
  X(COMPLETED, 8, "completed") X(FAILED, 9, "failed") X(CANCELLED, 10, "cancelled")

typedef enum mw_status {
  MW_STATUS_NONE = 0,
#define MW_STATUS_ENUM(name, value, text) MW_STATUS_##name = value,
  MW_STATUS_TABLE(MW_STATUS_ENUM)
#undef MW_STATUS_ENUM
} mw_status;

/** Returns "queued" …; NULL for an unknown number. */
const char *mw_status_name(int status);
/** Returns the number of a name, or MW_STATUS_NONE. */
mw_status mw_status_parse(mw_str name);

typedef enum mw_write_kind { MW_WRITE_CREATE, MW_WRITE_APPEND } mw_write_kind;

/** What a write has beyond that of a plain run. What it says is done in the commit of the write. */
typedef struct mw_write_more {
  /* CREATE */
  mw_str group;      /**< Empty: none. At most `group_slots` runs of an app, workflow and group have begun and not ended at a time. Such a
                          run is QUEUED or SLEEPING, never RUNNING; without a slot it is BLOCKED until the end of another gives it one, by
                          priority and age. */
  int group_slots;   /**< At least 1. The newest number said holds for the group, and so with the next two. */
  int64_t group_every_us; /**< Not 0: runs of the group begin this far from each other; one that has a slot sleeps until its turn. */
  int group_burst;   /**< So many may begin at once after a while without any; at least 1. */
  int priority;      /**< Higher first, among the runs of a workflow; -100 to 100. */
  mw_str tags;       /**< JSON, or empty. */
  bool has_parent;
  mw_id parent;
  mw_str parent_key; /**< Not empty: the end of this run is a signal "$child:KEY" to the parent, with {"status", "output", "error"}. */
  bool own_id;       /**< The id was made before: creating it twice is MW_EEXISTS. */

  /* APPEND */
  mw_str state;      /**< JSON that `ctx:set` shows; empty: as it was. */
  mw_str waits;      /**< With WAITING: the names of the signals that end it, "\nNAME\nNAME\n". One that is there already ends it at
                          once: it is QUEUED. */
  mw_str take;       /**< Ids of the signals that the row consumes, "ID\nID"; it needs a row. */
  int *control;      /**< Not NULL: set to the row's `control` before the callback is called; must live until then. */
} mw_write_more;

typedef struct mw_write {
  mw_write_kind kind;
  mw_id id;
  int64_t fence; /**< CREATE: the fence it begins with (1 when owned at once, else 0). APPEND: the one it was claimed with. */
  int64_t now_us;

  /* CREATE */
  mw_str app;         /**< Empty: "default". */
  mw_str workflow;
  mw_str external_id; /**< Empty: none. Unique an app and workflow. */
  mw_str key;         /**< Idempotency-Key of the request; empty: none. Unique an app for 24 h. */
  mw_str request_hash; /**< SHA-256 of what was asked, compared when `external_id` or `key` is known already. */
  mw_str input;       /**< JSON, or empty for none. */
  mw_str bundle;      /**< Hash of the code bundle it is pinned to. */
  mw_str seed;        /**< What its random numbers and virtual time begin with; short text. */
  int api_level;
  mw_status status;   /**< RUNNING: owned by this node from the start. QUEUED: up for claiming at once, in the order of due_us, whatever
                           the clocks say. SLEEPING: not before due_us. */
  int64_t due_us;

  /* APPEND (status, due_us, output and error change only when status is not NONE) */
  int64_t number;     /**< Place in the journal, from 1. 0: no journal row, only the status, or only `more->state`. */
  mw_str data;        /**< The journal row: a format number, a newline, JSON text. Opaque here. */
  mw_str output, error; /**< JSON, or empty for none. With a final status they are stored. */
  int64_t patience_ms; /**< 0: 60 s. */
  bool unattended;     /**< Nobody is there to try again: on both engines it is kept, and sent again, while the database is away or its
                            disk fails, for a day or until the client closes. */
  const mw_write_more *more; /**< NULL: a plain run's. Copied. */
} mw_write;

/** status 0: committed. CREATE: MW_EEXISTS: it was there already with the same request, `existing` is its id; MW_ECONFLICT: there
 *  with another request; MW_ELIMIT: a payload too large; MW_EUTF8; MW_EBUSY: it would wait too long (back pressure).
 *  APPEND: MW_ESTALE. */
typedef void (*mw_write_cb)(int status, const mw_id *existing, const mw_err *err, void *arg);

/** Queues one member. Returns an error and never calls back, or 0 and calls back exactly once, later. */
int mw_store_write(mw_store_client *client, const mw_write *write, mw_write_cb cb, void *arg);

/** This process as an owner of executions. The epoch is new at every start; a node is known by an id kept in the data
 *  directory, so that it takes over its own earlier executions at once and those of others when their lease has run out. */
int64_t mw_store_epoch(const mw_store *store); /**< 0 until registered. Thread-safe. */
/** Registers the node (a row with a lease, renewed every third of it by the first client; done again after the database was
 *  away). `cb` comes when it has an epoch. Call once a process, after migrating. */
int mw_store_register_node(mw_store_client *client, void (*cb)(int status, const mw_err *err, void *arg), void *arg);
/** Monotonic milliseconds until which this node may start steps (two thirds of the lease, from when the renewal was sent).
 *  INT64_MAX on SQLite. Thread-safe. */
int64_t mw_store_lease_until_ms(const mw_store *store);

/** One claimed execution; borrowed until the callback returns. */
typedef struct mw_claimed {
  mw_id id;
  int64_t fence;
  int64_t created_us;
  int api_level;
  bool interrupted; /**< It was running when its owner went away. */
  mw_str app, workflow, input, bundle, seed;
  int control;      /**< What an operator wants: 0 nothing, 1 pause, 2 cancel, 3 cancel with undo. */
  int priority;
  bool has_parent;
  mw_id parent;
  mw_str group, parent_key, tags, state; /**< Empty: none. */
} mw_claimed;

typedef void (*mw_claim_cb)(int status, const mw_claimed *list, size_t count, int64_t next_due_us, const mw_err *err, void *arg);

/** Claims up to `limit` executions that are due (queued, sleeping or waiting) or orphaned, in one durable conditional update. Workflows
 *  get equal shares of it. In a workflow the highest priority comes first, then what is due longest; a run counts one priority more for
 *  every minute that it is due. What is paused is left,
 *  unless it was cancelled (control 2 or 3). `next_due_us`: when to claim again (INT64_MAX: nothing is known to become
 *  due). */
int mw_store_claim(mw_store_client *client, int64_t now_us, int limit, mw_claim_cb cb, void *arg);

/** Stores code by content: bundle manifest and sources; what is there already stays. Durable before it answers. */
typedef struct mw_code {
  mw_str hash; /**< SHA-256, 64 hex digits. */
  mw_str text;
} mw_code;
int mw_store_put_code(mw_store_client *client, const mw_code *list, size_t count, mw_write_cb cb, void *arg);

/** Adds a row to `changes` (what happened, to what, by whom), numbered in commit order. `detail` is JSON. */
int mw_store_add_change(mw_store_client *client, mw_str app, mw_str kind, mw_str subject, mw_str actor, mw_str detail,
                        mw_write_cb cb, void *arg);
