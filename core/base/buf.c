// SPDX-License-Identifier: MIT
#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

void mw_buf_deinit(mw_buf *buf) {
  mw_free(buf->ptr);
  *buf = (mw_buf)MW_BUF_INIT;
}

void mw_buf_reset(mw_buf *buf, size_t keep_bytes) {
  if (buf->cap > keep_bytes) mw_buf_deinit(buf);
  buf->len = 0;
}

char *mw_buf_reserve(mw_buf *buf, size_t extra) {
  size_t need = buf->len + extra + 1;
  if (need > buf->cap) {
    size_t cap = buf->cap ? buf->cap : 64;
    while (cap < need) cap *= 2;
    buf->ptr = mw_realloc(buf->ptr, cap);
    buf->cap = cap;
  }
  return buf->ptr + buf->len;
}

void mw_buf_add(mw_buf *buf, const void *bytes, size_t len) {
  if (len == 0) return;
  memcpy(mw_buf_reserve(buf, len), bytes, len);
  buf->len += len;
}

void mw_buf_add_str(mw_buf *buf, mw_str text) { mw_buf_add(buf, text.ptr, text.len); }

void mw_buf_add_cstr(mw_buf *buf, const char *text) { mw_buf_add(buf, text, strlen(text)); }

void mw_buf_add_byte(mw_buf *buf, char byte) {
  *mw_buf_reserve(buf, 1) = byte;
  buf->len++;
}

void mw_buf_add_u64(mw_buf *buf, uint64_t value) {
  char digits[20];
  size_t n = sizeof digits;
  do digits[--n] = (char)('0' + value % 10);
  while (value /= 10);
  mw_buf_add(buf, digits + n, sizeof digits - n);
}

void mw_buf_add_i64(mw_buf *buf, int64_t value) {
  if (value < 0) mw_buf_add_byte(buf, '-');
  mw_buf_add_u64(buf, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void mw_buf_vprintf(mw_buf *buf, const char *format, va_list args) {
  va_list again;
  va_copy(again, args);
  int len = vsnprintf(NULL, 0, format, args);
  if (len > 0) {
    vsnprintf(mw_buf_reserve(buf, (size_t)len), (size_t)len + 1, format, again);
    buf->len += (size_t)len;
  }
  va_end(again);
}

void mw_buf_add_plain(mw_buf *buf, mw_str text, const char *line_break) {
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    bool c1 = c == 0xC2 && i + 1 < text.len && (unsigned char)text.ptr[i + 1] < 0xA0;
    if (c == '\n') mw_buf_add_cstr(buf, line_break);
    else if (c == '\t') mw_buf_add_cstr(buf, "  ");
    else if (c < 0x20 || c == 0x7F) mw_buf_printf(buf, "\\x%02x", c);
    else if (c1) mw_buf_printf(buf, "\\x%02x", (unsigned char)text.ptr[++i]);
    else mw_buf_add_byte(buf, (char)c);
  }
}

void mw_buf_printf(mw_buf *buf, const char *format, ...) {
  va_list args;
  va_start(args, format);
  mw_buf_vprintf(buf, format, args);
  va_end(args);
}

void mw_buf_consume(mw_buf *buf, size_t len) {
  if (len == 0) return;
  memmove(buf->ptr, buf->ptr + len, buf->len - len);
  buf->len -= len;
}

const char *mw_buf_cstr(mw_buf *buf) {
  *mw_buf_reserve(buf, 0) = 0;
  return buf->ptr;
}

char *mw_buf_take(mw_buf *buf) {
  mw_buf_cstr(buf);
  char *ptr = buf->ptr;
  *buf = (mw_buf)MW_BUF_INIT;
  return ptr;
}
