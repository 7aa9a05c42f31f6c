// SPDX-License-Identifier: MIT
#pragma once

// What the server refuses rather than repairs, because two programs on the way could read it as two different requests. Each entry
// closes the connection after the answer.
//
//   form                                                          status
//   a line that ends in LF alone, a CR that no LF follows          400
//   a header line that begins with a space or tab (obs-fold)       400
//   a space or tab before the colon, a line without a colon        400
//   a name that is no token, a control character in a value        400
//   more than one space in the request line, or none               400
//   a method that is no token / that the server does not know      400 / 501
//   a version other than HTTP/1.0 and HTTP/1.1                     505 (400 when it is no HTTP at all)
//   Content-Length twice, as a list, signed, with other bytes      400
//   Transfer-Encoding twice, as a list, with HTTP/1.0              400
//   Transfer-Encoding other than "chunked"                         501
//   both Content-Length and Transfer-Encoding                      400
//   HTTP/1.1 without Host, Host twice, as a list, with bad bytes   400
//   a target of the authority form, "*" without OPTIONS            400
//   an absolute target whose authority is not Host's               400
//   a chunk size that is not hex digits only, bytes after a chunk  400 (http/chunked.h)
//   chunk extensions over 4 KiB, trailers over 8 KiB               400
//   Expect other than 100-continue                                 417
//   a path with a bad "%", NUL or control character, "." or ".."   400 (http/path.h)
//   a header block over its limit, more than 100 fields            431

#include <stddef.h>

#include "base/str.h"
#include "http/headers.h"

#define MW_STRICT_MAX_FIELDS 100

/** Looks for the end of a header block. `*from` is where to go on looking (0 at first; kept between calls as data grows). Returns
 *  the block's length with its closing empty line, 0 when it is not complete yet, or -1 with `*why` for a line that breaks a rule. */
ptrdiff_t mw_strict_scan(mw_str data, size_t *from, const char **why);

/** The request line's parts. Returns 0, or the status to refuse with. */
int mw_strict_request_line(mw_str line, mw_str *method, mw_str *target, int *minor, const char **why);

/** What the fields say about framing. */
typedef struct mw_strict_framing {
  int minor;               /**< In: of HTTP/1.x. */
  mw_str target;           /**< In; out: an absolute target's path and query. */
  mw_str method;           /**< In. */
  long long content_length; /**< -1: none. */
  bool chunked;
  bool keep_alive;
  bool expect_continue;
} mw_strict_framing;

/** Checks the fields against the list above. Returns 0, or the status to refuse with. */
int mw_strict_framing_check(const mw_header *fields, size_t count, mw_strict_framing *framing, const char **why);
