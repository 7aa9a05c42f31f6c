// SPDX-License-Identifier: MIT
// `moonwatch types`: type stubs for editors, and the .luarc.json that points to them.
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "app/project.h"
#include "app/types.h"
#include "base/json.h"

static int write_luarc(const mw_cli *cli, const char *dir, mw_buf *path, bool *written) {
  mw_err err = {0};
  const mw_embed *file = mw_embed_find(mw_embedded_project, "luarc.json");
  mw_buf_printf(path, "%s/.luarc.json", dir);
  if (!mw_project_write(mw_buf_cstr(path), mw_str_of(file->begin, mw_embed_size(file)), written, &err)) return MW_EXIT_OK;
  return mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
}

// Its own file, or another that names the folder somewhere: an editor's settings are not ours to parse.
static bool names_types(const char *path) {
  char text[16 * 1024];
  FILE *file = fopen(path, "re");
  size_t n = file ? fread(text, 1, sizeof text, file) : 0;
  if (file) fclose(file);
  return memmem(text, n, MW_TYPES_FOLDER, strlen(MW_TYPES_FOLDER)) != NULL;
}

static void print_text(const mw_buf *types, const mw_buf *luarc, bool written) {
  printf("wrote %s\n%s %s\n", types->ptr, written ? "wrote" : "kept ", luarc->ptr);
  if (!written && !names_types(luarc->ptr))
    fprintf(stderr, "%s must have \"workspace.library\": [\".moonwatch/types\"] for editors to find the types.\n", luarc->ptr);
}

static void print_json(const mw_buf *types, const mw_buf *luarc, bool written) {
  mw_buf out = MW_BUF_INIT;
  mw_buf_add_cstr(&out, "{\"types\":");
  mw_json_add_string(&out, mw_buf_str(types));
  mw_buf_add_cstr(&out, ",\"luarc\":");
  mw_json_add_string(&out, mw_buf_str(luarc));
  printf("%s,\"luarc_written\":%s}\n", mw_buf_cstr(&out), written ? "true" : "false");
  mw_buf_deinit(&out);
}

static int run_types(mw_cli *cli) {
  const char *dir = cli->argc ? cli->argv[0] : ".";
  mw_buf types = MW_BUF_INIT, luarc = MW_BUF_INIT;
  mw_err err = {0};
  bool written = false;
  int code = MW_EXIT_OK;
  if (mw_types_write(dir, &types, &err)) code = mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  if (!code) code = write_luarc(cli, dir, &luarc, &written);
  if (!code) (mw_cli_has(cli, "json") ? print_json : print_text)(&types, &luarc, written);
  mw_buf_deinit(&types);
  mw_buf_deinit(&luarc);
  return code;
}

static const mw_cli_flag flags[] = {
    {"json", NULL, "Print what was written as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_types = {
    .name = "types",
    .args = "[DIR]",
    .summary = "Write type stubs of mw for editors",
    .details = "Writes DIR/" MW_TYPES_FOLDER " anew, and DIR/.luarc.json, which points to it, unless there is one. Run it again after an upgrade.\n"
               "The Lua language server (LuaLS) then completes and checks every function and option of mw and mw.testing.",
    .flags = flags,
    .max_args = 1,
    .run = run_types,
};
