// SPDX-License-Identifier: MIT
#pragma once

// Name look-up by getaddrinfo on its own pool of threads. Numeric hosts and "localhost" answer without it.
// Answers are kept for 10 s a loop (failures for 1 s).

#include <stddef.h>

#include "base/err.h"
#include "loop/address.h"

typedef struct mw_loop mw_loop;
typedef struct mw_dns mw_dns;

/** `addresses` (up to 8, IPv4 first) are borrowed until the callback returns. */
typedef void (*mw_dns_cb)(int status, const mw_address *addresses, size_t count, void *arg);

/** Looks `host` up. Returns 0 and calls back exactly once, later; or an error. `*out` can be cancelled until then. */
int mw_dns_resolve(mw_loop *loop, const char *host, int port, mw_dns_cb cb, void *arg, mw_dns **out);
/** The callback comes with MW_ECANCELED, later. */
void mw_dns_cancel(mw_dns *dns);
