// SPDX-License-Identifier: MIT
#pragma once

// mw_cidr_set: a set of IP addresses, given as networks ("10.0.0.0/8", "2001:db8::/32") and single addresses. IPv4 and IPv6 live in one
// space: 10.1.2.3 and ::ffff:10.1.2.3 are the same address. Overlapping networks are merged. Looking up is a binary search and allocates
// nothing. Not thread-safe while it is filled; after that any thread may ask.
//
//   mw_cidr_set set; mw_cidr_set_init(&set);
//   mw_cidr_set_add(&set, MW_STR("10.0.0.0/8"), &err);
//   mw_ip ip; if (mw_ip_parse(MW_STR("10.1.2.3"), &ip) && mw_cidr_set_has(&set, &ip)) …
//   mw_cidr_set_deinit(&set);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* ffi-begin */
/** An address of 128 bits in network order; IPv4 as ::ffff:a.b.c.d. */
typedef struct mw_ip {
  uint8_t bytes[16];
} mw_ip;

typedef struct mw_cidr_range {
  mw_ip first, last; /**< Both belong to it. */
} mw_cidr_range;

typedef struct mw_cidr_set {
  mw_cidr_range *ranges; /**< In order, apart from each other. */
  size_t count, cap;
} mw_cidr_set;

/** Parses "10.1.2.3", "2001:db8::1" or "[2001:db8::1]". No zones, no leading zeros, no port. */
bool mw_ip_parse(mw_str text, mw_ip *ip);
/** Writes an address (IPv4 with dots) into `text`, which has room for 46 bytes; returns the length. */
int mw_ip_format(const mw_ip *ip, char *text);
/** True for 127.0.0.0/8 and ::1. */
bool mw_ip_is_loopback(const mw_ip *ip);

void mw_cidr_set_init(mw_cidr_set *set);
void mw_cidr_set_deinit(mw_cidr_set *set);
/** Adds a network or an address. MW_EINVALID with a sentence for anything else, also for a network whose address has bits beyond its
 *  prefix ("10.1.2.3/8"), which is more likely a slip. */
int mw_cidr_set_add(mw_cidr_set *set, mw_str text, mw_err *err);
bool mw_cidr_set_has(const mw_cidr_set *set, const mw_ip *ip);
/* ffi-end */

#define MW_IP_TEXT 46
