// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <signal.h>
#include <string.h>

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

static int run_serve(mw_cli *cli) {
  mw_config conf;
  mw_runtime_fds fds;
  mw_err err = {0};
  signal(SIGUSR2, SIG_IGN); // until somebody understands it
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  if (mw_config_check_access(&conf, &err)) code = mw_cli_fail(cli, MW_EXIT_USAGE, "%s", err.text);
  else if (mw_sockets_open(&conf, &fds, &err)) code = mw_cli_fail(cli, MW_EXIT_FAILED, "%s", err.text);
  else {
    if (!has_plugins(conf.plugins))
      mw_log(MW_LOG_WARN, "plugins", "there are no plugins; `moonwatch init` writes a project with a first one",
             MW_LOG_S("folder", conf.plugins));
    code = conf.supervisor ? mw_supervisor_run(&conf, &fds) : mw_serve(&conf, &fds);
  }
  mw_config_deinit(&conf);
  return code;
}

static const mw_cli_flag flags[] = {
    {"json", NULL, "Log lines of JSON, as log.format = \"json\" does"},
    {"no-supervisor", NULL, "Serve in this process; for orchestrators that restart it themselves"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_serve = {
    .name = "serve",
    .summary = "Run the server",
    .details = "Loads ./plugins, reloads them when they change or on SIGHUP, and drains on SIGTERM. Settings come from moonwatch.lua,\n"
               "MOONWATCH_* variables and the flags below; `moonwatch config --origin` shows which won.",
    .flags = flags,
    .takes_config = true,
    .run = run_serve,
};
