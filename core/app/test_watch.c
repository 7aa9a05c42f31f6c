// SPDX-License-Identifier: MIT
#include "app/test_watch.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/cli.h"
#include "loop/fswatch.h"
#include "loop/loop.h"

enum { SETTLE_MS = 100, FOLDERS = 4 };

static const char *const folders[FOLDERS] = {"plugins", "spec", "lua", "migrations"};

static void on_change(void *arg) { *(bool *)arg = true; }

static int run_once(char **argv) {
  int status = 0;
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGPIPE, SIG_DFL);
    execv("/proc/self/exe", argv);
    fprintf(stderr, "moonwatch test: cannot start the program again: %s\n", strerror(errno));
    _exit(127);
  }
  if (pid < 0) return fprintf(stderr, "moonwatch test: cannot start a process: %s\n", strerror(errno)), -1;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? -1 : 0;
}

static int open_watches(mw_loop *loop, mw_fswatch **watches, bool *changed) {
  int count = 0;
  mw_err err;
  for (int i = 0; i < FOLDERS; i++) {
    if (access(folders[i], F_OK)) continue;
    if (mw_fswatch_open(loop, folders[i], SETTLE_MS, on_change, changed, &watches[count], &err))
      fprintf(stderr, "moonwatch test: %s is not watched: %s\n", folders[i], err.text);
    else count++;
  }
  return count;
}

int mw_test_watch(char **argv) {
  mw_fswatch *watches[FOLDERS];
  bool changed = false;
  mw_loop *loop = mw_loop_new("watch");
  int count = open_watches(loop, watches, &changed), rc = 0;
  if (!count) fprintf(stderr, "moonwatch test: there is nothing to watch here: no plugins, spec, lua or migrations folder\n");
  while (count && !(rc = run_once(argv))) {
    printf("\n-- waiting for a change; Ctrl-C ends --\n");
    fflush(stdout);
    changed = false;
    while (!changed) mw_loop_turn(loop, true);
  }
  for (int i = 0; i < count; i++) mw_fswatch_close(watches[i]);
  mw_loop_free(loop);
  return count && !rc ? MW_EXIT_OK : MW_EXIT_USAGE;
}
