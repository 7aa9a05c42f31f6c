// SPDX-License-Identifier: MIT
#include "http/params.h"

#include "base/err.h"
#include "http/headers.h"
#include "http/path.h"

static void skip_blanks(mw_str *rest) {
  while (rest->len && (rest->ptr[0] == ' ' || rest->ptr[0] == '\t')) *rest = mw_str_of(rest->ptr + 1, rest->len - 1);
}

void mw_params_begin(mw_str *rest, mw_str *value) {
  ptrdiff_t at = mw_str_find_byte(*rest, ';');
  size_t len = at < 0 ? rest->len : (size_t)at;
  *value = mw_str_trim(mw_str_of(rest->ptr, len));
  *rest = mw_str_of(rest->ptr + len, rest->len - len);
}

static int take_quoted(mw_str *rest, char *scratch, mw_str *value) {
  size_t n = 0, at = 1;
  for (; at < rest->len && rest->ptr[at] != '"'; at++) {
    bool escapes = rest->ptr[at] == '\\' && at + 1 < rest->len && (rest->ptr[at + 1] == '"' || rest->ptr[at + 1] == '\\');
    if (escapes) at++;
    scratch[n++] = rest->ptr[at];
  }
  if (at >= rest->len) return MW_EINVALID;
  *value = mw_str_of(scratch, n);
  *rest = mw_str_of(rest->ptr + at + 1, rest->len - at - 1);
  return 1;
}

static int take_plain(mw_str *rest, mw_str *value) {
  size_t n = 0;
  while (n < rest->len && rest->ptr[n] != ';' && rest->ptr[n] != ' ' && rest->ptr[n] != '\t') n++;
  *value = mw_str_of(rest->ptr, n);
  *rest = mw_str_of(rest->ptr + n, rest->len - n);
  return mw_headers_is_token(*value) ? 1 : MW_EINVALID;
}

int mw_params_next(mw_str *rest, char *scratch, mw_str *name, mw_str *value) {
  skip_blanks(rest);
  if (!rest->len) return 0;
  if (rest->ptr[0] != ';') return MW_EINVALID;
  while (rest->len && rest->ptr[0] == ';') { // an empty one does no harm
    *rest = mw_str_of(rest->ptr + 1, rest->len - 1);
    skip_blanks(rest);
  }
  if (!rest->len) return 0;
  ptrdiff_t equals = mw_str_find_byte(*rest, '=');
  if (equals < 0) return MW_EINVALID;
  *name = mw_str_of(rest->ptr, (size_t)equals);
  if (!mw_headers_is_token(*name)) return MW_EINVALID;
  *rest = mw_str_of(rest->ptr + equals + 1, rest->len - (size_t)equals - 1);
  return rest->len && rest->ptr[0] == '"' ? take_quoted(rest, scratch, value) : take_plain(rest, value);
}

static size_t put_latin1(char *out, size_t n, unsigned char byte) {
  if (byte < 0x80) {
    out[n++] = (char)byte;
  } else {
    out[n++] = (char)(0xc0 | byte >> 6);
    out[n++] = (char)(0x80 | (byte & 0x3f));
  }
  return n;
}

ptrdiff_t mw_params_decode(mw_str value, char *out) {
  mw_str charset, language;
  if (!mw_str_split(&value, '\'', &charset) || mw_str_find_byte(value, '\'') < 0) return MW_EINVALID;
  mw_str_split(&value, '\'', &language);
  bool is_utf8 = mw_str_eq_nocase(charset, MW_STR("utf-8"));
  if (!is_utf8 && !mw_str_eq_nocase(charset, MW_STR("iso-8859-1"))) return MW_EINVALID;
  size_t n = 0;
  for (size_t i = 0; i < value.len; i++) {
    unsigned char byte = (unsigned char)value.ptr[i];
    if (byte == '%') {
      int high = i + 2 < value.len ? mw_path_hex(value.ptr[i + 1]) : -1, low = high < 0 ? -1 : mw_path_hex(value.ptr[i + 2]);
      if (low < 0) return MW_EINVALID;
      byte = (unsigned char)(high * 16 + low);
      i += 2;
    } else if (byte >= 0x80) {
      return MW_EINVALID;
    }
    if (is_utf8) out[n++] = (char)byte;
    else n = put_latin1(out, n, byte);
  }
  return mw_str_is_utf8(mw_str_of(out, n)) ? (ptrdiff_t)n : MW_EINVALID;
}
