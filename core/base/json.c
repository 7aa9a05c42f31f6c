// SPDX-License-Identifier: MIT
#include "base/json.h"

#include <math.h>
#include <stdio.h>

#include "base/json_scan.h"

enum { DEFAULT_BYTES = 64 << 20, DEFAULT_DEPTH = 100, MAX_DEPTH = 1000, KEEP_SCRATCH = 64 * 1024 };

// What may come next.
enum { VALUE, ARRAY_FIRST, ARRAY_NEXT, OBJECT_FIRST, OBJECT_NEXT, NOTHING, ENDED, FAILED };

void mw_json_reader_init(mw_json_reader *r, mw_str input, const mw_json_limits *limits) {
  *r = (mw_json_reader){0};
  mw_json_reader_restart(r, input, limits);
}

void mw_json_reader_restart(mw_json_reader *r, mw_str input, const mw_json_limits *limits) {
  r->begin = r->at = input.len ? input.ptr : "";
  r->end = r->begin + input.len;
  r->text = r->raw = mw_str_of(r->begin, 0);
  r->err.code = 0;
  r->err.text[0] = 0;
  r->limits = limits ? *limits : (mw_json_limits){0, 0};
  if (r->limits.max_bytes == 0) r->limits.max_bytes = DEFAULT_BYTES;
  if (r->limits.max_depth <= 0) r->limits.max_depth = DEFAULT_DEPTH;
  if (r->limits.max_depth > MAX_DEPTH) r->limits.max_depth = MAX_DEPTH;
  r->depth = 0;
  r->state = VALUE;
  mw_buf_reset(&r->scratch, KEEP_SCRATCH);
}

void mw_json_reader_deinit(mw_json_reader *r) { mw_buf_deinit(&r->scratch); }

// Lines are counted from 1, columns in characters.
static void position(const mw_json_reader *r, const char *at, size_t *line, size_t *column) {
  *line = *column = 1;
  for (const char *p = r->begin; p < at; p++) {
    if (*p == '\n') ++*line, *column = 1;
    else if (((unsigned char)*p & 0xC0) != 0x80) ++*column;
  }
}

static mw_json_token fail(mw_json_reader *r, const char *at, int code, const char *what) {
  size_t line, column;
  position(r, at, &line, &column);
  mw_err_set(&r->err, code, "line %zu, column %zu: %s", line, column, what);
  r->state = FAILED;
  return MW_JSON_ERROR;
}

static mw_json_token expected(mw_json_reader *r, const char *at, const char *what) {
  char text[160], got[24];
  unsigned char c = at < r->end ? (unsigned char)*at : 0;
  if (at >= r->end) snprintf(got, sizeof got, "the end of the text");
  else if (c > 0x20 && c < 0x7F) snprintf(got, sizeof got, "'%c'", c);
  else if (r->end - at >= 3 && memcmp(at, "\xEF\xBB\xBF", 3) == 0) snprintf(got, sizeof got, "a byte order mark");
  else snprintf(got, sizeof got, "byte 0x%02X", c);
  snprintf(text, sizeof text, "expected %s, got %s", what, got);
  return fail(r, at, MW_EJSON, text);
}

static bool in_object(const mw_json_reader *r) {
  int level = r->depth - 1;
  return r->objects[level >> 6] >> (level & 63) & 1;
}

static void after_value(mw_json_reader *r) {
  if (r->depth == 0) r->state = NOTHING;
  else r->state = in_object(r) ? OBJECT_NEXT : ARRAY_NEXT;
}

static mw_json_token done(mw_json_reader *r, const char *begin, const char *after, mw_json_token token) {
  r->raw = mw_str_of(begin, (size_t)(after - begin));
  r->at = after;
  after_value(r);
  return token;
}

static mw_json_token open_container(mw_json_reader *r, mw_json_token token) {
  if (r->depth >= r->limits.max_depth) {
    char text[80];
    snprintf(text, sizeof text, "arrays and objects nest deeper than %d levels", r->limits.max_depth);
    return fail(r, r->at, MW_ELIMIT, text);
  }
  uint64_t bit = (uint64_t)1 << (r->depth & 63);
  if (token == MW_JSON_OBJECT_BEGIN) r->objects[r->depth >> 6] |= bit;
  else r->objects[r->depth >> 6] &= ~bit;
  r->depth++;
  r->state = token == MW_JSON_OBJECT_BEGIN ? OBJECT_FIRST : ARRAY_FIRST;
  r->raw = mw_str_of(r->at++, 1);
  return token;
}

static mw_json_token close_container(mw_json_reader *r, mw_json_token token) {
  r->depth--;
  return done(r, r->at, r->at + 1, token);
}

static mw_json_token read_word(mw_json_reader *r, const char *word, size_t len, mw_json_token token) {
  if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0) return expected(r, r->at, "a value");
  return done(r, r->at, r->at + len, token);
}

// Digits beyond what 64 bits hold, or an exponent beyond what one exact multiplication can do, are for strtod.
static double slow_number(mw_json_reader *r, const char *begin, size_t len) {
  char text[64];
  if (len < sizeof text) {
    memcpy(text, begin, len);
    text[len] = 0;
    return mw_json_strtod(text);
  }
  r->scratch.len = 0;
  mw_buf_add(&r->scratch, begin, len);
  return mw_json_strtod(mw_buf_cstr(&r->scratch));
}

static bool is_digit(const char *p, const char *end) { return p < end && (unsigned)(*p - '0') <= 9; }

typedef struct decimal {
  uint64_t digits; // up to 19 significant ones
  int count;       // how many of them
  int exponent;    // digits * 10^exponent
  bool is_cut;     // more digits followed
} decimal;

static const char *take_digits(const char *p, const char *end, decimal *d, int step) {
  for (; is_digit(p, end); p++) {
    if (d->count < 19) {
      d->digits = d->digits * 10 + (unsigned)(*p - '0');
      d->count += d->digits != 0;
      d->exponent -= step;
    } else {
      d->is_cut = true;
      d->exponent += 1 - step;
    }
  }
  return p;
}

static double to_double(mw_json_reader *r, const decimal *d, const char *begin, const char *after) {
  static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  bool negative = *begin == '-';
  double number;
  if (!d->is_cut && d->exponent == 0) number = (double)d->digits;
  else if (d->digits == 0) number = 0;
  else if (d->is_cut || d->digits > (uint64_t)1 << 53 || d->exponent < -22 || d->exponent > 22) {
    return slow_number(r, begin, (size_t)(after - begin));
  } else number = d->exponent < 0 ? (double)d->digits / powers[-d->exponent] : (double)d->digits * powers[d->exponent];
  return negative ? -number : number;
}

static mw_json_token read_number(mw_json_reader *r) {
  const char *begin = r->at, *p = begin, *end = r->end;
  bool negative = *p == '-';
  decimal d = {0, 0, 0, false};
  p += negative;
  if (!is_digit(p, end)) return expected(r, p, "a digit");
  if (*p == '0') {
    if (is_digit(++p, end)) return fail(r, p, MW_EJSON, "a number must not begin with a zero");
  } else p = take_digits(p, end, &d, 0);

  bool whole = true;
  if (p < end && *p == '.') {
    whole = false;
    if (!is_digit(++p, end)) return expected(r, p, "a digit after the decimal point");
    p = take_digits(p, end, &d, 1);
  }
  if (p < end && (*p == 'e' || *p == 'E')) {
    whole = false;
    int sign = 1, exponent = 0;
    if (++p < end && (*p == '+' || *p == '-')) sign = *p++ == '-' ? -1 : 1;
    if (!is_digit(p, end)) return expected(r, p, "a digit of the exponent");
    for (; is_digit(p, end); p++)
      if (exponent < 100000) exponent = exponent * 10 + (*p - '0');
    d.exponent += sign * exponent;
  }

  r->number = to_double(r, &d, begin, p);
  if (isinf(r->number)) return fail(r, begin, MW_EJSON, "the number is beyond the range of a double");
  uint64_t most = (uint64_t)INT64_MAX + negative;
  r->is_integer = whole && !d.is_cut && d.digits <= most;
  r->integer = r->is_integer ? (int64_t)(negative ? 0 - d.digits : d.digits) : 0;
  r->is_big = whole && (d.is_cut || d.digits > (uint64_t)1 << 53);
  return done(r, begin, p, MW_JSON_NUMBER);
}

static int hex4(const unsigned char *p, const unsigned char *end) {
  int value = 0;
  if (end - p < 4) return -1;
  for (int i = 0; i < 4; i++) {
    unsigned char c = p[i], low = c | 0x20;
    if (c >= '0' && c <= '9') value = value << 4 | (c - '0');
    else if (low >= 'a' && low <= 'f') value = value << 4 | (low - 'a' + 10);
    else return -1;
  }
  return value;
}

static void add_utf8(mw_buf *out, uint32_t c) {
  if (c < 0x80) {
    mw_buf_add_byte(out, (char)c);
  } else if (c < 0x800) {
    mw_buf_add(out, (char[]){(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))}, 2);
  } else if (c < 0x10000) {
    mw_buf_add(out, (char[]){(char)(0xE0 | c >> 12), (char)(0x80 | (c >> 6 & 0x3F)), (char)(0x80 | (c & 0x3F))}, 3);
  } else {
    mw_buf_add(out, (char[]){(char)(0xF0 | c >> 18), (char)(0x80 | (c >> 12 & 0x3F)), (char)(0x80 | (c >> 6 & 0x3F)),
                             (char)(0x80 | (c & 0x3F))}, 4);
  }
}

// `p` is after "\u". Returns what follows the character, or NULL after a failure.
static const unsigned char *read_unicode(mw_json_reader *r, const unsigned char *p, const unsigned char *end) {
  const char *escape = (const char *)p - 2;
  int high = hex4(p, end);
  if (high < 0) return fail(r, escape, MW_EJSON, "expected four hexadecimal digits after \\u"), NULL;
  p += 4;
  uint32_t c = (uint32_t)high;
  if (c >= 0xD800 && c <= 0xDFFF) {
    int low = c < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2, end) : -1;
    if (low < 0xDC00 || low > 0xDFFF) {
      return fail(r, escape, MW_EJSON, "half of a surrogate pair stands alone"), NULL;
    }
    c = 0x10000 + ((c - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
    p += 6;
  }
  add_utf8(&r->scratch, c);
  return p;
}

// `p` is at a backslash. Returns what follows the escape, or NULL after a failure.
static const unsigned char *read_escape(mw_json_reader *r, const unsigned char *p, const unsigned char *end) {
  if (++p == end) return expected(r, (const char *)p, "an escaped character"), NULL;
  char c;
  switch (*p) {
  case '"': case '\\': case '/': c = (char)*p; break;
  case 'b': c = '\b'; break;
  case 'f': c = '\f'; break;
  case 'n': c = '\n'; break;
  case 'r': c = '\r'; break;
  case 't': c = '\t'; break;
  case 'u': return read_unicode(r, p + 1, end);
  default: return expected(r, (const char *)p, "one of \" \\ / b f n r t u after the backslash"), NULL;
  }
  mw_buf_add_byte(&r->scratch, c);
  return p + 1;
}

// Leaves r->text and r->raw set and returns what follows the closing quote, or NULL after a failure.
static const char *read_text(mw_json_reader *r) {
  const unsigned char *p = (const unsigned char *)r->at + 1, *end = (const unsigned char *)r->end, *plain = p;
  bool escaped = false;
  for (;;) {
    p = mw_json_scan_plain(p, end);
    if (p == end) return expected(r, r->end, "'\"' at the end of the string"), NULL;
    if (*p == '"') break;
    if (*p >= 0x80) {
      size_t len = mw_json_utf8_len(p, end);
      if (len == 0) return fail(r, (const char *)p, MW_EUTF8, "the string is not valid UTF-8"), NULL;
      p += len;
    } else if (*p == '\\') {
      if (!escaped) r->scratch.len = 0;
      escaped = true;
      mw_buf_add(&r->scratch, plain, (size_t)(p - plain));
      p = plain = read_escape(r, p, end);
      if (!p) return NULL;
    } else return fail(r, (const char *)p, MW_EJSON, "a control character in a string must be escaped"), NULL;
  }
  if (escaped) {
    mw_buf_add(&r->scratch, plain, (size_t)(p - plain));
    r->text = mw_buf_str(&r->scratch);
  } else r->text = mw_str_of((const char *)plain, (size_t)(p - plain));
  r->raw = mw_str_of(r->at, (size_t)((const char *)p + 1 - r->at));
  return (const char *)p + 1;
}

static mw_json_token read_string(mw_json_reader *r) {
  const char *after = read_text(r);
  if (!after) return MW_JSON_ERROR;
  r->at = after;
  after_value(r);
  return MW_JSON_STRING;
}

static void skip_space(mw_json_reader *r) {
  const char *p = r->at;
  while (p < r->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
  r->at = p;
}

static mw_json_token read_key(mw_json_reader *r) {
  const char *after = read_text(r);
  if (!after) return MW_JSON_ERROR;
  r->at = after;
  skip_space(r);
  if (r->at == r->end || *r->at != ':') return expected(r, r->at, "':' after the name of the member");
  r->at++;
  r->state = VALUE;
  return MW_JSON_KEY;
}

static mw_json_token read_value(mw_json_reader *r) {
  if (r->at == r->end) return expected(r, r->at, "a value");
  switch (*r->at) {
  case '"': return read_string(r);
  case '{': return open_container(r, MW_JSON_OBJECT_BEGIN);
  case '[': return open_container(r, MW_JSON_ARRAY_BEGIN);
  case 'n': return read_word(r, "null", 4, MW_JSON_NULL);
  case 't': return read_word(r, "true", 4, MW_JSON_TRUE);
  case 'f': return read_word(r, "false", 5, MW_JSON_FALSE);
  case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
    return read_number(r);
  default: return expected(r, r->at, "a value");
  }
}

static mw_json_token read_first(mw_json_reader *r) {
  if ((size_t)(r->end - r->begin) > r->limits.max_bytes) {
    mw_err_set(&r->err, MW_ELIMIT, "the JSON text has %zu bytes, at most %zu are taken", (size_t)(r->end - r->begin),
               r->limits.max_bytes);
    r->state = FAILED;
    return MW_JSON_ERROR;
  }
  return read_value(r);
}

mw_json_token mw_json_read(mw_json_reader *r) {
  skip_space(r);
  char c = r->at < r->end ? *r->at : 0;
  switch (r->state) {
  case VALUE: return r->depth ? read_value(r) : read_first(r);
  case ARRAY_FIRST:
    if (c == ']') return close_container(r, MW_JSON_ARRAY_END);
    return read_value(r);
  case ARRAY_NEXT:
    if (c == ']') return close_container(r, MW_JSON_ARRAY_END);
    if (c != ',') return expected(r, r->at, "',' or ']'");
    r->at++;
    skip_space(r);
    return read_value(r);
  case OBJECT_FIRST:
    if (c == '}') return close_container(r, MW_JSON_OBJECT_END);
    if (c != '"') return expected(r, r->at, "the name of a member in quotes or '}'");
    return read_key(r);
  case OBJECT_NEXT:
    if (c == '}') return close_container(r, MW_JSON_OBJECT_END);
    if (c != ',') return expected(r, r->at, "',' or '}'");
    r->at++;
    skip_space(r);
    if (r->at == r->end || *r->at != '"') return expected(r, r->at, "the name of a member in quotes");
    return read_key(r);
  case NOTHING:
    if (r->at < r->end) return expected(r, r->at, "nothing after the value");
    r->state = ENDED;
    return MW_JSON_END;
  case ENDED: return MW_JSON_END;
  default: return MW_JSON_ERROR;
  }
}

int mw_json_skip(mw_json_reader *r) {
  int depth = r->depth;
  mw_json_token token = mw_json_read(r);
  const char *begin = r->raw.ptr;
  while (token > MW_JSON_END && r->depth > depth) token = mw_json_read(r);
  if (token == MW_JSON_ERROR) return r->err.code;
  r->raw = mw_str_of(begin, (size_t)(r->at - begin));
  return 0;
}

int mw_json_check(mw_str input, const mw_json_limits *limits, mw_err *err) {
  mw_json_reader r;
  mw_json_token token;
  mw_json_reader_init(&r, input, limits);
  do token = mw_json_read(&r);
  while (token > MW_JSON_END);
  if (token == MW_JSON_ERROR) mw_err_set(err, r.err.code, "%s", r.err.text);
  int code = token == MW_JSON_ERROR ? r.err.code : 0;
  mw_json_reader_deinit(&r);
  return code;
}
