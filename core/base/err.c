// SPDX-License-Identifier: MIT
#include "base/err.h"

#include <stdio.h>
#include <string.h>

typedef struct entry {
  int value;
  const char *code, *text;
  bool retryable;
} entry;

static const entry table[] = {
#define ENTRY(name, value, code, text, retryable) {value, code, text, retryable},
    MW_ERR_TABLE(ENTRY)
#undef ENTRY
};

static const char *(*foreign_name)(int code);
static const char *(*foreign_text)(int code);

void mw_err_register(const char *(*name)(int code), const char *(*text)(int code)) {
  foreign_name = name;
  foreign_text = text;
}

static const entry *find(int code) {
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (table[i].value == code) return &table[i];
  return NULL;
}

const char *mw_err_code(int code) {
  if (code == 0) return "ok";
  const entry *e = find(code);
  if (e) return e->code;
  return foreign_name ? foreign_name(code) : "unknown";
}

const char *mw_err_text(int code) {
  if (code == 0) return "no error";
  const entry *e = find(code);
  if (e) return e->text;
  return foreign_text ? foreign_text(code) : "an unknown error";
}

bool mw_err_is_retryable(int code) {
  const entry *e = find(code);
  return e ? e->retryable : code < 0; // libuv's are all about the network or the system
}

// Cuts at a whole UTF-8 character.
static void cut(char *text, size_t size) {
  size_t len = strlen(text);
  if (len < size - 1) return;
  while (len && ((unsigned char)text[len - 1] & 0xC0) == 0x80) len--;
  if (len && (unsigned char)text[len - 1] >= 0xC0) len--;
  text[len] = 0;
}

int mw_err_vset(mw_err *err, int code, const char *format, va_list args) {
  if (!err) return code;
  char text[sizeof err->text]; // the arguments may point into err
  vsnprintf(text, sizeof text, format, args);
  cut(text, sizeof text);
  memcpy(err->text, text, sizeof text);
  err->code = code;
  return code;
}

int mw_err_set(mw_err *err, int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  mw_err_vset(err, code, format, args);
  va_end(args);
  return code;
}

int mw_err_wrap(mw_err *err, const char *format, ...) {
  if (!err) return MW_EINVALID;
  char text[2 * sizeof err->text];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof err->text, format, args);
  va_end(args);
  size_t len = strlen(text);
  snprintf(text + len, sizeof text - len, ": %s", err->text);
  return mw_err_set(err, err->code, "%s", text);
}
