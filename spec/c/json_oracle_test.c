// SPDX-License-Identifier: MIT
// JSON against jansson: both must accept and reject the same texts, and our tokens must rebuild jansson's values. Texts come from
// mutations of a few seeds, so the interesting ones are those that are almost right.

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/rand.h"

static const char *const seeds[] = {
    "{\"a\":[1,2.5,-3e10,\"x\\u00e9\\ud834\\udd1e\"],\"b\":{\"c\":null,\"d\":true},\"e\":\"\"}",
    "[[[]],{},[{}],0,-0.5,1e5,\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
    "  [ 1 , 2 ]\n",
    "\"caf\xC3\xA9 \xE2\x82\xAC \xF0\x9D\x84\x9E\"",
    "-12.75e-3",
    "{\"price\":19.99,\"tags\":[\"a\",\"b\"],\"id\":9007199254740991,\"ok\":false}",
};

static json_t *build(mw_json_reader *r, mw_json_token token);

static json_t *build_array(mw_json_reader *r) {
  json_t *array = json_array();
  for (mw_json_token t; (t = mw_json_read(r)) != MW_JSON_ARRAY_END;) {
    json_t *item = build(r, t);
    if (!item) {
      json_decref(array);
      return NULL;
    }
    json_array_append_new(array, item);
  }
  return array;
}

static json_t *build_object(mw_json_reader *r) {
  json_t *object = json_object();
  for (mw_json_token t; (t = mw_json_read(r)) != MW_JSON_OBJECT_END;) {
    if (t != MW_JSON_KEY) {
      json_decref(object);
      return NULL;
    }
    mw_buf key = MW_BUF_INIT;
    mw_buf_add_str(&key, r->text);
    json_t *value = build(r, mw_json_read(r));
    if (value) json_object_set_new_nocheck(object, mw_buf_cstr(&key), value);
    mw_buf_deinit(&key);
    if (!value) {
      json_decref(object);
      return NULL;
    }
  }
  return object;
}

static json_t *build(mw_json_reader *r, mw_json_token token) {
  switch (token) {
  case MW_JSON_NULL: return json_null();
  case MW_JSON_FALSE: return json_false();
  case MW_JSON_TRUE: return json_true();
  case MW_JSON_NUMBER: return r->is_integer ? json_integer(r->integer) : json_real(r->number);
  case MW_JSON_STRING: return json_stringn_nocheck(r->text.ptr, r->text.len);
  case MW_JSON_ARRAY_BEGIN: return build_array(r);
  case MW_JSON_OBJECT_BEGIN: return build_object(r);
  default: return NULL;
  }
}

static json_t *parse(mw_str text) {
  mw_json_reader r;
  mw_json_reader_init(&r, text, NULL);
  json_t *value = build(&r, mw_json_read(&r));
  if (value && mw_json_read(&r) != MW_JSON_END) {
    json_decref(value);
    value = NULL;
  }
  mw_json_reader_deinit(&r);
  return value;
}

static bool has(const char *text, size_t len, const char *what) { return memmem(text, len, what, strlen(what)) != NULL; }

// What the two are meant to see differently: integers over 64 bits (we hand them out as text), zero bytes in member names
// (jansson keeps names as C strings), zero bytes anywhere in the text (likewise).
static bool is_comparable(const char *text, size_t len) {
  size_t digits = 0;
  for (size_t i = 0; i < len; i++) {
    digits = text[i] >= '0' && text[i] <= '9' ? digits + 1 : 0;
    if (digits > 17) return false;
  }
  return !memchr(text, 0, len) && !has(text, len, "\\u0000");
}

static size_t mutate(char *text, size_t len, size_t room) {
  static const char bytes[] = "{}[]:,\"\\u0159.eE+-tfn \n\xC3\xA9\xED\xF0/";
  int changes = 1 + (int)(mw_rand_u64() % 4);
  for (int i = 0; i < changes && len; i++) {
    size_t at = mw_rand_u64() % len;
    char byte = bytes[mw_rand_u64() % (sizeof bytes - 1)];
    switch (mw_rand_u64() % 4) {
    case 0: text[at] = byte; break;
    case 1: memmove(text + at, text + at + 1, --len - at); break;
    case 2:
      if (len + 1 >= room) break;
      memmove(text + at + 1, text + at, len++ - at);
      text[at] = byte;
      break;
    default: len = at + 1;
    }
  }
  return len;
}

static int compare(const char *text, size_t len) {
  json_error_t error;
  json_t *theirs = json_loadb(text, len, JSON_DECODE_ANY, &error), *ours = parse(mw_str_of(text, len));
  int bad = !theirs != !ours || (theirs && !json_equal(theirs, ours));
  if (bad) {
    printf("# differs: %.*s\n#   jansson: %s\n#   ours: %s\n", (int)len, text, theirs ? "accepts" : error.text,
           ours ? "accepts" : "rejects");
  }
  json_decref(theirs);
  json_decref(ours);
  return bad;
}

static int compare_numbers(void) {
  int bad = 0;
  for (int i = 0; i < 20000; i++) {
    uint64_t bits = mw_rand_u64();
    double number;
    memcpy(&number, &bits, sizeof number);
    if (!isfinite(number)) continue;
    mw_buf text = MW_BUF_INIT;
    mw_json_add_number(&text, number);
    json_t *theirs = json_loadb(text.ptr, text.len, JSON_DECODE_ANY, NULL);
    if (!theirs || json_number_value(theirs) != number) {
      printf("# jansson reads %.*s differently\n", (int)text.len, text.ptr);
      bad++;
    }
    json_decref(theirs);
    mw_buf_deinit(&text);
  }
  return bad;
}

int main(void) {
  int bad = 0, texts = 0, accepted = 0;
  for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++) bad += compare(seeds[s], strlen(seeds[s]));
  for (int i = 0; i < 200000 && bad < 10; i++) {
    char text[256];
    const char *seed = seeds[mw_rand_u64() % (sizeof seeds / sizeof *seeds)];
    size_t len = strlen(seed);
    memcpy(text, seed, len);
    len = mutate(text, len, sizeof text);
    if (!is_comparable(text, len)) continue;
    bad += compare(text, len);
    accepted += mw_json_check(mw_str_of(text, len), NULL, NULL) == 0;
    texts++;
  }
  bad += compare_numbers();
  printf("%d texts, %d accepted by both, %d differences\n", texts, accepted, bad);
  return bad || accepted < texts / 100;
}
