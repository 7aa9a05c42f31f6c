// SPDX-License-Identifier: MIT
// The SQL of groups. Each statement takes its members as arrays, so that one plan serves a group of any size.
#include "base/alloc.h"
#include "store/pg_batch.h"
#include "store/pg_writer.h"

#define S "{{schema}}."

// A create whose name is taken writes nothing. Keys are taken first, and their rows stay locked to the commit; so of two
// groups with the same key on two nodes one waits for the other and then finds its row. Rows are touched in the order of
// names and ids.
static const char take_keys[] =
    "INSERT INTO " S "idempotency AS k (app, key, execution, request_hash, created_us)"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::bigint[])"
    " AS i(app, key, execution, request_hash, created_us) ORDER BY i.app, i.key"
    " ON CONFLICT (app, key) DO UPDATE SET execution = excluded.execution,"
    " request_hash = excluded.request_hash, created_us = excluded.created_us"
    " WHERE k.created_us < excluded.created_us - 86400000000";

// Runs of a group find a slot, or a place in its line, by a trigger, which locks the group: here all of them, in one order.
static const char take_groups[] =
    "INSERT INTO " S "workflow_groups AS g (app, workflow, group_key, running, slots, every_us, burst)"
    " SELECT DISTINCT ON (i.group_key, i.workflow, i.app) i.app, i.workflow, i.group_key, 0, greatest(1, i.slots), i.every_us, i.burst"
    " FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) AS i(app, workflow, group_key, slots, every_us, burst)"
    " WHERE i.group_key IS NOT NULL ORDER BY i.group_key, i.workflow, i.app"
    " ON CONFLICT (app, workflow, group_key) DO UPDATE SET slots = excluded.slots, every_us = excluded.every_us, burst = excluded.burst"
    " WHERE (g.slots, g.every_us, g.burst) <> (excluded.slots, excluded.every_us, excluded.burst)";

#define CREATE                                                                                                 \
  "INSERT INTO " S "executions (id, app, workflow, external_id, status, owner, fence, due_us, bundle,"         \
  " api_level, journal_version, seed, input, request_hash, created_us, started_us)"                            \
  " SELECT i.id, i.app, i.workflow, i.external_id, i.status, CASE WHEN i.status = 2 THEN $1::bigint END,"      \
  " i.fence, i.due_us, i.bundle, i.api_level, 1, i.seed, i.input, i.request_hash, i.created_us,"               \
  " CASE WHEN i.status = 2 THEN i.created_us END"                                                              \
  " FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],"     \
  " $9::text[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bigint[]"
#define COLUMNS                                                                                                \
  "id, app, workflow, external_id, status, fence, due_us, bundle, api_level, seed, input, request_hash,"       \
  " created_us"

static const char create[] = CREATE ") AS i(" COLUMNS ") ON CONFLICT DO NOTHING RETURNING id";

static const char create_named[] =
    CREATE ", $15::text[]) AS i(" COLUMNS ", key)"
    " WHERE i.key IS NULL OR EXISTS"
    " (SELECT 1 FROM " S "idempotency k WHERE k.app = i.app AND k.key = i.key AND k.execution = i.id)"
    " ORDER BY i.external_id, i.id ON CONFLICT DO NOTHING RETURNING id";

#define NAMED                                                                                                  \
  "unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS i(id, app, workflow, external_id, key)"
#define SAME_EXTERNAL                                                                                          \
  "x.app = i.app AND x.workflow = i.workflow AND x.external_id = i.external_id AND x.id <> i.id"

// A new key of a create whose external id was known already belongs to the execution that is there.
static const char point_keys[] =
    "UPDATE " S "idempotency k SET execution = x.id, request_hash = coalesce(x.request_hash, '')"
    " FROM " NAMED
    " JOIN " S "executions x ON " SAME_EXTERNAL
    " WHERE k.app = i.app AND k.key = i.key AND k.execution = i.id";

static const char find_named[] =
    "SELECT i.id, coalesce(k.execution, x.id), coalesce(k.request_hash, x.request_hash, '')"
    " FROM " NAMED
    " LEFT JOIN " S "idempotency k ON k.app = i.app AND k.key = i.key AND k.execution <> i.id"
    " LEFT JOIN " S "executions x ON " SAME_EXTERNAL
    " WHERE k.execution IS NOT NULL OR x.id IS NOT NULL";

#define MORE_COLUMNS "group_key, group_slots, group_every_us, group_burst, priority, tags, parent, parent_key"
#define CREATE_MORE                                                                                            \
  "INSERT INTO " S "executions (id, app, workflow, external_id, status, owner, fence, due_us, bundle,"         \
  " api_level, journal_version, seed, input, request_hash, created_us, started_us, " MORE_COLUMNS ")"          \
  " SELECT i.id, i.app, i.workflow, i.external_id, i.status, CASE WHEN i.status = 2 THEN $1::bigint END,"      \
  " i.fence, i.due_us, i.bundle, i.api_level, 1, i.seed, i.input, i.request_hash, i.created_us,"               \
  " CASE WHEN i.status = 2 THEN i.created_us END, i.group_key, nullif(i.group_slots, 0), i.group_every_us, i.group_burst, i.priority, i.tags,"  \
  " i.parent::uuid, i.parent_key"                                                                              \
  " FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],"     \
  " $9::text[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bigint[]"

static const char create_more[] =
    CREATE_MORE ", $15::text[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::text[], $21::text[], $22::text[])"
    " AS i(" COLUMNS ", " MORE_COLUMNS ") ON CONFLICT DO NOTHING RETURNING id";

static const char create_named_more[] =
    CREATE_MORE ", $15::text[], $16::text[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::text[], $22::text[], $23::text[])"
    " AS i(" COLUMNS ", key, " MORE_COLUMNS ")"
    " WHERE i.key IS NULL OR EXISTS"
    " (SELECT 1 FROM " S "idempotency k WHERE k.app = i.app AND k.key = i.key AND k.execution = i.id)"
    " ORDER BY i.external_id, i.id ON CONFLICT DO NOTHING RETURNING id";

// `held` are the members whose execution this owner and fence still have, locked in the order of their ids. Only those are
// written; a member whose journal row was there already writes nothing more (its first try did). No two of these are
// joined but by an index, so that a group costs what its members cost: an IN beside an OR is looked up in a hash table.
#define WRITTEN "(h.number = 0 OR h.id IN (SELECT id FROM written))"

static const char append[] =
    "WITH held AS MATERIALIZED ("
    "SELECT i.* FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[],"
    " $8::bigint[], $9::text[], $10::text[])"
    " AS i(id, fence, number, at_us, data, status, due_us, output, error)"
    " JOIN " S "executions e ON e.id = i.id WHERE e.owner = $1::bigint AND e.fence = i.fence"
    " ORDER BY e.id FOR NO KEY UPDATE OF e), "
    "written AS ("
    "INSERT INTO " S "journal (execution, number, fence, at_us, data)"
    " SELECT id, number, fence, at_us, data FROM held WHERE number > 0"
    " ON CONFLICT DO NOTHING RETURNING execution AS id), "
    "moved AS ("
    "UPDATE " S "executions e SET status = h.status, owner = CASE WHEN h.status = 2 THEN e.owner END,"
    " due_us = h.due_us, output = h.output, error = h.error,"
    " finished_us = CASE WHEN h.status >= 8 THEN h.at_us END"
    " FROM held h WHERE e.id = h.id AND h.status > 0 AND " WRITTEN ") "
    "SELECT h.id FROM held h WHERE " WRITTEN;

// The same with what a run that waits or shows a state has beyond that.
static const char append_more[] =
    "WITH held AS MATERIALIZED ("
    "SELECT i.*, e.control FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[],"
    " $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[])"
    " AS i(id, fence, number, at_us, data, status, due_us, output, error, state, waits)"
    " JOIN " S "executions e ON e.id = i.id WHERE e.owner = $1::bigint AND e.fence = i.fence"
    " ORDER BY e.id FOR NO KEY UPDATE OF e), "
    "written AS ("
    "INSERT INTO " S "journal (execution, number, fence, at_us, data)"
    " SELECT id, number, fence, at_us, data FROM held WHERE number > 0"
    " ON CONFLICT DO NOTHING RETURNING execution AS id), "
    "shown AS ("
    "UPDATE " S "executions e SET state = h.state"
    " FROM held h WHERE e.id = h.id AND h.status = 0 AND h.state IS NOT NULL AND " WRITTEN "), "
    "moved AS ("
    "UPDATE " S "executions e SET status = h.status, owner = CASE WHEN h.status = 2 THEN e.owner END,"
    " due_us = h.due_us, output = h.output, error = h.error, state = coalesce(h.state, e.state),"
    " waits = CASE WHEN h.status = 4 THEN h.waits ELSE e.waits END,"
    " finished_us = CASE WHEN h.status >= 8 THEN h.at_us END"
    " FROM held h WHERE e.id = h.id AND h.status > 0 AND " WRITTEN ") "
    "SELECT h.id, h.control FROM held h WHERE " WRITTEN;

// What an append and its triggers will lock: its rows and the parents of those that end, then the groups that they leave.
static const char lock_rows[] =
    "WITH ends AS MATERIALIZED ("
    "SELECT e.app, e.workflow, e.group_key, e.slot, CASE WHEN e.parent_key IS NOT NULL THEN e.parent END AS parent"
    " FROM unnest($1::uuid[], $2::bigint[]) AS i(id, status) JOIN " S "executions e ON e.id = i.id WHERE i.status >= 8), "
    "rows AS MATERIALIZED ("
    "SELECT e.id FROM " S "executions e WHERE e.id IN (SELECT unnest($1::uuid[]) UNION ALL SELECT parent FROM ends)"
    " ORDER BY e.id FOR NO KEY UPDATE), "
    "groups AS MATERIALIZED ("
    "SELECT g.app FROM " S "workflow_groups g WHERE (SELECT count(*) FROM rows) > 0"
    " AND (g.app, g.workflow, g.group_key) IN (SELECT app, workflow, group_key FROM ends WHERE slot = 1)"
    " ORDER BY g.group_key, g.workflow, g.app FOR UPDATE) "
    "SELECT count(*) FROM groups";

// Behind the fence as well.
static const char take_signals[] =
    "WITH held AS MATERIALIZED ("
    "SELECT e.id FROM unnest($2::uuid[], $3::bigint[]) AS i(id, fence)"
    " JOIN " S "executions e ON e.id = i.id WHERE e.owner = $1::bigint AND e.fence = i.fence"
    " ORDER BY e.id FOR NO KEY UPDATE OF e) "
    "UPDATE " S "signals s SET taken_us = $6::bigint, data = NULL"
    " FROM unnest($4::uuid[], $5::text[]) AS t(execution, id) JOIN held h ON h.id = t.execution"
    " WHERE s.execution = t.execution AND s.id = t.id AND s.taken_us IS NULL";

static const char check[] =
    "SELECT i.id FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) AS i(id, fence, number, status)"
    " WHERE CASE WHEN i.number > 0 THEN EXISTS (SELECT 1 FROM " S "journal j"
    " WHERE j.execution = i.id AND j.number = i.number AND j.fence = i.fence)"
    " ELSE EXISTS (SELECT 1 FROM " S "executions e"
    " WHERE e.id = i.id AND e.fence = i.fence AND e.status = i.status) END";

// Puts creates up for claiming that were never acknowledged and that nobody runs.
static const char release[] =
    "UPDATE " S "executions SET status = 1, owner = NULL, due_us = $3::bigint"
    " WHERE id = ANY ($1::uuid[]) AND owner = $2::bigint AND status = 2 AND fence <= 1";

// The same for what claims took whose answers were lost; their tokens are in `due_us` (pg_node.c).
static const char release_claims[] =
    "UPDATE " S "executions SET status = 1, owner = NULL, due_us = $3::bigint"
    " WHERE owner = $2::bigint AND status = 2 AND due_us = ANY ($1::bigint[])";

void mw_pg_batch_sql_init(mw_pg_batch_sql *sql, const mw_pg_writer *writer) {
  *sql = (mw_pg_batch_sql){
      .lock_rows = mw_pg_writer_sql(writer, lock_rows),
      .take_groups = mw_pg_writer_sql(writer, take_groups),
      .create = mw_pg_writer_sql(writer, create),
      .create_more = mw_pg_writer_sql(writer, create_more),
      .create_named_more = mw_pg_writer_sql(writer, create_named_more),
      .append_more = mw_pg_writer_sql(writer, append_more),
      .take_signals = mw_pg_writer_sql(writer, take_signals),
      .take_keys = mw_pg_writer_sql(writer, take_keys),
      .create_named = mw_pg_writer_sql(writer, create_named),
      .point_keys = mw_pg_writer_sql(writer, point_keys),
      .find_named = mw_pg_writer_sql(writer, find_named),
      .append = mw_pg_writer_sql(writer, append),
      .check = mw_pg_writer_sql(writer, check),
      .release = mw_pg_writer_sql(writer, release),
      .release_claims = mw_pg_writer_sql(writer, release_claims),
  };
}

void mw_pg_batch_sql_deinit(mw_pg_batch_sql *sql) {
  char *all[] = {sql->lock_rows, sql->take_groups, sql->create_more, sql->create_named_more, sql->append_more, sql->take_signals, sql->create, sql->take_keys, sql->create_named, sql->point_keys,    sql->find_named,
                 sql->append, sql->check,     sql->release,      sql->release_claims};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) mw_free(all[i]);
  *sql = (mw_pg_batch_sql){0};
}
