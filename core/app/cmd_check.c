// SPDX-License-Identifier: MIT
#include "app/certificates.h"
#include "app/cli_config.h"
#include "app/commands.h"
#include "app/runtime.h"

static int run_check(mw_cli *cli) {
  mw_config conf;
  mw_err err = {0};
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  int certificates = mw_certificates_check(&conf, &err);
  if (certificates) mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  int rc = mw_runtime_check(&conf, mw_cli_has(cli, "json"), &err);
  if (rc && rc != MW_ELUA) mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  mw_config_deinit(&conf);
  return rc || certificates ? MW_EXIT_FAILED : MW_EXIT_OK;
}

static const mw_cli_flag flags[] = {
    {"json", NULL, "Print the report as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_check = {
    .name = "check",
    .summary = "Load the plugins and report, changing nothing",
    .details = "Prints what each plugin declares, and for one that does not load the file, the line and what to do. Certificates are read\n"
               "as well.",
    .flags = flags,
    .takes_config = true,
    .run = run_check,
};
