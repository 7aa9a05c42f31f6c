// SPDX-License-Identifier: MIT
// `moonwatch cron`: the cron jobs of a running server: when they run next, what became of their ticks, and running them now.
#include <stdio.h>
#include <string.h>

#include "app/cli_http.h"
#include "app/commands.h"

#define MINUTE_TEXT 16 // "2026-03-29T03:00"

typedef struct row {
  mw_buf cells[8];
  int count;
} row;

// The members' texts, "-" for null; times to the minute.
static void read_row(row *r, mw_str item, const char *const *members, int count) {
  r->count = count;
  for (int i = 0; i < count; i++) {
    r->cells[i] = (mw_buf)MW_BUF_INIT;
    if (!mw_cli_json_string(item, members[i], &r->cells[i])) mw_buf_add_byte(&r->cells[i], '-');
  }
}

static const char *cell(row *r, int i) { return mw_buf_cstr(&r->cells[i]); }

static void free_row(row *r) {
  for (int i = 0; i < r->count; i++) mw_buf_deinit(&r->cells[i]);
}

static void take_first(mw_str item, void *arg) {
  mw_buf *out = arg;
  if (!out->len) mw_cli_json_string(item, "at", out);
}

static void print_job(mw_str item, void *arg) {
  static const char *const members[] = {"name", "expression", "timezone", "workflow", "paused_by"};
  row r;
  mw_buf next = MW_BUF_INIT;
  read_row(&r, item, members, 5);
  mw_cli_json_each(item, "next", take_first, &next);
  const char *when = strcmp(cell(&r, 4), "-") != 0 ? "paused" : next.len ? mw_buf_cstr(&next) : "not declared";
  printf("%-24s %-20s %-20s %-28s %s\n", cell(&r, 0), cell(&r, 1), cell(&r, 2), when, cell(&r, 3));
  mw_buf_deinit(&next);
  free_row(&r);
  ++*(int *)arg;
}

static void show_list(const mw_cli *cli, mw_str body) {
  int count = 0;
  printf("%-24s %-20s %-20s %-28s %s\n", "NAME", "SCHEDULE", "TIME ZONE", "NEXT", "WORKFLOW");
  mw_cli_json_each(body, "items", print_job, &count);
  if (!count) fputs("There are no cron jobs; a plugin declares one with mw.cron(name, \"0 3 * * *\", function(ctx) … end).\n", stderr);
}

static void print_next(mw_str item, void *arg) {
  static const char *const members[] = {"at", "at_utc"};
  row r;
  read_row(&r, item, members, 2);
  printf("  %-28s %s\n", cell(&r, 0), cell(&r, 1));
  free_row(&r);
}

static void print_tick(mw_str item, void *arg) {
  static const char *const members[] = {"scheduled_at", "status", "execution_status", "seconds", "execution", "reason"};
  row r;
  read_row(&r, item, members, 6);
  const char *seconds = cell(&r, 3);
  printf("  %-28s %-8s %-10s %9.9s  %-36s", cell(&r, 0), cell(&r, 1), cell(&r, 2), seconds, cell(&r, 4));
  if (strcmp(cell(&r, 5), "-") != 0) printf("  %s", cell(&r, 5));
  putchar('\n');
  free_row(&r);
}

static void show_job(const mw_cli *cli, mw_str body) {
  static const char *const members[] = {"name", "expression", "timezone", "workflow", "where", "paused_by", "paused_at"};
  row r;
  read_row(&r, body, members, 7);
  printf("%s  %s  %s, starts %s, declared at %s\n", cell(&r, 0), cell(&r, 1), cell(&r, 2), cell(&r, 3), cell(&r, 4));
  if (strcmp(cell(&r, 5), "-") != 0)
    printf("It does not run: paused by %s at %.*s. `moonwatch cron resume %s` lets it go on.\n", cell(&r, 5), MINUTE_TEXT, cell(&r, 6), cell(&r, 0));
  else if (strcmp(cell(&r, 4), "-") == 0) puts("It does not run: no plugin declares it any more.");
  printf("\n  %-28s %s\n", "NEXT", "IN UTC");
  mw_cli_json_each(body, "next", print_next, NULL);
  printf("\n  %-28s %-8s %-10s %9s  %-36s  %s\n", "TICK", "", "EXECUTION", "SECONDS", "", "WHY");
  mw_cli_json_each(body, "ticks", print_tick, NULL);
  free_row(&r);
}

static void show_id(const mw_cli *cli, mw_str body) {
  mw_buf id = MW_BUF_INIT;
  mw_cli_json_string(body, "id", &id);
  printf("%s\n", mw_buf_cstr(&id));
  mw_buf_deinit(&id);
}

static void show_state(const mw_cli *cli, mw_str body) {
  static const char *const members[] = {"name", "paused_by"};
  row r;
  read_row(&r, body, members, 2);
  printf("%s %s\n", cell(&r, 0), strcmp(cell(&r, 1), "-") != 0 ? "is paused" : "goes on");
  free_row(&r);
}

static int run_cron(mw_cli *cli) {
  char path[300];
  const char *what = cli->argv[0], *name = cli->argv[1];
  if (strcmp(what, "list") == 0) return mw_cli_http_show(cli, &(mw_cli_request){.method = "GET", .path = "/api/v1/cron"}, show_list);
  if (strlen(name) > 200 || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != strlen(name))
    return mw_cli_usage_error(cli, "'%s' is no name of a cron job; `moonwatch cron list` shows them", name);
  if (strcmp(what, "show") == 0) {
    snprintf(path, sizeof path, "/api/v1/cron/%s", name);
    return mw_cli_http_show(cli, &(mw_cli_request){.method = "GET", .path = path}, show_job);
  }
  snprintf(path, sizeof path, "/api/v1/cron/%s/%s", name, what);
  return mw_cli_http_show(cli, &(mw_cli_request){.method = "POST", .path = path, .body = MW_STR("{}")},
                          strcmp(what, "run") == 0 ? show_id : show_state);
}

static const mw_cli_sub subs[] = {
    {"list", NULL, "List the jobs, each with its next run", 0, 0},
    {"show", "NAME", "Show a job's next ten runs, what became of its ticks, and why it did not run", 1, 1},
    {"run", "NAME", "Run a job now, besides its schedule, and print the execution's id", 1, 1},
    {"pause", "NAME", "Skip a job's ticks until it is resumed", 1, 1},
    {"resume", "NAME", "Let a paused job go on; nothing of the pause is made up for", 1, 1},
    {NULL, NULL, NULL, 0, 0},
};

static const mw_cli_flag flags[] = {
    MW_CLI_HTTP_FLAGS,
    {"json", NULL, "Print the answer as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_cron = {
    .name = "cron",
    .summary = "Look at cron jobs, run, pause and resume them",
    .details = "Jobs are declared by plugins with mw.cron; see docs/cron.md.",
    .flags = flags,
    .subs = subs,
    .takes_config = true,
    .run = run_cron,
};
