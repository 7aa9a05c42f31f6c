// SPDX-License-Identifier: MIT
// `moonwatch init`: writes the files of core/app/project into a folder. A file that is there already stays as it is.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/commands.h"
#include "base/embed.h"
#include "base/err.h"

extern const mw_embed mw_embedded_project[];

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

static int make_parents(const char *path, mw_err *err) {
  char part[4200];
  snprintf(part, sizeof part, "%s", path);
  for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(part, 0777) && errno != EEXIST) return mw_err_set(err, MW_EIO, "%s: %s", part, strerror(errno));
    *slash = '/';
  }
  return 0;
}

static int write_all(int fd, const char *bytes, size_t len) {
  while (len) {
    ssize_t n = write(fd, bytes, len);
    if (n < 0) return -errno;
    bytes += n;
    len -= (size_t)n;
  }
  return 0;
}

/** Returns 0 and whether it was written; an existing file is no error. */
static int write_new(const char *path, const mw_embed *content, bool *written, mw_err *err) {
  int rc = make_parents(path, err);
  if (rc) return rc;
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  *written = fd >= 0;
  if (fd < 0) return errno == EEXIST ? 0 : mw_err_set(err, MW_EIO, "%s: %s", path, strerror(errno));
  rc = write_all(fd, content->begin, mw_embed_size(content));
  if (close(fd) && !rc) rc = -errno;
  return rc ? mw_err_set(err, MW_EIO, "%s: %s", path, strerror(-rc)) : 0;
}

static int run_init(mw_cli *cli) {
  const char *dir = cli->argc ? cli->argv[0] : ".";
  char path[4200];
  mw_err err = {0};
  if (strlen(dir) > 4000) return mw_cli_usage_error(cli, "the folder's name is too long");
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    bool written = false;
    snprintf(path, sizeof path, "%s/%s", dir, files[i].path);
    if (write_new(path, mw_embed_find(mw_embedded_project, files[i].embedded), &written, &err))
      return mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
    printf("%s %s\n", written ? "wrote" : "kept ", path);
  }
  bool is_here = strcmp(dir, ".") == 0;
  fprintf(stderr, "\nNext:\n%s%s%s  moonwatch serve          # http://127.0.0.1:9400\n  moonwatch test           # its specs\n",
          is_here ? "" : "  cd ", is_here ? "" : dir, is_here ? "" : "\n");
  return MW_EXIT_OK;
}

const mw_command mw_command_init = {
    .name = "init",
    .args = "[DIR]",
    .summary = "Write a new project",
    .details = "Writes moonwatch.lua, plugins/hello.lua, spec/hello_spec.lua, migrations/, .luarc.json and .gitignore. Files that are\n"
               "there already are kept.",
    .max_args = 1,
    .run = run_init,
};
