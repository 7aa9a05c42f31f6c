// SPDX-License-Identifier: MIT
// Claims on SQLite: what is taken, in which order.
//
// Runs that may become due are in an index by workflow, priority and time. Two look-ups find the next pair of workflow and priority, one
// more what is due of it longest, so that a claim costs what it takes and the pairs that there are, however many runs sleep. Workflows
// get equal shares; what one leaves goes to the others in the next round.
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/sqlite.h"

#define CLOCK_BACK_US 2000000
#define AGEING_US 60000000 // due for so long: one priority more
#define MAX_LINES 10000    // pairs of workflow and priority that one claim looks at

typedef enum statement {
  ST_ORPHANS, ST_SHIFT, ST_SHIFT_TURNS, ST_ADMIT, ST_NEXT_WORKFLOW, ST_NEXT_PRIORITY, ST_DUE, ST_CANCELLED, ST_EARLY, ST_TAKE, ST_NEXT_DUE, STATEMENTS,
} statement;

#define UNPAUSED " NOT EXISTS (SELECT 1 FROM workflow_pauses p WHERE p.app = e.app AND p.workflow IN (e.workflow, '*'))"
#define HAS_SLOT " (e.group_key IS NULL OR e.slot = 1)"
#define MAY_BECOME_DUE "status <> 2 AND status < 5" // as the indexes say it
#define LINES "SELECT workflow, priority FROM executions INDEXED BY executions_ready WHERE " MAY_BECOME_DUE

static const char *const texts[STATEMENTS] = {
    [ST_ORPHANS] = "SELECT id, due_us FROM executions WHERE status = 2 AND owner IS NOT ?1 ORDER BY id LIMIT ?2",
    [ST_SHIFT] = "UPDATE executions SET due_us = max(?1, due_us - ?2)"
                 " WHERE status IN (3, 4) AND due_us > ?1 AND due_us < 9223372036854775807",
    [ST_SHIFT_TURNS] = "UPDATE workflow_groups SET next_us = max(?1, next_us - ?2) WHERE next_us > ?1",
    // The time of a run of a group has come: the trigger gives it a slot or leaves it in the line.
    [ST_ADMIT] = "UPDATE executions SET status = 6 WHERE id IN (SELECT id FROM executions INDEXED BY executions_without_slot"
                 " WHERE status IN (1, 3) AND group_key IS NOT NULL AND slot = 0 AND due_us <= ?1 ORDER BY due_us LIMIT 1000)",
    [ST_NEXT_WORKFLOW] = LINES " AND workflow > ?1 ORDER BY workflow, priority DESC LIMIT 1",
    [ST_NEXT_PRIORITY] = LINES " AND workflow = ?1 AND priority < ?2 ORDER BY priority DESC LIMIT 1",
    // A workflow that is paused in every app is passed by, so that what piles up in it is not read.
    [ST_DUE] = "SELECT e.id, e.due_us FROM executions e INDEXED BY executions_ready"
               " WHERE e.status <> 2 AND e.status < 5 AND e.workflow = ?1 AND e.priority = ?2 AND e.due_us <= ?3"
               " AND EXISTS (SELECT 1 FROM apps a WHERE NOT EXISTS"
               " (SELECT 1 FROM workflow_pauses p WHERE p.app = a.name AND p.workflow IN (?1, '*')))"
               " AND" HAS_SLOT " AND" UNPAUSED " ORDER BY e.due_us, e.id LIMIT ?4",
    // What an operator cancelled is undone also while its workflow is paused.
    [ST_CANCELLED] = "SELECT e.id, e.due_us FROM executions e INDEXED BY executions_cancelled"
                     " WHERE e.control >= 2 AND e.status <> 2 AND e.status < 5 AND e.due_us <= ?1 AND" HAS_SLOT
                     " ORDER BY e.due_us, e.id LIMIT ?2",
    // Queued before the clock was set back: what waits for no time is always due. Those that are so by the clock were taken before.
    [ST_EARLY] = "SELECT e.id, e.due_us FROM (SELECT * FROM executions WHERE status = 1 ORDER BY id DESC LIMIT 1000) e"
                 " WHERE e.due_us > ?1 AND" HAS_SLOT " AND" UNPAUSED " ORDER BY e.id LIMIT ?2",
    [ST_TAKE] = "UPDATE executions SET status = 2, owner = ?2, fence = fence + 1, started_us = coalesce(started_us, ?3) WHERE id = ?1"
                " RETURNING fence, created_us, api_level, app, workflow, input, bundle, seed, control, priority, parent, group_key,"
                " parent_key, tags, state",
    [ST_NEXT_DUE] = "SELECT due_us FROM executions INDEXED BY executions_due WHERE " MAY_BECOME_DUE " AND due_us > ?1"
                    " ORDER BY due_us LIMIT 1",
};

/** Runs of one workflow and priority. */
typedef struct line {
  mw_str workflow;
  int64_t priority;
} line;

typedef struct workflow {
  size_t first, count; // its lines
  bool dry;            // it has no more that is due
} workflow;

typedef struct candidate {
  mw_id id;
  int64_t rank, due_us; // a higher rank first
} candidate;

typedef struct claim {
  mw_sqlite_file *file;
  mw_sqlite_member *m;
  int64_t epoch;
  mw_arena arena; // of the lines and workflows
  line *lines;
  workflow *workflows;
  size_t lines_count, workflows_count;
  candidate *found;
  size_t found_count, found_room;
} claim;

/** Finds a prepared statement, prepares it on first use (the schema is there only after migrating). */
static int get(mw_sqlite_file *file, statement which, sqlite3_stmt **out) {
  if (!file->claim_prepared) file->claim_prepared = mw_calloc(STATEMENTS, sizeof *file->claim_prepared);
  *out = file->claim_prepared[which];
  if (*out) return SQLITE_OK;
  file->writer.trusted = true;
  int rc = sqlite3_prepare_v3(file->writer.db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
  file->writer.trusted = false;
  file->claim_prepared[which] = *out;
  return rc;
}

void mw_sqlite_claim_deinit(mw_sqlite_file *file) {
  for (int i = 0; file->claim_prepared && i < STATEMENTS; i++) sqlite3_finalize(file->claim_prepared[i]);
  mw_free(file->claim_prepared);
  file->claim_prepared = NULL;
}

static int done(sqlite3_stmt *st, int rc) {
  sqlite3_reset(st);
  return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static mw_str column_str(sqlite3_stmt *st, int at, mw_arena *arena) {
  const char *text = (const char *)sqlite3_column_text(st, at);
  return mw_arena_str(arena, mw_str_of(text ? text : "", text ? (size_t)sqlite3_column_bytes(st, at) : 0));
}

static bool column_id(sqlite3_stmt *st, int at, mw_id *id) {
  const void *blob = sqlite3_column_blob(st, at);
  bool is = blob && sqlite3_column_bytes(st, at) == (int)sizeof id->bytes;
  if (is) memcpy(id->bytes, blob, sizeof id->bytes);
  else memset(id->bytes, 0, sizeof id->bytes);
  return is;
}

static size_t room(const claim *c) { return (size_t)c->m->claim.limit - c->m->claim.count; }

// ---- taking ----

static void keep(claim *c, sqlite3_stmt *st, const mw_id *id, bool interrupted) {
  mw_arena *arena = &c->m->claim.arena;
  mw_claimed *row = &c->m->claim.list[c->m->claim.count++];
  *row = (mw_claimed){.id = *id, .interrupted = interrupted};
  row->fence = sqlite3_column_int64(st, 0);
  row->created_us = sqlite3_column_int64(st, 1);
  row->api_level = sqlite3_column_int(st, 2);
  mw_str *texts_of_run[] = {&row->app, &row->workflow, &row->input, &row->bundle, &row->seed};
  for (int i = 0; i < 5; i++) *texts_of_run[i] = column_str(st, 3 + i, arena);
  row->control = sqlite3_column_int(st, 8);
  row->priority = sqlite3_column_int(st, 9);
  row->has_parent = column_id(st, 10, &row->parent);
  mw_str *more[] = {&row->group, &row->parent_key, &row->tags, &row->state};
  for (int i = 0; i < 4; i++) *more[i] = column_str(st, 11 + i, arena);
}

static int take(claim *c, const mw_id *id, bool interrupted) {
  sqlite3_stmt *st;
  int rc = get(c->file, ST_TAKE, &st);
  if (rc) return rc;
  sqlite3_bind_blob(st, 1, id->bytes, sizeof id->bytes, SQLITE_STATIC);
  sqlite3_bind_int64(st, 2, c->epoch);
  sqlite3_bind_int64(st, 3, c->m->claim.now_us);
  rc = sqlite3_step(st);
  if (rc == SQLITE_ROW) {
    keep(c, st, id, interrupted);
    rc = sqlite3_step(st);
  }
  return done(st, rc);
}

static int take_found(claim *c, size_t count, bool interrupted) {
  int rc = SQLITE_OK;
  for (size_t i = 0; !rc && i < c->found_count && i < count; i++) rc = take(c, &c->found[i].id, interrupted);
  return rc;
}

/** Adds the rows (id, due_us) of a statement that is bound. */
static int find(claim *c, sqlite3_stmt *st, int64_t priority) {
  int rc;
  while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
    if (c->found_count == c->found_room) {
      c->found_room = c->found_room ? c->found_room * 2 : 64;
      c->found = mw_realloc(c->found, c->found_room * sizeof *c->found);
    }
    candidate *one = &c->found[c->found_count++];
    column_id(st, 0, &one->id);
    one->due_us = sqlite3_column_int64(st, 1);
    int64_t late_us = c->m->claim.now_us - one->due_us;
    one->rank = priority + (late_us > 0 ? late_us / AGEING_US : 0);
  }
  return done(st, rc);
}

/** Takes up to `limit` of what a statement with two parameters, a number and a limit, finds. */
static int take_some(claim *c, statement which, int64_t first, size_t limit, bool interrupted) {
  sqlite3_stmt *st;
  int rc = get(c->file, which, &st);
  if (rc || limit == 0) return rc;
  sqlite3_bind_int64(st, 1, first);
  sqlite3_bind_int64(st, 2, (int64_t)limit);
  c->found_count = 0;
  rc = find(c, st, 0);
  return rc ? rc : take_found(c, limit, interrupted);
}

static int take_simple(claim *c, statement which, int64_t first, bool interrupted) {
  return take_some(c, which, first, room(c), interrupted);
}

// ---- lines ----

static int next_line(claim *c, sqlite3_stmt *st, line *out, bool *found) {
  int rc = sqlite3_step(st);
  *found = rc == SQLITE_ROW;
  if (*found) *out = (line){column_str(st, 0, &c->arena), sqlite3_column_int64(st, 1)};
  return done(st, rc);
}

static int find_next_line(claim *c, line *at, bool *same_workflow, bool *found) {
  sqlite3_stmt *st;
  int rc;
  *found = false;
  if (c->lines_count) {
    rc = get(c->file, ST_NEXT_PRIORITY, &st);
    if (rc) return rc;
    sqlite3_bind_text(st, 1, at->workflow.ptr, (int)at->workflow.len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, at->priority);
    rc = next_line(c, st, at, found);
    *same_workflow = *found;
    if (rc || *found) return rc;
  }
  rc = get(c->file, ST_NEXT_WORKFLOW, &st);
  if (rc) return rc;
  sqlite3_bind_text(st, 1, at->workflow.ptr, (int)at->workflow.len, SQLITE_STATIC);
  *same_workflow = false;
  return next_line(c, st, at, found);
}

static int list_lines(claim *c) {
  line at = {MW_STR(""), 0};
  size_t lines_room = 0;
  for (bool same, found = true; found && c->lines_count < MAX_LINES;) {
    int rc = find_next_line(c, &at, &same, &found);
    if (rc || !found) return rc;
    if (c->lines_count == lines_room) {
      lines_room = lines_room ? lines_room * 2 : 16;
      c->lines = mw_realloc(c->lines, lines_room * sizeof *c->lines);
      c->workflows = mw_realloc(c->workflows, lines_room * sizeof *c->workflows);
    }
    if (!same) c->workflows[c->workflows_count++] = (workflow){.first = c->lines_count};
    c->lines[c->lines_count++] = at;
    c->workflows[c->workflows_count - 1].count++;
  }
  return SQLITE_OK;
}

// ---- shares ----

static int by_rank(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->rank != y->rank) return x->rank > y->rank ? -1 : 1;
  if (x->due_us != y->due_us) return x->due_us < y->due_us ? -1 : 1;
  return memcmp(x->id.bytes, y->id.bytes, sizeof x->id.bytes);
}

static int take_share(claim *c, workflow *w, size_t share) {
  sqlite3_stmt *st;
  int rc = get(c->file, ST_DUE, &st);
  c->found_count = 0;
  for (size_t i = 0; !rc && i < w->count; i++) {
    const line *at = &c->lines[w->first + i];
    sqlite3_bind_text(st, 1, at->workflow.ptr, (int)at->workflow.len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, at->priority);
    sqlite3_bind_int64(st, 3, c->m->claim.now_us);
    sqlite3_bind_int64(st, 4, (int64_t)share);
    rc = find(c, st, at->priority);
  }
  w->dry = c->found_count < share;
  if (w->count > 1) qsort(c->found, c->found_count, sizeof *c->found, by_rank);
  return rc ? rc : take_found(c, share, false);
}

static int take_shares(claim *c) {
  int rc = list_lines(c);
  size_t live = c->workflows_count, start = c->workflows_count ? c->file->claim_turn++ % c->workflows_count : 0;
  while (!rc && live > 0 && room(c) > 0) {
    size_t share = room(c) / live ? room(c) / live : 1;
    live = 0;
    for (size_t i = 0; !rc && i < c->workflows_count && room(c) > 0; i++) {
      workflow *w = &c->workflows[(start + i) % c->workflows_count];
      if (!w->dry) rc = take_share(c, w, share < room(c) ? share : room(c));
      if (!w->dry) live++;
    }
  }
  return rc;
}

// ---- a claim ----

static int shift(claim *c, statement which, int64_t now_us, int64_t back_us) {
  sqlite3_stmt *st;
  int rc = get(c->file, which, &st);
  if (rc) return rc;
  sqlite3_bind_int64(st, 1, now_us);
  sqlite3_bind_int64(st, 2, back_us);
  return done(st, sqlite3_step(st));
}

// A clock that is set back would keep every sleeper for as long as it was set back by. What was stored by the old time is moved along; one that
// wakes too early for that looks at its time itself. Seen by the monotonic clock, so only while the server runs.
static int follow_clock(claim *c, int64_t *seen_us) {
  int64_t now_us = mw_clock_wall_us();
  *seen_us = now_us - mw_clock_mono_ns() / 1000;
  int64_t back_us = c->file->clock_us ? c->file->clock_us - *seen_us : 0;
  if (back_us < CLOCK_BACK_US) return SQLITE_OK;
  mw_log(MW_LOG_WARN, "store", "the clock was set back; what sleeps is moved along", MW_LOG_I("seconds", back_us / 1000000));
  int rc = shift(c, ST_SHIFT, now_us, back_us);
  return rc ? rc : shift(c, ST_SHIFT_TURNS, now_us, back_us);
}

static int admit(claim *c) {
  sqlite3_stmt *st;
  int rc = get(c->file, ST_ADMIT, &st);
  if (rc) return rc;
  sqlite3_bind_int64(st, 1, c->m->claim.now_us);
  return done(st, sqlite3_step(st));
}

static int find_next_due(claim *c) {
  c->m->claim.next_due_us = c->m->claim.now_us;
  if (room(c) == 0) return SQLITE_OK; // there may be more
  sqlite3_stmt *st;
  int rc = get(c->file, ST_NEXT_DUE, &st);
  if (rc) return rc;
  sqlite3_bind_int64(st, 1, c->m->claim.now_us);
  rc = sqlite3_step(st);
  c->m->claim.next_due_us = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : INT64_MAX;
  return done(st, rc);
}

static int take_orphans(claim *c) {
  if (c->file->orphans_done) return SQLITE_OK;
  int rc = take_simple(c, ST_ORPHANS, c->epoch, true);
  // Nobody else writes this file, so that no more of them can appear.
  if (!rc && room(c) > 0) c->file->orphans_done = true;
  return rc;
}

int mw_sqlite_claim_run(mw_sqlite_file *file, mw_sqlite_member *m) {
  claim c = {.file = file, .m = m, .epoch = atomic_load(&file->store->base.epoch)};
  mw_arena_init(&c.arena);
  mw_arena_reset(&m->claim.arena);
  m->claim.count = 0;
  m->claim.list = mw_arena_alloc(&m->claim.arena, sizeof *m->claim.list * (size_t)m->claim.limit);
  int64_t clock_us;
  int rc = take_orphans(&c);
  if (!rc) rc = follow_clock(&c, &clock_us);
  if (!rc) rc = admit(&c);
  // Half of the room at first, so that many of them do not keep all else waiting.
  if (!rc) rc = take_some(&c, ST_CANCELLED, m->claim.now_us, (room(&c) + 1) / 2, false);
  if (!rc) rc = take_shares(&c);
  if (!rc) rc = take_simple(&c, ST_CANCELLED, m->claim.now_us, false);
  if (!rc) rc = take_simple(&c, ST_EARLY, m->claim.now_us, false);
  if (!rc) rc = find_next_due(&c);
  if (!rc) m->claim.clock_us = clock_us;
  mw_arena_deinit(&c.arena);
  mw_free(c.lines);
  mw_free(c.workflows);
  mw_free(c.found);
  return rc;
}
