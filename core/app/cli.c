// SPDX-License-Identifier: MIT
#include "app/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "app/cli_config.h"
#include "app/commands.h"
#include "base/str.h"

const mw_command *const mw_commands[] = {
    &mw_command_init,
    &mw_command_new,
    &mw_command_serve,
    &mw_command_check,
    &mw_command_reload,
    &mw_command_trigger,
    &mw_command_runs,
    &mw_command_workflows,
    &mw_command_cron,
    &mw_command_keys,
    &mw_command_login,
    &mw_command_logout,
    &mw_command_migrate,
    &mw_command_backup,
    &mw_command_restore,
    &mw_command_doctor,
    &mw_command_config,
    &mw_command_test,
    &mw_command_types,
    &mw_command_completion,
    &mw_command_version,
    &mw_command_help,
    &mw_command_serve_child,
    &mw_command_upgrade,
    &mw_command_words,
    NULL,
};

static const mw_cli_flag common_flags[] = {
    {"help", NULL, "Show this help"},
    {NULL, NULL, NULL},
};

const mw_command *mw_cli_find(const char *name) {
  for (const mw_command *const *c = mw_commands; *c; c++)
    if (strcmp((*c)->name, name) == 0) return *c;
  return NULL;
}

const char *mw_cli_suggest(const char *name, const char *const *names) {
  size_t len = strlen(name), best_distance = len < 4 ? 2 : len < 9 ? 3 : 4;
  const char *best = NULL;
  for (; *names; names++) {
    size_t distance = mw_str_distance(mw_str_from(name), mw_str_from(*names), best_distance);
    if (distance < best_distance) {
      best_distance = distance;
      best = *names;
    }
  }
  return best;
}

// ---- messages ----

static void say(const mw_cli *cli, const char *format, va_list args) {
  mw_buf text = MW_BUF_INIT, plain = MW_BUF_INIT;
  mw_buf_vprintf(&text, format, args);
  mw_buf_add_plain(&plain, mw_buf_str(&text), "\n");
  fprintf(stderr, "moonwatch%s%s: %s\n", cli->command ? " " : "", cli->command ? cli->command->name : "", mw_buf_cstr(&plain));
  mw_buf_deinit(&text);
  mw_buf_deinit(&plain);
}

int mw_cli_usage_error(const mw_cli *cli, const char *format, ...) {
  va_list args;
  va_start(args, format);
  say(cli, format, args);
  va_end(args);
  fprintf(stderr, "See: moonwatch help%s%s\n", cli->command ? " " : "", cli->command ? cli->command->name : "");
  return MW_EXIT_USAGE;
}

int mw_cli_fail(const mw_cli *cli, int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  say(cli, format, args);
  va_end(args);
  return code;
}

// ---- help ----

/** Collects the flags of the configuration's options. */
static int config_flags(mw_cli_flag *out, int cap) {
  int n = 0;
  for (size_t i = 0; i < MW_CONFIG_COUNT && n < cap; i++) {
    const mw_config_option *option = &mw_config_options[i];
    if (option->flag) out[n++] = (mw_cli_flag){option->flag, option->value, option->doc};
  }
  return n;
}

static void print_flags(const mw_cli_flag *flags) {
  for (; flags && flags->name; flags++) {
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", flags->name, flags->value ? " " : "", flags->value ? flags->value : "");
    printf("  %-24s %s\n", left, flags->help);
  }
}

static void print_subs(const mw_cli_sub *subs) {
  if (subs) printf("\nWhat:\n");
  for (; subs && subs->name; subs++) {
    char left[64];
    snprintf(left, sizeof left, "%s%s%s", subs->name, subs->args ? " " : "", subs->args ? subs->args : "");
    printf("  %-24s %s\n", left, subs->summary);
  }
}

void mw_cli_print_help(const mw_command *command) {
  const char *args = command->subs ? "WHAT …" : command->args;
  printf("%s.\n\nUsage: moonwatch %s%s%s%s\n", command->summary, command->name,
         command->flags || command->takes_config ? " [FLAGS]" : "", args ? " " : "", args ? args : "");
  if (command->details) printf("\n%s\n", command->details);
  print_subs(command->subs);
  printf("\nFlags:\n");
  print_flags(command->flags);
  if (command->takes_config) {
    mw_cli_flag options[MW_CONFIG_COUNT + 1];
    options[config_flags(options, MW_CONFIG_COUNT)] = (mw_cli_flag){NULL, NULL, NULL};
    print_flags(options);
    print_flags(mw_cli_config_flags);
  }
  print_flags(common_flags);
}

void mw_cli_print_overview(FILE *out) {
  fputs("Moonwatch: a Lua-scriptable ops runtime.\n\nUsage: moonwatch COMMAND [FLAGS] [ARGS]\n\nCommands:\n", out);
  for (const mw_command *const *c = mw_commands; *c; c++)
    if (!(*c)->is_hidden) fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
  fputs("\nExit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no server answered.\n"
        "See: moonwatch help COMMAND\n", out);
}

int mw_cli_unknown_command(const mw_cli *cli, const char *name) {
  const char *names[MW_CLI_MAX];
  int n = 0;
  for (const mw_command *const *c = mw_commands; *c && n < MW_CLI_MAX - 1; c++)
    if (!(*c)->is_hidden) names[n++] = (*c)->name;
  names[n] = NULL;
  const char *meant = mw_cli_suggest(name, names);
  if (meant) return mw_cli_usage_error(cli, "there is no command '%s'; did you mean '%s'?", name, meant);
  return mw_cli_usage_error(cli, "there is no command '%s'", name);
}

// ---- parsing ----

bool mw_cli_has(const mw_cli *cli, const char *name) {
  for (int i = 0; i < cli->flag_count; i++)
    if (strcmp(cli->flags[i].name, name) == 0) return true;
  return false;
}

const char *mw_cli_get(const mw_cli *cli, const char *name) {
  for (int i = cli->flag_count - 1; i >= 0; i--)
    if (strcmp(cli->flags[i].name, name) == 0) return cli->flags[i].value;
  return NULL;
}

const char *mw_cli_get_nth(const mw_cli *cli, const char *name, int index) {
  for (int i = 0; i < cli->flag_count; i++)
    if (strcmp(cli->flags[i].name, name) == 0 && index-- == 0) return cli->flags[i].value;
  return NULL;
}

int mw_cli_flags_of(const mw_command *command, mw_cli_flag *out, int cap) {
  int n = 0;
  for (const mw_cli_flag *f = command->flags; f && f->name && n < cap; f++) out[n++] = *f;
  for (const mw_cli_flag *f = common_flags; f->name && n < cap; f++) out[n++] = *f;
  if (!command->takes_config) return n;
  for (const mw_cli_flag *f = mw_cli_config_flags; f->name && n < cap; f++) out[n++] = *f;
  return n + config_flags(out + n, cap - n);
}

static int unknown_flag(const mw_cli *cli, const char *name, int len, const mw_cli_flag *known, int count) {
  const char *names[2 * MW_CLI_MAX + 1];
  char text[64];
  snprintf(text, sizeof text, "%.*s", len, name);
  for (int i = 0; i < count; i++) names[i] = known[i].name;
  names[count] = NULL;
  const char *meant = mw_cli_suggest(text, names);
  if (meant) return mw_cli_usage_error(cli, "there is no flag --%s; did you mean --%s?", text, meant);
  return mw_cli_usage_error(cli, "there is no flag --%s", text);
}

/** Takes one `--flag`; `*i` moves past a value in its own argument. */
static int parse_flag(mw_cli *cli, int argc, char **argv, int *i) {
  mw_cli_flag known[2 * MW_CLI_MAX];
  int count = mw_cli_flags_of(cli->command, known, 2 * MW_CLI_MAX);
  const char *name = argv[*i] + 2, *equals = strchr(name, '=');
  int len = equals ? (int)(equals - name) : (int)strlen(name);
  const mw_cli_flag *flag = NULL;
  for (int k = 0; k < count; k++)
    if ((int)strlen(known[k].name) == len && memcmp(known[k].name, name, (size_t)len) == 0) flag = &known[k];
  if (!flag) return unknown_flag(cli, name, len, known, count);
  if (cli->flag_count == MW_CLI_MAX) return mw_cli_usage_error(cli, "more than %d flags", MW_CLI_MAX);

  const char *value = NULL;
  if (flag->value) {
    if (equals) value = equals + 1;
    else if (*i + 1 < argc) value = argv[++*i];
    else return mw_cli_usage_error(cli, "--%s needs a value: --%s %s", flag->name, flag->name, flag->value);
  } else if (equals) {
    return mw_cli_usage_error(cli, "--%s takes no value", flag->name);
  }
  cli->flags[cli->flag_count].name = flag->name;
  cli->flags[cli->flag_count++].value = value;
  return 0;
}

static int check_args(const mw_cli *cli, const mw_cli_sub *sub, int least, int most) {
  const char *args = sub ? sub->args : cli->command->args, *name = sub ? sub->name : "";
  if (cli->argc > most) return mw_cli_usage_error(cli, "'%s' is one argument too many", cli->argv[most]);
  if (cli->argc < least)
    return mw_cli_usage_error(cli, "arguments are missing: moonwatch %s%s%s %s", cli->command->name, sub ? " " : "", name, args);
  return 0;
}

static int unknown_sub(const mw_cli *cli) {
  const char *names[MW_CLI_MAX];
  char list[256] = "";
  int n = 0;
  size_t len = 0;
  for (const mw_cli_sub *sub = cli->command->subs; sub->name && n < MW_CLI_MAX - 1; sub++) {
    len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", n == 0 ? "" : sub[1].name ? ", " : " or ", sub->name);
    names[n++] = sub->name;
  }
  names[n] = NULL;
  if (!cli->argc) return mw_cli_usage_error(cli, "say what to do: %s", list);
  const char *meant = mw_cli_suggest(cli->argv[0], names);
  if (meant) return mw_cli_usage_error(cli, "there is no '%s'; did you mean '%s'?", cli->argv[0], meant);
  return mw_cli_usage_error(cli, "there is no '%s'; it is %s", cli->argv[0], list);
}

static int check_sub(const mw_cli *cli) {
  for (const mw_cli_sub *sub = cli->command->subs; sub->name && cli->argc; sub++)
    if (strcmp(sub->name, cli->argv[0]) == 0) return check_args(cli, sub, sub->min_args + 1, sub->max_args + 1);
  return unknown_sub(cli);
}

static int parse(mw_cli *cli, int argc, char **argv) {
  bool only_args = false;
  for (int i = 0; i < argc; i++) {
    if (!only_args && strcmp(argv[i], "--") == 0) {
      only_args = true;
    } else if (!only_args && strcmp(argv[i], "-h") == 0) {
      cli->flags[0].name = "help";
      cli->flag_count = 1;
      return 0;
    } else if (!only_args && strncmp(argv[i], "--", 2) == 0) {
      int rc = parse_flag(cli, argc, argv, &i);
      if (rc) return rc;
    } else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
      return mw_cli_usage_error(cli, "there is no flag %s; flags are written --name", argv[i]);
    } else if (cli->argc == MW_CLI_MAX) {
      return mw_cli_usage_error(cli, "more than %d arguments", MW_CLI_MAX);
    } else {
      cli->argv[cli->argc++] = argv[i];
    }
  }
  if (mw_cli_has(cli, "help")) return 0;
  return cli->command->subs ? check_sub(cli) : check_args(cli, NULL, cli->command->min_args, cli->command->max_args);
}

static int take_raw(mw_cli *cli, int argc, char **argv) {
  if (argc > MW_CLI_MAX) return mw_cli_usage_error(cli, "more than %d arguments", MW_CLI_MAX);
  for (int i = 0; i < argc; i++) cli->argv[cli->argc++] = argv[i];
  return 0;
}

int mw_cli_main(int argc, char **argv) {
  mw_cli cli = {.line = argv};
  if (argc < 2) {
    mw_cli_print_overview(stderr);
    return MW_EXIT_USAGE;
  }
  const char *name = argv[1];
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
  if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) name = "version";
  cli.command = mw_cli_find(name);
  if (!cli.command) return mw_cli_unknown_command(&cli, name);
  int rc = cli.command->is_raw ? take_raw(&cli, argc - 2, argv + 2) : parse(&cli, argc - 2, argv + 2);
  if (rc) return rc;
  if (!cli.command->is_raw && mw_cli_has(&cli, "help")) {
    mw_cli_print_help(cli.command);
    return MW_EXIT_OK;
  }
  return cli.command->run(&cli);
}
