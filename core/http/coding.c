// SPDX-License-Identifier: MIT
#include "http/coding.h"

#include <stddef.h>

mw_str mw_coding_name(mw_coding coding) {
  return coding == MW_CODING_GZIP ? MW_STR("gzip") : coding == MW_CODING_DEFLATE ? MW_STR("deflate") : MW_STR("");
}

static mw_coding of_token(mw_str token) {
  if (mw_str_eq_nocase(token, MW_STR("gzip")) || mw_str_eq_nocase(token, MW_STR("x-gzip"))) return MW_CODING_GZIP;
  if (mw_str_eq_nocase(token, MW_STR("deflate"))) return MW_CODING_DEFLATE;
  if (mw_str_eq_nocase(token, MW_STR("identity"))) return MW_CODING_IDENTITY;
  return MW_CODING_UNKNOWN;
}

mw_coding mw_coding_of(mw_str content_encoding) {
  mw_str token = mw_str_trim(content_encoding);
  return token.len ? of_token(token) : MW_CODING_IDENTITY;
}

// In thousandths; -1 for what is no weight (RFC 9110 12.4.2).
static int read_weight(mw_str text) {
  if (!text.len || text.len > 5 || (text.ptr[0] != '0' && text.ptr[0] != '1')) return -1;
  int weight = (text.ptr[0] - '0') * 1000, unit = 100;
  if (text.len > 1 && text.ptr[1] != '.') return -1;
  for (size_t i = 2; i < text.len; i++, unit /= 10) {
    if (text.ptr[i] < '0' || text.ptr[i] > '9') return -1;
    weight += (text.ptr[i] - '0') * unit;
  }
  return weight > 1000 ? -1 : weight;
}

// "gzip;q=0.5" -> the name and its weight.
static int read_item(mw_str item, mw_str *name) {
  mw_str parameter;
  mw_str_split(&item, ';', name);
  *name = mw_str_trim(*name);
  if (!item.len || !mw_str_split(&item, ';', &parameter)) return 1000;
  parameter = mw_str_trim(parameter);
  if (parameter.len < 2 || (parameter.ptr[0] | 32) != 'q' || parameter.ptr[1] != '=') return -1;
  return read_weight(mw_str_of(parameter.ptr + 2, parameter.len - 2));
}

mw_coding mw_coding_negotiate(mw_str accept_encoding) {
  int weights[3] = {-1, -1, -1}, rest = -1; // -1: not mentioned
  mw_str item, name;
  while (accept_encoding.len && mw_str_split(&accept_encoding, ',', &item)) {
    int weight = read_item(item, &name);
    mw_coding coding = of_token(name);
    if (weight < 0) continue;
    if (mw_str_eq(name, MW_STR("*"))) rest = weight;
    else if (coding != MW_CODING_UNKNOWN) weights[coding] = weight;
  }
  mw_coding best = MW_CODING_IDENTITY;
  int best_weight = weights[MW_CODING_IDENTITY] > 0 ? weights[MW_CODING_IDENTITY] : 0;
  for (mw_coding coding = MW_CODING_GZIP; coding <= MW_CODING_DEFLATE; coding++) {
    int weight = weights[coding] >= 0 ? weights[coding] : rest;
    bool is_better = weight > best_weight || (weight == best_weight && weight > 0 && best == MW_CODING_IDENTITY);
    if (!is_better) continue;
    best = coding;
    best_weight = weight;
  }
  return best;
}

bool mw_coding_is_compressible(mw_str type) {
  static const mw_str others[] = {
      {"application/json", 16},       {"application/xml", 15},        {"application/javascript", 22},
      {"application/x-ndjson", 20},   {"application/wasm", 16},       {"application/x-javascript", 24},
      {"application/yaml", 16},       {"application/graphql", 19},    {"application/vnd.ms-fontobject", 29},
      {"application/sql", 15},        {"font/ttf", 8},                {"font/otf", 8},
      {"image/bmp", 9},               {"image/x-icon", 12},
  };
  mw_str name;
  if (!type.len) return false;
  mw_str_split(&type, ';', &name);
  name = mw_str_trim(name);
  if (name.len > 5 && mw_str_eq_nocase(mw_str_of(name.ptr, 5), MW_STR("text/"))) return true;
  if (name.len > 5 && mw_str_eq_nocase(mw_str_of(name.ptr + name.len - 5, 5), MW_STR("+json"))) return true;
  if (name.len > 4 && mw_str_eq_nocase(mw_str_of(name.ptr + name.len - 4, 4), MW_STR("+xml"))) return true;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    if (mw_str_eq_nocase(name, others[i])) return true;
  }
  return false;
}
