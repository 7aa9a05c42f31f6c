// SPDX-License-Identifier: MIT
// Group commit of the engine's writes on SQLite.
//
// Members were checked before they came here, and each tests what could refuse it (key known, fence passed) before it writes, so that
// a refusal leaves nothing behind and needs no savepoint. What fails all the same, fails the transaction; the group then runs again
// in halves until the culprit stands alone with the error. Only when the machine is to blame (disk full) all get the error at once.
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "store/sqlite.h"

typedef enum statement {
  ST_FIND_KEY, ST_ADD_KEY, ST_DROP_KEYS, ST_FIND_EXTERNAL, ST_FIND_ID, ST_CREATE, ST_CREATE_MORE, ST_ADMIT, ST_APPEND, ST_FIND_ENTRY, ST_UPDATE,
  ST_UPDATE_STATE, ST_UPDATE_WAITS, ST_SIGNAL_TAKEN, ST_CONTROL, ST_CODE, ST_COUNT_CHANGE, ST_CHANGE, ST_STOP_NODES, ST_ADD_NODE, ST_BEGIN, ST_COMMIT, ST_ROLLBACK, STATEMENTS,
} statement;

static const char *const texts[STATEMENTS] = {
    [ST_FIND_KEY] = "SELECT execution, request_hash FROM idempotency WHERE app = ?1 AND key = ?2 AND created_us > ?3",
    [ST_ADD_KEY] = "INSERT OR REPLACE INTO idempotency (app, key, execution, request_hash, created_us) VALUES (?1, ?2, ?3, ?4, ?5)",
    [ST_DROP_KEYS] = "DELETE FROM idempotency WHERE (app, key) IN"
                     " (SELECT app, key FROM idempotency WHERE created_us <= ?1 ORDER BY created_us LIMIT 2)",
    [ST_FIND_EXTERNAL] = "SELECT id, request_hash FROM executions WHERE app = ?1 AND workflow = ?2 AND external_id = ?3",
    [ST_FIND_ID] = "SELECT 1 FROM executions WHERE id = ?1",
    [ST_CREATE] = "INSERT INTO executions (id, app, workflow, external_id, status, owner, fence, due_us, bundle, api_level,"
                  " journal_version, seed, input, request_hash, created_us, started_us)"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    [ST_CREATE_MORE] = "INSERT INTO executions (id, app, workflow, external_id, status, owner, fence, due_us, bundle, api_level,"
                       " journal_version, seed, input, request_hash, created_us, started_us, group_key, group_slots, priority, tags, parent,"
                       " parent_key, group_every_us, group_burst)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)",
    [ST_ADMIT] = "UPDATE executions SET status = 6 WHERE id = ?1", // its trigger looks for a slot
    [ST_APPEND] = "INSERT INTO journal (execution, number, fence, at_us, data)"
                  " SELECT ?1, ?2, ?3, ?4, ?5 FROM executions WHERE id = ?1 AND fence = ?3 AND owner = ?6"
                  " ON CONFLICT DO NOTHING",
    [ST_FIND_ENTRY] = "SELECT fence FROM journal WHERE execution = ?1 AND number = ?2",
    [ST_UPDATE] = "UPDATE executions SET status = ?2, owner = ?3, due_us = ?4, output = ?5, error = ?6, finished_us = ?7"
                  " WHERE id = ?1 AND fence = ?8 AND owner = ?9",
    [ST_UPDATE_STATE] = "UPDATE executions SET state = ?2 WHERE id = ?1 AND fence = ?3 AND owner = ?4",
    [ST_UPDATE_WAITS] = "UPDATE executions SET waits = ?2 WHERE id = ?1 AND fence = ?3 AND owner = ?4",
    [ST_SIGNAL_TAKEN] = "UPDATE signals SET taken_us = ?3, data = NULL WHERE execution = ?1 AND id = ?2 AND taken_us IS NULL",
    [ST_CONTROL] = "SELECT control FROM executions WHERE id = ?1",
    [ST_CODE] = "INSERT INTO code (hash, text, created_us) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    [ST_COUNT_CHANGE] = "INSERT INTO change_counters (app, last) VALUES (?1, 1)"
                        " ON CONFLICT (app) DO UPDATE SET last = last + 1 RETURNING last",
    [ST_CHANGE] = "INSERT INTO changes (app, number, at_us, kind, subject, actor, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [ST_STOP_NODES] = "UPDATE nodes SET stopped_us = ?1 WHERE stopped_us IS NULL",
    [ST_ADD_NODE] = "INSERT INTO nodes (node_id, name, started_us) VALUES (?1, ?2, ?3)",
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
};

/** Finds a prepared statement, prepares it on first use (the schema is there only after migrating). */
static int get(mw_sqlite_file *file, statement which, sqlite3_stmt **out) {
  if (!file->prepared) file->prepared = mw_calloc(STATEMENTS, sizeof *file->prepared);
  *out = file->prepared[which];
  if (*out) return SQLITE_OK;
  file->writer.trusted = true;
  int rc = sqlite3_prepare_v3(file->writer.db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
  file->writer.trusted = false;
  file->prepared[which] = *out;
  return rc;
}

void mw_sqlite_group_deinit(mw_sqlite_file *file) {
  for (int i = 0; file->prepared && i < STATEMENTS; i++) sqlite3_finalize(file->prepared[i]);
  mw_free(file->prepared);
  file->prepared = NULL;
}

static void bind_text(sqlite3_stmt *st, int at, mw_str text) {
  sqlite3_bind_text(st, at, text.ptr ? text.ptr : "", (int)text.len, SQLITE_STATIC);
}

static void bind_text_or_null(sqlite3_stmt *st, int at, mw_str text) {
  if (text.len) bind_text(st, at, text);
  else sqlite3_bind_null(st, at);
}

static void bind_id(sqlite3_stmt *st, int at, const mw_id *id) {
  sqlite3_bind_blob(st, at, id->bytes, sizeof id->bytes, SQLITE_STATIC);
}

/** Runs a statement that gives no rows. */
static int run(sqlite3_stmt *st) {
  int rc = sqlite3_step(st);
  sqlite3_reset(st);
  return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static mw_str column_str(sqlite3_stmt *st, int at) {
  const char *text = (const char *)sqlite3_column_text(st, at);
  return mw_str_of(text ? text : "", (size_t)sqlite3_column_bytes(st, at));
}

static void column_id(sqlite3_stmt *st, int at, mw_id *id) {
  const void *blob = sqlite3_column_blob(st, at);
  if (blob && sqlite3_column_bytes(st, at) == (int)sizeof id->bytes) memcpy(id->bytes, blob, sizeof id->bytes);
  else memset(id->bytes, 0, sizeof id->bytes);
}

// ---- create ----

/** Looks for the execution that a key or an external id names. Sets the member's answer when there is one. */
static int find_existing(mw_sqlite_member *m, sqlite3_stmt *st) {
  int rc = sqlite3_step(st);
  if (rc == SQLITE_ROW) {
    column_id(st, 0, &m->existing);
    m->has_existing = true;
    m->job.status = mw_str_eq(column_str(st, 1), m->write.request_hash) ? MW_EEXISTS : MW_ECONFLICT;
  }
  sqlite3_reset(st);
  return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int find_by_key(mw_sqlite_file *file, mw_sqlite_member *m) {
  sqlite3_stmt *st;
  int rc = get(file, ST_FIND_KEY, &st);
  if (rc) return rc;
  bind_text(st, 1, m->write.app);
  bind_text(st, 2, m->write.key);
  sqlite3_bind_int64(st, 3, m->write.now_us - MW_IDEMPOTENCY_US);
  return find_existing(m, st);
}

static int find_by_external_id(mw_sqlite_file *file, mw_sqlite_member *m) {
  sqlite3_stmt *st;
  int rc = get(file, ST_FIND_EXTERNAL, &st);
  if (rc) return rc;
  bind_text(st, 1, m->write.app);
  bind_text(st, 2, m->write.workflow);
  bind_text(st, 3, m->write.external_id);
  return find_existing(m, st);
}

static int add_key(mw_sqlite_file *file, const mw_write *w) {
  sqlite3_stmt *st;
  int rc = get(file, ST_ADD_KEY, &st);
  if (rc) return rc;
  bind_text(st, 1, w->app);
  bind_text(st, 2, w->key);
  bind_id(st, 3, &w->id);
  bind_text(st, 4, w->request_hash);
  sqlite3_bind_int64(st, 5, w->now_us);
  return run(st);
}

/** A new key takes two that nobody may ask for any more away, so that the table is as large as a day's traffic. */
static int drop_old_keys(mw_sqlite_file *file, int64_t now_us) {
  sqlite3_stmt *st;
  int rc = get(file, ST_DROP_KEYS, &st);
  if (rc) return rc;
  sqlite3_bind_int64(st, 1, now_us - MW_IDEMPOTENCY_US);
  return run(st);
}

static void bind_int_or_null(sqlite3_stmt *st, int at, bool is, int64_t value) {
  if (is) sqlite3_bind_int64(st, at, value);
  else sqlite3_bind_null(st, at);
}

static void bind_more(sqlite3_stmt *st, const mw_write_more *more) {
  bind_text_or_null(st, 17, more->group);
  bind_int_or_null(st, 18, more->group.len > 0, more->group_slots);
  sqlite3_bind_int(st, 19, more->priority);
  bind_text_or_null(st, 20, more->tags);
  if (more->has_parent) bind_id(st, 21, &more->parent);
  else sqlite3_bind_null(st, 21);
  bind_text_or_null(st, 22, more->parent_key);
  bind_int_or_null(st, 23, more->group.len > 0, more->group_every_us);
  bind_int_or_null(st, 24, more->group.len > 0, more->group_burst);
}

static int insert_execution(mw_sqlite_file *file, const mw_write *w) {
  sqlite3_stmt *st;
  int rc = get(file, w->more ? ST_CREATE_MORE : ST_CREATE, &st);
  if (rc) return rc;
  if (w->more) bind_more(st, w->more);
  bool running = w->status == MW_STATUS_RUNNING;
  bind_id(st, 1, &w->id);
  bind_text(st, 2, w->app);
  bind_text(st, 3, w->workflow);
  bind_text_or_null(st, 4, w->external_id);
  sqlite3_bind_int(st, 5, w->status);
  if (running) sqlite3_bind_int64(st, 6, atomic_load(&file->store->base.epoch));
  else sqlite3_bind_null(st, 6);
  sqlite3_bind_int64(st, 7, w->fence);
  sqlite3_bind_int64(st, 8, w->due_us);
  bind_text(st, 9, w->bundle);
  sqlite3_bind_int(st, 10, w->api_level);
  sqlite3_bind_int(st, 11, MW_JOURNAL_VERSION);
  bind_text(st, 12, w->seed);
  bind_text_or_null(st, 13, w->input);
  bind_text_or_null(st, 14, w->request_hash);
  sqlite3_bind_int64(st, 15, w->now_us);
  if (running) sqlite3_bind_int64(st, 16, w->now_us);
  else sqlite3_bind_null(st, 16);
  return run(st);
}

/** A parent's journal named the child before it was made, and it may have been made then. */
static int find_by_id(mw_sqlite_file *file, mw_sqlite_member *m) {
  sqlite3_stmt *st;
  int rc = get(file, ST_FIND_ID, &st);
  if (rc) return rc;
  bind_id(st, 1, &m->write.id);
  rc = sqlite3_step(st);
  sqlite3_reset(st);
  if (rc == SQLITE_ROW) {
    m->existing = m->write.id;
    m->has_existing = true;
    m->job.status = MW_EEXISTS;
  }
  return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int admit(mw_sqlite_file *file, const mw_write *w) {
  sqlite3_stmt *st;
  int rc = get(file, ST_ADMIT, &st);
  if (rc) return rc;
  bind_id(st, 1, &w->id);
  return run(st);
}

static int run_create(mw_sqlite_file *file, mw_sqlite_member *m) {
  int rc = SQLITE_OK;
  m->has_existing = false;
  if (m->write.more && m->write.more->own_id) rc = find_by_id(file, m);
  if (rc || m->has_existing) return rc;
  if (m->write.key.len) rc = find_by_key(file, m);
  if (!rc && !m->has_existing && m->write.external_id.len) rc = find_by_external_id(file, m);
  if (rc || m->has_existing) return rc;
  rc = insert_execution(file, &m->write);
  if (!rc && m->write.status == MW_STATUS_BLOCKED) rc = admit(file, &m->write);
  if (!rc && m->write.key.len) rc = add_key(file, &m->write);
  if (!rc && m->write.key.len) rc = drop_old_keys(file, m->write.now_us);
  return rc;
}

// ---- append ----

static int update_execution(mw_sqlite_file *file, const mw_write *w) {
  sqlite3_stmt *st;
  int rc = get(file, ST_UPDATE, &st);
  if (rc) return rc;
  int64_t epoch = atomic_load(&file->store->base.epoch);
  bind_id(st, 1, &w->id);
  sqlite3_bind_int(st, 2, w->status);
  if (w->status == MW_STATUS_RUNNING) sqlite3_bind_int64(st, 3, epoch);
  else sqlite3_bind_null(st, 3);
  sqlite3_bind_int64(st, 4, w->due_us);
  bind_text_or_null(st, 5, w->output);
  bind_text_or_null(st, 6, w->error);
  if (w->status >= MW_STATUS_COMPLETED) sqlite3_bind_int64(st, 7, w->now_us);
  else sqlite3_bind_null(st, 7);
  sqlite3_bind_int64(st, 8, w->fence);
  sqlite3_bind_int64(st, 9, epoch);
  return run(st);
}

/** The row was not written: it is there from an earlier try of the same owner (fine), or the execution has another owner. */
static int judge_unwritten(mw_sqlite_file *file, mw_sqlite_member *m) {
  sqlite3_stmt *st;
  int rc = get(file, ST_FIND_ENTRY, &st);
  if (rc) return rc;
  bind_id(st, 1, &m->write.id);
  sqlite3_bind_int64(st, 2, m->write.number);
  rc = sqlite3_step(st);
  bool same = rc == SQLITE_ROW && sqlite3_column_int64(st, 0) == m->write.fence;
  sqlite3_reset(st);
  m->job.status = same ? 0 : MW_ESTALE;
  return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/** Sets one text of an execution that its owner still has. */
static int set_text(mw_sqlite_file *file, const mw_write *w, statement which, mw_str text) {
  sqlite3_stmt *st;
  int rc = get(file, which, &st);
  if (rc) return rc;
  bind_id(st, 1, &w->id);
  bind_text_or_null(st, 2, text);
  sqlite3_bind_int64(st, 3, w->fence);
  sqlite3_bind_int64(st, 4, atomic_load(&file->store->base.epoch));
  return run(st);
}

static int take_signals(mw_sqlite_file *file, const mw_write *w) {
  mw_str rest = w->more->take;
  sqlite3_stmt *st;
  int rc = get(file, ST_SIGNAL_TAKEN, &st);
  while (!rc && rest.len) {
    const char *end = memchr(rest.ptr, '\n', rest.len);
    mw_str id = mw_str_of(rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len);
    rest = end ? mw_str_of(end + 1, rest.len - id.len - 1) : mw_str_of("", 0);
    bind_id(st, 1, &w->id);
    bind_text(st, 2, id);
    sqlite3_bind_int64(st, 3, w->now_us);
    rc = run(st);
  }
  return rc;
}

/** What must stand before the status changes, whose triggers look at it. Signals are taken with a row alone, and so behind the fence. */
static int apply_more(mw_sqlite_file *file, mw_sqlite_member *m) {
  const mw_write *w = &m->write;
  sqlite3_stmt *st;
  int rc = w->more->take.len ? take_signals(file, w) : SQLITE_OK;
  if (!rc && w->more->state.len) rc = set_text(file, w, ST_UPDATE_STATE, w->more->state);
  if (!rc && w->status == MW_STATUS_WAITING) rc = set_text(file, w, ST_UPDATE_WAITS, w->more->waits);
  if (!rc) rc = get(file, ST_CONTROL, &st);
  if (rc) return rc;
  bind_id(st, 1, &w->id);
  rc = sqlite3_step(st);
  m->control = rc == SQLITE_ROW ? sqlite3_column_int(st, 0) : 0;
  sqlite3_reset(st);
  return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int insert_row(mw_sqlite_file *file, const mw_write *w) {
  sqlite3_stmt *st;
  int rc = get(file, ST_APPEND, &st);
  if (rc) return rc;
  bind_id(st, 1, &w->id);
  sqlite3_bind_int64(st, 2, w->number);
  sqlite3_bind_int64(st, 3, w->fence);
  sqlite3_bind_int64(st, 4, w->now_us);
  bind_text(st, 5, w->data);
  sqlite3_bind_int64(st, 6, atomic_load(&file->store->base.epoch));
  return run(st);
}

static int run_append(mw_sqlite_file *file, mw_sqlite_member *m) {
  const mw_write *w = &m->write;
  int rc = SQLITE_OK;
  if (w->number > 0) {
    rc = insert_row(file, w);
    if (rc) return rc;
    if (!sqlite3_changes(file->writer.db)) return judge_unwritten(file, m);
  }
  if (w->more) rc = apply_more(file, m);
  if (!rc && w->status != MW_STATUS_NONE) rc = update_execution(file, w);
  bool is_tested = w->number > 0 && w->status == MW_STATUS_NONE; // by the row
  if (!rc && !is_tested && !sqlite3_changes(file->writer.db)) m->job.status = MW_ESTALE;
  return rc;
}

// ---- the rest ----

static int run_code(mw_sqlite_file *file, mw_sqlite_member *m) {
  sqlite3_stmt *st;
  int rc = get(file, ST_CODE, &st);
  for (size_t i = 0; !rc && i < m->code.count; i++) {
    bind_text(st, 1, m->code.list[i].hash);
    bind_text(st, 2, m->code.list[i].text);
    sqlite3_bind_int64(st, 3, m->code.now_us);
    rc = run(st);
  }
  return rc;
}

static int run_change(mw_sqlite_file *file, mw_sqlite_member *m) {
  sqlite3_stmt *st;
  int rc = get(file, ST_COUNT_CHANGE, &st);
  if (rc) return rc;
  bind_text(st, 1, m->change.app);
  rc = sqlite3_step(st);
  int64_t number = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
  if (rc == SQLITE_ROW) rc = sqlite3_step(st);
  sqlite3_reset(st);
  if (rc != SQLITE_DONE) return rc;
  rc = get(file, ST_CHANGE, &st);
  if (rc) return rc;
  bind_text(st, 1, m->change.app);
  sqlite3_bind_int64(st, 2, number);
  sqlite3_bind_int64(st, 3, m->change.now_us);
  bind_text(st, 4, m->change.kind);
  bind_text(st, 5, m->change.subject);
  bind_text(st, 6, m->change.actor);
  bind_text_or_null(st, 7, m->change.detail);
  return run(st);
}

static int run_node(mw_sqlite_file *file, mw_sqlite_member *m) {
  sqlite3_stmt *st;
  int rc = get(file, ST_STOP_NODES, &st);
  if (rc) return rc;
  sqlite3_bind_int64(st, 1, m->node.now_us);
  rc = run(st);
  if (!rc) rc = get(file, ST_ADD_NODE, &st);
  if (rc) return rc;
  bind_id(st, 1, &file->store->base.node_id);
  bind_text(st, 2, mw_str_from(file->store->base.node_name));
  sqlite3_bind_int64(st, 3, m->node.now_us);
  rc = run(st);
  m->node.epoch = sqlite3_last_insert_rowid(file->writer.db);
  return rc;
}

// ---- groups ----

static int run_member(mw_sqlite_file *file, mw_sqlite_member *m) {
  m->job.status = 0;
  switch (m->job.kind) {
    case MW_SQLITE_WRITE: return m->write.kind == MW_WRITE_CREATE ? run_create(file, m) : run_append(file, m);
    case MW_SQLITE_CLAIM: return mw_sqlite_claim_run(file, m);
    case MW_SQLITE_CODE: return run_code(file, m);
    case MW_SQLITE_CHANGE: return run_change(file, m);
    case MW_SQLITE_NODE: return run_node(file, m);
    default: return SQLITE_MISUSE;
  }
}

static int run_control(mw_sqlite_file *file, statement which) {
  sqlite3_stmt *st;
  int rc = get(file, which, &st);
  return rc ? rc : run(st);
}

static int try_group(mw_sqlite_file *file, mw_sqlite_member **members, size_t count) {
  int rc = run_control(file, ST_BEGIN);
  for (size_t i = 0; !rc && i < count; i++) rc = run_member(file, members[i]);
  if (!rc) rc = mw_sqlite_check_place(&file->writer);
  if (!rc && MW_FAULT(sqlite_commit)) rc = SQLITE_IOERR_WRITE;
  return rc ? rc : run_control(file, ST_COMMIT);
}

static void fail_members(mw_sqlite_file *file, mw_sqlite_member **members, size_t count, int rc) {
  mw_err err;
  int code = mw_sqlite_fail(&file->writer, rc, &err);
  if (mw_sqlite_is_environment(rc)) mw_sqlite_health_failed(&file->health, file->path, rc, &err);
  for (size_t i = 0; i < count; i++) mw_sqlite_job_fail(&members[i]->job, code, &err);
}

static void run_group(mw_sqlite_file *file, mw_sqlite_member **members, size_t count) {
  int rc = try_group(file, members, count);
  if (rc == SQLITE_OK) {
    mw_sqlite_health_passed(&file->health, file->path);
    return;
  }
  bool final = count == 1 || mw_sqlite_is_environment(rc);
  if (final) fail_members(file, members, count, rc); // before ROLLBACK changes the error's words
  if (!sqlite3_get_autocommit(file->writer.db)) run_control(file, ST_ROLLBACK);
  file->orphans_done = false; // a claim that was undone may have set it
  if (final) return;
  run_group(file, members, count / 2);
  run_group(file, members + count / 2, count - count / 2);
}

/** Keeps what holds once a group is committed. */
static void keep_outcome(mw_sqlite_file *file, mw_sqlite_member *m) {
  if (m->job.kind == MW_SQLITE_CLAIM && m->job.status == 0) file->clock_us = m->claim.clock_us;
  if (m->job.kind == MW_SQLITE_NODE && m->job.status == 0) atomic_store(&file->store->base.epoch, m->node.epoch);
}

void mw_sqlite_group_run(mw_sqlite_file *file, mw_list *list) {
  mw_sqlite_member *members[MW_SQLITE_GROUP_MEMBERS];
  size_t count = 0, bytes = 0;
  int64_t started_ns = mw_clock_mono_ns();
  atomic_store_explicit(&file->group_started_ns, started_ns, memory_order_relaxed);
  MW_LIST_EACH(list, node) {
    members[count] = (mw_sqlite_member *)MW_CONTAINER(node, mw_sqlite_job, node);
    bytes += members[count++]->job.bytes;
  }
  run_group(file, members, count);
  for (size_t i = 0; i < count; i++) keep_outcome(file, members[i]);
  int64_t took_ns = mw_clock_mono_ns() - started_ns;
  int64_t before_ns = atomic_load_explicit(&file->group_ns, memory_order_relaxed);
  atomic_store_explicit(&file->group_ns, before_ns ? (before_ns * 7 + took_ns) / 8 : took_ns, memory_order_relaxed);
  atomic_store_explicit(&file->group_started_ns, 0, memory_order_relaxed);
  atomic_fetch_sub_explicit(&file->queued, count, memory_order_relaxed);
  atomic_fetch_sub_explicit(&file->queued_bytes, bytes, memory_order_relaxed);
  mw_sqlite_answer(list);
}
