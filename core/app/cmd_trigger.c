// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/cli_config.h"
#include "app/cli_http.h"
#include "app/commands.h"
#include "base/alloc.h"
#include "base/json.h"

static int read_stdin(mw_buf *out) {
  ssize_t n;
  while ((n = read(STDIN_FILENO, mw_buf_reserve(out, 65536), 65536)) > 0) {
    out->len += (size_t)n;
    if (out->len > MW_CLI_HTTP_MAX_BYTES) return MW_ELIMIT;
  }
  return n < 0 ? MW_EIO : 0;
}

/** Writes the request's body; checks the input here, so that a slip in it is shown with its place. */
static int write_body(mw_cli *cli, mw_buf *body) {
  mw_buf input = MW_BUF_INIT;
  mw_err err = {0};
  int code = MW_EXIT_OK;
  if (cli->argc > 1 && strcmp(cli->argv[1], "-") == 0) {
    if (read_stdin(&input)) code = mw_cli_fail(cli, MW_EXIT_USAGE, "the input cannot be read, or is larger than 16 MiB");
  } else if (cli->argc > 1) mw_buf_add_cstr(&input, cli->argv[1]);
  if (!code && cli->argc > 1 && mw_json_check(mw_buf_str(&input), NULL, &err))
    code = mw_cli_fail(cli, MW_EXIT_USAGE, "the input is not JSON: %s\nWrite it as in: moonwatch trigger %s '{\"amount\": 42}'", err.text,
                       cli->argv[0]);
  if (!code) {
    mw_buf_add_cstr(body, "{\"name\":");
    mw_json_add_string(body, mw_str_from(cli->argv[0]));
    if (cli->argc > 1) mw_buf_printf(body, ",\"input\":%s", mw_buf_cstr(&input));
    mw_buf_add_byte(body, '}');
  }
  mw_buf_deinit(&input);
  return code;
}

// ---- a name that is not there ----

enum { MAX_NAMES = 500, MAX_NAME = 204 };

typedef struct name_list {
  char names[MAX_NAMES][MAX_NAME];
  int count;
} name_list;

static void add_name(mw_str item, void *arg) {
  name_list *list = arg;
  mw_buf name = MW_BUF_INIT;
  if (list->count < MAX_NAMES - 1 && mw_cli_json_string(item, "name", &name) && name.len < MAX_NAME)
    strcpy(list->names[list->count++], mw_buf_cstr(&name));
  mw_buf_deinit(&name);
}

static void print_nearest(const mw_cli *cli, const name_list *list) {
  const char *names[MAX_NAMES];
  for (int i = 0; i < list->count; i++) names[i] = list->names[i];
  names[list->count] = NULL;
  const char *meant = mw_cli_suggest(cli->argv[0], names);
  if (!list->count) fputs("The server has no workflows yet: `moonwatch new workflow NAME` writes one, `moonwatch check` shows why one does not load.\n", stderr);
  else if (meant) fprintf(stderr, "Did you mean %s?\n", meant);
  else fputs("`moonwatch check` lists the workflows of this folder, /ops those that are served.\n", stderr);
}

/** Says which workflow may have been meant; the server is asked once more. */
static void suggest(const mw_cli *cli, const mw_config *conf) {
  mw_cli_answer answer;
  if (mw_cli_http(cli, conf, &(mw_cli_request){.method = "GET", .path = "/api/v1/workflows"}, &answer)) return;
  if (answer.status == 200) {
    name_list *list = MW_NEW(name_list);
    mw_cli_json_each(mw_buf_str(&answer.body), "items", add_name, list);
    print_nearest(cli, list);
    mw_free(list);
  }
  mw_cli_answer_deinit(&answer);
}

static int print_answer(const mw_cli *cli, const mw_cli_answer *answer) {
  mw_buf id = MW_BUF_INIT;
  mw_str body = mw_buf_str(&answer->body);
  if (answer->status / 100 != 2) return mw_cli_answer_fail(cli, answer);
  if (!mw_cli_has(cli, "json") && mw_cli_json_string(body, "executionId", &id)) printf("%s\n", mw_buf_cstr(&id));
  else printf("%.*s\n", MW_STR_FMT(body));
  mw_buf_deinit(&id);
  return MW_EXIT_OK;
}

static int run_trigger(mw_cli *cli) {
  mw_config conf;
  mw_cli_answer answer;
  mw_buf body = MW_BUF_INIT;
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  code = write_body(cli, &body);
  if (!code) {
    mw_cli_request request = {.method = "POST", .path = "/api/trigger", .body = mw_buf_str(&body), .key = mw_cli_get(cli, "key")};
    code = mw_cli_http(cli, &conf, &request, &answer);
    if (!code) {
      code = print_answer(cli, &answer);
      if (answer.status == 404) suggest(cli, &conf);
      mw_cli_answer_deinit(&answer);
    }
  }
  mw_buf_deinit(&body);
  mw_config_deinit(&conf);
  return code;
}

static const mw_cli_flag flags[] = {
    MW_CLI_HTTP_FLAGS,
    {"key", "KEY", "Idempotency-Key: the same key starts one execution, however often it is sent"},
    {"json", NULL, "Print the answer as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_trigger = {
    .name = "trigger",
    .args = "NAME [JSON]",
    .summary = "Start an execution of a workflow",
    .details = "Prints the execution's id. JSON is its input; - reads it from standard input.",
    .flags = flags,
    .min_args = 1,
    .max_args = 2,
    .takes_config = true,
    .run = run_trigger,
};
