// SPDX-License-Identifier: MIT
// `moonwatch runs replay`: whether other code takes the way that a run's journal says.
#include <stdio.h>
#include <string.h>

#include "app/cli_http.h"
#include "app/cmd_runs.h"
#include "base/json.h"

static bool some_diverge; // of one call of the command

static void show_report(const mw_cli *cli, mw_str body) {
  static const char *const members[] = {"id", "ends", "operations", "message", "next", "bundle", "error.message"};
  enum { COUNT = sizeof members / sizeof *members };
  mw_buf text[COUNT];
  for (int i = 0; i < COUNT; i++) {
    text[i] = (mw_buf)MW_BUF_INIT;
    mw_cli_json_string(body, members[i], &text[i]);
  }
  const char *id = mw_buf_cstr(&text[0]), *ends = mw_buf_cstr(&text[1]), *count = mw_buf_cstr(&text[2]);
  if (text[3].len) {
    some_diverge = true;
    printf("%s diverges after %s: %s\n", id, count, mw_buf_cstr(&text[3]));
  } else if (strcmp(ends, "goes on") == 0) printf("%s takes the same way for %s and goes on with %s\n", id, count, mw_buf_cstr(&text[4]));
  else if (strcmp(ends, "failed") == 0) printf("%s takes the same way for %s and fails: %s\n", id, count, mw_buf_cstr(&text[6]));
  else printf("%s takes the same way for %s%s\n", id, count, strcmp(ends, "completed") == 0 ? " to its end" : ", as far as its journal goes");
  for (int i = 0; i < COUNT; i++) mw_buf_deinit(&text[i]);
}

int mw_runs_replay(mw_cli *cli) {
  int code = 0;
  some_diverge = false;
  for (int i = 1; i < cli->argc && !code; i++) {
    char path[128];
    if (!mw_runs_check_id(cli, cli->argv[i])) return MW_EXIT_USAGE;
    snprintf(path, sizeof path, "/api/v1/executions/%s/replay", cli->argv[i]);
    mw_buf body = MW_BUF_INIT;
    mw_buf_add_cstr(&body, "{\"to\":");
    mw_json_add_string(&body, mw_str_from(mw_cli_has(cli, "to") ? mw_cli_get(cli, "to") : "latest"));
    mw_buf_add_byte(&body, '}');
    code = mw_cli_http_show(cli, &(mw_cli_request){.method = "POST", .path = path, .body = mw_buf_str(&body)}, show_report);
    mw_buf_deinit(&body);
  }
  return code ? code : some_diverge ? MW_EXIT_FAILED : MW_EXIT_OK;
}
