// SPDX-License-Identifier: MIT
// `moonwatch help` and `moonwatch version`.
#include <stdio.h>

#include "app/commands.h"
#include "app/licenses.h"
#include "base/json.h"

// ---- the table of commands as JSON ----

static void add_member(mw_buf *out, const char *before, const char *name, const char *value) {
  mw_buf_printf(out, "%s\"%s\":", before, name);
  if (value) mw_json_add_string(out, mw_str_from(value));
  else mw_buf_add_cstr(out, "null");
}

static void add_command(const mw_command *command, mw_buf *out) {
  mw_cli_flag flags[2 * MW_CLI_MAX];
  int count = command->is_raw ? 0 : mw_cli_flags_of(command, flags, 2 * MW_CLI_MAX);
  add_member(out, "{", "name", command->name);
  add_member(out, ",", "args", command->args);
  add_member(out, ",", "summary", command->summary);
  mw_buf_add_cstr(out, ",\"subcommands\":[");
  for (const mw_cli_sub *sub = command->subs; sub && sub->name; sub++) {
    add_member(out, sub == command->subs ? "{" : ",{", "name", sub->name);
    add_member(out, ",", "args", sub->args);
    add_member(out, ",", "summary", sub->summary);
    mw_buf_add_byte(out, '}');
  }
  mw_buf_add_cstr(out, "],\"flags\":[");
  for (int i = 0; i < count; i++) {
    add_member(out, i ? ",{" : "{", "name", flags[i].name);
    add_member(out, ",", "value", flags[i].value);
    add_member(out, ",", "summary", flags[i].help);
    mw_buf_add_byte(out, '}');
  }
  mw_buf_add_cstr(out, "]}");
}

static void print_commands(const mw_command *only) {
  mw_buf out = MW_BUF_INIT;
  bool first = true;
  mw_buf_add_cstr(&out, "{\"commands\":[");
  for (const mw_command *const *c = mw_commands; *c; c++) {
    if ((*c)->is_hidden || (only && *c != only)) continue;
    if (!first) mw_buf_add_cstr(&out, ",\n");
    first = false;
    add_command(*c, &out);
  }
  printf("%s]}\n", mw_buf_cstr(&out));
  mw_buf_deinit(&out);
}

static int run_help(mw_cli *cli) {
  const mw_command *command = cli->argc ? mw_cli_find(cli->argv[0]) : NULL;
  if (cli->argc && !command) return mw_cli_unknown_command(cli, cli->argv[0]);
  if (mw_cli_has(cli, "json")) print_commands(command);
  else if (command) mw_cli_print_help(command);
  else mw_cli_print_overview(stdout);
  return MW_EXIT_OK;
}

static const mw_cli_flag help_flags[] = {
    {"json", NULL, "Print the commands, their flags and what they take as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_help = {
    .name = "help",
    .args = "[COMMAND]",
    .summary = "Explain a command",
    .flags = help_flags,
    .max_args = 1,
    .run = run_help,
};

// ---- version ----

static void print_version_json(bool with_licenses) {
  mw_buf out = MW_BUF_INIT;
  size_t count;
  const mw_license *list = mw_licenses(&count);
  add_member(&out, "{", "version", MW_VERSION);
  if (with_licenses) mw_buf_add_cstr(&out, ",\"libraries\":[");
  for (size_t i = 0; i < count && with_licenses; i++) {
    add_member(&out, i ? ",\n {" : "\n {", "name", list[i].name);
    add_member(&out, ",", "version", list[i].version);
    add_member(&out, ",", "license", list[i].spdx);
    add_member(&out, ",", "package", list[i].package);
    add_member(&out, ",", "home", list[i].home);
    mw_buf_add_byte(&out, '}');
  }
  printf("%s%s}\n", mw_buf_cstr(&out), with_licenses ? "]" : "");
  mw_buf_deinit(&out);
}

static void print_licenses(void) {
  size_t count;
  const mw_license *list = mw_licenses(&count);
  for (size_t i = 0; i < count; i++) {
    printf("%-10s %-14s %-18s %s\n", list[i].name, list[i].version, list[i].spdx, list[i].home);
    if (list[i].package) printf("%-44s /usr/share/doc/%s/copyright\n", "", list[i].package);
  }
  puts("\nLicences are SPDX identifiers (https://spdx.org/licenses). Where Debian's packages are not installed, the text is at the address.");
}

static int run_version(mw_cli *cli) {
  bool with_licenses = mw_cli_has(cli, "licenses");
  if (mw_cli_has(cli, "json")) print_version_json(with_licenses);
  else {
    printf("moonwatch %s\n", MW_VERSION);
    if (with_licenses) putchar('\n'), print_licenses();
  }
  return MW_EXIT_OK;
}

static const mw_cli_flag version_flags[] = {
    {"licenses", NULL, "Also list what is linked in: versions, licences, where their texts are"},
    {"json", NULL, "Print JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_version = {
    .name = "version",
    .summary = "Print the version",
    .flags = version_flags,
    .run = run_version,
};
