// SPDX-License-Identifier: MIT
#include "ops/cidr.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/alloc.h"

#define MAX_TEXT 64

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_v4(const mw_ip *ip) { return memcmp(ip->bytes, mapped, sizeof mapped) == 0; }

static int compare(const mw_ip *a, const mw_ip *b) { return memcmp(a->bytes, b->bytes, sizeof a->bytes); }

bool mw_ip_parse(mw_str text, mw_ip *ip) {
  char plain[MAX_TEXT];
  bool is_bracketed = text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']';
  if (is_bracketed) text = mw_str_of(text.ptr + 1, text.len - 2);
  if (!text.len || text.len >= sizeof plain || memchr(text.ptr, 0, text.len)) return false;
  memcpy(plain, text.ptr, text.len);
  plain[text.len] = 0;
  if (inet_pton(AF_INET6, plain, ip->bytes) == 1) return true;
  memcpy(ip->bytes, mapped, sizeof mapped);
  return !is_bracketed && inet_pton(AF_INET, plain, ip->bytes + sizeof mapped) == 1;
}

int mw_ip_format(const mw_ip *ip, char *text) {
  if (is_v4(ip)) inet_ntop(AF_INET, ip->bytes + sizeof mapped, text, MW_IP_TEXT);
  else inet_ntop(AF_INET6, ip->bytes, text, MW_IP_TEXT);
  return (int)strlen(text);
}

bool mw_ip_is_loopback(const mw_ip *ip) {
  static const mw_ip one = {{[15] = 1}};
  return is_v4(ip) ? ip->bytes[12] == 127 : compare(ip, &one) == 0;
}

/* ---- the set ---- */

void mw_cidr_set_init(mw_cidr_set *set) { memset(set, 0, sizeof *set); }

void mw_cidr_set_deinit(mw_cidr_set *set) {
  mw_free(set->ranges);
  mw_cidr_set_init(set);
}

// The number of ranges that end before `ip`.
static size_t find_first(const mw_cidr_set *set, const mw_ip *ip) {
  size_t low = 0, high = set->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (compare(&set->ranges[middle].last, ip) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

bool mw_cidr_set_has(const mw_cidr_set *set, const mw_ip *ip) {
  size_t i = find_first(set, ip);
  return i < set->count && compare(&set->ranges[i].first, ip) <= 0;
}

static void add_range(mw_cidr_set *set, mw_cidr_range range) {
  size_t from = find_first(set, &range.first), to = from;
  for (; to < set->count && compare(&set->ranges[to].first, &range.last) <= 0; to++) { // all that it touches become one
    if (compare(&set->ranges[to].first, &range.first) < 0) range.first = set->ranges[to].first;
    if (compare(&set->ranges[to].last, &range.last) > 0) range.last = set->ranges[to].last;
  }
  if (to == from && set->count == set->cap) {
    set->cap = set->cap ? 2 * set->cap : 8;
    set->ranges = mw_realloc(set->ranges, set->cap * sizeof *set->ranges);
  }
  memmove(set->ranges + from + 1, set->ranges + to, (set->count - to) * sizeof *set->ranges);
  set->ranges[from] = range;
  set->count = set->count - (to - from) + 1;
}

// The network of the first `bits` bits.
static mw_cidr_range network(const mw_ip *ip, unsigned bits) {
  mw_cidr_range range = {*ip, *ip};
  for (unsigned i = 0; i < 16; i++) {
    unsigned kept = bits >= 8 * (i + 1) ? 8 : bits <= 8 * i ? 0 : bits - 8 * i;
    uint8_t host = (uint8_t)(0xff >> kept);
    range.first.bytes[i] &= (uint8_t)~host;
    range.last.bytes[i] |= host;
  }
  return range;
}

int mw_cidr_set_add(mw_cidr_set *set, mw_str text, mw_err *err) {
  mw_ip ip;
  ptrdiff_t slash = mw_str_find_byte(text, '/');
  mw_str host = slash < 0 ? text : mw_str_of(text.ptr, (size_t)slash);
  if (!mw_ip_parse(host, &ip))
    return mw_err_set(err, MW_EINVALID, "\"%.*s\" is no address or network; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32",
                      text.len > 100 ? 100 : (int)text.len, text.ptr);
  bool v4 = mw_str_find_byte(host, ':') < 0;
  uint64_t bits = v4 ? 32 : 128;
  if (slash >= 0 && (!mw_str_parse_u64(mw_str_of(text.ptr + slash + 1, text.len - (size_t)slash - 1), &bits) || bits > (v4 ? 32 : 128)))
    return mw_err_set(err, MW_EINVALID, "\"%.*s\" needs a prefix of 0 to %d bits after the slash", MW_STR_FMT(text), v4 ? 32 : 128);
  mw_cidr_range range = network(&ip, (unsigned)bits + (v4 ? 96 : 0));
  if (compare(&range.first, &ip) != 0) {
    char right[MW_IP_TEXT];
    mw_ip_format(&range.first, right);
    return mw_err_set(err, MW_EINVALID, "\"%.*s\" has bits beyond its prefix; the network is %s/%d", MW_STR_FMT(text), right, (int)bits);
  }
  add_range(set, range);
  return 0;
}
