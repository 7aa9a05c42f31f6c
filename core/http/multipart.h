// SPDX-License-Identifier: MIT
#pragma once

// multipart/form-data (RFC 7578, RFC 2046 5.1), read as it comes: pure, it takes slices cut anywhere, copies only what it must hold back, and
// allocates nothing. As strict as that lets one be; what is wrong is said in a sentence.
//
//   mw_multipart m;                                      // about 12 KiB
//   if (mw_multipart_init(&m, content_type, &err)) …      // MW_EINVALID: another type, no boundary or a bad one
//   while ((event = mw_multipart_next(&m, &data, &piece, &err)) != MW_MULTIPART_MORE) switch (event) …
//   if (mw_multipart_finish(&m, &err)) …                  // at the end of the body: the last boundary is missing
//
// What stands before the first boundary and after the last is passed over. Lines end in CRLF. Parts need a Content-Disposition of
// form-data with a name; a Content-Transfer-Encoding that changes the bytes is refused, as are "filename*0" and the like.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* ffi-begin */
enum {
  MW_MULTIPART_MAX_PARTS = 1000,
  MW_MULTIPART_MAX_HEADER = 8192,   /* bytes of one part's headers */
  MW_MULTIPART_MAX_NAME = 1024,     /* bytes of a field's name and of a file's */
  MW_MULTIPART_MAX_BOUNDARY = 70,
  MW_MULTIPART_MAX_PADDING = 64,    /* blanks after a boundary */
};

typedef enum mw_multipart_event {
  MW_MULTIPART_ERROR = -1, /**< `err`: MW_EINVALID, or MW_ELIMIT for what is too much. Nothing may follow. */
  MW_MULTIPART_MORE,       /**< The data is used up. */
  MW_MULTIPART_PART,       /**< A part begins: see `part`. */
  MW_MULTIPART_DATA,       /**< `piece` is of its content. */
  MW_MULTIPART_END,        /**< The part is over. */
  MW_MULTIPART_DONE,       /**< The last boundary was read. */
} mw_multipart_event;

/** Of the part that began last; slices of the parser. */
typedef struct mw_multipart_part {
  mw_str name;         /**< UTF-8. */
  mw_str filename;     /**< What follows the last "/" or "\" of it, UTF-8; may be empty, and is then also for "." and "..". */
  mw_str raw_filename; /**< As the client sent it. */
  mw_str type;         /**< Content-Type; empty when there is none. */
  bool is_file;        /**< It has a filename, empty perhaps (no file was chosen). */
} mw_multipart_part;

typedef struct mw_multipart {
  mw_multipart_part part;
  int state;
  size_t matched; /* of the delimiter: held back, not in the data any more */
  size_t delimiter_len, head_len, padding, parts;
  char delimiter[76]; /* CRLF, "--", the boundary */
  char head[8192];
  char text[3072]; /* name, raw file name */
} mw_multipart;

/** Reads the boundary of a Content-Type. */
int mw_multipart_init(mw_multipart *multipart, mw_str content_type, mw_err *err);
/** Takes what it reads off `data`. */
mw_multipart_event mw_multipart_next(mw_multipart *multipart, mw_str *data, mw_str *piece, mw_err *err);
/** Returns 0 when the last boundary was read. */
int mw_multipart_finish(mw_multipart *multipart, mw_err *err);
/* ffi-end */
