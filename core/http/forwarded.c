// SPDX-License-Identifier: MIT
#include "http/forwarded.h"

#include <string.h>

typedef struct hop {
  mw_str node, proto, host;
} hop;

// The last hops of a header in the order of reading: hops[0] was added by the proxy that called us.
typedef struct trail {
  hop hops[MW_FORWARDED_MAX_HOPS];
  size_t count;
  bool is_cut; // there are more
} trail;

void mw_proxies_init(mw_proxies *proxies) {
  memset(proxies, 0, sizeof *proxies);
  mw_cidr_set_init(&proxies->trusted);
}

void mw_proxies_deinit(mw_proxies *proxies) { mw_cidr_set_deinit(&proxies->trusted); }

int mw_proxies_add(mw_proxies *proxies, mw_str text, mw_err *err) {
  if (!mw_str_eq(text, MW_STR("unix"))) return mw_cidr_set_add(&proxies->trusted, text, err);
  proxies->trusts_unix = true;
  return 0;
}

bool mw_proxies_has(const mw_proxies *proxies, mw_str peer) {
  mw_ip ip;
  if (mw_str_eq(peer, MW_STR("unix"))) return proxies->trusts_unix;
  return mw_ip_parse(peer, &ip) && mw_cidr_set_has(&proxies->trusted, &ip);
}

/* ---- values ---- */

// "192.0.2.7", "192.0.2.7:4711", "2001:db8::1", "[2001:db8::1]:4711".
static bool parse_node(mw_str text, mw_ip *ip) {
  ptrdiff_t colon = mw_str_find_byte(text, ':'), bracket = mw_str_find_byte(text, ']');
  if (text.len && text.ptr[0] == '[' && bracket > 0) {
    if ((size_t)bracket + 1 < text.len && text.ptr[bracket + 1] != ':') return false;
    return mw_ip_parse(mw_str_of(text.ptr, (size_t)bracket + 1), ip);
  }
  bool one_colon = colon >= 0 && !memchr(text.ptr + colon + 1, ':', text.len - (size_t)colon - 1);
  return mw_ip_parse(one_colon ? mw_str_of(text.ptr, (size_t)colon) : text, ip);
}

static mw_str parse_scheme(mw_str text) {
  if (mw_str_eq_nocase(text, MW_STR("https")) || mw_str_eq_nocase(text, MW_STR("wss"))) return MW_STR("https");
  if (mw_str_eq_nocase(text, MW_STR("http")) || mw_str_eq_nocase(text, MW_STR("ws"))) return MW_STR("http");
  return MW_STR("");
}

// What a host and its port are made of; it ends up in links.
static mw_str parse_host(mw_str text) {
  if (text.len > 255) return MW_STR("");
  for (size_t i = 0; i < text.len; i++) {
    char c = text.ptr[i];
    bool is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr(".-_:[]", c));
    if (!is_good) return MW_STR("");
  }
  return text;
}

/* ---- X-Forwarded-* ---- */

// Takes the part behind the last comma off `rest`; false when it was used up.
static bool take_last(mw_str *rest, mw_str *part) {
  if (!rest->ptr) return false;
  size_t at = rest->len;
  while (at && rest->ptr[at - 1] != ',') at--;
  *part = mw_str_trim(mw_str_of(rest->ptr + at, rest->len - at));
  *rest = at ? mw_str_of(rest->ptr, at - 1) : mw_str_of(NULL, 0);
  return true;
}

// The item `index` places from the right; the leftmost when there are fewer (most proxies pass on what was set first).
static mw_str item_of(mw_str list, size_t index) {
  mw_str part = MW_STR("");
  for (size_t i = 0; i <= index && take_last(&list, &part); i++) {}
  return part;
}

static void read_x(const mw_forwarded_fields *fields, trail *out) {
  mw_str rest = fields->x_for;
  while (out->count < MW_FORWARDED_MAX_HOPS && take_last(&rest, &out->hops[out->count].node)) out->count++;
  out->is_cut = rest.ptr != NULL;
}

/* ---- Forwarded ---- */

// One pair: for="[2001:db8::1]:4711". Returns false for what RFC 7239 does not know.
static bool take_pair(mw_str *rest, hop *to) {
  mw_str text = *rest, value;
  ptrdiff_t equals = mw_str_find_byte(text, '=');
  if (equals < 1) return false;
  mw_str name = mw_str_trim(mw_str_of(text.ptr, (size_t)equals));
  text = mw_str_of(text.ptr + equals + 1, text.len - (size_t)equals - 1);
  if (text.len && text.ptr[0] == '"') {
    const char *end = memchr(text.ptr + 1, '"', text.len - 1);
    if (!end || memchr(text.ptr, '\\', (size_t)(end - text.ptr))) return false; // no address and no host has a backslash
    value = mw_str_of(text.ptr + 1, (size_t)(end - text.ptr) - 1);
    text = mw_str_of(end + 1, text.len - value.len - 2);
  } else {
    size_t len = 0;
    while (len < text.len && text.ptr[len] != ';' && text.ptr[len] != ',') len++;
    value = mw_str_trim(mw_str_of(text.ptr, len));
    text = mw_str_of(text.ptr + len, text.len - len);
  }
  *rest = text;
  if (mw_str_eq_nocase(name, MW_STR("for"))) to->node = value;
  else if (mw_str_eq_nocase(name, MW_STR("proto"))) to->proto = value;
  else if (mw_str_eq_nocase(name, MW_STR("host"))) to->host = value;
  return true;
}

// Reads from the left, since a comma may stand in quotes, and keeps the last hops.
static void read_rfc7239(mw_str text, trail *out) {
  hop ring[MW_FORWARDED_MAX_HOPS];
  size_t seen = 0;
  bool is_good = text.ptr != NULL;
  for (mw_str rest = text; is_good;) {
    hop one = {{"", 0}, {"", 0}, {"", 0}};
    do is_good = take_pair(&rest, &one);
    while (is_good && (rest = mw_str_trim(rest)).len && rest.ptr[0] == ';' && (rest = mw_str_of(rest.ptr + 1, rest.len - 1)).len);
    ring[seen++ % MW_FORWARDED_MAX_HOPS] = one;
    if (!rest.len) break;
    is_good = is_good && rest.ptr[0] == ',';
    rest = mw_str_of(rest.ptr + 1, rest.len - 1);
  }
  if (!is_good) return;
  out->is_cut = seen > MW_FORWARDED_MAX_HOPS;
  out->count = out->is_cut ? MW_FORWARDED_MAX_HOPS : seen;
  for (size_t i = 0; i < out->count; i++) out->hops[i] = ring[(seen - 1 - i) % MW_FORWARDED_MAX_HOPS];
}

/* ---- the whole ---- */

// Follows trusted addresses. Returns the hop that names the client.
static size_t find_client(const mw_proxies *proxies, const trail *way, mw_forwarded *out) {
  for (size_t i = 0; i < way->count; i++) {
    if (!parse_node(way->hops[i].node, &out->ip)) return 0;
    bool is_last = i + 1 == way->count && !way->is_cut;
    if (is_last || !mw_cidr_set_has(&proxies->trusted, &out->ip)) {
      out->is_known = true;
      return i;
    }
  }
  return 0;
}

void mw_forwarded_read(const mw_proxies *proxies, const mw_forwarded_fields *fields, mw_forwarded *out) {
  trail way = {.count = 0};
  *out = (mw_forwarded){.is_known = false, .scheme = MW_STR(""), .host = MW_STR("")};
  if (proxies->is_rfc7239) read_rfc7239(fields->forwarded, &way);
  else read_x(fields, &way);
  size_t client = find_client(proxies, &way, out);
  if (!proxies->is_rfc7239) {
    out->scheme = parse_scheme(item_of(fields->x_proto, client));
    out->host = parse_host(item_of(fields->x_host, client));
  } else if (way.count) {
    out->scheme = parse_scheme(way.hops[client].proto);
    out->host = parse_host(way.hops[client].host);
  }
}
