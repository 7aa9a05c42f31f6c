// SPDX-License-Identifier: MIT
// `moonwatch workflows`: the workflows of a running server, and pausing them.
#include <stdio.h>
#include <string.h>

#include "app/cli_http.h"
#include "app/commands.h"

static void print_workflow(mw_str item, void *arg) {
  mw_cli_print_cell(item, "name", 28, 0);
  mw_cli_print_cell(item, "form", 12, 0);
  mw_cli_print_cell(item, "where", 32, 0);
  mw_cli_print_cell(item, "paused_by", 0, 0);
  putchar('\n');
  ++*(int *)arg;
}

static void show_list(const mw_cli *cli, mw_str body) {
  int count = 0;
  mw_buf by = MW_BUF_INIT;
  printf("%-28s %-12s %-32s %s\n", "NAME", "FORM", "DECLARED AT", "PAUSED BY");
  mw_cli_json_each(body, "items", print_workflow, &count);
  if (!count) fputs("There are no workflows; a plugin declares one with mw.workflow(name, { … }).\n", stderr);
  if (mw_cli_json_string(body, "paused_by", &by))
    fprintf(stderr, "Everything is paused, by %s. `moonwatch workflows resume --all` lets it go on.\n", mw_buf_cstr(&by));
  mw_buf_deinit(&by);
}

static void show_outcome(const mw_cli *cli, mw_str body) {
  bool is_paused = strcmp(cli->argv[0], "pause") == 0;
  printf("%s %s\n", cli->argv[1] ? cli->argv[1] : "everything", is_paused ? "is paused" : "goes on");
}

static int run_workflows(mw_cli *cli) {
  const char *what = cli->argv[0], *name = cli->argv[1];
  if (strcmp(what, "list") == 0) return mw_cli_http_show(cli, &(mw_cli_request){.method = "GET", .path = "/api/v1/workflows"}, show_list);
  if ((name != NULL) == mw_cli_has(cli, "all"))
    return mw_cli_usage_error(cli, "say which: moonwatch workflows %s NAME, or --all", what);
  mw_buf path = MW_BUF_INIT;
  mw_buf_add_cstr(&path, "/api/v1/");
  if (name) {
    mw_buf_add_cstr(&path, "workflows/");
    mw_cli_add_escaped(&path, name);
    mw_buf_add_byte(&path, '/');
  }
  mw_buf_add_cstr(&path, what);
  int code = mw_cli_http_show(cli, &(mw_cli_request){.method = "POST", .path = mw_buf_cstr(&path), .body = MW_STR("{}")}, show_outcome);
  mw_buf_deinit(&path);
  return code;
}

static const mw_cli_sub subs[] = {
    {"list", NULL, "List the workflows", 0, 0},
    {"pause", "[NAME]", "Pause a workflow, or --all: runs stop at their next step, starts are queued", 0, 1},
    {"resume", "[NAME]", "Let a paused workflow go on, or --all", 0, 1},
    {NULL, NULL, NULL, 0, 0},
};

static const mw_cli_flag flags[] = {
    MW_CLI_HTTP_FLAGS,
    {"all", NULL, "Of pause and resume: everything"},
    {"json", NULL, "Print the answer as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_workflows = {
    .name = "workflows",
    .summary = "List workflows, pause and resume them",
    .details = "A pause holds over restarts and on every node. See docs/workflows.md.",
    .flags = flags,
    .subs = subs,
    .takes_config = true,
    .run = run_workflows,
};
