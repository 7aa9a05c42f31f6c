// SPDX-License-Identifier: MIT
// JSON: the reader and the check agree, what is read can be written, and what was written reads back the same.
#include "base/json.h"
#include "fuzz.h"

// Writes the value that was read; the reader decides about commas and colons.
static mw_json_token rewrite(mw_json_reader *r, mw_buf *out) {
  bool comma = false;
  for (;;) {
    mw_json_token token = mw_json_read(r);
    if (token <= MW_JSON_END) return token;
    bool closes = token == MW_JSON_ARRAY_END || token == MW_JSON_OBJECT_END;
    if (comma && !closes) mw_buf_add_byte(out, ',');
    comma = true;
    switch (token) {
      case MW_JSON_NULL: mw_buf_add_cstr(out, "null"); break;
      case MW_JSON_FALSE: mw_buf_add_cstr(out, "false"); break;
      case MW_JSON_TRUE: mw_buf_add_cstr(out, "true"); break;
      case MW_JSON_NUMBER:
        if (r->is_integer) mw_buf_add_i64(out, r->integer);
        else if (r->number == 0 || mw_json_add_number(out, r->number)) mw_buf_add_byte(out, '0'); // -0 is written as an integer; infinity not
        break;
      case MW_JSON_STRING: MUST(mw_json_add_string_strict(out, r->text) == 0); break;
      case MW_JSON_KEY:
        MUST(mw_json_add_string_strict(out, r->text) == 0);
        mw_buf_add_byte(out, ':');
        comma = false;
        break;
      case MW_JSON_ARRAY_BEGIN: mw_buf_add_byte(out, '['), comma = false; break;
      case MW_JSON_OBJECT_BEGIN: mw_buf_add_byte(out, '{'), comma = false; break;
      case MW_JSON_ARRAY_END: mw_buf_add_byte(out, ']'); break;
      case MW_JSON_OBJECT_END: mw_buf_add_byte(out, '}'); break;
      default: MUST(false);
    }
    MUST(is_inside(r->raw, mw_str_of(r->begin, (size_t)(r->end - r->begin))));
  }
}

static int rewrite_all(mw_str text, mw_buf *out) {
  mw_json_reader reader;
  mw_json_reader_init(&reader, text, NULL);
  mw_json_token token = rewrite(&reader, out);
  MUST(mw_json_read(&reader) == token);
  mw_json_reader_deinit(&reader);
  return token == MW_JSON_END ? 0 : -1;
}

FUZZ(bytes) {
  mw_buf once = MW_BUF_INIT, twice = MW_BUF_INIT;
  int rc = rewrite_all(bytes, &once);
  MUST((mw_json_check(bytes, NULL, NULL) == 0) == (rc == 0));
  if (rc == 0) {
    MUST(rewrite_all(mw_buf_str(&once), &twice) == 0);
    MUST(mw_str_eq(mw_buf_str(&once), mw_buf_str(&twice)));
  }
  once.len = 0;
  mw_json_add_string(&once, bytes); // any bytes become a JSON string
  MUST(mw_json_check(mw_buf_str(&once), NULL, NULL) == 0);
  mw_buf_deinit(&once);
  mw_buf_deinit(&twice);
}
