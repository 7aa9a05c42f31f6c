// SPDX-License-Identifier: MIT

// `moonwatch check`: loads the plugins as a server would, with no server around them.

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/runtime_impl.h"
#include "bind/plugin_files.h"
#include "vm/watchdog.h"

static bool check_config(void *program, mw_str name, mw_buf *out) {
  const mw_config_option *option = mw_config_find(name);
  if (!option || option->secret) return false;
  mw_config_add_json(program, option, out);
  return true;
}

static const char *check_env(void *program, const char *name, bool *allowed) {
  *allowed = mw_config_allows_env(program, name);
  return *allowed ? getenv(name) : NULL;
}

int mw_runtime_check(const mw_config *conf, bool json, mw_err *err) {
  static const mw_host_ops ops = {.config = check_config, .env = check_env};
  mw_host host = {.ops = &ops, .program = (void *)conf};
  mw_plugin_files *files;
  mw_buf report = MW_BUF_INIT;
  mw_vm *vm = NULL;
  if (access(conf->plugins, F_OK) != 0)
    return mw_err_set(err, MW_ENOTFOUND, "there is no plugins folder \"%s\"; `moonwatch init` makes a project with one, --plugins DIR names another", conf->plugins);
  int rc = mw_plugin_files_read(conf->plugins, &files, err);
  if (rc) return rc;
  mw_watchdog *watchdog = mw_watchdog_start(&(mw_watchdog_conf){.soft_ms = conf->lua_soft_limit, .hard_ms = conf->lua_hard_limit});
  mw_watchdog_add_thread(watchdog, 0);
  rc = mw_runtime_load_vm(conf, &host, 1, files, json ? "check_json" : "check", &vm, &report, err);
  mw_watchdog_remove_thread(watchdog);
  mw_watchdog_stop(watchdog);
  if (report.len) printf("%s\n", mw_buf_cstr(&report));
  if (vm) mw_vm_free(vm);
  mw_plugin_files_unref(files);
  mw_buf_deinit(&report);
  return rc;
}
