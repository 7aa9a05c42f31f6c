// SPDX-License-Identifier: MIT
// Configuration: lines "name=value" set options; what was taken survives the way to another process; packed bytes of strangers are refused
// or taken, never more. Durations and sizes with them.
#include "app/config.h"
#include "base/duration.h"
#include "base/size.h"
#include "fuzz.h"

static void check_units(mw_str text) {
  int64_t us;
  uint64_t size;
  if (mw_duration_parse(text, &us, NULL) == 0) MUST(us >= 0 && us <= INT64_C(100) * 366 * 86400 * 1000000);
  if (mw_size_parse(text, &size, NULL) == 0) MUST(text.len);
}

static void set_lines(mw_config *conf, mw_str bytes) {
  for (mw_str rest = bytes, line; next_line(&rest, &line);) {
    ptrdiff_t equals = mw_str_find_byte(line, '=');
    if (equals < 0) continue;
    mw_str value = mw_str_of(line.ptr + equals + 1, line.len - (size_t)equals - 1);
    const mw_config_option *option = mw_config_find(mw_str_of(line.ptr, (size_t)equals));
    mw_err err = {0};
    check_units(value);
    if (option && mw_config_set(conf, option, value, "fuzz", &err)) MUST(err.text[0]);
  }
}

static void show(const mw_config *conf, mw_buf *out) {
  for (size_t i = 0; i < MW_CONFIG_COUNT; i++) {
    mw_config_add_text(conf, &mw_config_options[i], out);
    mw_config_add_json(conf, &mw_config_options[i], out);
    mw_buf_add_cstr(out, conf->origins[i]);
  }
}

FUZZ(bytes) {
  mw_config conf, other;
  mw_err err = {0};
  mw_buf packed = MW_BUF_INIT, before = MW_BUF_INIT, after = MW_BUF_INIT;
  mw_config_init(&conf);
  set_lines(&conf, bytes);
  mw_config_pack(&conf, &packed);
  MUST(mw_config_unpack(&other, mw_buf_str(&packed), &err) == 0);
  show(&conf, &before);
  show(&other, &after);
  MUST(mw_str_eq(mw_buf_str(&before), mw_buf_str(&after)));
  mw_config_deinit(&other);
  mw_config_deinit(&conf);
  if (mw_config_unpack(&other, bytes, &err) == 0) mw_config_deinit(&other);
  mw_buf_deinit(&packed);
  mw_buf_deinit(&before);
  mw_buf_deinit(&after);
}
