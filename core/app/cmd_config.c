// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "app/cli_config.h"
#include "app/commands.h"
#include "base/json.h"

static void add_masked_json(mw_buf *out, const char *text) {
  mw_buf masked = MW_BUF_INIT;
  mw_config_add_masked(&masked, text);
  mw_json_add_string(out, mw_buf_str(&masked));
  mw_buf_deinit(&masked);
}

static void add_masked_map(const mw_config_map *map, mw_buf *out) {
  mw_buf_add_byte(out, '{');
  for (size_t i = 0; i < map->count; i++) {
    if (i) mw_buf_add_cstr(out, ", ");
    mw_json_add_string(out, mw_str_from(map->names[i]));
    mw_buf_add_cstr(out, ": ");
    add_masked_json(out, map->values[i]);
  }
  mw_buf_add_byte(out, '}');
}

static void add_json_value(const mw_config *conf, const mw_config_option *option, mw_buf *out) {
  if (option->secret && option->kind == MW_CONFIG_MAP) {
    add_masked_map((const mw_config_map *)((const char *)conf + option->offset), out);
  } else if (option->secret) {
    mw_buf masked = MW_BUF_INIT;
    mw_config_add_text(conf, option, &masked);
    mw_json_add_string(out, mw_buf_str(&masked));
    mw_buf_deinit(&masked);
  } else mw_config_add_json(conf, option, out);
}

static void print_json(const mw_config *conf, bool origin) {
  mw_buf out = MW_BUF_INIT;
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) {
    const mw_config_option *option = &mw_config_options[i];
    mw_buf_add_cstr(&out, i ? ",\n  " : "{\n  ");
    mw_json_add_string(&out, mw_str_from(option->name));
    mw_buf_add_cstr(&out, origin ? ": {\"value\": " : ": ");
    add_json_value(conf, option, &out);
    if (!origin) continue;
    mw_buf_add_cstr(&out, ", \"origin\": ");
    mw_json_add_string(&out, mw_str_from(conf->origins[i]));
    mw_buf_add_byte(&out, '}');
  }
  printf("%s\n}\n", mw_buf_cstr(&out));
  mw_buf_deinit(&out);
}

static void print_text(const mw_config *conf, bool origin) {
  mw_buf value = MW_BUF_INIT;
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) {
    mw_buf_reset(&value, 4096);
    mw_config_add_text(conf, &mw_config_options[i], &value);
    if (origin) printf("%-22s %-28s %s\n", mw_config_options[i].name, mw_buf_cstr(&value), conf->origins[i]);
    else printf("%-22s %s\n", mw_config_options[i].name, mw_buf_cstr(&value));
  }
  mw_buf_deinit(&value);
}

// The rows of docs/configuration.md, from the one table of options.
static int print_reference(void) {
  printf("| option | default | flag | what |\n|---|---|---|---|\n");
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) {
    const mw_config_option *option = &mw_config_options[i];
    printf("| `%s` | ", option->name);
    if (*option->fallback) printf("`%s`", option->fallback);
    printf(" | ");
    if (option->flag) printf("`--%s%s%s`", option->flag, option->value ? " " : "", option->value ? option->value : "");
    printf(" | %s |\n", option->doc);
  }
  return MW_EXIT_OK;
}

static int run_config(mw_cli *cli) {
  mw_config conf;
  if (mw_cli_has(cli, "reference")) return print_reference();
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  bool origin = mw_cli_has(cli, "origin");
  if (mw_cli_has(cli, "json")) print_json(&conf, origin);
  else print_text(&conf, origin);
  mw_config_deinit(&conf);
  return MW_EXIT_OK;
}

static const mw_cli_flag flags[] = {
    {"origin", NULL, "Also say where each value came from"},
    {"reference", NULL, "Print the table of all options instead, as in docs/configuration.md"},
    {"json", NULL, "Print JSON: durations in seconds, sizes in bytes"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_config = {
    .name = "config",
    .summary = "Show the configuration",
    .details = "Weakest first: defaults, moonwatch.lua, MOONWATCH_* variables (http.max_body is MOONWATCH_HTTP_MAX_BODY; secrets also\n"
               "from the file that MOONWATCH_TOKEN_FILE names), flags. Secrets are masked.",
    .flags = flags,
    .takes_config = true,
    .run = run_config,
};
