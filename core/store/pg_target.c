// SPDX-License-Identifier: MIT
#include "store/pg_target.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"

// Settings that a connection has unless the URL says otherwise. Kerberos is off because its libraries look
// names up, which blocks; keepalives because a dead peer should be noticed within half a minute.
static const struct {
  const char *name, *value;
} defaults[] = {
    {"client_encoding", "UTF8"},   {"fallback_application_name", "moonwatch"},
    {"gssencmode", "disable"},     {"keepalives_idle", "15"},
    {"keepalives_interval", "5"},  {"keepalives_count", "3"},
    {"tcp_user_timeout", "30000"}, {"connect_timeout", "10"},
};

static PQconninfoOption *find(const mw_pg_target *target, const char *name) {
  for (PQconninfoOption *o = target->options; o->keyword; o++) {
    if (strcmp(o->keyword, name) == 0) return o;
  }
  return NULL;
}

static void set(mw_pg_target *target, const char *name, const char *value) {
  PQconninfoOption *option = find(target, name);
  if (!option || (option->val && option->val[0])) return;
  free(option->val);
  option->val = strdup(value); // PQconninfoFree frees it with libc's free.
}

// libpq's words on a URL end in the URL itself, or in the part of it that is wrong: there may be a password in it.
static size_t words_without_quote(const char *text) {
  if (!text) return 0;
  const char *quote = strstr(text, ": \"");
  size_t line = strcspn(text, "\n");
  return quote && (size_t)(quote - text) < line ? (size_t)(quote - text) : line;
}

int mw_pg_target_new(const char *url, mw_work_pool *cancel_pool, const char *setup, mw_pg_target **out,
                     mw_err *err) {
  char *text = NULL;
  int rc = mw_pq_load(err);
  if (rc) return rc;
  PQconninfoOption *options = PQconninfoParse(url, &text);
  if (!options) {
    rc = mw_err_set(
        err, MW_ECONFIG,
        "the database URL does not parse: %.*s (it looks like postgres://user:password@host:5432/name)",
        (int)words_without_quote(text), text ? text : "");
    PQfreemem(text);
    return rc;
  }
  mw_pg_target *target = MW_NEW(mw_pg_target);
  target->options = options;
  target->cancel_pool = cancel_pool;
  target->setup = setup ? mw_strdup(setup) : NULL;
  for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++)
    set(target, defaults[i].name, defaults[i].value);
  const char *host = getenv("PGHOST"), *port = getenv("PGPORT");
  if (host && host[0] && !find(target, "hostaddr")->val) set(target, "host", host);
  set(target, "port", port && port[0] ? port : "5432");
  // Ours is always UTF-8, whatever the URL asks for.
  PQconninfoOption *encoding = find(target, "client_encoding");
  free(encoding->val);
  encoding->val = strdup("UTF8");
  *out = target;
  return 0;
}

void mw_pg_target_free(mw_pg_target *target) {
  if (!target) return;
  PQconninfoFree(target->options);
  mw_free(target->setup);
  mw_free(target);
}

/** Copies item `index` (round and round) of a comma list. */
static char *pick(const char *list, unsigned index) {
  unsigned count = 1;
  for (const char *p = list; *p; p++) count += *p == ',';
  for (index %= count; index; index--) list = strchr(list, ',') + 1;
  return mw_strndup(list, strcspn(list, ","));
}

void mw_pg_place_pick(mw_pg_target *target, mw_pg_place *place) {
  unsigned turn = __atomic_fetch_add(&target->turn, 1, __ATOMIC_RELAXED);
  const char *host = find(target, "host")->val, *numeric = find(target, "hostaddr")->val;
  place->host = pick(host ? host : "", turn);
  place->port = pick(find(target, "port")->val, turn);
  place->resolved = numeric && numeric[0];
  place->hostaddr = place->resolved ? pick(numeric, turn) : NULL;
}

void mw_pg_place_deinit(mw_pg_place *place) {
  mw_free(place->host);
  mw_free(place->port);
  mw_free(place->hostaddr);
  *place = (mw_pg_place){0};
}

bool mw_pg_place_needs_name(const mw_pg_place *place) {
  return !place->resolved && place->host[0] && place->host[0] != '/' && place->host[0] != '@';
}

void mw_pg_place_set_addresses(mw_pg_place *place, const mw_address *addresses, size_t count) {
  mw_buf hosts = MW_BUF_INIT, numeric = MW_BUF_INIT;
  for (size_t i = 0; i < count; i++) {
    char text[MW_ADDRESS_TEXT];
    mw_address_format_host(&addresses[i], text);
    mw_buf_printf(&hosts, "%s%s", i ? "," : "", place->host);
    mw_buf_printf(&numeric, "%s%s", i ? "," : "", text);
  }
  mw_free(place->host);
  mw_free(place->hostaddr);
  place->host = mw_buf_take(&hosts);
  place->hostaddr = mw_buf_take(&numeric);
}

static PGconn *connect_with(const mw_pg_target *target, const mw_pg_place *place,
                            PGconn *(*start)(const char *const *, const char *const *, int)) {
  const char *names[64], *values[64];
  int n = 0;
  for (PQconninfoOption *o = target->options; o->keyword && n < 63; o++) {
    const char *value = o->val;
    if (place && strcmp(o->keyword, "host") == 0) value = place->host;
    if (place && strcmp(o->keyword, "hostaddr") == 0) value = place->hostaddr;
    if (place && strcmp(o->keyword, "port") == 0) value = place->port;
    if (!value || !value[0]) continue;
    names[n] = o->keyword;
    values[n++] = value;
  }
  names[n] = values[n] = NULL;
  return start(names, values, 0);
}

PGconn *mw_pg_target_start(const mw_pg_target *target, const mw_pg_place *place) {
  return connect_with(target, place, PQconnectStartParams);
}

static void ignore_notice(void *arg, const PGresult *result) {}

int mw_pg_target_connect(const mw_pg_target *target, PGconn **out, mw_err *err) {
  PGconn *pg = connect_with(target, NULL, PQconnectdbParams);
  if (PQstatus(pg) != CONNECTION_OK) {
    const char *text = PQerrorMessage(pg);
    int rc = mw_err_set(err, MW_EUNAVAILABLE, "PostgreSQL: %.*s", (int)strcspn(text, "\n"), text);
    PQfinish(pg);
    return rc;
  }
  PQsetNoticeReceiver(pg, ignore_notice, NULL);
  *out = pg;
  return 0;
}
