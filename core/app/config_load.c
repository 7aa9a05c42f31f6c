// SPDX-License-Identifier: MIT
// Where the configuration comes from, in order of weight, and the checks that need all of it.
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/config.h"
#include "app/config_file.h"
#include "app/listen.h"
#include "app/proxies.h"
#include "base/log.h"
#include "store/databases.h"
#include "store/redis_url.h"

#define ENV_PREFIX "MOONWATCH_"
#define MAX_SECRET_BYTES 65536

extern char **environ;

static void env_name(const mw_config_option *option, char *out, size_t size) {
  size_t n = (size_t)snprintf(out, size, ENV_PREFIX "%s", option->name);
  for (size_t i = 0; i < n; i++) out[i] = out[i] == '.' ? '_' : (char)toupper((unsigned char)out[i]);
}

// ---- environment ----

static int read_secret(mw_config *conf, const mw_config_option *option, const char *variable, const char *path, mw_err *err) {
  char text[MAX_SECRET_BYTES];
  FILE *file = fopen(path, "re");
  if (!file) return mw_err_set(err, MW_ECONFIG, "%s (from %s): %s: %s", option->name, variable, path, strerror(errno));
  size_t len = fread(text, 1, sizeof text, file);
  fclose(file);
  while (len && (text[len - 1] == '\n' || text[len - 1] == '\r')) len--;
  int rc = mw_config_set(conf, option, mw_str_of(text, len), variable, err);
  explicit_bzero(text, sizeof text);
  return rc;
}

/** Sets `option` from the variable `name`, or for a secret from the file that `name`_FILE names. */
static int read_variable(mw_config *conf, const mw_config_option *option, const char *name, mw_err *err) {
  char file_variable[160];
  snprintf(file_variable, sizeof file_variable, "%s_FILE", name);
  const char *text = getenv(name), *path = option->secret ? getenv(file_variable) : NULL;
  if (text && *text && path && *path)
    return mw_err_set(err, MW_ECONFIG, "%s and %s are both set; unset one", name, file_variable);
  if (text && *text) return mw_config_set(conf, option, mw_str_from(text), name, err);
  if (path && *path) return read_secret(conf, option, file_variable, path, err);
  return 0;
}

// A variable of that prefix that no option has is only warned of, and only when it looks like a slip: orchestrators inject
// names such as MOONWATCH_SERVICE_HOST.
static void warn_of_slips(void) {
  static const char *const others[] = {ENV_PREFIX "URL", ENV_PREFIX "CONFIG", NULL};
  char all[3 * MW_CONFIG_COUNT + 3][64];
  const char *names[3 * MW_CONFIG_COUNT + 3];
  size_t n = 0;
  for (const char *const *other = others; *other; other++) names[n++] = *other;
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) {
    env_name(&mw_config_options[i], all[n], sizeof all[n]);
    names[n] = all[n];
    n++;
    if (!mw_config_options[i].secret) continue;
    env_name(&mw_config_options[i], all[n], sizeof all[n] - 5);
    strcat(all[n], "_FILE");
    names[n] = all[n];
    n++;
  }
  names[n] = NULL;
  for (char **entry = environ; *entry; entry++) {
    char name[64];
    size_t len = strcspn(*entry, "=");
    if (strncmp(*entry, ENV_PREFIX, strlen(ENV_PREFIX)) != 0 || len >= sizeof name) continue;
    if (strncmp(*entry, ENV_PREFIX "DATABASES_", strlen(ENV_PREFIX "DATABASES_")) == 0) continue; // names of the user's own
    memcpy(name, *entry, len);
    name[len] = 0;
    const char *meant = mw_cli_suggest(name, names);
    if (!meant || strcmp(meant, name) == 0) continue;
    mw_log(MW_LOG_WARN, "config", "an environment variable has no meaning here", MW_LOG_S("name", name),
           MW_LOG_S("did_you_mean", meant));
  }
}

/** The name in MOONWATCH_DATABASES_NAME (or …_FILE) in small letters; false for any other variable. */
static bool member_of(const char *entry, const char *prefix, char *variable, char *name, size_t size, bool *is_file) {
  size_t len = strcspn(entry, "="), skip = strlen(prefix);
  if (strncmp(entry, prefix, skip) || len <= skip || len >= size) return false;
  memcpy(variable, entry, len);
  variable[len] = 0;
  *is_file = len > skip + 5 && strcmp(variable + len - 5, "_FILE") == 0;
  size_t end = *is_file ? len - 5 : len;
  for (size_t i = skip; i < end; i++) name[i - skip] = (char)tolower((unsigned char)variable[i]);
  name[end - skip] = 0;
  return strcmp(variable + skip, "FILE") != 0; // that one names the file of the whole map
}

/** Sets members of a map from MOONWATCH_DATABASES_REPORTS and from the files that MOONWATCH_DATABASES_REPORTS_FILE names. */
static int read_members(mw_config *conf, const mw_config_option *option, const char *prefix, mw_err *err) {
  char variable[160], name[160], text[8192];
  bool is_file;
  for (char **entry = environ; *entry; entry++) {
    if (!member_of(*entry, prefix, variable, name, sizeof name, &is_file)) continue;
    const char *value = getenv(variable);
    size_t len = strlen(value);
    if (!len) continue;
    if (is_file) {
      FILE *file = fopen(value, "re");
      if (!file) return mw_err_set(err, MW_ECONFIG, "%s (from %s): %s: %s", option->name, variable, value, strerror(errno));
      len = fread(text, 1, sizeof text, file);
      fclose(file);
      while (len && (text[len - 1] == '\n' || text[len - 1] == '\r')) len--;
      value = text;
    }
    int rc = mw_config_set_member(conf, option, mw_str_from(name), mw_str_of(value, len), variable, err);
    explicit_bzero(text, sizeof text);
    if (rc) return rc;
  }
  return 0;
}

static int read_environment(mw_config *conf, mw_err *err) {
  char name[128];
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) {
    const mw_config_option *option = &mw_config_options[i];
    int rc = option->alias ? read_variable(conf, option, option->alias, err) : 0;
    env_name(option, name, sizeof name);
    if (!rc) rc = read_variable(conf, option, name, err);
    strcat(name, "_");
    if (!rc && option->kind == MW_CONFIG_MAP) rc = read_members(conf, option, name, err);
    if (rc) return rc;
  }
  warn_of_slips();
  return 0;
}

// ---- flags ----

static int read_flags(mw_config *conf, const mw_config_source *source, mw_err *err) {
  char origin[64];
  for (size_t i = 0; i < MW_CONFIG_COUNT && source->flag; i++) {
    const mw_config_option *option = &mw_config_options[i];
    const char *text = option->flag ? source->flag(source->arg, option->flag) : NULL;
    if (!text) continue;
    snprintf(origin, sizeof origin, "--%s", option->flag);
    int rc = mw_config_set(conf, option, mw_str_from(text), origin, err);
    if (rc) return rc;
  }
  return 0;
}

// ---- the whole ----

static void derive(mw_config *conf) {
  char text[4096];
  if (!*conf->service_name && getcwd(text, sizeof text)) {
    const char *slash = strrchr(text, '/');
    const char *name = slash && slash[1] ? slash + 1 : "moonwatch";
    mw_config_set(conf, &mw_config_options[MW_CONFIG_service_name], mw_str_from(name), "the folder's name", NULL);
  }
  if (!*conf->node && gethostname(text, sizeof text) == 0) {
    text[sizeof text - 1] = 0;
    mw_config_set(conf, &mw_config_options[MW_CONFIG_node], mw_str_from(text), "the host's name", NULL);
  }
}

static bool is_identifier(const char *text) {
  size_t len = strlen(text);
  if (!len || len > 63 || !(islower((unsigned char)*text) || *text == '_')) return false;
  for (; *text; text++)
    if (!islower((unsigned char)*text) && !isdigit((unsigned char)*text) && *text != '_') return false;
  return true;
}

static bool is_database(const char *text) {
  return strcmp(text, "sqlite") == 0 || strncmp(text, "postgres://", 11) == 0 || strncmp(text, "postgresql://", 13) == 0;
}

static int refuse(const mw_config *conf, size_t option, mw_err *err, const char *what) {
  const mw_config_option *o = &mw_config_options[option];
  return mw_err_set(err, MW_ECONFIG, "%s (from %s) %s%s%s%s", o->name, conf->origins[option], what, o->secret ? "" : ", not '",
                    o->secret ? "" : conf->texts[option], o->secret ? "" : "'");
}

static int check_listeners(const mw_config *conf, mw_err *err) {
  bool is_tls = false;
  unsigned mode;
  if (!mw_listen_parse_mode(conf->listen_mode, &mode))
    return refuse(conf, MW_CONFIG_listen_mode, err, "is a mode in octal, such as 0660");
  for (int tag = 0; tag < MW_LISTENERS; tag++) {
    mw_listen_address to;
    bool is_needed = tag == MW_LISTENER_MAIN;
    if (!is_needed && !mw_listen_is_set(conf, tag)) continue;
    if (mw_listen_configured(conf, tag, &to, err)) return MW_ECONFIG;
    if (to.is_tls && !conf->tls_cert.count)
      return refuse(conf, (size_t)mw_listen_kinds[tag].option, err, "needs tls.cert and tls.key, the files of its certificate");
    if (tag == MW_LISTENER_REDIRECT && to.is_tls) return refuse(conf, MW_CONFIG_listen_redirect, err, "is a plain address, without https://");
    is_tls = is_tls || to.is_tls;
  }
  if (*conf->listen_redirect && !is_tls)
    return refuse(conf, MW_CONFIG_listen_redirect, err, "sends clients to a listener that begins with https://, and there is none");
  if (conf->tls_cert.count && !is_tls)
    return refuse(conf, MW_CONFIG_tls_cert, err, "is for a listener that begins with https://, and there is none");
  if (conf->tls_key.count && conf->tls_key.count != conf->tls_cert.count)
    return refuse(conf, MW_CONFIG_tls_key, err, "has as many files as tls.cert, or none when each of those holds its key too");
  if (strcmp(conf->tls_min_version, "1.2") && strcmp(conf->tls_min_version, "1.3"))
    return refuse(conf, MW_CONFIG_tls_min_version, err, "is 1.2 or 1.3");
  return 0;
}

static int check_proxies(const mw_config *conf, mw_err *err) {
  mw_proxies proxies;
  int rc = mw_proxies_configured(conf, &proxies, err);
  if (!rc) mw_proxies_deinit(&proxies);
  return rc;
}

static int check_access_log(const mw_config *conf, mw_err *err) {
  static const char *const slips[] = {"", "on", "true", "false", "yes", "no", "stderr", "json", "combined"};
  for (size_t i = 0; i < sizeof slips / sizeof *slips; i++)
    if (strcmp(conf->http_access_log, slips[i]) == 0) return refuse(conf, MW_CONFIG_http_access_log, err, "is off, stdout or a file's path");
  if (strcmp(conf->http_access_format, "combined") && strcmp(conf->http_access_format, "json"))
    return refuse(conf, MW_CONFIG_http_access_format, err, "is combined or json");
  return 0;
}

static int check(const mw_config *conf, mw_err *err) {
  mw_log_level level;
  if (!mw_log_level_parse(mw_str_from(conf->log_level), &level))
    return refuse(conf, MW_CONFIG_log_level, err, "is debug, info, warn or error");
  if (strcmp(conf->log_format, "auto") && strcmp(conf->log_format, "json") && strcmp(conf->log_format, "pretty"))
    return refuse(conf, MW_CONFIG_log_format, err, "is auto, json or pretty");
  if (!is_identifier(conf->postgres_schema))
    return refuse(conf, MW_CONFIG_postgres_schema, err, "is a name of small letters, digits and _");
  if (!is_database(conf->database)) return refuse(conf, MW_CONFIG_database, err, "is sqlite or postgres://user@host/name");
  if (*conf->app_database && (strcmp(conf->app_database, "sqlite") == 0 || !is_database(conf->app_database)))
    return refuse(conf, MW_CONFIG_app_database, err, "is postgres://user@host/name");
  if (*conf->app_database && !mw_config_is_postgres(conf))
    return refuse(conf, MW_CONFIG_app_database, err, "needs database to be PostgreSQL as well");
  mw_redis_target *redis = NULL;
  if (*conf->redis_url && mw_redis_target_new(mw_str_from(conf->redis_url), &redis, err))
    return mw_err_wrap(err, "redis.url (from %s)", conf->origins[MW_CONFIG_redis_url]), MW_ECONFIG;
  mw_redis_target_free(redis);
  for (size_t i = 0; i < conf->databases.count; i++)
    if (mw_databases_check(conf->databases.names[i], conf->databases.values[i], err))
      return mw_err_wrap(err, "databases (from %s): %s", conf->origins[MW_CONFIG_databases], conf->databases.names[i]), MW_ECONFIG;
  if (!*conf->data) return refuse(conf, MW_CONFIG_data, err, "is a folder");
  if (!*conf->plugins) return refuse(conf, MW_CONFIG_plugins, err, "is a folder");
  if (conf->lua_hard_limit <= conf->lua_soft_limit)
    return refuse(conf, MW_CONFIG_lua_hard_limit, err, "must be longer than lua.soft_limit");
  int rc = check_listeners(conf, err);
  if (!rc) rc = check_proxies(conf, err);
  return rc ? rc : check_access_log(conf, err);
}

int mw_config_load(mw_config *conf, const mw_config_source *source, mw_err *err) {
  mw_config_init(conf);
  int rc = mw_config_read_file(conf, source->file ? source->file : "moonwatch.lua", err);
  if (rc == MW_ENOTFOUND) rc = source->file ? MW_ECONFIG : 0;
  if (!rc) rc = read_environment(conf, err);
  if (!rc) rc = read_flags(conf, source, err);
  if (!rc) derive(conf);
  if (!rc) rc = check(conf, err);
  if (rc) mw_config_deinit(conf);
  return rc ? MW_ECONFIG : 0;
}
