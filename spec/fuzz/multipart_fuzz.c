// SPDX-License-Identifier: MIT
// Multipart bodies: read in pieces they say the same as read whole, and every name is text within its bounds. The first line is the
// Content-Type.
#include "base/buf.h"
#include "fuzz.h"
#include "http/multipart.h"

static void note(mw_multipart *m, mw_multipart_event event, mw_str piece, mw_buf *story) {
  if (event == MW_MULTIPART_DATA) {
    MUST(piece.len);
    mw_buf_add_str(story, piece);
  } else if (event == MW_MULTIPART_PART) {
    MUST(m->part.name.len <= MW_MULTIPART_MAX_NAME && m->part.filename.len <= MW_MULTIPART_MAX_NAME);
    MUST(mw_str_is_utf8(m->part.name) && mw_str_is_utf8(m->part.filename));
    MUST(!mw_str_eq(m->part.filename, MW_STR("..")) && mw_str_find_byte(m->part.filename, '/') < 0);
    mw_buf_printf(story, "\n[part %zu %zu %d]\n", m->part.name.len, m->part.filename.len, m->part.is_file);
    mw_buf_add_str(story, m->part.name);
    mw_buf_add_str(story, m->part.raw_filename);
    mw_buf_add_str(story, m->part.type);
  } else mw_buf_printf(story, "\n[%d]", event);
}

// Feeds a piece; false when nothing may follow.
static bool feed(mw_multipart *m, mw_str data, mw_buf *story) {
  mw_str whole = data, piece;
  mw_err err = {0};
  for (;;) {
    mw_multipart_event event = mw_multipart_next(m, &data, &piece, &err);
    if (event == MW_MULTIPART_MORE) return true;
    if (event == MW_MULTIPART_ERROR) MUST(err.text[0]);
    (void)whole;
    note(m, event, piece, story);
    if (event == MW_MULTIPART_ERROR) return false;
  }
}

static void read_all(mw_str type, mw_str body, bool cut, mw_buf *story) {
  mw_multipart m;
  cutter cuts = cutter_of(body);
  if (mw_multipart_init(&m, type, NULL)) return;
  for (size_t at = 0; at < body.len;) {
    size_t len = cut ? next_cut(&cuts, body.len - at) : body.len - at;
    if (!feed(&m, mw_str_of(body.ptr + at, len), story)) return;
    at += len;
  }
  mw_buf_printf(story, "\nend %d", mw_multipart_finish(&m, NULL) == 0);
}

FUZZ(bytes) {
  mw_str rest = bytes, type;
  mw_buf whole = MW_BUF_INIT, pieces = MW_BUF_INIT;
  if (!next_line(&rest, &type)) return;
  read_all(type, rest, false, &whole);
  read_all(type, rest, true, &pieces);
  MUST(mw_str_eq(mw_buf_str(&whole), mw_buf_str(&pieces)));
  mw_buf_deinit(&whole);
  mw_buf_deinit(&pieces);
}
