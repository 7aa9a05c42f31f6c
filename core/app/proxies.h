// SPDX-License-Identifier: MIT
#pragma once

#include "app/config.h"
#include "http/forwarded.h"

/** Fills `proxies` from http.trusted_proxies and http.forwarded. MW_ECONFIG names option and origin; nothing is held then. */
int mw_proxies_configured(const mw_config *conf, mw_proxies *proxies, mw_err *err);
