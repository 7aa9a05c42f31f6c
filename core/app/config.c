// SPDX-License-Identifier: MIT
#include "app/config.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/listen.h"
#include "base/duration.h"
#include "base/json.h"
#include "base/log.h"
#include "base/size.h"

const mw_config_option mw_config_options[MW_CONFIG_COUNT] = {
#define OPTION(field, name, kind, fallback, low, high, alias, flag, value, secret, doc) \
  {name, MW_CONFIG_##kind, fallback, low, high, alias, flag, value, secret, doc, offsetof(mw_config, field)},
    MW_CONFIG_TABLE(OPTION)
#undef OPTION
};

static size_t index_of(const mw_config_option *option) { return (size_t)(option - mw_config_options); }

#define MAX_MEMBERS 32
#define MAX_MEMBER_NAME 48

static const void *value_of(const mw_config *conf, const mw_config_option *option) {
  return (const char *)conf + option->offset;
}

const mw_config_option *mw_config_find(mw_str name) {
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++)
    if (mw_str_eq(name, mw_str_from(mw_config_options[i].name))) return &mw_config_options[i];
  return NULL;
}

const mw_config_option *mw_config_find_short(mw_str name) {
  char full[160];
  int len = snprintf(full, sizeof full, "%.*s.url", MW_STR_FMT(name));
  return len > 0 && (size_t)len < sizeof full ? mw_config_find(mw_str_of(full, (size_t)len)) : NULL;
}

// ---- parsing ----

static int parse_bool(mw_str text, bool *out, mw_err *err) {
  static const char *const yes[] = {"true", "1", "yes", "on"}, *const no[] = {"false", "0", "no", "off"};
  for (int i = 0; i < 4; i++) {
    if (mw_str_eq_nocase(text, mw_str_from(yes[i]))) return *out = true, 0;
    if (mw_str_eq_nocase(text, mw_str_from(no[i]))) return *out = false, 0;
  }
  return mw_err_set(err, MW_ECONFIG, "is true or false, not '%.*s'", MW_STR_FMT(text));
}

static int parse_int(mw_str text, int64_t *out, mw_err *err) {
  uint64_t value;
  if (!mw_str_parse_u64(text, &value) || value > INT64_MAX)
    return mw_err_set(err, MW_ECONFIG, "is a whole number, not '%.*s'", MW_STR_FMT(text));
  *out = (int64_t)value;
  return 0;
}

// People port milliseconds: a bare number of more than an hour of seconds is more likely those.
static int parse_duration(mw_str text, int64_t *out, mw_err *err) {
  uint64_t bare;
  if (mw_str_parse_u64(text, &bare) && bare > 3600)
    return mw_err_set(err, MW_ECONFIG, "is in seconds: write \"%llus\" for %.1f hours, or \"%llums\" for %.1f seconds",
                      (unsigned long long)bare, (double)bare / 3600, (unsigned long long)bare, (double)bare / 1000);
  int64_t us;
  int rc = mw_duration_parse(text, &us, err);
  if (rc) return rc;
  *out = us / 1000;
  return 0;
}

static int parse_size(mw_str text, int64_t *out, mw_err *err) {
  uint64_t bytes;
  int rc = mw_size_parse(text, &bytes, err);
  if (rc) return rc;
  if (bytes > INT64_MAX) return mw_err_set(err, MW_ECONFIG, "is too large");
  *out = (int64_t)bytes;
  return 0;
}

static void parse_list(mw_config *conf, mw_str text, mw_config_list *out) {
  mw_str rest = text, part;
  size_t cap = 1;
  for (size_t i = 0; i < text.len; i++) cap += text.ptr[i] == ',';
  out->items = mw_arena_alloc(&conf->arena, cap * sizeof *out->items);
  out->count = 0;
  while (mw_str_split(&rest, ',', &part)) {
    part = mw_str_trim(part);
    if (part.len && out->count < cap) out->items[out->count++] = mw_arena_strndup(&conf->arena, part.ptr, part.len);
  }
}

// "name=" at the beginning; the length of the name, or 0.
static size_t name_length(mw_str text) {
  size_t len = 0;
  while (len < text.len && (islower((unsigned char)text.ptr[len]) || (len && (isdigit((unsigned char)text.ptr[len]) || text.ptr[len] == '_')))) len++;
  return len && len <= MAX_MEMBER_NAME && len < text.len && text.ptr[len] == '=' ? len : 0;
}

static size_t value_length(mw_str text) {
  size_t len = 0;
  while (len < text.len && !(text.ptr[len] == ',' && name_length(mw_str_trim(mw_str_of(text.ptr + len + 1, text.len - len - 1))))) len++;
  return len;
}

static int parse_map(mw_config *conf, mw_str text, mw_config_map *out, mw_err *err) {
  mw_config_map map = {mw_arena_alloc(&conf->arena, MAX_MEMBERS * sizeof *map.names), mw_arena_alloc(&conf->arena, MAX_MEMBERS * sizeof *map.values), 0};
  while ((text = mw_str_trim(text)).len) {
    size_t len = name_length(text);
    if (!len) return mw_err_set(err, MW_ECONFIG, "is written name=value,name=value with names of small letters, digits and _");
    mw_str name = mw_str_of(text.ptr, len), rest = mw_str_of(text.ptr + len + 1, text.len - len - 1);
    mw_str value = mw_str_trim(mw_str_of(rest.ptr, value_length(rest)));
    size_t taken = value_length(rest);
    text = taken < rest.len ? mw_str_of(rest.ptr + taken + 1, rest.len - taken - 1) : MW_STR("");
    if (map.count == MAX_MEMBERS) return mw_err_set(err, MW_ECONFIG, "has at most %d names", MAX_MEMBERS);
    for (size_t i = 0; i < map.count; i++)
      if (mw_str_eq(name, mw_str_from(map.names[i]))) return mw_err_set(err, MW_ECONFIG, "has the name %s twice", map.names[i]);
    if (!value.len) return mw_err_set(err, MW_ECONFIG, "has no value for %.*s", MW_STR_FMT(name));
    map.names[map.count] = mw_arena_strndup(&conf->arena, name.ptr, name.len);
    map.values[map.count++] = mw_arena_strndup(&conf->arena, value.ptr, value.len);
  }
  *out = map;
  return 0;
}

static int check_range(const mw_config_option *option, int64_t value, mw_err *err) {
  if (value >= option->low && value <= option->high) return 0;
  const char *unit = option->kind == MW_CONFIG_DURATION ? " ms" : option->kind == MW_CONFIG_SIZE ? " bytes" : "";
  return mw_err_set(err, MW_ECONFIG, "goes from %lld to %lld%s, and this is %lld", (long long)option->low,
                    (long long)option->high, unit, (long long)value);
}

static int parse_value(mw_config *conf, const mw_config_option *option, mw_str text, mw_err *err) {
  void *value = (char *)conf + option->offset;
  int64_t number = 0;
  int rc = 0;
  switch (option->kind) {
    case MW_CONFIG_STR: *(const char **)value = mw_arena_strndup(&conf->arena, text.ptr, text.len); return 0;
    case MW_CONFIG_BOOL: return parse_bool(text, value, err);
    case MW_CONFIG_LIST: parse_list(conf, text, value); return 0;
    case MW_CONFIG_MAP: return parse_map(conf, text, value, err);
    case MW_CONFIG_INT: rc = parse_int(text, &number, err); break;
    case MW_CONFIG_DURATION: rc = parse_duration(text, &number, err); break;
    case MW_CONFIG_SIZE: rc = parse_size(text, &number, err); break;
  }
  if (!rc) rc = check_range(option, number, err);
  if (!rc) *(int64_t *)value = number;
  return rc;
}

int mw_config_set(mw_config *conf, const mw_config_option *option, mw_str text, const char *origin, mw_err *err) {
  size_t i = index_of(option);
  mw_err why = {0};
  int rc = 0;
  for (size_t k = 0; k < text.len && !rc; k++)
    if ((unsigned char)text.ptr[k] < ' ' || text.ptr[k] == 127)
      rc = mw_err_set(&why, MW_ECONFIG, "has a control character at position %zu", k + 1);
  if (!rc) rc = parse_value(conf, option, mw_str_trim(text), &why);
  if (rc) return mw_err_set(err, MW_ECONFIG, "%s (from %s) %s", option->name, origin, why.text);
  text = mw_str_trim(text);
  conf->texts[i] = mw_arena_strndup(&conf->arena, text.ptr, text.len);
  conf->origins[i] = mw_arena_strndup(&conf->arena, origin, strlen(origin));
  return 0;
}

int mw_config_set_member(mw_config *conf, const mw_config_option *option, mw_str name, mw_str value, const char *origin, mw_err *err) {
  const mw_config_map *map = value_of(conf, option);
  const char *before = conf->origins[index_of(option)];
  mw_buf text = MW_BUF_INIT, origins = MW_BUF_INIT;
  mw_buf_printf(&text, "%.*s=", MW_STR_FMT(name));
  bool is_name = name_length(mw_buf_str(&text)) == name.len, is_value = value_length(value) == value.len;
  mw_buf_reset(&text, 4096);
  if (!is_name || !is_value) {
    mw_buf_deinit(&text);
    if (!is_name) return mw_err_set(err, MW_ECONFIG, "%s (from %s) has the name '%.*s'; names are small letters, digits and _", option->name, origin, MW_STR_FMT(name));
    return mw_err_set(err, MW_ECONFIG, "%s (from %s): the value of %.*s has a comma that looks like the beginning of another; write it as %%2C",
                      option->name, origin, MW_STR_FMT(name));
  }
  mw_buf_printf(&text, "%.*s=%.*s", MW_STR_FMT(name), MW_STR_FMT(value));
  for (size_t i = 0; i < map->count; i++)
    if (!mw_str_eq(name, mw_str_from(map->names[i]))) mw_buf_printf(&text, ",%s=%s", map->names[i], map->values[i]);
  if (map->count && strcmp(before, origin)) mw_buf_printf(&origins, "%s, ", before);
  mw_buf_add_cstr(&origins, origin);
  int rc = mw_config_set(conf, option, mw_buf_str(&text), mw_buf_cstr(&origins), err);
  explicit_bzero(text.ptr, text.len);
  mw_buf_deinit(&text);
  mw_buf_deinit(&origins);
  return rc;
}

int mw_config_set_named(mw_config *conf, mw_str name, mw_str text, const char *origin, mw_err *err) {
  const mw_config_option *option = mw_config_find(name);
  if (!option) option = mw_config_find_short(name);
  if (option) return mw_config_set(conf, option, text, origin, err);
  ptrdiff_t dot = mw_str_find_byte(name, '.');
  const mw_config_option *map = dot > 0 ? mw_config_find(mw_str_of(name.ptr, (size_t)dot)) : NULL;
  if (map && map->kind == MW_CONFIG_MAP)
    return mw_config_set_member(conf, map, mw_str_of(name.ptr + dot + 1, name.len - (size_t)dot - 1), text, origin, err);
  return mw_err_set(err, MW_ECONFIG, "there is no option %.*s; `moonwatch config` lists them", MW_STR_FMT(name));
}

void mw_config_init(mw_config *conf) {
  memset(conf, 0, sizeof *conf);
  mw_arena_init(&conf->arena);
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) {
    mw_err err;
    const mw_config_option *option = &mw_config_options[i];
    if (mw_config_set(conf, option, mw_str_from(option->fallback), "default", &err)) {
      fprintf(stderr, "moonwatch: a default is not valid: %s\n", err.text);
      abort();
    }
  }
}

void mw_config_deinit(mw_config *conf) {
  mw_arena_deinit(&conf->arena);
  memset(conf, 0, sizeof *conf);
}

// ---- showing ----

void mw_config_add_json(const mw_config *conf, const mw_config_option *option, mw_buf *out) {
  const void *value = value_of(conf, option);
  switch (option->kind) {
    case MW_CONFIG_STR: mw_json_add_string(out, mw_str_from(*(const char *const *)value)); break;
    case MW_CONFIG_BOOL: mw_buf_add_cstr(out, *(const bool *)value ? "true" : "false"); break;
    case MW_CONFIG_INT:
    case MW_CONFIG_SIZE: mw_buf_add_i64(out, *(const int64_t *)value); break;
    case MW_CONFIG_DURATION: mw_json_add_number(out, (double)*(const int64_t *)value / 1000); break;
    case MW_CONFIG_LIST: {
      const mw_config_list *list = value;
      mw_buf_add_byte(out, '[');
      for (size_t i = 0; i < list->count; i++) {
        if (i) mw_buf_add_byte(out, ',');
        mw_json_add_string(out, mw_str_from(list->items[i]));
      }
      mw_buf_add_byte(out, ']');
      break;
    }
    case MW_CONFIG_MAP: {
      const mw_config_map *map = value;
      mw_buf_add_byte(out, '{');
      for (size_t k = 0; k < map->count; k++) {
        if (k) mw_buf_add_byte(out, ',');
        mw_json_add_string(out, mw_str_from(map->names[k]));
        mw_buf_add_byte(out, ':');
        mw_json_add_string(out, mw_str_from(map->values[k]));
      }
      mw_buf_add_byte(out, '}');
      break;
    }
  }
}

bool mw_config_add_public_json(const mw_config *conf, mw_str name, mw_buf *out) {
  const mw_config_option *option = mw_config_find(name);
  if (!option || (option->secret && option->kind != MW_CONFIG_MAP)) return false;
  if (!option->secret) {
    mw_config_add_json(conf, option, out);
    return true;
  }
  const mw_config_map *map = value_of(conf, option);
  mw_buf_add_byte(out, '[');
  for (size_t i = 0; i < map->count; i++) {
    if (i) mw_buf_add_byte(out, ',');
    mw_json_add_string(out, mw_str_from(map->names[i]));
  }
  mw_buf_add_byte(out, ']');
  return true;
}

#define MASK "•••"

/** Appends a URL with its password and parameters hidden (a password can stand in either); anything else wholly. */
void mw_config_add_masked(mw_buf *out, const char *text) {
  const char *scheme = strstr(text, "://");
  if (!*text) return;
  if (!scheme) {
    mw_buf_add_cstr(out, strcmp(text, "sqlite") == 0 || strncmp(text, "sqlite:", 7) == 0 ? text : MASK);
    return;
  }
  const char *query = strchr(text, '?');
  size_t len = query ? (size_t)(query - text) : strlen(text);
  const char *start = scheme + 3, *at = memrchr(start, '@', (size_t)(text + len - start));
  const char *colon = at ? memchr(start, ':', (size_t)(at - start)) : NULL;
  if (colon) {
    mw_buf_add(out, text, (size_t)(colon + 1 - text));
    mw_buf_add_cstr(out, MASK);
    mw_buf_add(out, at, (size_t)(text + len - at));
  } else {
    mw_buf_add(out, text, len);
  }
  if (query) mw_buf_add_cstr(out, "?" MASK);
}

static void add_map_text(const mw_config *conf, const mw_config_option *option, mw_buf *out) {
  const mw_config_map *map = value_of(conf, option);
  for (size_t i = 0; i < map->count; i++) {
    mw_buf_printf(out, "%s%s=", i ? "," : "", map->names[i]);
    if (option->secret) mw_config_add_masked(out, map->values[i]);
    else mw_buf_add_cstr(out, map->values[i]);
  }
}

void mw_config_add_text(const mw_config *conf, const mw_config_option *option, mw_buf *out) {
  const char *text = conf->texts[index_of(option)];
  if (option->kind == MW_CONFIG_MAP) add_map_text(conf, option, out);
  else if (option->secret) mw_config_add_masked(out, text);
  else mw_buf_add_cstr(out, text);
}

// ---- questions ----

bool mw_config_is_postgres(const mw_config *conf) {
  return strncmp(conf->database, "postgres://", 11) == 0 || strncmp(conf->database, "postgresql://", 13) == 0;
}

bool mw_config_allows_env(const mw_config *conf, const char *name) {
  if (strncmp(name, "APP_", 4) == 0) return true;
  for (size_t i = 0; i < conf->env.count; i++)
    if (strcmp(conf->env.items[i], name) == 0) return true;
  return false;
}

int mw_config_workers(const mw_config *conf) {
  if (conf->workers > 0) return (int)conf->workers;
  cpu_set_t cpus;
  int cores = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : (int)sysconf(_SC_NPROCESSORS_ONLN);
  int most = (int)mw_config_options[MW_CONFIG_workers].high;
  return cores < 1 ? 1 : cores > most ? most : cores;
}

int mw_config_check_access(const mw_config *conf, mw_err *err) {
  for (int tag = 0; tag < MW_LISTENERS; tag++) {
    mw_listen_address to;
    if (!mw_listen_is_set(conf, tag)) continue;
    int rc = mw_listen_configured(conf, tag, &to, err);
    if (rc) return rc;
    if (*conf->token || mw_listen_kinds[tag].faces_world || mw_address_is_loopback(&to.address)) continue;
    const char *text = conf->texts[mw_listen_kinds[tag].option], *flag = mw_config_options[mw_listen_kinds[tag].option].flag;
    return mw_err_set(err, MW_EDENIED,
                      "listening on %s without a token would let anyone use the API. Set one (keys of `moonwatch keys` do not replace it):\n"
                      "  moonwatch serve --%s %s --token \"$(openssl rand -hex 24)\"\n"
                      "or keep it on loopback and give plugin routes a listener of their own:\n"
                      "  moonwatch serve --listen-app %s",
                      text, flag, text, text);
  }
  return 0;
}

// ---- to another process ----

// name NUL text NUL origin NUL, for each option.
void mw_config_pack(const mw_config *conf, mw_buf *out) {
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) {
    const char *const parts[] = {mw_config_options[i].name, conf->texts[i], conf->origins[i]};
    for (int k = 0; k < 3; k++) mw_buf_add(out, parts[k], strlen(parts[k]) + 1);
  }
}

static bool take_part(mw_str *rest, const char **part) {
  const char *end = rest->len ? memchr(rest->ptr, 0, rest->len) : NULL;
  if (!end) return false;
  *part = rest->ptr;
  size_t taken = (size_t)(end - rest->ptr) + 1;
  *rest = mw_str_of(rest->ptr + taken, rest->len - taken);
  return true;
}

int mw_config_unpack(mw_config *conf, mw_str packed, mw_err *err) {
  const char *name, *text, *origin;
  mw_config_init(conf);
  int rc = 0;
  while (!rc && take_part(&packed, &name)) {
    const mw_config_option *option = mw_config_find(mw_str_from(name));
    if (!option || !take_part(&packed, &text) || !take_part(&packed, &origin))
      rc = mw_err_set(err, MW_ECONFIG, "the supervisor handed over a configuration of another version");
    else rc = mw_config_set(conf, option, mw_str_from(text), origin, err);
  }
  if (rc) mw_config_deinit(conf);
  return rc;
}
