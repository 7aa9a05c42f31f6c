// SPDX-License-Identifier: MIT
#include "app/proxies.h"

#include <string.h>

int mw_proxies_configured(const mw_config *conf, mw_proxies *proxies, mw_err *err) {
  mw_err why = {0};
  int rc = 0;
  mw_proxies_init(proxies);
  proxies->is_rfc7239 = strcmp(conf->http_forwarded, "forwarded") == 0;
  if (!proxies->is_rfc7239 && strcmp(conf->http_forwarded, "x-forwarded-for") != 0)
    rc = mw_err_set(err, MW_ECONFIG, "http.forwarded (from %s) is x-forwarded-for or forwarded, not '%s'",
                    conf->origins[MW_CONFIG_http_forwarded], conf->http_forwarded);
  for (size_t i = 0; i < conf->http_trusted_proxies.count && !rc; i++)
    if (mw_proxies_add(proxies, mw_str_from(conf->http_trusted_proxies.items[i]), &why))
      rc = mw_err_set(err, MW_ECONFIG, "http.trusted_proxies (from %s): %s", conf->origins[MW_CONFIG_http_trusted_proxies], why.text);
  if (rc) mw_proxies_deinit(proxies);
  return rc;
}
