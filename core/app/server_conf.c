// SPDX-License-Identifier: MIT
#include "app/server_conf.h"

mw_http_host_opts mw_server_configured(const mw_config *conf, const mw_proxies *proxies) {
  return (mw_http_host_opts){
      .server = {.max_header_bytes = (size_t)conf->http_max_header,
                 .max_body_bytes = (size_t)conf->http_max_body,
                 .max_connections = (size_t)conf->http_max_connections,
                 .header_timeout_ms = conf->http_header_timeout,
                 .body_timeout_ms = conf->http_body_timeout,
                 .idle_timeout_ms = conf->http_idle_timeout,
                 .handler_timeout_ms = conf->http_handler_timeout,
                 .write_timeout_ms = conf->http_write_timeout,
                 .compress_level = conf->http_compress ? (int)conf->http_compress_level : 0,
                 .compress_min = (size_t)conf->http_compress_min,
                 .hsts_s = conf->tls_hsts / 1000,
                 .proxies = conf->http_trusted_proxies.count ? proxies : NULL},
      .development = mw_str_eq(mw_str_from(conf->environment), MW_STR("development"))};
}
