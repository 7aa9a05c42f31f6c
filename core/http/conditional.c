// SPDX-License-Identifier: MIT
#include "http/conditional.h"

#include "http/date.h"

static bool is_weak(mw_str tag) { return tag.len >= 2 && tag.ptr[0] == 'W' && tag.ptr[1] == '/'; }

static mw_str opaque(mw_str tag) { return is_weak(tag) ? mw_str_of(tag.ptr + 2, tag.len - 2) : tag; }

static bool tags_match(mw_str a, mw_str b, bool strongly) {
  if (!a.len || !b.len || (strongly && (is_weak(a) || is_weak(b)))) return false;
  return mw_str_eq(opaque(a), opaque(b));
}

// Takes an entity tag off a list; false at its end, or where it is malformed.
static bool next_tag(mw_str *rest, mw_str *tag) {
  while (rest->len && (rest->ptr[0] == ' ' || rest->ptr[0] == '\t' || rest->ptr[0] == ',')) *rest = mw_str_of(rest->ptr + 1, rest->len - 1);
  size_t begin = is_weak(*rest) ? 2 : 0;
  if (rest->len <= begin || rest->ptr[begin] != '"') return false;
  ptrdiff_t quote = mw_str_find_byte(mw_str_of(rest->ptr + begin + 1, rest->len - begin - 1), '"');
  if (quote < 0) return false;
  size_t len = begin + (size_t)quote + 2;
  *tag = mw_str_of(rest->ptr, len);
  *rest = mw_str_of(rest->ptr + len, rest->len - len);
  return true;
}

static bool list_has(mw_str list, mw_str etag, bool strongly) {
  mw_str tag;
  if (mw_str_eq(mw_str_trim(list), MW_STR("*"))) return true;
  while (next_tag(&list, &tag)) {
    if (tags_match(tag, etag, strongly)) return true;
  }
  return false;
}

int mw_conditional_evaluate(const mw_conditional *c) {
  int64_t date;
  if (c->if_match.ptr) {
    if (!list_has(c->if_match, c->etag, true)) return 412;
  } else if (c->if_unmodified_since.ptr && mw_date_parse(c->if_unmodified_since, c->now, &date) && c->modified > date) {
    return 412;
  }
  if (c->if_none_match.ptr) {
    if (list_has(c->if_none_match, c->etag, false)) return c->is_read ? 304 : 412;
  } else if (c->is_read && c->if_modified_since.ptr && mw_date_parse(c->if_modified_since, c->now, &date) && c->modified <= date) {
    return 304;
  }
  return 200;
}

bool mw_conditional_range_holds(const mw_conditional *c) {
  int64_t date;
  mw_str text = c->if_range, tag;
  if (!text.ptr) return true;
  if (mw_date_parse(text, c->now, &date)) return date == c->modified && c->now > c->modified;
  mw_str rest = text;
  return next_tag(&rest, &tag) && tag.len == mw_str_trim(text).len && tags_match(tag, c->etag, true);
}
