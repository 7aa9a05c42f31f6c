// SPDX-License-Identifier: MIT
#include <signal.h>
#include <stdio.h>

#include "app/cli.h"
#include "base/fault.h"

#if defined(__SANITIZE_ADDRESS__)
// Lua keeps pointers in tagged words that the leak checker cannot read; the C tests, which hold no Lua state, turn it on.
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif

int main(int argc, char **argv) {
  mw_err err = {0};
  signal(SIGPIPE, SIG_IGN);
  if (mw_fault_arm_from_env(&err)) {
    fprintf(stderr, "moonwatch: %s\n", err.text);
    return MW_EXIT_USAGE;
  }
  return mw_cli_main(argc, argv);
}
