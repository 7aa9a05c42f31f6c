// SPDX-License-Identifier: MIT
// `moonwatch login` and `moonwatch logout`: sessions of the dashboard, through the control socket or with a key that has every scope.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/cli_http.h"
#include "app/commands.h"

static void print_link(const mw_cli *cli, mw_str body) {
  mw_buf link = MW_BUF_INIT;
  const char *url = mw_cli_get(cli, "url");
  if (!url) url = getenv("MOONWATCH_URL");
  if (url && *url) { // as the person reaches it, not as the server sees itself
    size_t len = strlen(url);
    while (len && url[len - 1] == '/') len--;
    mw_buf_add(&link, url, len);
    mw_cli_json_string(body, "path", &link);
  } else if (!mw_cli_json_string(body, "url", &link)) {
    mw_cli_json_string(body, "path", &link);
    fputs("The server listens on a Unix socket alone: put the address of what stands in front of it before this path.\n", stderr);
  }
  printf("%s\n", mw_buf_cstr(&link));
  fflush(stdout);
  fputs("It opens once, within 10 minutes.\n", stderr);
  mw_buf_deinit(&link);
}

static int run_login(mw_cli *cli) {
  return mw_cli_http_show(cli, &(mw_cli_request){.method = "POST", .path = "/api/v1/login-links", .body = MW_STR("{}")}, print_link);
}

static void print_ended(const mw_cli *cli, mw_str body) { puts("every session has ended"); }

static int run_logout(mw_cli *cli) {
  return mw_cli_http_show(cli, &(mw_cli_request){.method = "DELETE", .path = "/api/v1/sessions"}, print_ended);
}

static const mw_cli_flag flags[] = {
    MW_CLI_HTTP_FLAGS,
    {"json", NULL, "Print the answer as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_login = {
    .name = "login",
    .summary = "Print a link that logs in to the dashboard",
    .details = "The link opens once, within 10 minutes. The session it begins lasts 12 hours without use, 7 days at most.",
    .flags = flags,
    .takes_config = true,
    .run = run_login,
};

const mw_command mw_command_logout = {
    .name = "logout",
    .summary = "End every session of the dashboard",
    .details = "Login links that are not used yet end too.",
    .flags = flags,
    .takes_config = true,
    .run = run_logout,
};
