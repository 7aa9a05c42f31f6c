// SPDX-License-Identifier: MIT
#include "store/pg_lines.h"

#include <stdio.h>
#include <string.h>

#include "store/pg_target.h"
#include "store/pq.h"

/** Appends text inside the shell's single quotes. */
static void add_quoted(mw_buf *out, const char *text) {
  mw_buf_add_byte(out, '\'');
  for (; *text; text++) {
    if (*text == '\'') mw_buf_add_cstr(out, "'\\''");
    else mw_buf_add_byte(out, *text);
  }
  mw_buf_add_byte(out, '\'');
}

/** Appends "host=… dbname=…" as libpq reads it. */
static void add_conninfo(mw_buf *out, const PQconninfoOption *options, bool *has_password) {
  for (const PQconninfoOption *o = options; o->keyword; o++) {
    if (!o->val || !*o->val) continue;
    if (strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0) {
      *has_password = true;
      continue;
    }
    if (out->len) mw_buf_add_byte(out, ' ');
    mw_buf_printf(out, "%s=", o->keyword);
    bool plain = !strpbrk(o->val, " '\\");
    if (!plain) mw_buf_add_byte(out, '\'');
    for (const char *c = o->val; *c; c++) {
      if (*c == '\'' || *c == '\\') mw_buf_add_byte(out, '\\');
      mw_buf_add_byte(out, *c);
    }
    if (!plain) mw_buf_add_byte(out, '\'');
  }
}

static int describe(const char *url, mw_buf *out, bool *has_password, mw_err *err) {
  mw_pg_target *target = NULL;
  int code = mw_pg_target_new(url, NULL, NULL, &target, err); // for its words about a URL that does not parse
  if (code) return code;
  mw_pg_target_free(target);
  PQconninfoOption *options = PQconninfoParse(url, NULL);
  if (!options) return mw_err_set(err, MW_ECONFIG, "the database URL does not parse");
  add_conninfo(out, options, has_password);
  PQconninfoFree(options);
  return 0;
}

typedef struct texts {
  mw_buf engine, app, app_file;
  bool has_password, two;
} texts;

static void deinit(texts *t) {
  mw_buf_deinit(&t->engine);
  mw_buf_deinit(&t->app);
  mw_buf_deinit(&t->app_file);
}

static int prepare(const mw_pg_lines *lines, texts *t, mw_err *err) {
  *t = (texts){.two = lines->app_url && *lines->app_url && strcmp(lines->app_url, lines->database_url)};
  int code = describe(lines->database_url, &t->engine, &t->has_password, err);
  if (!code && t->two) code = describe(lines->app_url, &t->app, &t->has_password, err);
  mw_buf_printf(&t->app_file, "%s.app", lines->file);
  return code;
}

static void add_hint(mw_buf *out, const texts *t) {
  if (t->has_password) mw_buf_add_cstr(out, "# The password is not shown: set PGPASSWORD, or keep it in ~/.pgpass.\n");
}

static void add_dump(mw_buf *out, const char *conninfo, const char *file) {
  mw_buf part = MW_BUF_INIT;
  mw_buf_printf(&part, "%s.part", file);
  mw_buf_add_cstr(out, "pg_dump --format=custom --file=");
  add_quoted(out, mw_buf_cstr(&part));
  mw_buf_add_cstr(out, " --dbname=");
  add_quoted(out, conninfo);
  mw_buf_add_cstr(out, " && mv -- ");
  add_quoted(out, mw_buf_cstr(&part));
  mw_buf_add_byte(out, ' ');
  add_quoted(out, file);
  mw_buf_add_byte(out, '\n');
  mw_buf_deinit(&part);
}

static void add_restore(mw_buf *out, const char *conninfo, const char *file) {
  mw_buf_add_cstr(out, "pg_restore --exit-on-error --single-transaction --no-owner --dbname=");
  add_quoted(out, conninfo);
  mw_buf_add_byte(out, ' ');
  add_quoted(out, file);
  mw_buf_add_byte(out, '\n');
}

int mw_pg_lines_backup(const mw_pg_lines *lines, mw_buf *out, mw_err *err) {
  texts t;
  int code = prepare(lines, &t, err);
  if (!code) {
    add_hint(out, &t);
    if (t.two) mw_buf_add_cstr(out, "# Two databases are of two moments: the application's, taken last, is never the older one.\n");
    else mw_buf_printf(out, "# All of the database, of one moment. Only Moonwatch's own tables: add --schema=%s\n", lines->schema);
    add_dump(out, mw_buf_cstr(&t.engine), lines->file);
    if (t.two) add_dump(out, mw_buf_cstr(&t.app), mw_buf_cstr(&t.app_file));
  }
  deinit(&t);
  return code;
}

int mw_pg_lines_restore(const mw_pg_lines *lines, mw_buf *out, mw_err *err) {
  texts t;
  int code = prepare(lines, &t, err);
  if (!code) {
    add_hint(out, &t);
    mw_buf_add_cstr(out, "# Stop every server of that database first. It must be empty (createdb); else nothing is changed and the line fails.\n");
    add_restore(out, mw_buf_cstr(&t.engine), lines->file);
    if (t.two) add_restore(out, mw_buf_cstr(&t.app), mw_buf_cstr(&t.app_file));
  }
  deinit(&t);
  return code;
}
