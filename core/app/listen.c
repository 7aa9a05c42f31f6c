// SPDX-License-Identifier: MIT
#include "app/listen.h"

#include <stdio.h>
#include <string.h>

const mw_listen_kind mw_listen_kinds[MW_LISTENERS] = {
    [MW_LISTENER_MAIN] = {"main", MW_CONFIG_listen, false},
    [MW_LISTENER_APP] = {"app", MW_CONFIG_listen_app, true},
    [MW_LISTENER_API] = {"api", MW_CONFIG_listen_api, false},
    [MW_LISTENER_OPS] = {"ops", MW_CONFIG_listen_ops, false},
    [MW_LISTENER_CONTROL] = {"control", -1, false},
    [MW_LISTENER_REDIRECT] = {"redirect", MW_CONFIG_listen_redirect, true},
};

int mw_listen_find(mw_str name) {
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    if (mw_str_eq(name, mw_str_from(mw_listen_kinds[tag].name))) return tag;
  return -1;
}

bool mw_listen_is_set(const mw_config *conf, int tag) {
  int option = mw_listen_kinds[tag].option;
  return option >= 0 && *conf->texts[option];
}

int mw_listen_parse(mw_str text, mw_listen_address *out, mw_err *err) {
  mw_str plain = MW_STR("http://"), tls = MW_STR("https://");
  text = mw_str_trim(text);
  out->is_tls = mw_str_starts_with(text, tls);
  if (out->is_tls || mw_str_starts_with(text, plain)) {
    size_t skip = out->is_tls ? tls.len : plain.len;
    text = mw_str_of(text.ptr + skip, text.len - skip);
    if (text.len && text.ptr[text.len - 1] == '/') text.len--;
    if (mw_str_starts_with(text, MW_STR("unix:"))) return mw_err_set(err, MW_EINVALID, "a Unix socket is written unix:/path, without http://");
  }
  return mw_address_parse(text, &out->address, err);
}

void mw_listen_format(const mw_listen_address *address, char text[MW_LISTEN_TEXT]) {
  char bare[MW_ADDRESS_TEXT];
  mw_address_format(&address->address, bare);
  snprintf(text, MW_LISTEN_TEXT, "%s%s", address->is_tls ? "https://" : "", bare);
}

int mw_listen_configured(const mw_config *conf, int tag, mw_listen_address *out, mw_err *err) {
  int option = mw_listen_kinds[tag].option;
  int rc = mw_listen_parse(mw_str_from(conf->texts[option]), out, err);
  return rc ? mw_err_wrap(err, "%s (from %s)", mw_config_options[option].name, conf->origins[option]), rc : 0;
}

bool mw_listen_parse_mode(const char *text, unsigned *mode) {
  size_t len = strlen(text);
  if (len < 3 || len > 4 || strspn(text, "01234567") != len) return false;
  *mode = 0;
  for (; *text; text++) *mode = *mode * 8 + (unsigned)(*text - '0');
  return *mode <= 0777;
}
