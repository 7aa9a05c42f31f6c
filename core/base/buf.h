// SPDX-License-Identifier: MIT
#pragma once

// mw_buf: a growing byte buffer that owns its memory. Always has room for a closing zero byte, so `buf.ptr`
// can be handed to libc after mw_buf_cstr.
//
//   mw_buf b = MW_BUF_INIT;
//   mw_buf_printf(&b, "%d items", n);
//   write(fd, b.ptr, b.len);
//   mw_buf_deinit(&b);

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* ffi-begin */
typedef struct mw_buf {
  char *ptr;
  size_t len;
  size_t cap;
} mw_buf;
/* ffi-end */

#define MW_BUF_INIT {NULL, 0, 0}

/* ffi-begin */
/** Frees the memory and leaves an empty buffer. */
void mw_buf_deinit(mw_buf *buf);
/** Empties the buffer; keeps the memory when it is at most `keep_bytes`, otherwise frees it. */
void mw_buf_reset(mw_buf *buf, size_t keep_bytes);
/** Makes room for `extra` more bytes and returns where they go. Follow with `buf->len += written`. */
char *mw_buf_reserve(mw_buf *buf, size_t extra);
void mw_buf_add(mw_buf *buf, const void *bytes, size_t len);
void mw_buf_add_str(mw_buf *buf, mw_str text);
void mw_buf_add_cstr(mw_buf *buf, const char *text);
void mw_buf_add_byte(mw_buf *buf, char byte);
void mw_buf_add_u64(mw_buf *buf, uint64_t value);
void mw_buf_add_i64(mw_buf *buf, int64_t value);
/** Adds text that comes from outside so that it cannot steer a terminal: control characters (C0, C1, DEL) show as \xNN, a tab as two
 *  blanks, and `line_break` stands for each line break. */
void mw_buf_add_plain(mw_buf *buf, mw_str text, const char *line_break);
/* ffi-end */
void mw_buf_printf(mw_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void mw_buf_vprintf(mw_buf *buf, const char *format, va_list args);
/* ffi-begin */
/** Removes the first `len` bytes. */
void mw_buf_consume(mw_buf *buf, size_t len);
/** Returns the content as a zero-terminated string, valid until the next change. */
const char *mw_buf_cstr(mw_buf *buf);
/** Gives the memory (zero-terminated) to the caller, who frees it; the buffer is empty afterwards. */
char *mw_buf_take(mw_buf *buf);
/* ffi-end */

static inline mw_str mw_buf_str(const mw_buf *buf) { return mw_str_of(buf->ptr, buf->len); }
