// SPDX-License-Identifier: MIT
// `moonwatch completion SHELL` prints a small script that asks the program itself for candidates (`moonwatch __complete WORD…`), so that what
// is completed is always what this version takes. A candidate is a line: the word, a tab, what it means. `:files` and `:dirs` ask the shell
// for those.
#include <stdio.h>
#include <string.h>

#include "app/cli_config.h"
#include "app/commands.h"
#include "app/project.h"
#include "base/json.h"
#include "base/str.h"

enum { MAX_FLAGS = 2 * MW_CLI_MAX };

// ---- candidates ----

static void offer(const char *before, mw_str word, const char *prefix, const char *meaning) {
  size_t len = strlen(prefix);
  if (word.len >= len && memcmp(word.ptr, prefix, len) == 0)
    printf("%s%.*s\t%s\n", before, MW_STR_FMT(word), meaning ? meaning : "");
}

static void offer_commands(const char *prefix) {
  for (const mw_command *const *c = mw_commands; *c; c++)
    if (!(*c)->is_hidden) offer("", mw_str_from((*c)->name), prefix, (*c)->summary);
}

/** What stands for a value in help: "FILE", "DIR", "COMMAND", or the values themselves, "auto|json|pretty". */
static void offer_value(const char *before, mw_str shown, const char *prefix) {
  mw_str part;
  if (mw_str_eq(shown, MW_STR("FILE")) || mw_str_eq(shown, MW_STR("FILE…"))) puts(":files");
  else if (mw_str_eq(shown, MW_STR("DIR"))) puts(":dirs");
  else if (mw_str_eq(shown, MW_STR("COMMAND"))) offer_commands(prefix);
  else if (memchr(shown.ptr, '|', shown.len) && shown.ptr[0] >= 'a' && shown.ptr[0] <= 'z')
    while (mw_str_split(&shown, '|', &part)) offer(before, part, prefix, NULL);
}

static void offer_flags(const mw_cli_flag *flags, int count, const char *prefix) {
  char text[80];
  for (int i = 0; i < count; i++) {
    snprintf(text, sizeof text, "--%s", flags[i].name);
    offer("", mw_str_from(text), prefix, flags[i].help);
  }
}

static const mw_cli_flag *find_flag(const mw_cli_flag *flags, int count, const char *name, size_t len) {
  for (int i = 0; i < count; i++)
    if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0) return &flags[i];
  return NULL;
}

/** The argument number `index`, from 0, as `args` shows it: "NAME [JSON]" has two. */
static void offer_arg(const char *args, int index, const char *prefix) {
  mw_str rest = mw_str_from(args ? args : ""), part;
  while (mw_str_split(&rest, ' ', &part)) {
    if (index-- > 0) continue;
    while (part.len && strchr("[]", part.ptr[0])) part = mw_str_of(part.ptr + 1, part.len - 1);
    while (part.len && strchr("[]", part.ptr[part.len - 1])) part.len--;
    offer_value("", part, prefix);
    return;
  }
}

static void offer_positional(const mw_command *command, int given, const char *first, const char *prefix) {
  if (!command->subs) {
    offer_arg(command->args, given, prefix);
    return;
  }
  for (const mw_cli_sub *sub = command->subs; sub->name; sub++)
    if (given == 0) offer("", mw_str_from(sub->name), prefix, sub->summary);
    else if (strcmp(sub->name, first) == 0) offer_arg(sub->args, given - 1, prefix);
}

// ---- the words so far ----

/** words[0] is the command, words[count - 1] the one being written. Bash splits "--flag=value" into three. */
static void complete(const mw_command *command, int count, char **words) {
  mw_cli_flag flags[MAX_FLAGS];
  int flag_count = command->is_raw ? 0 : mw_cli_flags_of(command, flags, MAX_FLAGS), given = 0;
  const mw_cli_flag *waits = NULL;
  const char *word = words[count - 1], *first = "";
  for (int i = 1; i < count - 1; i++) {
    if (strcmp(words[i], "=") == 0) continue;
    bool is_value = waits != NULL;
    waits = NULL;
    if (is_value) continue;
    if (strncmp(words[i], "--", 2) != 0) {
      if (given++ == 0) first = words[i];
      continue;
    }
    const char *equals = strchr(words[i], '=');
    size_t len = equals ? (size_t)(equals - words[i]) - 2 : strlen(words[i]) - 2;
    const mw_cli_flag *flag = find_flag(flags, flag_count, words[i] + 2, len);
    if (flag && flag->value && !equals) waits = flag;
  }
  const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
  if (waits) offer_value("", mw_str_from(waits->value), strcmp(word, "=") == 0 ? "" : word);
  else if (equals) {
    char before[80];
    const mw_cli_flag *flag = find_flag(flags, flag_count, word + 2, (size_t)(equals - word) - 2);
    snprintf(before, sizeof before, "%.*s", (int)(equals - word) + 1, word);
    if (flag && flag->value) offer_value(before, mw_str_from(flag->value), equals + 1);
  } else if (word[0] == '-') offer_flags(flags, flag_count, word);
  else offer_positional(command, given, first, word);
}

static int run_words(mw_cli *cli) {
  if (cli->argc <= 1) {
    const char *prefix = cli->argc ? cli->argv[0] : "";
    offer_commands(prefix);
    return MW_EXIT_OK;
  }
  for (const mw_command *const *c = mw_commands; *c; c++)
    if (strcmp((*c)->name, cli->argv[0]) == 0) complete(*c, cli->argc, cli->argv);
  return MW_EXIT_OK;
}

const mw_command mw_command_words = {
    .name = "__complete",
    .summary = "Print what a shell offers next",
    .is_raw = true,
    .is_hidden = true,
    .run = run_words,
};

// ---- the scripts ----

static int run_completion(mw_cli *cli) {
  char name[48];
  snprintf(name, sizeof name, "completion/moonwatch.%s", cli->argv[0]);
  const mw_embed *file = mw_embed_find(mw_embedded_project, name);
  mw_str script = mw_str_of(file->begin, mw_embed_size(file));
  mw_buf out = MW_BUF_INIT;
  if (mw_cli_has(cli, "json")) {
    mw_json_add_string(&out, script);
    printf("{\"shell\":\"%s\",\"script\":%s}\n", cli->argv[0], mw_buf_cstr(&out));
  } else fwrite(script.ptr, 1, script.len, stdout);
  mw_buf_deinit(&out);
  return MW_EXIT_OK;
}

static const mw_cli_sub subs[] = {
    {"bash", NULL, "source <(moonwatch completion bash)", 0, 0},
    {"zsh", NULL, "source <(moonwatch completion zsh), after compinit", 0, 0},
    {"fish", NULL, "moonwatch completion fish | source", 0, 0},
    {NULL, NULL, NULL, 0, 0},
};

static const mw_cli_flag flags[] = {
    {"json", NULL, "Print the script in JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_completion = {
    .name = "completion",
    .summary = "Print a script that completes commands, flags and values in a shell",
    .details = "Put the line of your shell into its start file.",
    .flags = flags,
    .subs = subs,
    .run = run_completion,
};
