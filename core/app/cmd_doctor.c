// SPDX-License-Identifier: MIT
#include <stdio.h>

#include "app/cli_config.h"
#include "app/commands.h"
#include "app/doctor.h"
#include "base/json.h"

typedef struct report {
  bool json;
  int counts[3];
  mw_buf lines;
} report;

static void on_line(mw_doctor_level level, const char *what, const char *text, void *arg) {
  static const char *const names[] = {"ok", "warn", "fail"};
  report *r = arg;
  r->counts[level]++;
  if (!r->json) {
    mw_buf plain = MW_BUF_INIT; // servers say some of it
    mw_buf_add_plain(&plain, mw_str_from(text), " ");
    printf("%-5s %-21s %s\n", names[level], what, mw_buf_cstr(&plain));
    fflush(stdout); // a slow check should not hide the ones before
    mw_buf_deinit(&plain);
    return;
  }
  mw_buf_printf(&r->lines, "%s\n  {\"level\": \"%s\", \"check\": ", r->lines.len ? "," : "", names[level]);
  mw_json_add_string(&r->lines, mw_str_from(what));
  mw_buf_add_cstr(&r->lines, ", \"text\": ");
  mw_json_add_string(&r->lines, mw_str_from(text));
  mw_buf_add_byte(&r->lines, '}');
}

static void examine(mw_cli *cli, report *r) {
  mw_config conf;
  mw_err err = {0};
  if (mw_cli_try_config(cli, &conf, &err)) {
    on_line(MW_DOCTOR_FAIL, "configuration", err.text, r);
    return;
  }
  bool from_file = false;
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) from_file = from_file || mw_str_ends_with(mw_str_from(conf.origins[i]), MW_STR(".lua"));
  on_line(MW_DOCTOR_OK, "configuration", from_file ? "valid" : "valid; nothing in it comes from a moonwatch.lua", r);
  mw_doctor doctor = {.cli = cli, .conf = &conf};
  mw_doctor_run(&doctor, mw_cli_has(cli, "deep"), on_line, r);
  mw_config_deinit(&conf);
}

static int run_doctor(mw_cli *cli) {
  report r = {.json = mw_cli_has(cli, "json"), .lines = MW_BUF_INIT};
  examine(cli, &r);
  int warnings = r.counts[MW_DOCTOR_WARN], failures = r.counts[MW_DOCTOR_FAIL];
  if (r.json) printf("{\"ok\": %s, \"warnings\": %d, \"failures\": %d, \"checks\": [%s\n]}\n", failures ? "false" : "true", warnings, failures,
                     mw_buf_cstr(&r.lines));
  else if (failures || warnings) printf("\n%d failed, %d to look at\n", failures, warnings);
  mw_buf_deinit(&r.lines);
  return failures ? MW_EXIT_FAILED : MW_EXIT_OK;
}

static const mw_cli_flag flags[] = {
    {"deep", NULL, "Also read all of the databases (PRAGMA integrity_check)"},
    {"json", NULL, "Print the report as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_doctor = {
    .name = "doctor",
    .summary = "Examine this installation, changing nothing",
    .details = "One line a check: ok, warn or fail, and what to do. Checks that hang are cut off. Exits with 1 when one failed.",
    .flags = flags,
    .takes_config = true,
    .run = run_doctor,
};
