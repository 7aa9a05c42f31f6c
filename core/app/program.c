// SPDX-License-Identifier: MIT
#include "app/program.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_what_runs(const char *path) {
  struct stat own, other;
  return stat("/proc/self/exe", &own) == 0 && stat(path, &other) == 0 && own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

static bool take(mw_program *program, const char *folder, size_t len, const char *name) {
  int n = len ? snprintf(program->path, sizeof program->path, "%.*s/%s", (int)len, folder, name)
              : snprintf(program->path, sizeof program->path, "%s", name);
  return n > 0 && (size_t)n < sizeof program->path && program->path[0] == '/' && is_what_runs(program->path);
}

static bool find_in_path(mw_program *program, const char *name) {
  const char *list = getenv("PATH");
  while (list && *list) {
    size_t len = strcspn(list, ":");
    if (len && take(program, list, len, name)) return true;
    list += len + (list[len] == ':');
  }
  return false;
}

static bool find(mw_program *program, const char *name) {
  char folder[PATH_MAX];
  if (!name || !*name) return false;
  if (!strchr(name, '/')) return find_in_path(program, name);
  if (*name == '/') return take(program, "", 0, name);
  return getcwd(folder, sizeof folder) && take(program, folder, strlen(folder), name);
}

void mw_program_init(mw_program *program, char **argv) {
  program->argv = argv;
  if (find(program, argv[0])) return;
  ssize_t len = readlink("/proc/self/exe", program->path, sizeof program->path - 1);
  program->path[len > 0 ? len : 0] = 0;
  static const char deleted[] = " (deleted)"; // the kernel's words for a file that was replaced meanwhile
  size_t tail = sizeof deleted - 1;
  if (len > (ssize_t)tail && strcmp(program->path + len - tail, deleted) == 0) program->path[len - (ssize_t)tail] = 0;
}
