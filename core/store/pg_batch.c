// SPDX-License-Identifier: MIT
#include "store/pg_batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/pg_writer.h"

/* ---- members ---- */

/** Lists the strings of a write; the same places in the original and in its copy. */
static int strings_of(mw_write *w, mw_write_more *more, mw_str **list) {
  mw_str *all[] = {&w->app,    &w->workflow, &w->external_id, &w->key,    &w->request_hash,  &w->input,
                   &w->bundle, &w->seed,     &w->data,        &w->output, &w->error,         &more->group,
                   &more->tags, &more->state, &more->waits,   &more->take, &more->parent_key};
  memcpy(list, all, sizeof all);
  return (int)(sizeof all / sizeof all[0]);
}

mw_pg_member *mw_pg_member_new(const mw_write *write, mw_write_cb cb, void *arg) {
  mw_write copy = *write;
  if (copy.app.len == 0) copy.app = MW_STR("default");
  mw_write_more more = {0};
  if (write->more) more = *write->more;
  mw_str *list[24];
  int count = strings_of(&copy, &more, list);
  size_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += list[i]->len;
  mw_pg_member *m = mw_alloc(sizeof *m + bytes);
  memset(m, 0, sizeof *m);
  mw_list_init(&m->node);
  char *at = (char *)(m + 1);
  for (int i = 0; i < count; i++) {
    if (list[i]->len) memcpy(at, list[i]->ptr, list[i]->len);
    list[i]->ptr = at;
    at += list[i]->len;
  }
  m->w = copy;
  m->more = more;
  m->w.more = write->more ? &m->more : NULL;
  m->cb = cb;
  m->arg = arg;
  m->bytes = sizeof *m + bytes;
  return m;
}

void mw_pg_names_init(mw_pg_names *names) {
  mw_map_init(&names->map);
  names->name = (mw_buf)MW_BUF_INIT;
}

void mw_pg_names_deinit(mw_pg_names *names) {
  mw_map_deinit(&names->map);
  mw_buf_deinit(&names->name);
}

static bool add_name(mw_pg_names *names, char kind, mw_str app, mw_str scope, mw_str name) {
  if (name.len == 0) return true;
  mw_buf_reset(&names->name, 4096);
  mw_buf_printf(&names->name, "%c%zu,%zu,", kind, app.len, scope.len);
  mw_buf_add_str(&names->name, app);
  mw_buf_add_str(&names->name, scope);
  mw_buf_add_str(&names->name, name);
  mw_str key = mw_buf_str(&names->name);
  if (mw_map_get(&names->map, key)) return false;
  mw_map_set(&names->map, key, names);
  return true;
}

bool mw_pg_names_add(mw_pg_names *names, const mw_write *w) {
  return add_name(names, 'k', w->app, MW_STR(""), w->key) &&
         add_name(names, 'x', w->app, w->workflow, w->external_id);
}

/* ---- filling ---- */

void mw_pg_batch_deinit(mw_pg_batch *batch) {
  for (int i = 0; i < MW_PG_BATCH_ARRAYS; i++) mw_pg_array_deinit(&batch->arrays[i]);
}

static mw_pg_array *start(mw_pg_batch *batch, int index, uint32_t oid) {
  mw_pg_array_init(&batch->arrays[index], oid);
  return &batch->arrays[index];
}

static void add_stmt(mw_pg_op *op, const char *sql, mw_pg_binds *binds) {
  op->stmts[op->nstmts++] = (mw_pg_stmt){.sql = sql, .params = mw_pg_binds_params(binds), .prepare = true};
}

static void bind_arrays(mw_pg_binds *binds, mw_pg_batch *batch, int first, int last) {
  for (int i = first; i <= last; i++) mw_pg_bind_array(binds, &batch->arrays[i]);
}

enum {
  C_ID, C_APP, C_WORKFLOW, C_EXTERNAL, C_STATUS, C_FENCE, C_DUE, C_BUNDLE, C_LEVEL, C_SEED, C_INPUT, C_HASH,
  C_CREATED, C_KEY, C_GROUP, C_SLOTS, C_EVERY, C_BURST, C_PRIORITY, C_TAGS, C_PARENT, C_PARENT_KEY, K_APP, K_KEY, K_ID, K_HASH, K_CREATED
};

static void start_create(mw_pg_batch *b) {
  static const uint32_t oids[] = {MW_PG_UUID, MW_PG_TEXT, MW_PG_TEXT, MW_PG_TEXT, MW_PG_INT8,
                                  MW_PG_INT8, MW_PG_INT8, MW_PG_TEXT, MW_PG_INT8, MW_PG_TEXT,
                                  MW_PG_TEXT, MW_PG_TEXT, MW_PG_INT8, MW_PG_TEXT, MW_PG_TEXT,
                                  MW_PG_INT8, MW_PG_INT8, MW_PG_INT8,
                                  MW_PG_INT8, MW_PG_TEXT, MW_PG_TEXT, MW_PG_TEXT,
                                  MW_PG_TEXT, MW_PG_TEXT, MW_PG_UUID, MW_PG_TEXT, MW_PG_INT8};
  for (int i = 0; i <= K_CREATED; i++) start(b, i, oids[i]);
  b->named = b->more = false;
}

static void add_more_of_create(mw_pg_array *a, const mw_write_more *more) {
  char parent[MW_ID_TEXT] = "";
  if (more->has_parent) mw_id_format(&more->parent, parent);
  mw_pg_array_add_text_or_null(&a[C_GROUP], more->group);
  mw_pg_array_add_i64(&a[C_SLOTS], more->group_slots);
  mw_pg_array_add_i64(&a[C_EVERY], more->group_every_us);
  mw_pg_array_add_i64(&a[C_BURST], more->group_burst);
  mw_pg_array_add_i64(&a[C_PRIORITY], more->priority);
  mw_pg_array_add_text_or_null(&a[C_TAGS], more->tags);
  mw_pg_array_add_text_or_null(&a[C_PARENT], mw_str_from(parent));
  mw_pg_array_add_text_or_null(&a[C_PARENT_KEY], more->parent_key);
}

static void add_create(mw_pg_batch *b, const mw_write *w) {
  mw_pg_array *a = b->arrays;
  mw_pg_array_add_id(&a[C_ID], &w->id);
  mw_pg_array_add_text(&a[C_APP], w->app);
  mw_pg_array_add_text(&a[C_WORKFLOW], w->workflow);
  mw_pg_array_add_text_or_null(&a[C_EXTERNAL], w->external_id);
  mw_pg_array_add_i64(&a[C_STATUS], w->status);
  mw_pg_array_add_i64(&a[C_FENCE], w->fence);
  mw_pg_array_add_i64(&a[C_DUE], w->due_us);
  mw_pg_array_add_text(&a[C_BUNDLE], w->bundle);
  mw_pg_array_add_i64(&a[C_LEVEL], w->api_level);
  mw_pg_array_add_text(&a[C_SEED], w->seed);
  mw_pg_array_add_text_or_null(&a[C_INPUT], w->input);
  mw_pg_array_add_text_or_null(&a[C_HASH], w->request_hash);
  mw_pg_array_add_i64(&a[C_CREATED], w->now_us);
  mw_pg_array_add_text_or_null(&a[C_KEY], w->key);
  if (w->key.len || w->external_id.len) b->named = true;
  if (w->key.len == 0) return;
  mw_pg_array_add_text(&a[K_APP], w->app);
  mw_pg_array_add_text(&a[K_KEY], w->key);
  mw_pg_array_add_id(&a[K_ID], &w->id);
  mw_pg_array_add_text(&a[K_HASH], w->request_hash);
  mw_pg_array_add_i64(&a[K_CREATED], w->now_us);
}

static void fill_insert(mw_pg_batch *b, const mw_pg_batch_sql *sql, int64_t epoch, mw_pg_op *op) {
  mw_pg_binds *insert = &b->binds[2];
  mw_pg_bind_i64(insert, epoch);
  bind_arrays(insert, b, C_ID, b->named ? C_KEY : C_CREATED);
  if (b->more) bind_arrays(insert, b, C_GROUP, C_PARENT_KEY);
  b->writes = op->nstmts;
  if (b->named) add_stmt(op, b->more ? sql->create_named_more : sql->create_named, insert);
  else add_stmt(op, b->more ? sql->create_more : sql->create, insert);
}

static void fill_create(mw_pg_batch *b, const mw_pg_batch_sql *sql, int64_t epoch, mw_pg_member **members,
                        int count, mw_pg_op *op) {
  start_create(b);
  for (int i = 0; i < count; i++) {
    add_create(b, &members[i]->w);
    if (members[i]->w.more) b->more = true;
  }
  for (int i = 0; b->more && i < count; i++) add_more_of_create(b->arrays, &members[i]->more);
  if (b->named) {
    bind_arrays(&b->binds[0], b, K_APP, K_CREATED);
    add_stmt(op, sql->take_keys, &b->binds[0]);
  }
  if (b->more) {
    bind_arrays(&b->binds[1], b, C_APP, C_WORKFLOW);
    bind_arrays(&b->binds[1], b, C_GROUP, C_BURST);
    add_stmt(op, sql->take_groups, &b->binds[1]);
  }
  fill_insert(b, sql, epoch, op);
  const char *finds[] = {sql->point_keys, sql->find_named};
  for (int i = 0; b->named && i < 2; i++) {
    bind_arrays(&b->binds[3 + i], b, C_ID, C_EXTERNAL);
    bind_arrays(&b->binds[3 + i], b, C_KEY, C_KEY);
    add_stmt(op, finds[i], &b->binds[3 + i]);
  }
}

enum {
  A_ID, A_FENCE, A_NUMBER, A_AT, A_DATA, A_STATUS, A_DUE, A_OUTPUT, A_ERROR, A_STATE, A_WAITS,
  T_ID, T_SIGNAL
};

static void add_taken(mw_pg_batch *b, const mw_write *w) {
  for (mw_str rest = w->more->take; rest.len;) {
    const char *end = memchr(rest.ptr, '\n', rest.len);
    mw_str id = mw_str_of(rest.ptr, end ? (size_t)(end - rest.ptr) : rest.len);
    rest = end ? mw_str_of(end + 1, rest.len - id.len - 1) : MW_STR("");
    mw_pg_array_add_id(&b->arrays[T_ID], &w->id);
    mw_pg_array_add_text(&b->arrays[T_SIGNAL], id);
  }
}

/** All that triggers will touch is locked first, in one order, so that no two groups wait for each other. What is taken stands in a statement
 * before the status, because the triggers of a status look at what is left. */
static void fill_append_more(mw_pg_batch *b, const mw_pg_batch_sql *sql, int64_t epoch, mw_pg_member **members, int count, mw_pg_op *op) {
  start(b, A_STATE, MW_PG_TEXT);
  start(b, A_WAITS, MW_PG_TEXT);
  start(b, T_ID, MW_PG_UUID);
  start(b, T_SIGNAL, MW_PG_TEXT);
  for (int i = 0; i < count; i++) {
    mw_pg_array_add_text_or_null(&b->arrays[A_STATE], members[i]->more.state);
    mw_pg_array_add_text_or_null(&b->arrays[A_WAITS], members[i]->more.waits);
    if (members[i]->w.more) add_taken(b, &members[i]->w);
  }
  bind_arrays(&b->binds[0], b, A_STATE, A_WAITS);
  bind_arrays(&b->binds[2], b, A_ID, A_ID);
  bind_arrays(&b->binds[2], b, A_STATUS, A_STATUS);
  add_stmt(op, sql->lock_rows, &b->binds[2]);
  if (b->arrays[T_ID].count) {
    mw_pg_binds *binds = &b->binds[1];
    mw_pg_bind_i64(binds, epoch);
    bind_arrays(binds, b, A_ID, A_FENCE);
    bind_arrays(binds, b, T_ID, T_SIGNAL);
    mw_pg_bind_i64(binds, members[0]->w.now_us);
    add_stmt(op, sql->take_signals, binds);
  }
  b->writes = op->nstmts;
  add_stmt(op, sql->append_more, &b->binds[0]);
}

static void fill_append(mw_pg_batch *b, const mw_pg_batch_sql *sql, int64_t epoch, mw_pg_member **members,
                        int count, mw_pg_op *op) {
  static const uint32_t oids[] = {MW_PG_UUID, MW_PG_INT8, MW_PG_INT8, MW_PG_INT8, MW_PG_TEXT,
                                  MW_PG_INT8, MW_PG_INT8, MW_PG_TEXT, MW_PG_TEXT};
  for (int i = 0; i <= A_ERROR; i++) start(b, i, oids[i]);
  mw_pg_array *a = b->arrays;
  b->more = false;
  for (int i = 0; i < count; i++) {
    const mw_write *w = &members[i]->w;
    if (w->more) b->more = true;
    mw_pg_array_add_id(&a[A_ID], &w->id);
    mw_pg_array_add_i64(&a[A_FENCE], w->fence);
    mw_pg_array_add_i64(&a[A_NUMBER], w->number);
    mw_pg_array_add_i64(&a[A_AT], w->now_us);
    mw_pg_array_add_text(&a[A_DATA], w->data);
    mw_pg_array_add_i64(&a[A_STATUS], w->status);
    mw_pg_array_add_i64(&a[A_DUE], w->due_us);
    mw_pg_array_add_text_or_null(&a[A_OUTPUT], w->output);
    mw_pg_array_add_text_or_null(&a[A_ERROR], w->error);
  }
  mw_pg_bind_i64(&b->binds[0], epoch);
  bind_arrays(&b->binds[0], b, A_ID, A_ERROR);
  b->writes = 0;
  if (b->more) fill_append_more(b, sql, epoch, members, count, op);
  else add_stmt(op, sql->append, &b->binds[0]);
}

void mw_pg_batch_fill(mw_pg_batch *batch, mw_write_kind kind, const mw_pg_batch_sql *sql, int64_t epoch,
                      mw_pg_member **members, int count, mw_pg_op *op) {
  for (int i = 0; i < MW_PG_STMTS_MAX; i++) batch->binds[i].count = 0;
  if (kind == MW_WRITE_CREATE)
    fill_create(batch, sql, epoch, members, count, op);
  else
    fill_append(batch, sql, epoch, members, count, op);
}

void mw_pg_batch_fill_check(mw_pg_batch *b, const mw_pg_batch_sql *sql, mw_pg_member **members, int count,
                            mw_pg_op *op) {
  static const uint32_t oids[] = {MW_PG_UUID, MW_PG_INT8, MW_PG_INT8, MW_PG_INT8};
  for (int i = 0; i < 4; i++) start(b, i, oids[i]);
  for (int i = 0; i < count; i++) {
    const mw_write *w = &members[i]->w;
    mw_pg_array_add_id(&b->arrays[0], &w->id);
    mw_pg_array_add_i64(&b->arrays[1], w->fence);
    mw_pg_array_add_i64(&b->arrays[2], w->number);
    mw_pg_array_add_i64(&b->arrays[3], w->status);
  }
  b->binds[0].count = 0;
  bind_arrays(&b->binds[0], b, 0, 3);
  add_stmt(op, sql->check, &b->binds[0]);
}

/* ---- what came back ---- */

static mw_pg_member *find(mw_pg_member **members, int count, const PGresult *result, int row) {
  mw_id id;
  if (!mw_id_parse(mw_str_from(PQgetvalue(result, row, 0)), &id)) return NULL;
  int low = 0, high = count - 1;
  while (low <= high) {
    int middle = (low + high) / 2;
    int order = memcmp(members[middle]->w.id.bytes, id.bytes, sizeof id.bytes);
    if (order == 0) return members[middle];
    if (order < 0)
      low = middle + 1;
    else
      high = middle - 1;
  }
  return NULL;
}

static void take_written(mw_pg_member **members, int count, const PGresult *result) {
  for (int row = 0; row < PQntuples(result); row++) {
    mw_pg_member *m = find(members, count, result, row);
    if (!m) continue;
    m->outcome = 0;
    if (PQnfields(result) > 1) m->control = atoi(PQgetvalue(result, row, 1));
  }
}

static void take_existing(mw_pg_member **members, int count, const PGresult *result) {
  for (int row = 0; row < PQntuples(result); row++) {
    mw_pg_member *m = find(members, count, result, row);
    if (!m || m->outcome == 0) continue;
    bool same = mw_str_eq(m->w.request_hash, mw_str_from(PQgetvalue(result, row, 2)));
    if (mw_id_parse(mw_str_from(PQgetvalue(result, row, 1)), &m->existing))
      m->outcome = same ? MW_EEXISTS : MW_ECONFLICT;
  }
}

void mw_pg_batch_take(mw_write_kind kind, const mw_pg_batch *batch, int stmt, mw_pg_member **members, int count,
                      const PGresult *result) {
  if (stmt == batch->writes)
    take_written(members, count, result);
  else if (kind == MW_WRITE_CREATE && batch->named && stmt == batch->writes + 2)
    take_existing(members, count, result);
}

void mw_pg_batch_take_check(mw_pg_member **members, int count, const PGresult *result) {
  take_written(members, count, result);
}
