// SPDX-License-Identifier: MIT
// What proxies pass on: the client is never an address that is trusted itself unless all are, slices lie inside the header, and addresses
// written out are read back. The first line is the header, the others are networks.
#include "fuzz.h"
#include "http/forwarded.h"

static void check_address(mw_str text) {
  mw_ip ip, again;
  char out[MW_IP_TEXT];
  if (!mw_ip_parse(text, &ip)) return;
  int len = mw_ip_format(&ip, out);
  MUST(len > 0 && len < MW_IP_TEXT);
  MUST(mw_ip_parse(mw_str_of(out, (size_t)len), &again) && memcmp(&ip, &again, sizeof ip) == 0);
}

FUZZ(bytes) {
  mw_str rest = bytes, header = {0}, line;
  mw_proxies proxies;
  mw_proxies_init(&proxies);
  next_line(&rest, &header);
  mw_proxies_add(&proxies, MW_STR("10.0.0.0/8"), NULL);
  while (next_line(&rest, &line)) {
    mw_err err = {0};
    check_address(line);
    if (mw_proxies_add(&proxies, line, &err)) MUST(err.text[0]);
    else if (!mw_str_eq(line, MW_STR("unix")) && mw_str_find_byte(line, '/') < 0) MUST(mw_proxies_has(&proxies, line));
  }
  for (size_t i = 1; i < proxies.trusted.count; i++)
    MUST(memcmp(&proxies.trusted.ranges[i - 1].last, &proxies.trusted.ranges[i].first, sizeof(mw_ip)) < 0);
  for (int rfc = 0; rfc < 2; rfc++) {
    proxies.is_rfc7239 = rfc;
    mw_forwarded out = {0};
    mw_forwarded_read(&proxies, &(mw_forwarded_fields){.forwarded = header, .x_for = header, .x_proto = header, .x_host = header}, &out);
    MUST(is_inside(out.host, header));
    MUST(!out.scheme.len || mw_str_eq(out.scheme, MW_STR("http")) || mw_str_eq(out.scheme, MW_STR("https")));
  }
  mw_proxies_deinit(&proxies);
}
