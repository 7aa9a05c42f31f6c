// SPDX-License-Identifier: MIT
// `moonwatch runs list|totals|show|journal|wait`.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/cli_http.h"
#include "app/cmd_runs.h"
#include "app/commands.h"

#define SECOND_TEXT 19 // "2026-03-29T03:00:00"
#define DEFAULT_WAIT_S 60
#define LONGEST_WAIT_S 60 // of one request

static bool has_field(mw_str json, const char *member) {
  mw_buf text = MW_BUF_INIT;
  bool is_there = mw_cli_json_string(json, member, &text);
  mw_buf_deinit(&text);
  return is_there;
}

// ---- list ----

static void print_run(mw_str item, void *arg) {
  mw_cli_print_cell(item, "id", 36, 0);
  mw_cli_print_cell(item, "status", 9, 0);
  mw_cli_print_cell(item, "workflow", 24, 0);
  mw_cli_print_cell(item, "created_at", SECOND_TEXT, SECOND_TEXT);
  if (has_field(item, "error.message")) mw_cli_print_cell(item, "error.message", 0, 60);
  putchar('\n');
  ++*(int *)arg;
}

static void show_list(const mw_cli *cli, mw_str body) {
  int count = 0;
  printf("%-36s %-9s %-24s %-19s %s\n", "ID", "STATUS", "WORKFLOW", "CREATED", "ERROR");
  mw_cli_json_each(body, "items", print_run, &count);
  mw_buf next = MW_BUF_INIT;
  if (!count) fputs("No execution is like that.\n", stderr);
  else if (mw_cli_json_string(body, "next", &next)) fprintf(stderr, "More of them: --cursor %s\n", mw_buf_cstr(&next));
  mw_buf_deinit(&next);
}

/** The conditions of --where as parameters: KEY=VALUE. */
static int add_conditions(mw_cli *cli, mw_buf *path) {
  const char *condition;
  for (int i = 0; (condition = mw_cli_get_nth(cli, "where", i)); i++) {
    const char *equals = strchr(condition, '=');
    char name[64];
    if (!equals || equals == condition || (size_t)(equals - condition) >= sizeof name)
      return mw_cli_usage_error(cli, "--where %s: write KEY=VALUE, as in --where status=failed", condition);
    snprintf(name, sizeof name, "%.*s", (int)(equals - condition), condition);
    mw_cli_add_parameter(path, name, equals + 1);
  }
  return MW_EXIT_OK;
}

static int get_list(mw_cli *cli, const char *more, void (*show)(const mw_cli *, mw_str)) {
  mw_buf path = MW_BUF_INIT;
  mw_buf_printf(&path, "/api/v1/executions%s", more);
  int code = add_conditions(cli, &path);
  mw_cli_add_parameter(&path, "limit", mw_cli_get(cli, "limit"));
  mw_cli_add_parameter(&path, "cursor", mw_cli_get(cli, "cursor"));
  if (!code) code = mw_cli_http_show(cli, &(mw_cli_request){.method = "GET", .path = mw_buf_cstr(&path)}, show);
  mw_buf_deinit(&path);
  return code;
}

int mw_runs_list(mw_cli *cli) { return get_list(cli, "", show_list); }

// ---- totals ----

static void print_total(mw_str item, void *arg) {
  mw_cli_print_cell(item, "workflow", 36, 0);
  mw_cli_print_cell(item, "status", 9, 0);
  mw_cli_print_cell(item, "total", 0, 0);
  putchar('\n');
  ++*(int *)arg;
}

static void show_totals(const mw_cli *cli, mw_str body) {
  int count = 0;
  printf("%-36s %-9s %s\n", "WORKFLOW", "STATUS", "TOTAL");
  mw_cli_json_each(body, "items", print_total, &count);
  if (!count) fputs("There are none.\n", stderr);
}

int mw_runs_totals(mw_cli *cli) { return get_list(cli, "/totals", show_totals); }

// ---- show, journal ----

static void print_try(mw_str item, void *arg) {
  mw_buf status = MW_BUF_INIT;
  if (mw_cli_json_string(item, "status", &status) && strcmp(mw_buf_cstr(&status), "completed") != 0) {
    printf("      attempt ");
    mw_cli_print_cell(item, "attempt", 0, 0);
    mw_cli_print_cell(item, "status", 0, 0);
    if (has_field(item, "error.message")) mw_cli_print_cell(item, "error.message", 0, 0);
    putchar('\n');
  }
  mw_buf_deinit(&status);
}

static void print_step(mw_str item, void *arg) {
  fputs("  ", stdout);
  mw_cli_print_cell(item, "name", 28, 0);
  mw_cli_print_cell(item, "kind", 8, 0);
  mw_cli_print_cell(item, "status", 10, 0);
  mw_cli_print_cell(item, "started_at", SECOND_TEXT, SECOND_TEXT);
  mw_cli_print_cell(item, "finished_at", SECOND_TEXT, SECOND_TEXT);
  putchar('\n');
  mw_cli_json_each(item, "tries", print_try, NULL);
}

static void print_wait(mw_str item, void *arg) {
  fputs("It waits for the signal ", stdout);
  mw_cli_print_cell(item, "signal", 0, 0);
  if (has_field(item, "deadline_at")) {
    fputs("until ", stdout);
    mw_cli_print_cell(item, "deadline_at", 0, 0);
  }
  putchar('\n');
}

static void print_line(mw_str body, const char *what, const char *member) {
  if (!has_field(body, member)) return;
  printf("%s ", what);
  mw_cli_print_cell(body, member, 0, 0);
  putchar('\n');
}

static void show_run(const mw_cli *cli, mw_str body) {
  mw_cli_print_cell(body, "id", 0, 0);
  mw_cli_print_cell(body, "workflow", 0, 0);
  mw_cli_print_cell(body, "status", 0, 0);
  putchar('\n');
  print_line(body, "created", "created_at");
  print_line(body, "finished", "finished_at");
  print_line(body, "due", "due_at");
  print_line(body, "name", "external_id");
  print_line(body, "group", "group");
  print_line(body, "parent", "parent");
  print_line(body, "its owner was asked to", "control");
  print_line(body, "error", "error.message");
  mw_cli_json_each(body, "waits", print_wait, NULL);
  printf("\n  %-28s %-8s %-10s %-19s %s\n", "STEP", "KIND", "STATUS", "STARTED", "FINISHED");
  mw_cli_json_each(body, "steps", print_step, NULL);
}

static void print_event(mw_str item, void *arg) { printf("    %.*s\n", MW_STR_FMT(item)); }

static void print_row(mw_str item, void *arg) {
  mw_cli_print_cell(item, "number", 6, 0);
  mw_cli_print_cell(item, "at", 0, 0);
  putchar('\n');
  mw_cli_json_each(item, "events", print_event, NULL);
}

static void show_journal(const mw_cli *cli, mw_str body) {
  mw_cli_json_each(body, "items", print_row, NULL);
  mw_buf next = MW_BUF_INIT;
  if (mw_cli_json_string(body, "next", &next)) fprintf(stderr, "More of them: --cursor %s\n", mw_buf_cstr(&next));
  mw_buf_deinit(&next);
}

static int get(mw_cli *cli, const char *more, const char *parameter, const char *value, void (*show)(const mw_cli *, mw_str)) {
  if (!mw_runs_check_id(cli, cli->argv[1])) return MW_EXIT_USAGE;
  mw_buf path = MW_BUF_INIT;
  mw_buf_printf(&path, "/api/v1/executions/%s%s", cli->argv[1], more);
  mw_cli_add_parameter(&path, parameter, value);
  int code = mw_cli_http_show(cli, &(mw_cli_request){.method = "GET", .path = mw_buf_cstr(&path)}, show);
  mw_buf_deinit(&path);
  return code;
}

int mw_runs_show(mw_cli *cli) { return get(cli, "", NULL, NULL, show_run); }

int mw_runs_journal(mw_cli *cli) { return get(cli, "/journal", "after", mw_cli_get(cli, "cursor"), show_journal); }

// ---- wait ----

static char waited_status[16]; // of the last answer

static bool has_ended(void) {
  return strcmp(waited_status, "completed") == 0 || strcmp(waited_status, "failed") == 0 || strcmp(waited_status, "cancelled") == 0;
}

static void note_status(const mw_cli *cli, mw_str body) {
  mw_buf status = MW_BUF_INIT;
  mw_cli_json_string(body, "status", &status);
  snprintf(waited_status, sizeof waited_status, "%s", mw_buf_cstr(&status));
  mw_buf_deinit(&status);
  if (has_ended()) show_run(cli, body);
}

/** Asks again until it has ended, since one request waits for a minute at most. */
int mw_runs_wait(mw_cli *cli) {
  const char *text = mw_cli_get(cli, "timeout");
  char *end = NULL, part[24];
  long left = text ? strtol(text, &end, 10) : DEFAULT_WAIT_S;
  if (text && (end == text || *end || left < 0 || left > 86400)) return mw_cli_usage_error(cli, "--timeout is a number of seconds up to 86400, got '%.40s'", text);
  if (mw_cli_has(cli, "json") && left > LONGEST_WAIT_S)
    return mw_cli_usage_error(cli, "with --json one answer is printed as it is, and --timeout is at most %d seconds", LONGEST_WAIT_S);
  if (mw_cli_has(cli, "json")) {
    snprintf(part, sizeof part, "%ld", left);
    return get(cli, "", "wait", part, note_status);
  }
  int code;
  do {
    long now = left < LONGEST_WAIT_S ? left : LONGEST_WAIT_S;
    snprintf(part, sizeof part, "%ld", now);
    code = get(cli, "", "wait", part, note_status);
    left -= now;
  } while (!code && left > 0 && !has_ended());
  if (code) return code;
  if (!has_ended()) return mw_cli_fail(cli, MW_EXIT_FAILED, "it is %s after that time", waited_status);
  return strcmp(waited_status, "completed") == 0 ? MW_EXIT_OK : MW_EXIT_FAILED;
}
