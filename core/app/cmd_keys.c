// SPDX-License-Identifier: MIT
// `moonwatch keys`: keys of a running server. The secret of a new one is all that goes to stdout, so that it can be piped into a vault.
#include <stdio.h>
#include <string.h>

#include "app/cli_http.h"
#include "app/commands.h"
#include "base/json.h"

// ---- create ----

static void add_scopes(const mw_cli *cli, mw_buf *body) {
  const char *value;
  bool first = true;
  mw_buf_add_cstr(body, ",\"scopes\":[");
  for (int i = 0; (value = mw_cli_get_nth(cli, "scope", i)); i++) {
    mw_str rest = mw_str_from(value), part;
    while (mw_str_split(&rest, ',', &part)) {
      if (!first) mw_buf_add_byte(body, ',');
      mw_json_add_string(body, mw_str_trim(part));
      first = false;
    }
  }
  mw_buf_add_byte(body, ']');
}

static void add_member(mw_buf *body, const char *name, const char *value) {
  if (!value) return;
  mw_buf_printf(body, ",\"%s\":", name);
  mw_json_add_string(body, mw_str_from(value));
}

static void show_created(const mw_cli *cli, mw_str body) {
  mw_buf key = MW_BUF_INIT;
  mw_cli_json_string(body, "key", &key);
  printf("%s\n", mw_buf_cstr(&key));
  fflush(stdout);
  fputs("This is the only time the key is shown. Send it as Authorization: Bearer KEY.\n", stderr);
  explicit_bzero(key.ptr, key.len);
  mw_buf_deinit(&key);
}

static int create(mw_cli *cli) {
  if (!mw_cli_has(cli, "scope"))
    return mw_cli_usage_error(cli, "say what the key may do: --scope trigger, or --scope '*' for everything");
  mw_buf body = MW_BUF_INIT;
  mw_buf_add_cstr(&body, "{\"name\":");
  mw_json_add_string(&body, mw_str_from(cli->argv[1]));
  add_scopes(cli, &body);
  add_member(&body, "environment", mw_cli_get(cli, "environment"));
  add_member(&body, "expires_in", mw_cli_get(cli, "expires"));
  mw_buf_add_byte(&body, '}');
  int code = mw_cli_http_show(cli, &(mw_cli_request){.method = "POST", .path = "/api/v1/keys", .body = mw_buf_str(&body)}, show_created);
  mw_buf_deinit(&body);
  return code;
}

// ---- list ----

static void add_scope(mw_str scope, void *arg) {
  mw_buf *out = arg;
  if (out->len) mw_buf_add_byte(out, ',');
  mw_buf_add_str(out, scope);
}

static void print_key(mw_str item, void *arg) {
  static const char *const members[] = {"name", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at"};
  mw_buf values[6] = {MW_BUF_INIT, MW_BUF_INIT, MW_BUF_INIT, MW_BUF_INIT, MW_BUF_INIT, MW_BUF_INIT}, scopes = MW_BUF_INIT;
  for (int i = 0; i < 6; i++) {
    if (!mw_cli_json_string(item, members[i], &values[i])) mw_buf_add_byte(&values[i], '-');
    else if (i >= 2 && values[i].len > 16) values[i].len = 16; // to the minute
  }
  mw_cli_json_each(item, "scopes", add_scope, &scopes);
  printf("%-20s %-16s %-32s %-17s %-17s %-17s%s\n", mw_buf_cstr(&values[0]), mw_buf_cstr(&values[1]), mw_buf_cstr(&scopes),
         mw_buf_cstr(&values[2]), mw_buf_cstr(&values[3]), mw_buf_cstr(&values[4]),
         values[5].len > 1 ? " revoked" : "");
  for (int i = 0; i < 6; i++) mw_buf_deinit(&values[i]);
  mw_buf_deinit(&scopes);
  ++*(int *)arg;
}

static void show_list(const mw_cli *cli, mw_str body) {
  int count = 0;
  printf("%-20s %-16s %-32s %-17s %-17s %s\n", "NAME", "KEY", "SCOPES", "CREATED (UTC)", "LAST USED", "EXPIRES");
  mw_cli_json_each(body, "items", print_key, &count);
  if (!count) fputs("There are no keys; `moonwatch keys create NAME --scope trigger` makes one.\n", stderr);
}

// ---- revoke ----

static void show_revoked(const mw_cli *cli, mw_str body) {
  mw_buf name = MW_BUF_INIT;
  mw_cli_json_string(body, "name", &name);
  printf("revoked %s\n", mw_buf_cstr(&name));
  mw_buf_deinit(&name);
}

static int revoke(mw_cli *cli) {
  char path[256];
  const char *name = cli->argv[1];
  if (strlen(name) > 100 || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-") != strlen(name))
    return mw_cli_usage_error(cli, "'%s' is no name or id of a key; `moonwatch keys list` shows them", name);
  snprintf(path, sizeof path, "/api/v1/keys/%s", name);
  return mw_cli_http_show(cli, &(mw_cli_request){.method = "DELETE", .path = path}, show_revoked);
}

static int run_keys(mw_cli *cli) {
  if (strcmp(cli->argv[0], "create") == 0) return create(cli);
  if (strcmp(cli->argv[0], "revoke") == 0) return revoke(cli);
  const char *path = mw_cli_has(cli, "revoked") ? "/api/v1/keys?revoked=true" : "/api/v1/keys";
  return mw_cli_http_show(cli, &(mw_cli_request){.method = "GET", .path = path}, show_list);
}

static const mw_cli_sub subs[] = {
    {"create", "NAME", "Make a key and print its secret, once", 1, 1},
    {"list", NULL, "List the keys, newest first, without their secrets", 0, 0},
    {"revoke", "NAME|ID", "Make a key open nothing from now on", 1, 1},
    {NULL, NULL, NULL, 0, 0},
};

static const mw_cli_flag flags[] = {
    {"scope", "SCOPES", "What a new key may do; several joined by commas, or the flag several times"},
    {"expires", "DURATION", "When a new key ends, such as 90d (default: never)"},
    {"environment", "NAME", "A mark on a new key, shown in lists"},
    {"revoked", NULL, "List revoked keys too"},
    MW_CLI_HTTP_FLAGS,
    {"json", NULL, "Print the answer as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_keys = {
    .name = "keys",
    .summary = "Make, list and revoke keys for the API",
    .details = "Scopes: trigger, executions:read, executions:write, signal, cron, plugins:read, plugins:reload, status:read, ops, keys, and * for all. See docs/security.md.",
    .flags = flags,
    .subs = subs,
    .takes_config = true,
    .run = run_keys,
};
