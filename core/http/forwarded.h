// SPDX-License-Identifier: MIT
#pragma once

// Who a request is from when a proxy in front of the server passes it on: read from X-Forwarded-For, -Proto and -Host, or from Forwarded
// (RFC 7239). What these headers say counts only from the right, as far as proxies that are trusted wrote it: each proxy adds the address it
// was called from at the end, and what stands left of the first untrusted address may be anybody's invention. Pure.
//
//   client -> proxy A -> proxy B -> server       X-Forwarded-For: whatever the client sent, client, A
//   the peer is B; A is trusted, `client` is not: so the request is from `client`.

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "ops/cidr.h"

/** Hops that are followed; beyond it the client is unknown. */
#define MW_FORWARDED_MAX_HOPS 32

/* ffi-begin */
/** Which peers are believed, and which header. Immutable once filled. */
typedef struct mw_proxies {
  mw_cidr_set trusted;
  bool trusts_unix; /**< Peers of Unix sockets. */
  bool is_rfc7239;  /**< Forwarded, else X-Forwarded-*. */
} mw_proxies;

/** The values of the headers, repeated ones joined by ", "; `.ptr` NULL: absent. */
typedef struct mw_forwarded_fields {
  mw_str forwarded, x_for, x_proto, x_host;
} mw_forwarded_fields;

typedef struct mw_forwarded {
  bool is_known;       /**< The client's address was told. Garbage, a hidden name or too many hops: false. */
  mw_ip ip;            /**< When it is known. */
  mw_str scheme, host; /**< "http", "https" or empty; a host with its port as sent, or empty. Slices of the fields or static. */
} mw_forwarded;

void mw_proxies_init(mw_proxies *proxies);
void mw_proxies_deinit(mw_proxies *proxies);
/** Adds an address, a network or "unix". MW_EINVALID with a sentence. */
int mw_proxies_add(mw_proxies *proxies, mw_str text, mw_err *err);
/** True when a peer ("10.0.0.7", "unix") is trusted. */
bool mw_proxies_has(const mw_proxies *proxies, mw_str peer);
/** Reads what a trusted peer passed on. */
void mw_forwarded_read(const mw_proxies *proxies, const mw_forwarded_fields *fields, mw_forwarded *out);
/* ffi-end */
