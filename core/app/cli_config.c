// SPDX-License-Identifier: MIT
#include "app/cli_config.h"

#include <stdlib.h>

#include "app/commands.h"
#include "app/serve.h"

const mw_cli_flag mw_cli_config_flags[] = {
    {"config", "FILE", "Configuration file (default: moonwatch.lua, if it is there)"},
    {NULL, NULL, NULL},
};

static const char *flag_of(void *arg, const char *name) { return mw_cli_get(arg, name); }

int mw_cli_try_config(const mw_cli *cli, mw_config *conf, mw_err *err) {
  const char *file = mw_cli_get(cli, "config");
  if (!file && getenv("MOONWATCH_CONFIG") && *getenv("MOONWATCH_CONFIG")) file = getenv("MOONWATCH_CONFIG");
  mw_config_source source = {.file = file, .flag = flag_of, .arg = (void *)cli};
  int rc = mw_config_load(conf, &source, err);
  if (rc) return rc;
  if (mw_cli_has(cli, "no-supervisor"))
    mw_config_set(conf, &mw_config_options[MW_CONFIG_supervisor], MW_STR("false"), "--no-supervisor", NULL);
  if (mw_cli_has(cli, "paused")) mw_config_set(conf, &mw_config_options[MW_CONFIG_paused], MW_STR("true"), "--paused", NULL);
  if (mw_cli_has(cli, "json") && (cli->command == &mw_command_serve || cli->command == &mw_command_upgrade))
    mw_config_set(conf, &mw_config_options[MW_CONFIG_log_format], MW_STR("json"), "--json", NULL);
  mw_serve_configure_log(conf);
  return 0;
}

int mw_cli_load_config(const mw_cli *cli, mw_config *conf) {
  mw_err err = {0};
  if (mw_cli_try_config(cli, conf, &err)) return mw_cli_fail(cli, MW_EXIT_USAGE, "%s", err.text);
  return MW_EXIT_OK;
}
