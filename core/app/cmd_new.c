// SPDX-License-Identifier: MIT
// `moonwatch new`: one more plugin with its spec, from the templates in core/app/project/new.
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "app/commands.h"
#include "app/project.h"
#include "base/buf.h"

enum { MAX_NAME = 64 };

/** First segments of paths that belong to the built-in surfaces (lua/mw/routes.lua). */
static const char *const taken[] = {"api", "ofrep", "metrics", "livez", "readyz", "hooks", "ops", "mcp", "v1", NULL};

static int check_name(const mw_cli *cli, const char *kind, const char *name) {
  size_t len = strlen(name);
  if (!islower((unsigned char)name[0]) || len > MAX_NAME || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len)
    return mw_cli_usage_error(cli, "'%s' is no name: write small letters, digits, _ and -, beginning with a letter, at most %d", name, MAX_NAME);
  for (int i = 0; taken[i] && strcmp(kind, "route") == 0; i++)
    if (strcmp(taken[i], name) == 0)
      return mw_cli_usage_error(cli, "paths below /%s belong to Moonwatch itself; take another name", name);
  return MW_EXIT_OK;
}

/** Writes `text` with the name for {{name}}, and as a variable's name for {{NAME}}. */
static void fill(mw_str text, const char *name, mw_buf *out) {
  static const char mark[] = "{{name}}", upper[] = "{{NAME}}";
  size_t len = sizeof mark - 1;
  for (size_t i = 0; i < text.len;) {
    bool is_upper = text.len - i >= len && memcmp(text.ptr + i, upper, len) == 0;
    if (is_upper || (text.len - i >= len && memcmp(text.ptr + i, mark, len) == 0)) {
      for (const char *c = name; *c; c++) mw_buf_add_byte(out, !is_upper ? *c : *c == '-' ? '_' : (char)toupper((unsigned char)*c));
      i += len;
    } else mw_buf_add_byte(out, text.ptr[i++]);
  }
}

static int refuse_existing(const mw_cli *cli, const char *path) {
  struct stat info;
  if (lstat(path, &info)) return MW_EXIT_OK;
  return mw_cli_fail(cli, MW_EXIT_FAILED, "%s is there already and stays as it is; take another name, or move it away first", path);
}

static int write_file(const mw_cli *cli, const char *embedded, const char *path, const char *name) {
  mw_buf text = MW_BUF_INIT;
  mw_err err = {0};
  bool written = false;
  const mw_embed *file = mw_embed_find(mw_embedded_project, embedded);
  fill(mw_str_of(file->begin, mw_embed_size(file)), name, &text);
  int rc = mw_project_write(path, mw_buf_str(&text), &written, &err);
  mw_buf_deinit(&text);
  if (rc) return mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  return written ? MW_EXIT_OK : refuse_existing(cli, path);
}

static int run_new(mw_cli *cli) {
  const char *kind = cli->argv[0], *name = cli->argv[1];
  char template[64], paths[2][MAX_NAME + 32];
  int code = check_name(cli, kind, name);
  if (code) return code;
  snprintf(paths[0], sizeof paths[0], "plugins/%s.lua", name);
  snprintf(paths[1], sizeof paths[1], "spec/%s_spec.lua", name);
  for (int i = 0; i < 2 && !code; i++) code = refuse_existing(cli, paths[i]);
  for (int i = 0; i < 2 && !code; i++) {
    snprintf(template, sizeof template, i == 0 ? "new/%s.lua" : "new/%s_spec.lua", kind);
    code = write_file(cli, template, paths[i], name);
    if (!code && !mw_cli_has(cli, "json")) printf("wrote %s\n", paths[i]);
  }
  if (code) return code;
  if (mw_cli_has(cli, "json")) printf("{\"wrote\":[\"%s\",\"%s\"]}\n", paths[0], paths[1]);
  else fprintf(stderr, "\nNext:\n  moonwatch check\n  moonwatch test %s\n", paths[1]);
  return MW_EXIT_OK;
}

static const mw_cli_sub subs[] = {
    {"workflow", "NAME", "A workflow of two steps", 1, 1},
    {"route", "NAME", "Two HTTP routes below /NAME", 1, 1},
    {"webhook", "NAME", "A route that takes signed requests and starts a workflow", 1, 1},
    {"cron", "NAME", "A job that runs once a day", 1, 1},
    {NULL, NULL, NULL, 0, 0},
};

static const mw_cli_flag flags[] = {
    {"json", NULL, "Print what was written as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_new = {
    .name = "new",
    .summary = "Write one more plugin and its spec",
    .details = "Writes plugins/NAME.lua and spec/NAME_spec.lua below the current folder; a file that is there is never overwritten.",
    .flags = flags,
    .subs = subs,
    .run = run_new,
};
