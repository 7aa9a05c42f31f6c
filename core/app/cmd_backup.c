// SPDX-License-Identifier: MIT
// backup and restore: on SQLite they do it, on PostgreSQL they print the lines of its own tools.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/cli_config.h"
#include "app/commands.h"
#include "base/json.h"
#include "store/backup.h"
#include "store/pg_lines.h"

static volatile bool stopped;

static void on_signal(int number) { stopped = true; }

static void catch_signals(void) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
}

static bool is_pipe(const mw_cli *cli) { return strcmp(cli->argv[0], "-") == 0; }

static int exit_code(int rc) { return rc == MW_ECONFIG ? MW_EXIT_USAGE : MW_EXIT_FAILED; }

// ---- PostgreSQL ----

static int print_lines(mw_cli *cli, const mw_config *conf, int (*lines_of)(const mw_pg_lines *, mw_buf *, mw_err *), const char *what) {
  mw_err err = {0};
  mw_buf out = MW_BUF_INIT;
  if (is_pipe(cli)) return mw_cli_usage_error(cli, "with PostgreSQL name a file: the lines that are printed read or write it");
  mw_pg_lines lines = {conf->database, conf->app_database, conf->postgres_schema, cli->argv[0]};
  int rc = lines_of(&lines, &out, &err);
  if (!rc) fputs(mw_buf_cstr(&out), stdout);
  mw_buf_deinit(&out);
  if (rc) return mw_cli_fail(cli, exit_code(rc), "%s", err.text);
  fflush(stdout);
  return mw_cli_fail(cli, MW_EXIT_USAGE, "nothing was done: the database is PostgreSQL, and its own tools %s it, with the lines above (| sh runs them)",
                     what);
}

// ---- SQLite ----

static void print_json(const mw_config *conf, const mw_cli *cli, const mw_manifest *m, const char *aside) {
  mw_buf out = MW_BUF_INIT;
  mw_buf_add_cstr(&out, "{\"file\": ");
  mw_json_add_string(&out, mw_str_from(cli->argv[0]));
  mw_buf_add_cstr(&out, ", \"data\": ");
  mw_json_add_string(&out, mw_str_from(conf->data));
  if (aside && *aside) {
    mw_buf_add_cstr(&out, ", \"aside\": ");
    mw_json_add_string(&out, mw_str_from(aside));
  }
  mw_buf_add_cstr(&out, ", \"manifest\": ");
  mw_manifest_write(m, &out);
  printf("%.*s}\n", (int)out.len - 1, out.ptr);
  mw_buf_deinit(&out);
}

static void print_manifest(FILE *to, const mw_manifest *m) {
  for (int i = 0; i < m->count; i++)
    fprintf(to, "%s%s %.1f MiB", i ? ", " : "", m->files[i].name, (double)m->files[i].bytes / (1024 * 1024));
  fprintf(to, "; schema %d, Moonwatch %s, %s\n", m->schema, m->moonwatch, m->created_at);
}

static int backup_sqlite(mw_cli *cli, const mw_config *conf) {
  mw_err err = {0};
  mw_manifest manifest;
  if (is_pipe(cli) && isatty(STDOUT_FILENO)) return mw_cli_usage_error(cli, "a backup is not for a terminal: name a file, or pipe it");
  catch_signals();
  int rc = mw_backup_write(&(mw_backup){conf->data, cli->argv[0], mw_cli_has(cli, "with-telemetry"), &stopped}, &manifest, &err);
  if (rc) return mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  if (mw_cli_has(cli, "json") && !is_pipe(cli)) print_json(conf, cli, &manifest, NULL);
  else {
    FILE *to = is_pipe(cli) ? stderr : stdout;
    fprintf(to, "%s: ", is_pipe(cli) ? "backup" : cli->argv[0]);
    print_manifest(to, &manifest);
  }
  return MW_EXIT_OK;
}

static int run_backup(mw_cli *cli) {
  mw_config conf;
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  code = mw_config_is_postgres(&conf) ? print_lines(cli, &conf, mw_pg_lines_backup, "back up") : backup_sqlite(cli, &conf);
  mw_config_deinit(&conf);
  return code;
}

static const mw_cli_flag backup_flags[] = {
    {"with-telemetry", NULL, "Also telemetry.db: spans, logs, samples"},
    {"json", NULL, "Print what was written as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_backup = {
    .name = "backup",
    .args = "FILE",
    .summary = "Copy the databases into one file, while a server runs",
    .details = "FILE is a tar archive with a manifest, moonwatch.db and app.db, all of one moment and checked; - is standard output. With PostgreSQL\n"
               "it prints the pg_dump line instead and exits with 2.",
    .flags = backup_flags,
    .min_args = 1,
    .max_args = 1,
    .takes_config = true,
    .run = run_backup,
};

static int restore_sqlite(mw_cli *cli, const mw_config *conf) {
  mw_err err = {0};
  mw_manifest manifest;
  mw_buf aside = MW_BUF_INIT;
  bool check = mw_cli_has(cli, "check");
  catch_signals();
  int rc = mw_backup_restore(&(mw_restore){conf->data, cli->argv[0], mw_cli_has(cli, "force"), check, &stopped}, &manifest, &aside, &err);
  if (rc) mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  else if (mw_cli_has(cli, "json")) print_json(conf, cli, &manifest, mw_buf_cstr(&aside));
  else {
    printf(check ? "%s is whole: " : "restored %s: ", cli->argv[0]);
    print_manifest(stdout, &manifest);
    if (aside.len) printf("the files that were there are in %s\n", mw_buf_cstr(&aside));
  }
  mw_buf_deinit(&aside);
  return rc ? MW_EXIT_FAILED : MW_EXIT_OK;
}

static int run_restore(mw_cli *cli) {
  mw_config conf;
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  code = mw_config_is_postgres(&conf) ? print_lines(cli, &conf, mw_pg_lines_restore, "restore") : restore_sqlite(cli, &conf);
  mw_config_deinit(&conf);
  return code;
}

static const mw_cli_flag restore_flags[] = {
    {"force", NULL, "Move databases that are there aside first; nothing is deleted"},
    {"check", NULL, "Only read all of FILE and compare it with its manifest"},
    {"json", NULL, "Print what was restored as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_restore = {
    .name = "restore",
    .args = "FILE",
    .summary = "Put a backup into a data folder that no server uses",
    .details = "The server started there next is a node of its own and goes on with every execution of the backup; - is standard input. With\n"
               "PostgreSQL it prints the pg_restore line instead and exits with 2.",
    .flags = restore_flags,
    .min_args = 1,
    .max_args = 1,
    .takes_config = true,
    .run = run_restore,
};
