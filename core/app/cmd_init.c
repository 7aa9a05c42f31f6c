// SPDX-License-Identifier: MIT
// `moonwatch init`: writes the files of core/app/project into a folder. A file that is there already stays as it is.
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "app/project.h"
#include "app/types.h"
#include "base/json.h"

static const struct {
  const char *embedded, *path;
} files[] = {
    {"moonwatch.lua", "moonwatch.lua"},
    {"hello.lua", "plugins/hello.lua"},
    {"hello_spec.lua", "spec/hello_spec.lua"},
    {"migrations.md", "migrations/README.md"},
    {"luarc.json", ".luarc.json"},
    {"gitignore.txt", ".gitignore"},
};

enum { MAX_DIR = 4000, FILES = sizeof files / sizeof *files };

/** One line a file, or one object a file with --json. */
static void print_file(const mw_cli *cli, int index, const char *path, bool written) {
  mw_buf text = MW_BUF_INIT;
  if (!mw_cli_has(cli, "json")) printf("%s %s\n", written ? "wrote" : "kept ", path);
  else {
    mw_json_add_string(&text, mw_str_from(path));
    printf("%s{\"path\":%s,\"written\":%s}", index ? ",\n" : "{\"files\":[", mw_buf_cstr(&text), written ? "true" : "false");
  }
  mw_buf_deinit(&text);
}

static int write_files(const mw_cli *cli, const char *dir, mw_err *err) {
  char path[MAX_DIR + 200];
  mw_buf types = MW_BUF_INIT;
  for (int i = 0; i < FILES; i++) {
    bool written = false;
    snprintf(path, sizeof path, "%s/%s", dir, files[i].path);
    const mw_embed *file = mw_embed_find(mw_embedded_project, files[i].embedded);
    int rc = mw_project_write(path, mw_str_of(file->begin, mw_embed_size(file)), &written, err);
    if (rc) return rc;
    print_file(cli, i, path, written);
  }
  int rc = mw_types_write(dir, &types, err);
  if (!rc) print_file(cli, FILES, mw_buf_cstr(&types), true);
  if (!rc && mw_cli_has(cli, "json")) puts("]}");
  mw_buf_deinit(&types);
  return rc;
}

static int run_init(mw_cli *cli) {
  const char *dir = cli->argc ? cli->argv[0] : ".";
  mw_err err = {0};
  if (strlen(dir) > MAX_DIR) return mw_cli_usage_error(cli, "the folder's name is too long");
  if (write_files(cli, dir, &err)) return mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  bool is_here = strcmp(dir, ".") == 0;
  if (!mw_cli_has(cli, "json"))
    fprintf(stderr, "\nNext:\n%s%s%s  moonwatch serve          # http://127.0.0.1:9400\n  moonwatch test           # its specs\n",
            is_here ? "" : "  cd ", is_here ? "" : dir, is_here ? "" : "\n");
  return MW_EXIT_OK;
}

static const mw_cli_flag flags[] = {
    {"json", NULL, "Print which files were written as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_init = {
    .name = "init",
    .args = "[DIR]",
    .summary = "Write a new project",
    .details = "Writes moonwatch.lua, plugins/hello.lua, spec/hello_spec.lua, migrations/, .luarc.json with the types of mw, and\n"
               ".gitignore. Files that are there already are kept.",
    .flags = flags,
    .max_args = 1,
    .run = run_init,
};
