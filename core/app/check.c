// SPDX-License-Identifier: MIT

// `moonwatch check`: loads the plugins as a server would, with no server around them.

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "app/runtime_impl.h"
#include "bind/plugin_files.h"
#include "store/migrate.h"
#include "vm/watchdog.h"

static bool check_config(void *program, mw_str name, mw_buf *out) { return mw_config_add_public_json(program, name, out); }

static const char *check_env(void *program, const char *name, bool *allowed) {
  *allowed = mw_config_allows_env(program, name);
  return *allowed ? getenv(name) : NULL;
}

static int load(const mw_config *conf, const char *function, mw_buf *report, mw_err *err) {
  static const mw_host_ops ops = {.config = check_config, .env = check_env};
  mw_host host = {.ops = &ops, .program = (void *)conf};
  mw_plugin_files *files;
  mw_vm *vm = NULL;
  int rc = mw_plugin_files_read(conf->plugins, &files, err);
  if (rc) return rc;
  mw_watchdog *watchdog = mw_watchdog_start(&(mw_watchdog_conf){.soft_ms = conf->lua_soft_limit, .hard_ms = conf->lua_hard_limit});
  mw_watchdog_add_thread(watchdog, 0);
  rc = mw_runtime_load_vm(conf, &host, 1, files, function, &vm, report, err);
  mw_watchdog_remove_thread(watchdog);
  mw_watchdog_stop(watchdog);
  if (vm) mw_vm_free(vm);
  mw_plugin_files_unref(files);
  return rc;
}

static int check_folder(const mw_config *conf, mw_err *err) {
  if (access(conf->plugins, F_OK) == 0) return 0;
  return mw_err_set(err, MW_ENOTFOUND, "there is no plugins folder \"%s\"; `moonwatch init` makes a project with one, --plugins DIR names another", conf->plugins);
}

int mw_runtime_check(const mw_config *conf, bool json, mw_err *err) {
  mw_buf report = MW_BUF_INIT;
  int rc = check_folder(conf, err);
  if (!rc) rc = load(conf, json ? "check_json" : "check", &report, err);
  mw_buf out = MW_BUF_INIT; // a plugin's text may hold anything
  if (json) mw_buf_add_str(&out, mw_buf_str(&report));
  else mw_buf_add_plain(&out, mw_buf_str(&report), "\n");
  if (out.len) printf("%s\n", mw_buf_cstr(&out));
  mw_buf_deinit(&out);
  mw_buf_deinit(&report);
  return rc;
}

static int try_database(const mw_config *conf, mw_err *err) {
  mw_store *store;
  size_t pending = 0;
  int rc = mw_store_open(&(mw_store_conf){.database_url = conf->database, .data_dir = conf->data, .schema = conf->postgres_schema}, &store, err);
  if (rc == MW_ENOTFOUND) return 0; // a new folder
  if (rc) return rc;
  rc = mw_migrate_check(store, &pending, err);
  mw_store_close(store);
  if (rc == MW_EUNAVAILABLE || rc == MW_ETIMEOUT) return 0;
  if (!rc && pending && !conf->migrate_auto)
    rc = mw_err_set(err, MW_EVERSION, "%zu migrations are pending and migrate.auto is off: run `moonwatch migrate up`", pending);
  return rc;
}

int mw_runtime_try(const mw_config *conf, mw_err *err) {
  mw_buf report = MW_BUF_INIT;
  int rc = access(conf->plugins, F_OK) == 0 ? load(conf, "load", &report, err) : 0;
  mw_buf_deinit(&report);
  return rc ? rc : try_database(conf, err);
}
