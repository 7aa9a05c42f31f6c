// SPDX-License-Identifier: MIT
#include "store/migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/embed.h"
#include "base/log.h"
#include "store/engine.h"

#define MAX_FILES 1000
#define SUM_TEXT 65

/** One migration as linked in, and what the database says of it. */
typedef struct step {
  int version;
  char *name;
  mw_str up, down;
  char sum[SUM_TEXT];
  bool applied;
  char applied_sum[SUM_TEXT];
  int64_t applied_us;
} step;

typedef struct plan {
  mw_store *store;
  mw_admin *admin;
  step *steps; // by version
  size_t count;
  int newest; // the highest version the database knows
} plan;

// ---- what is linked in ----

static void checksum(mw_str text, char out[SUM_TEXT]) {
  uint8_t digest[MW_SHA256_LEN];
  mw_digest_sha256(text, digest);
  for (int i = 0; i < MW_SHA256_LEN; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static step *find_step(plan *p, int version) {
  for (size_t i = 0; i < p->count; i++)
    if (p->steps[i].version == version) return &p->steps[i];
  return NULL;
}

static int by_version(const void *a, const void *b) { return ((const step *)a)->version - ((const step *)b)->version; }

/** Takes a file "sqlite/0001_first.up.sql" into the plan when it is for this engine. */
static void add_file(plan *p, const mw_embed *file) {
  const char *engine = p->store->engine->name;
  size_t len = strlen(engine);
  if (strncmp(file->name, engine, len) || file->name[len] != '/') return;
  mw_str name = mw_str_from(file->name + len + 1);
  bool up = mw_str_ends_with(name, MW_STR(".up.sql")), down = mw_str_ends_with(name, MW_STR(".down.sql"));
  char *rest;
  int version = (int)strtol(name.ptr, &rest, 10);
  if ((!up && !down) || version < 1 || *rest != '_' || p->count == MAX_FILES) return;
  step *s = find_step(p, version);
  if (!s) {
    s = &p->steps[p->count++];
    *s = (step){.version = version};
    s->name = mw_strndup(rest + 1, (size_t)(name.ptr + name.len - rest - 1) - (up ? 7 : 9));
  }
  mw_str text = mw_str_of(file->begin, mw_embed_size(file));
  if (down) s->down = text;
  else s->up = text, checksum(text, s->sum);
}

int mw_migrate_newest(const char *engine) {
  size_t len = strlen(engine);
  int newest = 0;
  for (const mw_embed *file = mw_embedded_migrations; file->name; file++) {
    if (strncmp(file->name, engine, len) || file->name[len] != '/') continue;
    int version = atoi(file->name + len + 1);
    if (version > newest) newest = version;
  }
  return newest;
}

// ---- what the database says ----

static void on_row(void *arg, int columns, const char *const *texts) {
  plan *p = arg;
  int version = atoi(texts[0]);
  if (version > p->newest) p->newest = version;
  step *s = find_step(p, version);
  if (!s) return;
  s->applied = true;
  snprintf(s->applied_sum, sizeof s->applied_sum, "%s", texts[1] ? texts[1] : "");
  s->applied_us = texts[2] ? strtoll(texts[2], NULL, 10) : 0;
}

static int exec(plan *p, mw_str sql, mw_admin_row_cb cb, void *arg, mw_err *err) {
  return p->store->engine->admin->exec(p->admin, sql, cb, arg, err);
}

static bool is_postgres(const plan *p) { return p->store->engine == &mw_engine_postgres; }

static void on_exists(void *arg, int columns, const char *const *texts) { *(bool *)arg = texts[0] && texts[0][0] != '0'; }

static int read_applied(plan *p, mw_err *err) {
  bool exists = false;
  mw_str ask = is_postgres(p) ? MW_STR("SELECT count(*) FROM information_schema.tables WHERE table_schema = '{{schema}}'"
                                       " AND table_name = 'schema_migrations'")
                              : MW_STR("SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'");
  int code = exec(p, ask, on_exists, &exists, err);
  if (code || !exists) return code;
  mw_str list = is_postgres(p) ? MW_STR("SELECT version, checksum, applied_us FROM {{schema}}.schema_migrations")
                               : MW_STR("SELECT version, checksum, applied_us FROM schema_migrations");
  return exec(p, list, on_row, p, err);
}

// Asked first, because IF NOT EXISTS wants the right to create schemas even where it has nothing to do.
static int make_schema(plan *p, mw_err *err) {
  bool exists = false;
  int code = exec(p, MW_STR("SELECT count(*) FROM pg_namespace WHERE nspname = '{{schema}}'"), on_exists, &exists, err);
  return code || exists ? code : exec(p, MW_STR("CREATE SCHEMA {{schema}}"), NULL, NULL, err);
}

static int make_table(plan *p, mw_err *err) {
  int code = is_postgres(p) ? make_schema(p, err) : 0;
  if (code) return code;
  return exec(p,
              is_postgres(p) ? MW_STR("CREATE TABLE IF NOT EXISTS {{schema}}.schema_migrations (version integer PRIMARY KEY,"
                                      " name text NOT NULL, checksum text NOT NULL, applied_us bigint NOT NULL)")
                             : MW_STR("CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY,"
                                      " name TEXT NOT NULL, checksum TEXT NOT NULL, applied_us INTEGER NOT NULL) STRICT"),
              NULL, NULL, err);
}

static void close_plan(plan *p) {
  if (p->admin) p->store->engine->admin->close(p->admin);
  for (size_t i = 0; i < p->count; i++) mw_free(p->steps[i].name);
  mw_free(p->steps);
}

static int open_plan(plan *p, mw_store *store, mw_err *err) {
  *p = (plan){.store = store, .steps = mw_calloc(MAX_FILES, sizeof(step))};
  for (const mw_embed *file = mw_embedded_migrations; file->name; file++) add_file(p, file);
  qsort(p->steps, p->count, sizeof(step), by_version);
  int code = store->engine->admin->open(store, &p->admin, err);
  if (!code) code = read_applied(p, err);
  if (code) close_plan(p);
  return code;
}

static int check_versions(const plan *p, mw_err *err) {
  int known = p->count ? p->steps[p->count - 1].version : 0;
  if (p->newest > known)
    return mw_err_set(err, MW_EVERSION, "the database is at version %d and this program knows versions up to %d: use the newer program, "
                      "or undo with `moonwatch migrate down` of that one", p->newest, known);
  for (size_t i = 0; i < p->count; i++) {
    const step *s = &p->steps[i];
    if (s->applied && strcmp(s->sum, s->applied_sum))
      return mw_err_set(err, MW_EVERSION, "migration %04d_%s was applied from another file than the one in this program", s->version,
                        s->name);
  }
  return 0;
}

// ---- changing ----

static void record(const plan *p, const step *s, bool up, char *sql, size_t size) {
  const char *prefix = is_postgres(p) ? "{{schema}}." : "";
  if (up)
    snprintf(sql, size, "INSERT INTO %sschema_migrations (version, name, checksum, applied_us) VALUES (%d, '%s', '%s', %lld)",
             prefix, s->version, s->name, s->sum, (long long)mw_clock_wall_us());
  else snprintf(sql, size, "DELETE FROM %sschema_migrations WHERE version = %d", prefix, s->version);
}

static int apply(plan *p, step *s, bool up, mw_err *err) {
  char sql[1024];
  record(p, s, up, sql, sizeof sql);
  int code = exec(p, is_postgres(p) ? MW_STR("BEGIN") : MW_STR("BEGIN IMMEDIATE"), NULL, NULL, err);
  if (!code) code = exec(p, up ? s->up : s->down, NULL, NULL, err);
  if (!code) code = exec(p, mw_str_from(sql), NULL, NULL, err);
  if (!code) code = exec(p, MW_STR("COMMIT"), NULL, NULL, err);
  if (code) {
    exec(p, MW_STR("ROLLBACK"), NULL, NULL, NULL);
    mw_err_wrap(err, "migration %04d_%s %s", s->version, s->name, up ? "up" : "down");
    return code;
  }
  s->applied = up;
  mw_log(MW_LOG_INFO, "store", up ? "migration applied" : "migration undone", MW_LOG_S("name", s->name),
         MW_LOG_I("version", s->version));
  return 0;
}

static int refuse_readers(const mw_store *store, mw_err *err) {
  if (store->exclusive) return 0;
  return mw_err_set(err, MW_EDENIED, "the store is open for reading only");
}

static bool has_pending(const plan *p) {
  for (size_t i = 0; i < p->count; i++)
    if (!p->steps[i].applied) return true;
  return false;
}

int mw_migrate_up(mw_store *store, int *count, mw_err *err) {
  plan p;
  *count = 0;
  int code = refuse_readers(store, err);
  if (!code) code = open_plan(&p, store, err);
  if (code) return code;
  code = check_versions(&p, err);
  if (!code && has_pending(&p)) {
    code = store->engine->admin->before_change(p.admin, err);
    if (!code) code = make_table(&p, err);
    for (size_t i = 0; !code && i < p.count; i++) {
      if (p.steps[i].applied) continue;
      code = apply(&p, &p.steps[i], true, err);
      if (!code) ++*count;
    }
  }
  close_plan(&p);
  return code;
}

int mw_migrate_down(mw_store *store, int steps, int *count, mw_err *err) {
  plan p;
  *count = 0;
  int code = refuse_readers(store, err);
  if (!code) code = open_plan(&p, store, err);
  if (code) return code;
  code = check_versions(&p, err);
  if (!code && p.newest) code = store->engine->admin->before_change(p.admin, err);
  for (size_t i = p.count; !code && i-- > 0 && *count < steps;) {
    if (!p.steps[i].applied) continue;
    code = apply(&p, &p.steps[i], false, err);
    if (!code) ++*count;
  }
  close_plan(&p);
  return code;
}

int mw_migrate_status(mw_store *store, mw_migration **list, size_t *count, mw_err *err) {
  plan p;
  int code = open_plan(&p, store, err);
  if (code) return code;
  // The names stand behind the list, so that one mw_free frees all.
  size_t size = p.count * sizeof(mw_migration) + 1;
  for (size_t i = 0; i < p.count; i++) size += strlen(p.steps[i].name) + 1;
  mw_migration *out = mw_alloc(size);
  char *at = (char *)(out + p.count);
  for (size_t i = 0; i < p.count; i++) {
    const step *s = &p.steps[i];
    out[i] = (mw_migration){.version = s->version, .name = at, .applied = s->applied, .applied_us = s->applied_us};
    at = stpcpy(at, s->name) + 1;
  }
  *list = out;
  *count = p.count;
  close_plan(&p);
  return 0;
}

int mw_migrate_check(mw_store *store, size_t *pending, mw_err *err) {
  plan p;
  int code = open_plan(&p, store, err);
  if (code) return code;
  code = check_versions(&p, err);
  *pending = 0;
  for (size_t i = 0; i < p.count; i++) *pending += !p.steps[i].applied;
  close_plan(&p);
  return code;
}
