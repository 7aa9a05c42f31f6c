// SPDX-License-Identifier: MIT
#pragma once

// The configuration: one table of options, one struct with their values. Sources, weakest first: defaults, moonwatch.lua (sandboxed; it
// returns a table, `http = { max_body = "8MB" }` sets http.max_body), the environment, flags. Every value remembers where it came
// from. Immutable once loaded, so any thread may read it.
//
// The environment variable of an option is MOONWATCH_ and its name in capitals, "_" for ".": MOONWATCH_HTTP_MAX_BODY. Some have a second,
// customary one (DATABASE_URL). Secrets can stand in a file that NAME_FILE names.
//
//   mw_config conf; mw_config_load(&conf, &(mw_config_source){.flag = get_flag, .arg = cli}, &err);
//   if (conf.http_max_body > …) …
//   mw_config_deinit(&conf);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

typedef struct mw_config_list {
  const char **items;
  size_t count;
} mw_config_list;

/** Names with a value each, in the order they were written; names are small letters, digits and _, all different. */
typedef struct mw_config_map {
  const char **names, **values;
  size_t count;
} mw_config_map;

/** How values are written, and the C type that holds them. */
typedef enum mw_config_kind {
  MW_CONFIG_STR,      /**< const char *, never NULL. */
  MW_CONFIG_INT,      /**< int64_t */
  MW_CONFIG_BOOL,     /**< bool */
  MW_CONFIG_DURATION, /**< int64_t, milliseconds. */
  MW_CONFIG_SIZE,     /**< int64_t, bytes. */
  MW_CONFIG_LIST,     /**< mw_config_list; commas between items in text. */
  MW_CONFIG_MAP,      /**< mw_config_map; "name=value,name=value" in text, where a comma ends a value only before a name and "=". */
} mw_config_kind;

#define MW_CONFIG_TYPE_STR const char *
#define MW_CONFIG_TYPE_INT int64_t
#define MW_CONFIG_TYPE_BOOL bool
#define MW_CONFIG_TYPE_DURATION int64_t
#define MW_CONFIG_TYPE_SIZE int64_t
#define MW_CONFIG_TYPE_LIST mw_config_list
#define MW_CONFIG_TYPE_MAP mw_config_map

/** field, name, kind, default, lowest, highest (numbers only; durations in ms), second environment variable, flag, its value in help,
 *  secret, what it is */
#define MW_CONFIG_TABLE(X)                                                                                                        \
  X(listen, "listen", STR, "127.0.0.1:9400", 0, 0, NULL, "listen", "ADDR", false, "Address of the main listener")                 \
  X(listen_app, "listen_app", STR, "", 0, 0, NULL, "listen-app", "ADDR", false,                                                   \
    "A listener of its own for plugin routes; it answers nothing else but probes")                                                \
  X(listen_api, "listen_api", STR, "", 0, 0, NULL, "listen-api", "ADDR", false,                                                   \
    "A listener of its own for /api; the main one answers it no more")                                                            \
  X(listen_ops, "listen_ops", STR, "", 0, 0, NULL, "listen-ops", "ADDR", false,                                                   \
    "A listener of its own for /ops and /metrics; the main one answers them no more")                                             \
  X(listen_redirect, "listen_redirect", STR, "", 0, 0, NULL, "listen-redirect", "ADDR", false,                                    \
    "A plain listener that sends clients to the https:// one")                                                                    \
  X(public_url, "public_url", STR, "", 0, 0, NULL, NULL, NULL, false,                                                             \
    "Where others reach this server (https://ops.example.com): before the addresses it hands out")                                \
  X(listen_mode, "listen_mode", STR, "0600", 0, 0, NULL, NULL, NULL, false, "Mode of Unix sockets that listen, in octal")         \
  X(tls_cert, "tls.cert", LIST, "", 0, 0, NULL, "tls-cert", "FILES", false,                                                       \
    "Certificates (PEM, leaf first) of https:// listeners; the first is the default")                                             \
  X(tls_key, "tls.key", LIST, "", 0, 0, NULL, "tls-key", "FILES", false,                                                          \
    "Their keys (PEM), in the same order; empty: each certificate's file holds its key")                                          \
  X(tls_min_version, "tls.min_version", STR, "1.2", 0, 0, NULL, NULL, NULL, false, "Lowest version spoken: 1.2 or 1.3")           \
  X(tls_hsts, "tls.hsts", DURATION, "0", 0, 315360000000, NULL, NULL, NULL, false,                                                \
    "How long browsers shall insist on TLS (Strict-Transport-Security); 0: not said")                                             \
  X(data, "data", STR, "data", 0, 0, NULL, "data", "DIR", false, "Folder for databases and the control socket")                   \
  X(plugins, "plugins", STR, "plugins", 0, 0, NULL, "plugins", "DIR", false, "Folder with the plugins")                           \
  X(files, "files", STR, "public", 0, 0, NULL, "files", "DIR", false, "Folder with what res:file and mw.static serve")             \
  X(database, "database", STR, "sqlite", 0, 0, "DATABASE_URL", "database", "URL", true,                                           \
    "sqlite (files in the data folder) or postgres://…")                                                                          \
  X(app_database, "app_database", STR, "", 0, 0, NULL, NULL, NULL, true,                                                          \
    "PostgreSQL that mw.query uses, when it is another than database")                                                            \
  X(databases, "databases", MAP, "", 0, 0, NULL, NULL, NULL, true,                                                                \
    "Further databases for mw.db(name): { reports = \"postgres://…\", cache = \"sqlite:cache.db\" }")                             \
  X(workers, "workers", INT, "0", 0, 64, NULL, "workers", "N", false, "Worker threads; 0: one a core")                            \
  X(token, "token", STR, "", 0, 0, "SIDECAR_TOKEN", "token", "TOKEN", true, "Key for the API; needed to listen beyond loopback")  \
  X(paused, "paused", BOOL, "false", 0, 0, NULL, NULL, NULL, false,                                                               \
    "Start with everything paused: executions are stored, none runs until it is resumed")                                         \
  X(supervisor, "supervisor", BOOL, "true", 0, 0, NULL, NULL, NULL, false, "Run the server under a supervisor that restarts it")  \
  X(watch, "watch", BOOL, "true", 0, 0, NULL, NULL, NULL, false, "Reload when a file in the plugins folder changes")              \
  X(drain_timeout, "drain_timeout", DURATION, "20s", 0, 3600000, NULL, NULL, NULL, false,                                         \
    "How long requests and tasks may finish after SIGTERM")                                                                       \
  X(upgrade_timeout, "upgrade_timeout", DURATION, "60s", 1000, 3600000, NULL, NULL, NULL, false,                                  \
    "How long a new program may take to check itself, and to serve, after SIGUSR2")                                               \
  X(drain_delay, "drain_delay", DURATION, "0s", 0, 3600000, NULL, NULL, NULL, false,                                              \
    "How long it serves on as not ready before it drains, for load balancers")                                                    \
  X(service_name, "service_name", STR, "", 0, 0, NULL, NULL, NULL, false,                                                         \
    "Marks logs, spans and errors; empty: the folder's name")                                                                     \
  X(environment, "environment", STR, "development", 0, 0, NULL, NULL, NULL, false, "Marks logs, spans and errors")                \
  X(node, "node", STR, "", 0, 0, NULL, NULL, NULL, false, "Name of this node; empty: the host's name")                            \
  X(env, "env", LIST, "", 0, 0, NULL, NULL, NULL, false, "Environment variables plugins may read, besides APP_*")                 \
  X(log_level, "log.level", STR, "info", 0, 0, NULL, NULL, NULL, false, "Lowest level written: debug, info, warn, error")         \
  X(log_format, "log.format", STR, "auto", 0, 0, NULL, NULL, NULL, false, "auto (pretty on a terminal), json or pretty")          \
  X(migrate_auto, "migrate.auto", BOOL, "true", 0, 0, NULL, NULL, NULL, false, "Apply pending migrations on start")               \
  X(postgres_schema, "postgres.schema", STR, "moonwatch", 0, 0, NULL, NULL, NULL, false, "Schema of Moonwatch's own tables")      \
  X(postgres_pool, "postgres.pool", INT, "4", 1, 100, NULL, NULL, NULL, false, "Connections a worker for mw.query")               \
  X(postgres_lease, "postgres.lease", DURATION, "10s", 3000, 600000, NULL, NULL, NULL, false,                                     \
    "How long a node that is not heard of keeps its executions before others take them over")                                     \
  X(redis_url, "redis.url", STR, "", 0, 0, "REDIS_URL", NULL, NULL, true,                                                         \
    "Redis for mw.redis: redis://user:password@host:6379/0, rediss://… or unix:///path; redis = \"…\" in short")                   \
  X(redis_timeout, "redis.timeout", DURATION, "5s", 1, 3600000, NULL, NULL, NULL, false,                                          \
    "Until a command of Redis is answered, and for connecting")                                                                   \
  X(redis_ca_file, "redis.ca_file", STR, "", 0, 0, NULL, NULL, NULL, false,                                                       \
    "Certificates (PEM) to trust for rediss:// instead of the system's")                                                          \
  X(workflow_concurrency, "workflow.concurrency", INT, "1000", 1, 1000000, NULL, NULL, NULL, false,                               \
    "Executions a worker runs at once")                                                                                           \
  X(workflow_max_payload, "workflow.max_payload", SIZE, "1MiB", 1024, 64 << 20, NULL, NULL, NULL, false,                          \
    "Size of one input, result or output")                                                                                        \
  X(workflow_keep_completed, "workflow.keep_completed", DURATION, "30d", 0, 3153600000000, NULL, NULL, NULL, false,               \
    "How long completed executions are kept, unless their workflow says otherwise")                                               \
  X(workflow_keep_failed, "workflow.keep_failed", DURATION, "90d", 0, 3153600000000, NULL, NULL, NULL, false,                     \
    "How long failed and cancelled ones are kept")                                                                                \
  X(http_max_header, "http.max_header", SIZE, "32KiB", 1024, 1 << 20, NULL, NULL, NULL, false, "Request line and headers")        \
  X(http_max_body, "http.max_body", SIZE, "1MiB", 0, 1LL << 40, NULL, NULL, NULL, false, "Request body; a route can raise it")    \
  X(http_max_connections, "http.max_connections", INT, "10000", 1, 1000000, NULL, NULL, NULL, false,                              \
    "Connections a worker and listener; more wait")                                                                               \
  X(http_header_timeout, "http.header_timeout", DURATION, "10s", 1, 3600000, NULL, NULL, NULL, false,                             \
    "From a request's first byte to the end of its headers")                                                                      \
  X(http_body_timeout, "http.body_timeout", DURATION, "30s", 1, 3600000, NULL, NULL, NULL, false,                                 \
    "Between two pieces of a body")                                                                                               \
  X(http_access_log, "http.access_log", STR, "off", 0, 0, NULL, NULL, NULL, false,                                                \
    "A line a request: off, stdout or a file's path")                                                                             \
  X(http_access_format, "http.access_format", STR, "combined", 0, 0, NULL, NULL, NULL, false,                                     \
    "combined (as Apache and nginx have it) or json")                                                                             \
  X(http_trusted_proxies, "http.trusted_proxies", LIST, "", 0, 0, NULL, NULL, NULL, false,                                        \
    "Proxies whose word on client, scheme and host counts: addresses, networks, unix")                                            \
  X(http_forwarded, "http.forwarded", STR, "x-forwarded-for", 0, 0, NULL, NULL, NULL, false,                                      \
    "Header they write: x-forwarded-for (with -proto and -host) or forwarded (RFC 7239)")                                         \
  X(http_idle_timeout, "http.idle_timeout", DURATION, "120s", 1, 86400000, NULL, NULL, NULL, false,                               \
    "Keep-alive without a request")                                                                                               \
  X(http_handler_timeout, "http.handler_timeout", DURATION, "30s", 1, 86400000, NULL, NULL, NULL, false,                          \
    "Until the answer begins; a route can set its own")                                                                           \
  X(http_write_timeout, "http.write_timeout", DURATION, "30s", 1, 3600000, NULL, NULL, NULL, false,                               \
    "Without progress of a client that reads")                                                                                    \
  X(http_compress, "http.compress", BOOL, "true", 0, 0, NULL, NULL, NULL, false,                                                  \
    "Compress text answers for clients that take gzip or deflate")                                                               \
  X(http_compress_min, "http.compress_min", SIZE, "1KiB", 1, 1 << 30, NULL, NULL, NULL, false,                                    \
    "Shorter answers are sent as they are")                                                                                       \
  X(http_compress_level, "http.compress_level", INT, "1", 1, 9, NULL, NULL, NULL, false, "1: fast, 9: small")                     \
  X(lua_memory, "lua.memory", SIZE, "256MiB", 8 << 20, 1LL << 40, NULL, NULL, NULL, false, "Memory of one worker's Lua state")    \
  X(lua_soft_limit, "lua.soft_limit", DURATION, "1s", 10, 3600000, NULL, NULL, NULL, false,                                       \
    "Uninterrupted Lua before a task is stopped")                                                                                 \
  X(lua_hard_limit, "lua.hard_limit", DURATION, "10s", 100, 3600000, NULL, NULL, NULL, false,                                     \
    "A call that never returns: the server is restarted")

enum {
#define MW_CONFIG_ENUM(field, ...) MW_CONFIG_##field,
  MW_CONFIG_TABLE(MW_CONFIG_ENUM)
#undef MW_CONFIG_ENUM
  MW_CONFIG_COUNT
};

typedef struct mw_config_option {
  const char *name;
  mw_config_kind kind;
  const char *fallback;
  int64_t low, high;
  const char *alias;    /**< Second environment variable, or NULL. */
  const char *flag;     /**< Without dashes, or NULL. */
  const char *value;
  bool secret;          /**< Never printed; may come from NAME_FILE. */
  const char *doc;
  size_t offset;
} mw_config_option;

typedef struct mw_config {
#define MW_CONFIG_FIELD(field, name, kind, ...) MW_CONFIG_TYPE_##kind field;
  MW_CONFIG_TABLE(MW_CONFIG_FIELD)
#undef MW_CONFIG_FIELD
  const char *texts[MW_CONFIG_COUNT];   /**< Each value as it was written. */
  const char *origins[MW_CONFIG_COUNT]; /**< "default", "moonwatch.lua", "MOONWATCH_TOKEN", "--listen". */
  mw_arena arena;
} mw_config;

/** In the order of the enum. */
extern const mw_config_option mw_config_options[MW_CONFIG_COUNT];

typedef struct mw_config_source {
  const char *file; /**< NULL: moonwatch.lua of the current folder, if it is there. A named one must be. */
  /** Returns the value of a flag, or NULL. May be NULL. */
  const char *(*flag)(void *arg, const char *name);
  void *arg;
} mw_config_source;

/** Loads from all sources. Returns 0, or MW_ECONFIG with the key, where it stands and what would be right. `conf` holds nothing after
 *  a failure. */
int mw_config_load(mw_config *conf, const mw_config_source *source, mw_err *err);
/** Sets every value of an uninitialised `conf` to its default. */
void mw_config_init(mw_config *conf);
void mw_config_deinit(mw_config *conf);

/** Returns the option called `name`, or NULL. */
const mw_config_option *mw_config_find(mw_str name);
/** Returns the option that `name` stands for in short: "redis" is "redis.url". NULL: none. */
const mw_config_option *mw_config_find_short(mw_str name);
/** Sets the option called `name`, also in short, or one name of a map ("databases.reports"). MW_ECONFIG when there is none. */
int mw_config_set_named(mw_config *conf, mw_str name, mw_str text, const char *origin, mw_err *err);
/** Parses and sets one value; `origin` is for messages and `--origin`. */
int mw_config_set(mw_config *conf, const mw_config_option *option, mw_str text, const char *origin, mw_err *err);
/** Appends a value as JSON (durations in seconds, sizes in bytes); a secret as it is. */
void mw_config_add_json(const mw_config *conf, const mw_config_option *option, mw_buf *out);
/** For what runs inside the server: appends the value of the option `name` as JSON; of a secret map only its names. False for an unknown
 *  or any other secret one. */
bool mw_config_add_public_json(const mw_config *conf, mw_str name, mw_buf *out);
/** Appends a text that may hold a secret: a URL with its password and parameters hidden, anything else wholly. */
void mw_config_add_masked(mw_buf *out, const char *text);
/** Sets one name of a map and leaves the others. */
int mw_config_set_member(mw_config *conf, const mw_config_option *option, mw_str name, mw_str value, const char *origin, mw_err *err);
/** Appends a value for people; secrets are masked (of a URL only its password). */
void mw_config_add_text(const mw_config *conf, const mw_config_option *option, mw_buf *out);
/** Refuses a listener that answers more than plugin routes beyond loopback without a token (MW_EDENIED, with the command that fixes
 *  it). */
int mw_config_check_access(const mw_config *conf, mw_err *err);
/** Returns the number of workers: as configured, or one a core that this process may use; at most 64. */
int mw_config_workers(const mw_config *conf);
/** True when the database is PostgreSQL. */
bool mw_config_is_postgres(const mw_config *conf);
/** True when plugins may read the environment variable `name`: listed in `env`, or APP_*. */
bool mw_config_allows_env(const mw_config *conf, const char *name);

/** Writes all values to `out` so that mw_config_unpack in another process gives the same configuration. */
void mw_config_pack(const mw_config *conf, mw_buf *out);
int mw_config_unpack(mw_config *conf, mw_str packed, mw_err *err);
