// SPDX-License-Identifier: MIT
// `moonwatch init`: writes the files of core/app/project into a folder. A file that is there already stays as it is.
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "app/project.h"
#include "app/types.h"

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

static int run_init(mw_cli *cli) {
  const char *dir = cli->argc ? cli->argv[0] : ".";
  char path[4200];
  mw_err err = {0};
  if (strlen(dir) > 4000) return mw_cli_usage_error(cli, "the folder's name is too long");
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    bool written = false;
    snprintf(path, sizeof path, "%s/%s", dir, files[i].path);
    const mw_embed *file = mw_embed_find(mw_embedded_project, files[i].embedded);
    if (mw_project_write(path, mw_str_of(file->begin, mw_embed_size(file)), &written, &err))
      return mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
    printf("%s %s\n", written ? "wrote" : "kept ", path);
  }
  mw_buf types = MW_BUF_INIT;
  int rc = mw_types_write(dir, &types, &err);
  if (!rc) printf("wrote %s\n", mw_buf_cstr(&types));
  mw_buf_deinit(&types);
  if (rc) return mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  bool is_here = strcmp(dir, ".") == 0;
  fprintf(stderr, "\nNext:\n%s%s%s  moonwatch serve          # http://127.0.0.1:9400\n  moonwatch test           # its specs\n",
          is_here ? "" : "  cd ", is_here ? "" : dir, is_here ? "" : "\n");
  return MW_EXIT_OK;
}

const mw_command mw_command_init = {
    .name = "init",
    .args = "[DIR]",
    .summary = "Write a new project",
    .details = "Writes moonwatch.lua, plugins/hello.lua, spec/hello_spec.lua, migrations/, .luarc.json with the types of mw, and\n"
               ".gitignore. Files that are there already are kept.",
    .max_args = 1,
    .run = run_init,
};
