// SPDX-License-Identifier: MIT
#include <signal.h>

#include "app/cli.h"

#if defined(__SANITIZE_ADDRESS__)
// Lua keeps pointers in tagged words that the leak checker cannot read; the C tests, which hold no Lua state, turn it on.
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  return mw_cli_main(argc, argv);
}
