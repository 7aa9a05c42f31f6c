// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/cli_config.h"
#include "app/commands.h"
#include "app/serve.h"
#include "app/sockets.h"
#include "app/supervisor.h"
#include "base/log.h"

static bool has_plugins(const char *dir) {
  DIR *folder = opendir(dir);
  bool found = false;
  for (struct dirent *entry; folder && !found && (entry = readdir(folder));) found = entry->d_name[0] != '.';
  if (folder) closedir(folder);
  return found;
}

// After a swap this process has become this program: sockets, configuration and server are there.
static int go_on(mw_cli *cli, const char *number) {
  mw_program program;
  mw_handover from;
  mw_config conf;
  mw_err err = {0};
  int fd = atoi(number);
  unsetenv(MW_HANDOVER_ENV);
  mw_program_init(&program, cli->line);
  int rc = mw_handover_read(fd, &from, &err);
  if (rc) return mw_cli_fail(cli, MW_EXIT_USAGE, MW_HANDOVER_ENV " is the program's own: %s", err.text);
  close(fd);
  mw_handover_set_inherited(&from, false);
  if (mw_handover_unpack(from.config_fd, &conf, &err)) return mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  mw_serve_configure_log(&conf);
  int code = mw_supervisor_run(&conf, &from.fds, &program, &from);
  mw_config_deinit(&conf);
  return code;
}

static int run_serve(mw_cli *cli) {
  mw_config conf;
  mw_runtime_fds fds;
  mw_program program;
  mw_err err = {0};
  const char *handover = getenv(MW_HANDOVER_ENV);
  if (handover) return go_on(cli, handover);
  signal(SIGUSR2, SIG_IGN); // until somebody understands it
  mw_program_init(&program, cli->line);
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  if (mw_config_check_access(&conf, &err)) code = mw_cli_fail(cli, MW_EXIT_USAGE, "%s", err.text);
  else if (mw_sockets_open(&conf, &fds, &err)) code = mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  else {
    if (!has_plugins(conf.plugins))
      mw_log(MW_LOG_WARN, "plugins", "there are no plugins; `moonwatch init` writes a project with a first one",
             MW_LOG_S("folder", conf.plugins));
    code = conf.supervisor ? mw_supervisor_run(&conf, &fds, &program, NULL) : mw_serve(&conf, &fds);
  }
  mw_config_deinit(&conf);
  return code;
}

const mw_cli_flag mw_serve_flags[] = {
    {"json", NULL, "Log lines of JSON, as log.format = \"json\" does"},
    {"paused", NULL, "Take and store executions, and run none until `moonwatch workflows resume --all`"},
    {"no-supervisor", NULL, "Serve in this process; for orchestrators that restart it themselves"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_serve = {
    .name = "serve",
    .summary = "Run the server",
    .details = "Loads ./plugins, reloads them when they change or on SIGHUP, drains on SIGTERM,\n"
               "and swaps its program for a newer one on SIGUSR2. Settings come from moonwatch.lua,\n"
               "MOONWATCH_* variables and the flags below; `moonwatch config --origin` shows which won.",
    .flags = mw_serve_flags,
    .takes_config = true,
    .run = run_serve,
};
