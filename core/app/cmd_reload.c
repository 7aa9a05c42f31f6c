// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "app/cli_config.h"
#include "app/cli_http.h"
#include "app/commands.h"
#include "base/json.h"

/** Counts the plugins of a report and reads its generation. */
static void read_report(mw_str json, int64_t *generation, size_t *plugins) {
  mw_json_reader reader;
  mw_json_reader_init(&reader, json, NULL);
  *generation = -1;
  *plugins = 0;
  if (mw_json_read(&reader) == MW_JSON_OBJECT_BEGIN)
    while (mw_json_read(&reader) == MW_JSON_KEY) {
      if (mw_str_eq(reader.text, MW_STR("generation"))) {
        if (mw_json_read(&reader) == MW_JSON_NUMBER) *generation = reader.integer;
      } else if (mw_str_eq(reader.text, MW_STR("plugins"))) {
        if (mw_json_read(&reader) != MW_JSON_ARRAY_BEGIN) break;
        for (mw_json_token t; (t = mw_json_read(&reader)) > MW_JSON_END && !(t == MW_JSON_ARRAY_END && reader.depth == 1);)
          if (t == MW_JSON_OBJECT_BEGIN && reader.depth == 3) (*plugins)++;
      } else if (mw_json_skip(&reader)) break;
    }
  mw_json_reader_deinit(&reader);
}

static int run_reload(mw_cli *cli) {
  mw_config conf;
  mw_cli_answer answer;
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  code = mw_cli_http(cli, &conf, &(mw_cli_request){.method = "POST", .path = "/api/v1/reload", .body = MW_STR("{}")}, &answer);
  if (!code) {
    if (mw_cli_has(cli, "json")) printf("%.*s\n", MW_STR_FMT(mw_buf_str(&answer.body)));
    if (answer.status / 100 != 2) code = mw_cli_answer_fail(cli, &answer);
    else if (!mw_cli_has(cli, "json")) {
      int64_t generation;
      size_t plugins;
      read_report(mw_buf_str(&answer.body), &generation, &plugins);
      printf("generation %lld serves, %zu plugin%s\n", (long long)generation, plugins, plugins == 1 ? "" : "s");
    }
    mw_cli_answer_deinit(&answer);
  }
  mw_config_deinit(&conf);
  return code;
}

static const mw_cli_flag flags[] = {
    MW_CLI_HTTP_FLAGS,
    {"json", NULL, "Print the report as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_reload = {
    .name = "reload",
    .summary = "Load the plugins anew in a running server",
    .details = "Builds the next generation beside the serving one and switches to it, or changes nothing and says why.",
    .flags = flags,
    .takes_config = true,
    .run = run_reload,
};
