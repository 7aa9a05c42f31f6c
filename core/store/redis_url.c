// SPDX-License-Identifier: MIT
#include "store/redis_url.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#define DEFAULT_PORT 6379
#define MAX_DB 65535
#define MAX_HOST 253
#define MAX_PATH 107 // of a Unix socket
#define FORMS "is written redis://user:password@host:6379/0, rediss://… or unix:///path?db=0"

static int hex_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = (char)(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/** Decodes %XX into memory of the caller; NULL when that is malformed or a NUL. */
static char *decode(mw_str text) {
  char *out = mw_alloc(text.len + 1), *to = out;
  for (size_t i = 0; i < text.len; i++) {
    int byte = (unsigned char)text.ptr[i];
    if (byte == '%') {
      int high = i + 2 < text.len ? hex_of(text.ptr[i + 1]) : -1, low = i + 2 < text.len ? hex_of(text.ptr[i + 2]) : -1;
      byte = high < 0 || low < 0 ? 0 : high * 16 + low;
      i += 2;
    }
    if (!byte) {
      mw_free(out);
      return NULL;
    }
    *to++ = (char)byte;
  }
  *to = 0;
  return out;
}

/** Cuts `text` at the first `byte` into what is before and after; false when it has none. */
static bool cut(mw_str text, char byte, mw_str *before, mw_str *after) {
  ptrdiff_t at = mw_str_find_byte(text, byte);
  if (at < 0) return false;
  *before = mw_str_of(text.ptr, (size_t)at);
  *after = mw_str_of(text.ptr + at + 1, text.len - (size_t)at - 1);
  return true;
}

static int take_credentials(mw_redis_target *target, mw_str text, mw_err *err) {
  mw_str user = text, password = {NULL, 0};
  bool has_password = cut(text, ':', &user, &password);
  if (user.len && !(target->user = decode(user))) return mw_err_set(err, MW_ECONFIG, "has a user with a %% that is not followed by two hex digits");
  if (has_password && !(target->password = decode(password)))
    return mw_err_set(err, MW_ECONFIG, "has a password with a %% that is not followed by two hex digits (write %%25 for a %%)");
  if (target->user && !target->password) return mw_err_set(err, MW_ECONFIG, "names a user without a password; a password alone is redis://:password@host");
  return 0;
}

static int take_db(mw_redis_target *target, mw_str text, mw_err *err) {
  uint64_t db;
  if (!mw_str_parse_u64(text, &db) || db > MAX_DB) return mw_err_set(err, MW_ECONFIG, "has a database that is not a number from 0 to %d", MAX_DB);
  target->db = (int)db;
  return 0;
}

static int take_query(mw_redis_target *target, mw_str text, mw_err *err) {
  mw_str part, name, value;
  while (mw_str_split(&text, '&', &part)) {
    if (!cut(part, '=', &name, &value) || !mw_str_eq(name, MW_STR("db"))) return mw_err_set(err, MW_ECONFIG, "has a parameter other than ?db=N");
    int rc = take_db(target, value, err);
    if (rc) return rc;
  }
  return 0;
}

static int take_port(mw_redis_target *target, mw_str text, mw_err *err) {
  uint64_t port;
  if (!mw_str_parse_u64(text, &port) || port < 1 || port > 65535) return mw_err_set(err, MW_ECONFIG, "has a port that is not a number from 1 to 65535");
  target->port = (int)port;
  return 0;
}

static bool is_host(mw_str text) {
  if (!text.len || text.len > MAX_HOST) return false;
  for (size_t i = 0; i < text.len; i++)
    if (!isalnum((unsigned char)text.ptr[i]) && (!text.ptr[i] || !strchr(".-_:", text.ptr[i]))) return false;
  return true;
}

static int take_host(mw_redis_target *target, mw_str text, mw_err *err) {
  mw_str host = text, port = {NULL, 0};
  bool has_port;
  target->port = DEFAULT_PORT;
  if (text.len && text.ptr[0] == '[') {
    if (!cut(mw_str_of(text.ptr + 1, text.len - 1), ']', &host, &port)) return mw_err_set(err, MW_ECONFIG, "has a [ without its ]");
    has_port = port.len > 0;
    if (has_port && port.ptr[0] != ':') return mw_err_set(err, MW_ECONFIG, FORMS);
    if (has_port) port = mw_str_of(port.ptr + 1, port.len - 1);
  } else has_port = cut(text, ':', &host, &port);
  if (!is_host(host)) return mw_err_set(err, MW_ECONFIG, "has no host, or one with characters no host name has (percent-encode @, : and / in a password)");
  target->host = mw_strndup(host.ptr, host.len);
  return has_port ? take_port(target, port, err) : 0;
}

static int take_path(mw_redis_target *target, mw_str text, mw_err *err) {
  if (text.len < 2 || text.ptr[0] != '/' || text.len > MAX_PATH)
    return mw_err_set(err, MW_ECONFIG, "names a Unix socket without an absolute path of at most %d bytes", MAX_PATH);
  target->path = mw_strndup(text.ptr, text.len);
  return 0;
}

static int parse_rest(mw_redis_target *target, mw_str rest, bool is_unix, mw_err *err) {
  mw_str query = {NULL, 0}, db = {NULL, 0};
  int rc = 0;
  cut(rest, '?', &rest, &query);
  const char *at = rest.len ? memrchr(rest.ptr, '@', rest.len) : NULL;
  if (at) {
    rc = take_credentials(target, mw_str_of(rest.ptr, (size_t)(at - rest.ptr)), err);
    rest = mw_str_of(at + 1, rest.len - (size_t)(at + 1 - rest.ptr));
  }
  if (!is_unix) cut(rest, '/', &rest, &db);
  if (!rc) rc = is_unix ? take_path(target, rest, err) : take_host(target, rest, err);
  if (!rc && db.len) rc = take_db(target, db, err);
  return rc ? rc : take_query(target, query, err);
}

int mw_redis_target_new(mw_str url, mw_redis_target **out, mw_err *err) {
  static const struct { mw_str scheme; bool is_tls, is_unix; } schemes[] = {
      {MW_STR("redis://"), false, false}, {MW_STR("rediss://"), true, false}, {MW_STR("unix://"), false, true}};
  for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
    mw_str scheme = schemes[i].scheme;
    if (!mw_str_starts_with(url, scheme)) continue;
    mw_redis_target *target = MW_NEW(mw_redis_target);
    target->is_tls = schemes[i].is_tls;
    int rc = parse_rest(target, mw_str_of(url.ptr + scheme.len, url.len - scheme.len), schemes[i].is_unix, err);
    if (rc) {
      mw_redis_target_free(target);
      return rc;
    }
    bool is_v6 = target->host && strchr(target->host, ':');
    if (target->path) snprintf(target->shown, sizeof target->shown, "unix:%s", target->path);
    else snprintf(target->shown, sizeof target->shown, is_v6 ? "[%s]:%d" : "%s:%d", target->host, target->port);
    *out = target;
    return 0;
  }
  return mw_err_set(err, MW_ECONFIG, FORMS);
}

void mw_redis_target_free(mw_redis_target *target) {
  if (!target) return;
  if (target->password) explicit_bzero(target->password, strlen(target->password));
  mw_free(target->host);
  mw_free(target->path);
  mw_free(target->user);
  mw_free(target->password);
  mw_free(target);
}
