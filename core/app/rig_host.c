// SPDX-License-Identifier: MIT

// What the bindings of a rig's state ask of the program around them (bind/host.h): the spec's configuration, its environment, and a
// server that is always ready.

#include "app/rig_impl.h"

static bool host_config(void *program, mw_str name, mw_buf *out) { return mw_config_add_public_json(((mw_rig *)program)->conf, name, out); }

static const char *host_env(void *program, const char *name, bool *allowed) {
  mw_rig *rig = program;
  *allowed = mw_config_allows_env(rig->conf, name);
  return *allowed ? mw_map_get(&rig->env, mw_str_from(name)) : NULL;
}

static bool host_token_matches(void *program, mw_str token, bool *is_set) {
  const char *own = ((mw_rig *)program)->conf->token;
  *is_set = *own;
  return *own && mw_str_eq(mw_str_from(own), token);
}

static uint64_t host_access_version(void *program, bool changed) {
  mw_rig *rig = program;
  return changed ? ++rig->access_version : rig->access_version;
}

static void host_reload(void *program, int worker, mw_host_reload_cb cb, void *arg) {
  cb(MW_EINVALID, MW_STR("{\"plugins\":[],\"errors\":[{\"message\":\"a spec loads plugins with testing.load\"}]}"), arg);
}

static void host_plugins(void *program, mw_buf *out) {
  mw_rig *rig = program;
  mw_buf_printf(out, "{\"serving\":%s,\"failed\":null}", rig->report.len ? mw_buf_cstr(&rig->report) : "null");
}

static void host_status(void *program, mw_buf *out) {
  mw_buf_printf(out, "{\"ready\":true,\"reasons\":[],\"version\":\"%s\",\"engine\":\"sqlite\",\"database_up\":true,\"workers\":1,\"pid\":1,"
                     "\"draining\":false,\"uptime_seconds\":0}", MW_VERSION);
}

static bool host_is_draining(void *program) { return false; }

static void host_wake_engines(void *program, int64_t due_us) { mw_rig_wake(program, due_us); }

const mw_host_ops mw_rig_host_ops = {
    .config = host_config, .env = host_env, .token_matches = host_token_matches, .access_version = host_access_version,
    .reload = host_reload, .plugins = host_plugins, .status = host_status, .is_draining = host_is_draining,
    .wake_engines = host_wake_engines,
};
