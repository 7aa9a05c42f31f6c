// SPDX-License-Identifier: MIT
#include "vm/pattern.h"

#include <string.h>

enum { CHAR, ANY, CLASS, NOT_CLASS, SET, OPEN, CLOSE, POSITION, BACKREF, BALANCE, FRONTIER, SUBJECT_END, MATCHED, MALFORMED };

// Classes as in the C locale.
enum {
  ALPHA = 1, CNTRL = 2, DIGIT = 4, LOWER = 8, PUNCT = 16, SPACE = 32, UPPER = 64, ALNUM = 128, XDIGIT = 256, ZERO = 512, GRAPH = 1024
};

#define STEPS_BASE 50000000
#define STEPS_A_BYTE 100
#define ASK_EVERY (1 << 16)
#define MAX_ITEMS 32000

static uint16_t classes_of(unsigned char c) {
  uint16_t bits = 0;
  if (c >= 'a' && c <= 'z') bits |= ALPHA | LOWER | ALNUM;
  if (c >= 'A' && c <= 'Z') bits |= ALPHA | UPPER | ALNUM;
  if (c >= '0' && c <= '9') bits |= DIGIT | ALNUM | XDIGIT;
  if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) bits |= XDIGIT;
  if (c < 32 || c == 127) bits |= CNTRL;
  if (c == ' ' || (c >= 9 && c <= 13)) bits |= SPACE;
  if (c > 32 && c < 127) bits |= GRAPH;
  if ((bits & GRAPH) && !(bits & ALNUM)) bits |= PUNCT;
  if (c == 0) bits |= ZERO;
  return bits;
}

#define CLASSES 11
static uint16_t class_table[256];
static uint8_t class_sets[CLASSES][32]; // by the class's bit: its characters

static inline void add_bit(uint8_t *set, unsigned char c) { set[c >> 3] |= (uint8_t)(1 << (c & 7)); }
static inline bool has_bit(const uint8_t *set, unsigned char c) { return set[c >> 3] & (1 << (c & 7)); }

__attribute__((constructor)) static void fill_class_tables(void) {
  for (int c = 0; c < 256; c++) {
    class_table[c] = classes_of((unsigned char)c);
    for (int class = 0; class < CLASSES; class++)
      if (class_table[c] & 1 << class) add_bit(class_sets[class], (unsigned char)c);
  }
}

static uint16_t class_named(unsigned char lower) {
  switch (lower) {
    case 'a': return ALPHA;
    case 'c': return CNTRL;
    case 'd': return DIGIT;
    case 'g': return GRAPH;
    case 'l': return LOWER;
    case 'p': return PUNCT;
    case 's': return SPACE;
    case 'u': return UPPER;
    case 'w': return ALNUM;
    case 'x': return XDIGIT;
    case 'z': return ZERO;
    default: return 0;
  }
}

// Compiling

typedef struct compiler {
  mw_pattern *p;
  const char *at, *end;
  mw_pattern_item *item; // where the next goes
  uint8_t (*sets)[32];
  int open[MW_PATTERN_CAPTURES]; // captures not closed yet
  int open_count;
  bool closed[MW_PATTERN_CAPTURES];
  bool stop;
} compiler;

static void malformed(compiler *c, const char *error) {
  c->item->kind = MALFORMED;
  c->item->error = error;
  c->stop = true;
}

// What "%x" stands for.
static void set_escaped(mw_pattern_item *item, unsigned char x) {
  unsigned char lower = x >= 'A' && x <= 'Z' ? (unsigned char)(x + 32) : x;
  item->classes = class_named(lower);
  item->byte = x;
  item->kind = !item->classes ? CHAR : x == lower ? CLASS : NOT_CLASS;
}

static void add_escaped(uint8_t *set, unsigned char x) {
  mw_pattern_item item = {0};
  set_escaped(&item, x);
  if (item.kind == CHAR) {
    add_bit(set, x);
    return;
  }
  const uint8_t *members = class_sets[__builtin_ctz(item.classes)];
  uint8_t flip = item.kind == CLASS ? 0 : 0xff;
  for (int i = 0; i < 32; i++) set[i] |= members[i] ^ flip;
}

// The place of the "]" that ends the set, or NULL. The first character after "[" or "[^" never ends it.
static const char *set_end(const char *at, const char *end) {
  if (at < end && *at == '^') at++;
  do {
    if (at >= end) return NULL;
    if (*at++ == '%' && at < end) at++;
  } while (at >= end || *at != ']');
  return at;
}

// `c->at` is after the "[".
static bool compile_set(compiler *c) {
  const char *close = set_end(c->at, c->end);
  if (!close) {
    malformed(c, "malformed pattern (missing ']')");
    return false;
  }
  uint8_t *set = *c->sets++;
  memset(set, 0, 32);
  const char *at = c->at;
  bool negated = *at == '^';
  if (negated) at++;
  for (; at < close; at++) {
    if (*at == '%') {
      at++;
      add_escaped(set, (unsigned char)*at);
    } else if (at + 2 < close && at[1] == '-') {
      for (int b = (unsigned char)at[0]; b <= (unsigned char)at[2]; b++) add_bit(set, (unsigned char)b);
      at += 2;
    } else {
      add_bit(set, (unsigned char)*at);
    }
  }
  if (negated)
    for (int i = 0; i < 32; i++) set[i] = (uint8_t)~set[i];
  c->item->kind = SET;
  c->item->set = set;
  c->at = close + 1;
  return true;
}

static void compile_open(compiler *c) {
  mw_pattern *p = c->p;
  if (p->count >= MW_PATTERN_CAPTURES) {
    malformed(c, "too many captures");
    return;
  }
  c->item->byte = (uint8_t)p->count;
  if (c->at < c->end && *c->at == ')') {
    c->at++;
    c->item->kind = POSITION;
    c->closed[p->count++] = true;
    return;
  }
  c->item->kind = OPEN;
  c->open[c->open_count++] = p->count++;
}

static void compile_close(compiler *c) {
  if (c->open_count == 0) {
    malformed(c, "invalid pattern capture");
    return;
  }
  int n = c->open[--c->open_count];
  c->item->kind = CLOSE;
  c->item->byte = (uint8_t)n;
  c->closed[n] = true;
}

static void compile_balance(compiler *c) {
  if (c->end - c->at < 2) {
    malformed(c, "unbalanced pattern");
    return;
  }
  c->item->kind = BALANCE;
  c->item->byte = (uint8_t)*c->at++;
  c->item->byte2 = (uint8_t)*c->at++;
}

static void compile_frontier(compiler *c) {
  if (c->at >= c->end || *c->at != '[') {
    malformed(c, "missing '[' after '%f' in pattern");
    return;
  }
  c->at++;
  if (compile_set(c)) c->item->kind = FRONTIER;
}

static void compile_repeat(compiler *c) {
  if (c->at >= c->end || !strchr("*+-?", *c->at) || !*c->at) return;
  c->item->repeat = (uint8_t)*c->at++;
}

static void compile_escape(compiler *c) {
  if (c->at >= c->end) {
    malformed(c, "malformed pattern (ends with '%')");
    return;
  }
  unsigned char x = (unsigned char)*c->at++;
  if (x == 'b') {
    compile_balance(c);
  } else if (x == 'f') {
    compile_frontier(c);
  } else if (x >= '0' && x <= '9') {
    int n = x - '1';
    if (n < 0 || n >= c->p->count || !c->closed[n]) {
      malformed(c, "invalid capture index");
      return;
    }
    c->item->kind = BACKREF;
    c->item->byte = (uint8_t)n;
  } else {
    set_escaped(c->item, x);
    compile_repeat(c);
  }
}

static void compile_item(compiler *c) {
  unsigned char x = (unsigned char)*c->at++;
  *c->item = (mw_pattern_item){.kind = CHAR, .byte = x};
  switch (x) {
    case '(': compile_open(c); return;
    case ')': compile_close(c); return;
    case '%': compile_escape(c); return;
    case '[':
      if (compile_set(c)) compile_repeat(c);
      return;
    case '$':
      if (c->at == c->end) {
        c->item->kind = SUBJECT_END;
        return;
      }
      break;
    case '.': c->item->kind = ANY; break;
  }
  compile_repeat(c);
}

static size_t count_sets(mw_str pattern) {
  size_t n = 0;
  for (size_t i = 0; i < pattern.len; i++) n += pattern.ptr[i] == '[';
  return n;
}

size_t mw_pattern_space(mw_str pattern) {
  if (pattern.len > MAX_ITEMS) return SIZE_MAX;
  size_t sets = count_sets(pattern);
  if (pattern.len < MW_PATTERN_INLINE && sets <= 2) return 0;
  return (pattern.len + 1) * sizeof(mw_pattern_item) + sets * 32;
}

void mw_pattern_init(mw_pattern *p, mw_str subject, mw_str pattern, bool plain_caret, void *space) {
  size_t len = strnlen(pattern.ptr, pattern.len); // a zero byte ends a pattern of Lua 5.1; %z stands for one
  p->subject = subject;
  p->count = 0;
  p->error = NULL;
  p->interrupted = NULL;
  p->steps = STEPS_BASE + STEPS_A_BYTE * (int64_t)subject.len;
  p->items = space ? space : p->inline_items;
  p->anchored = !plain_caret && len > 0 && *pattern.ptr == '^';
  compiler c = {.p = p, .item = p->items, .at = pattern.ptr + p->anchored, .end = pattern.ptr + len};
  c.sets = space ? (uint8_t(*)[32])((mw_pattern_item *)space + pattern.len + 1) : p->inline_sets;
  while (c.at < c.end && !c.stop) {
    compile_item(&c);
    c.item++;
  }
  if (!c.stop) *c.item = (mw_pattern_item){.kind = MATCHED};
  for (int i = 0; i < p->count; i++) p->captures[i] = (mw_pattern_capture){NULL, MW_PATTERN_UNFINISHED};
}

bool mw_pattern_is_plain(mw_str pattern) {
  for (size_t i = 0; i < pattern.len; i++)
    if (pattern.ptr[i] && strchr("^$*+?.([%-", pattern.ptr[i])) return false;
  return true;
}

// Matching

static inline bool fits(const mw_pattern_item *item, unsigned char c) {
  switch (item->kind) {
    case CHAR: return item->byte == c;
    case ANY: return true;
    case CLASS: return class_table[c] & item->classes;
    case NOT_CLASS: return !(class_table[c] & item->classes);
    default: return has_bit(item->set, c);
  }
}

static bool spend(mw_pattern *p, int64_t steps) {
  int64_t before = p->steps;
  p->steps -= steps;
  if (p->steps < 0) {
    p->error = "pattern too complex: matching it takes too many steps";
    return false;
  }
  if (p->interrupted && before / ASK_EVERY != p->steps / ASK_EVERY && p->interrupted(p->arg)) {
    p->error = "interrupted";
    return false;
  }
  return true;
}

static const char *match_balance(mw_pattern *p, const mw_pattern_item *item, const char *s) {
  const char *end = p->subject.ptr + p->subject.len, *from = s;
  if (s >= end || (uint8_t)*s != item->byte) return NULL;
  for (int64_t depth = 1; ++s < end;) {
    if ((uint8_t)*s == item->byte2) {
      if (--depth == 0) return spend(p, s - from) ? s + 1 : NULL;
    } else if ((uint8_t)*s == item->byte) {
      depth++;
    }
  }
  spend(p, s - from);
  return NULL;
}

static bool match_frontier(const mw_pattern *p, const mw_pattern_item *item, const char *s) {
  unsigned char before = s == p->subject.ptr ? 0 : (unsigned char)s[-1];
  unsigned char here = s == p->subject.ptr + p->subject.len ? 0 : (unsigned char)*s;
  return !has_bit(item->set, before) && has_bit(item->set, here);
}

static const char *match_backref(mw_pattern *p, const mw_pattern_item *item, const char *s) {
  mw_pattern_capture *c = &p->captures[item->byte];
  if (c->len < 0) return NULL; // a position repeats nothing
  if (p->subject.ptr + p->subject.len - s < c->len || memcmp(c->start, s, (size_t)c->len) != 0) return NULL;
  return spend(p, c->len / 16) ? s + c->len : NULL;
}

// Takes an item that is no repeated character; returns where the subject goes on, or NULL.
static const char *match_other(mw_pattern *p, const mw_pattern_item *item, const char *s) {
  switch (item->kind) {
    case OPEN: p->captures[item->byte].start = s; return s;
    case CLOSE: p->captures[item->byte].len = s - p->captures[item->byte].start; return s;
    case POSITION: p->captures[item->byte] = (mw_pattern_capture){s, MW_PATTERN_POSITION}; return s;
    case BACKREF: return match_backref(p, item, s);
    case BALANCE: return match_balance(p, item, s);
    case FRONTIER: return match_frontier(p, item, s) ? s : NULL;
    case SUBJECT_END: return s == p->subject.ptr + p->subject.len ? s : NULL;
    case MALFORMED: p->error = item->error; return NULL;
    default: return s < p->subject.ptr + p->subject.len && fits(item, (unsigned char)*s) ? s + 1 : NULL;
  }
}

// Takes a repeated item for the first time. Greedy ones begin at the far end.
static const char *begin_repeat(mw_pattern *p, mw_pattern_item *item, const char *s) {
  const char *end = p->subject.ptr + p->subject.len, *far = s;
  if (item->repeat == '-') {
    item->low = item->at = s;
    return s;
  }
  if (item->repeat == '?') {
    if (far < end && fits(item, (unsigned char)*far)) far++;
  } else {
    while (far < end && fits(item, (unsigned char)*far)) far++;
    if (!spend(p, far - s)) return NULL;
  }
  item->low = item->repeat == '+' ? s + 1 : s;
  item->at = far;
  return far < item->low ? NULL : far;
}

// The next way to take a repeated item, or NULL.
static const char *next_repeat(mw_pattern *p, mw_pattern_item *item) {
  if (item->repeat == '-') {
    if (item->at >= p->subject.ptr + p->subject.len || !fits(item, (unsigned char)*item->at)) return NULL;
    return ++item->at;
  }
  return item->at > item->low ? --item->at : NULL;
}

const char *mw_pattern_match(mw_pattern *p, const char *s) {
  mw_pattern_item *items = p->items;
  int back = -1; // the last repeated item on the way here
  for (int i = 0; items[i].kind != MATCHED;) {
    mw_pattern_item *item = &items[i];
    if (!spend(p, 1)) return NULL;
    const char *next = item->repeat ? begin_repeat(p, item, s) : match_other(p, item, s);
    if (next && item->repeat) {
      item->back = (int16_t)back;
      back = i;
    }
    while (!next) {
      if (p->error || back < 0) return NULL;
      i = back;
      next = next_repeat(p, &items[i]);
      if (!spend(p, 1)) return NULL;
      if (!next) back = items[i].back;
    }
    s = next;
    i++;
  }
  return s;
}

const char *mw_pattern_search(mw_pattern *p, const char *at, const char **start) {
  const char *end = p->subject.ptr + p->subject.len;
  const mw_pattern_item *first = p->items;
  bool jump = first->kind == CHAR && (first->repeat == 0 || first->repeat == '+') && !p->anchored;
  for (; at <= end; at++) {
    if (jump) { // to the next place where it can begin
      const char *next = at < end ? memchr(at, first->byte, (size_t)(end - at)) : NULL;
      if (!next) return NULL;
      if (!spend(p, (next - at) / 16)) return NULL;
      at = next;
    }
    const char *e = mw_pattern_match(p, at);
    if (e) {
      *start = at;
      return e;
    }
    if (p->error || p->anchored) return NULL;
  }
  return NULL;
}
