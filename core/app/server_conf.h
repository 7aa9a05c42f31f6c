// SPDX-License-Identifier: MIT
#pragma once

// The HTTP server's settings as the configuration has them: one place for the workers of a server and for the servers of specs.

#include "app/config.h"
#include "bind/bind_http.h"

/** `proxies` (borrowed as long as the server) is what mw_proxies_configured made of `conf`. No access log. */
mw_http_host_opts mw_server_configured(const mw_config *conf, const mw_proxies *proxies);
