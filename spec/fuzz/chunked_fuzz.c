// SPDX-License-Identifier: MIT
// Chunked bodies: read in pieces they say the same as read whole.
#include "base/buf.h"
#include "fuzz.h"
#include "http/chunked.h"

typedef struct outcome {
  mw_chunked_result result;
  mw_buf body;
  size_t taken;
} outcome;

// Feeds one piece; true when that was the end.
static bool feed(mw_chunked *chunked, mw_str piece, outcome *o) {
  const char *why = NULL;
  mw_str data = piece, part;
  for (;;) {
    o->result = mw_chunked_feed(chunked, &data, &part, &why);
    if (o->result == MW_CHUNKED_PIECE) {
      MUST(part.len && is_inside(part, piece));
      mw_buf_add_str(&o->body, part);
    } else {
      MUST(o->result != MW_CHUNKED_ERROR || why);
      o->taken += piece.len - data.len;
      return o->result != MW_CHUNKED_MORE;
    }
  }
}

FUZZ(bytes) {
  outcome whole = {.body = MW_BUF_INIT}, pieces = {.body = MW_BUF_INIT};
  mw_chunked chunked;
  mw_chunked_init(&chunked);
  feed(&chunked, bytes, &whole);
  cutter cuts = cutter_of(bytes);
  mw_chunked_init(&chunked);
  for (size_t at = 0; at < bytes.len;) {
    size_t len = next_cut(&cuts, bytes.len - at);
    if (feed(&chunked, mw_str_of(bytes.ptr + at, len), &pieces)) break;
    at += len;
  }
  if (bytes.len) MUST(whole.result == pieces.result);
  MUST(mw_str_eq(mw_buf_str(&whole.body), mw_buf_str(&pieces.body)));
  if (whole.result == MW_CHUNKED_DONE) MUST(whole.taken == pieces.taken);
  mw_buf_deinit(&whole.body);
  mw_buf_deinit(&pieces.body);
}
