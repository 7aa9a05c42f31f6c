// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/cli_config.h"
#include "app/commands.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "store/migrate.h"
#include "store/store.h"

static void print_status(const mw_migration *list, size_t count, bool json) {
  mw_buf out = MW_BUF_INIT;
  char when[MW_CLOCK_TEXT];
  for (size_t i = 0; i < count; i++) {
    const mw_migration *m = &list[i];
    when[0] = 0;
    if (m->applied) mw_clock_format(m->applied_us, when);
    if (json) {
      mw_buf_printf(&out, "%s{\"version\": %d, \"name\": ", i ? ",\n  " : "[\n  ", m->version);
      mw_json_add_string(&out, mw_str_from(m->name));
      mw_buf_printf(&out, ", \"applied\": %s, \"applied_at\": %s%s%s}", m->applied ? "true" : "false", m->applied ? "\"" : "",
                    m->applied ? when : "null", m->applied ? "\"" : "");
    } else mw_buf_printf(&out, "%04d  %-32s %s%s\n", m->version, m->name, m->applied ? "applied " : "pending", when);
  }
  if (json) mw_buf_add_cstr(&out, count ? "\n]\n" : "[]\n");
  fputs(mw_buf_cstr(&out), stdout);
  mw_buf_deinit(&out);
}

static int run_status(mw_cli *cli, mw_store *store, mw_err *err) {
  mw_migration *list = NULL;
  size_t count = 0;
  int rc = mw_migrate_status(store, &list, &count, err);
  if (!rc) print_status(list, count, mw_cli_has(cli, "json"));
  mw_free(list);
  return rc;
}

static int run_change(mw_cli *cli, mw_store *store, int steps, mw_err *err) {
  int count = 0;
  bool up = strcmp(cli->argv[0], "up") == 0;
  int rc = up ? mw_migrate_up(store, &count, err) : mw_migrate_down(store, steps, &count, err);
  if (rc) return rc;
  if (mw_cli_has(cli, "json")) printf("{\"%s\": %d}\n", up ? "applied" : "undone", count);
  else if (!count) puts(up ? "the schema is up to date" : "there is nothing to undo");
  else printf("%s %d migration%s\n", up ? "applied" : "undid", count, count == 1 ? "" : "s");
  return 0;
}

static int migrate(mw_cli *cli, const mw_config *conf, int steps) {
  mw_err err = {0};
  mw_store *store = NULL;
  bool reads = strcmp(cli->argv[0], "status") == 0;
  mw_store_conf store_conf = {.database_url = conf->database,
                              .app_url = *conf->app_database ? conf->app_database : NULL,
                              .data_dir = conf->data,
                              .schema = conf->postgres_schema,
                              .pg_pool_size = (int)conf->postgres_pool,
                              .exclusive = !reads};
  int rc = mw_store_open(&store_conf, &store, &err);
  if (!rc) {
    rc = reads ? run_status(cli, store, &err) : run_change(cli, store, steps, &err);
    mw_store_close(store);
  }
  if (!rc) return MW_EXIT_OK;
  return mw_cli_fail(cli, rc == MW_EUNAVAILABLE ? MW_EXIT_UNREACHABLE : MW_EXIT_FAILED, "%s", err.text);
}

static int run_migrate(mw_cli *cli) {
  uint64_t steps = 1;
  const char *text = mw_cli_get(cli, "steps");
  if (text && (!mw_str_parse_u64(mw_str_from(text), &steps) || steps < 1 || steps > 10000))
    return mw_cli_usage_error(cli, "--steps is a number from 1 to 10000, not '%s'", text);
  mw_config conf;
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  code = migrate(cli, &conf, (int)steps);
  mw_config_deinit(&conf);
  return code;
}

static const mw_cli_flag flags[] = {
    {"steps", "N", "How many to undo with down (default 1)"},
    {"json", NULL, "Print JSON"},
    {NULL, NULL, NULL},
};

static const mw_cli_sub subs[] = {
    {"up", NULL, "Apply what is pending", 0, 0},
    {"down", NULL, "Undo the newest migrations", 0, 0},
    {"status", NULL, "List all migrations and when each was applied", 0, 0},
    {NULL, NULL, NULL, 0, 0},
};

const mw_command mw_command_migrate = {
    .name = "migrate",
    .summary = "Change the engine database's schema",
    .details = "serve applies what is pending by itself unless migrate.auto is false. On SQLite the server must be stopped, and the\n"
               "database is copied beside itself first.",
    .flags = flags,
    .subs = subs,
    .takes_config = true,
    .run = run_migrate,
};
