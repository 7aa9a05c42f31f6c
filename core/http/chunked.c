// SPDX-License-Identifier: MIT
#include "http/chunked.h"

#include "http/headers.h"
#include "http/path.h"

enum {
  SIZE,         // hex digits
  EXTENSION,    // after ";", up to CR
  SIZE_LF,      // the LF of the size line
  DATA,         // `left` bytes
  DATA_CR,
  DATA_LF,
  TRAILER,      // at the beginning of a line
  TRAILER_TEXT, // inside one
  TRAILER_LF,
  END_LF,
  OVER,
};

void mw_chunked_init(mw_chunked *chunked) { *chunked = (mw_chunked){0}; }

static mw_chunked_result fail(const char **why, const char *text) {
  *why = text;
  return MW_CHUNKED_ERROR;
}

static const char *read_size(mw_chunked *c, char byte) {
  int digit = mw_path_hex(byte);
  if (digit >= 0) {
    if (c->digits == 15) return "a chunk size is too large";
    c->digits++;
    c->left = c->left * 16 + (uint64_t)digit;
    return NULL;
  }
  if (!c->digits) return "a chunk does not begin with its size in hex digits";
  if (byte == '\r') c->state = SIZE_LF;
  else if (byte == ';') c->state = EXTENSION;
  else return "a chunk size is followed by something other than CRLF or an extension";
  return NULL;
}

static bool is_text(char byte) {
  unsigned char u = (unsigned char)byte;
  return u == '\t' || (u >= 0x20 && u != 0x7f);
}

static const char *read_extension(mw_chunked *c, char byte) {
  if (byte == '\r') {
    c->state = SIZE_LF;
    return NULL;
  }
  if (!is_text(byte)) return "a chunk extension has a control character";
  return ++c->extensions > MW_CHUNKED_MAX_EXTENSIONS ? "the chunk extensions are too long" : NULL;
}

static const char *read_trailer(mw_chunked *c, char byte) {
  if (++c->trailers > MW_CHUNKED_MAX_TRAILERS) return "the trailers are too long";
  if (c->state == TRAILER) {
    if (byte == '\r') {
      c->state = END_LF;
      return NULL;
    }
    c->colon = 0;
    c->state = TRAILER_TEXT;
    if (byte == ':') return "a trailer has no name";
  }
  if (byte == '\r') {
    if (!c->colon) return "a trailer line has no colon";
    c->state = TRAILER_LF;
    return NULL;
  }
  if (byte == ':') c->colon = 1;
  if (!c->colon && !mw_headers_is_token(mw_str_of(&byte, 1))) return "a trailer's name is no token";
  return is_text(byte) ? NULL : "a trailer has a control character";
}

static const char *read_lf(mw_chunked *c, char byte) {
  if (byte != '\n') return "a CR in the chunked framing is not followed by LF";
  switch (c->state) {
    case SIZE_LF: c->state = c->left ? DATA : TRAILER; break;
    case DATA_LF:
      c->state = SIZE;
      c->digits = 0;
      break;
    case TRAILER_LF: c->state = TRAILER; break;
    default: c->state = OVER; break;
  }
  return NULL;
}

static const char *read_byte(mw_chunked *c, char byte) {
  switch (c->state) {
    case SIZE: return read_size(c, byte);
    case EXTENSION: return read_extension(c, byte);
    case DATA_CR:
      if (byte != '\r') return "a chunk is longer than its size";
      c->state = DATA_LF;
      return NULL;
    case TRAILER:
    case TRAILER_TEXT: return read_trailer(c, byte);
    default: return read_lf(c, byte);
  }
}

mw_chunked_result mw_chunked_feed(mw_chunked *c, mw_str *data, mw_str *piece, const char **why) {
  while (data->len) {
    if (c->state == DATA) {
      size_t n = data->len < c->left ? data->len : (size_t)c->left;
      *piece = mw_str_of(data->ptr, n);
      c->left -= n;
      if (!c->left) c->state = DATA_CR;
      *data = mw_str_of(data->ptr + n, data->len - n);
      return MW_CHUNKED_PIECE;
    }
    const char *problem = read_byte(c, *data->ptr);
    if (problem) return fail(why, problem);
    *data = mw_str_of(data->ptr + 1, data->len - 1);
    if (c->state == OVER) return MW_CHUNKED_DONE;
  }
  return MW_CHUNKED_MORE;
}
