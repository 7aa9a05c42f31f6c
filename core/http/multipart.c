// SPDX-License-Identifier: MIT
#include "http/multipart.h"

#include "http/headers.h"
#include "http/params.h"

enum {
  PREAMBLE,   // before the first boundary; the body's beginning counts as a line's
  AFTER,      // behind a boundary
  AFTER_DASH, // behind a boundary and one "-"
  PADDING,    // blanks behind a boundary
  AFTER_CR,
  HEAD,
  CONTENT,
  ENDED,    // content was given out, its end is still to be told
  EPILOGUE, // after the last boundary
};

/* ---- the boundary ---- */

static bool is_boundary(mw_str text) {
  static const char others[] = "'()+_,-./:=? ";
  if (!text.len || text.len > MW_MULTIPART_MAX_BOUNDARY || text.ptr[text.len - 1] == ' ') return false;
  for (size_t i = 0; i < text.len; i++) {
    char c = text.ptr[i];
    bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!is_plain && (!c || !strchr(others, c))) return false;
  }
  return true;
}

int mw_multipart_init(mw_multipart *m, mw_str content_type, mw_err *err) {
  char scratch[1024];
  mw_str rest = content_type, kind, name, value, boundary = {NULL, 0};
  int rc;
  m->state = PREAMBLE;
  m->matched = 2;
  m->head_len = m->padding = m->parts = m->delimiter_len = 0;
  m->part = (mw_multipart_part){0};
  if (content_type.len > sizeof scratch) return mw_err_set(err, MW_EINVALID, "the content type is too long");
  mw_params_begin(&rest, &kind);
  if (!mw_str_eq_nocase(kind, MW_STR("multipart/form-data"))) return mw_err_set(err, MW_EINVALID, "the content type is not multipart/form-data");
  while ((rc = mw_params_next(&rest, scratch, &name, &value)) == 1) {
    if (!mw_str_eq_nocase(name, MW_STR("boundary"))) continue;
    if (boundary.ptr) return mw_err_set(err, MW_EINVALID, "the content type has two boundaries");
    if (!is_boundary(value)) return mw_err_set(err, MW_EINVALID, "the content type's boundary is not 1 to 70 of the characters that RFC 2046 lets it have");
    boundary = mw_str_of(m->delimiter + 4, value.len);
    memcpy(m->delimiter + 4, value.ptr, value.len);
  }
  if (rc < 0) return mw_err_set(err, MW_EINVALID, "the content type's parameters are malformed");
  if (!boundary.ptr) return mw_err_set(err, MW_EINVALID, "the content type has no boundary");
  memcpy(m->delimiter, "\r\n--", 4);
  m->delimiter_len = 4 + boundary.len;
  return 0;
}

static void skip(mw_str *data, size_t n) { *data = mw_str_of(data->ptr + n, data->len - n); }

// Goes on with a delimiter that the last slice ended in. Since CR stands only at its beginning, what was held back is content at once
// when it goes on differently.
static bool match_on(mw_multipart *m, mw_str *data, mw_str *piece) {
  size_t n = 0;
  while (n < data->len && m->matched < m->delimiter_len && data->ptr[n] == m->delimiter[m->matched]) n++, m->matched++;
  skip(data, n);
  if (m->matched == m->delimiter_len) {
    m->matched = 0;
    return true;
  }
  if (!data->len) return false;
  *piece = mw_str_of(m->delimiter, m->matched);
  m->matched = 0;
  return false;
}

// Takes content off `data` up to the next delimiter, which it takes too; returns true when it was there.
static bool search(mw_multipart *m, mw_str *data, mw_str *piece) {
  if (m->matched) return match_on(m, data, piece);
  const char *begin = data->ptr, *end = begin + data->len, *p = begin;
  while (p < end && (p = memchr(p, '\r', (size_t)(end - p)))) {
    size_t n = (size_t)(end - p) < m->delimiter_len ? (size_t)(end - p) : m->delimiter_len;
    if (memcmp(p, m->delimiter, n) == 0) {
      *piece = mw_str_of(begin, (size_t)(p - begin));
      skip(data, piece->len + n);
      if (n == m->delimiter_len) return true;
      m->matched = n;
      return false;
    }
    p++;
  }
  *piece = *data;
  skip(data, data->len);
  return false;
}

/* ---- the headers of a part ---- */

static int check_name(mw_str text, const char *what, mw_err *err) {
  if (text.len > MW_MULTIPART_MAX_NAME) return mw_err_set(err, MW_ELIMIT, "a %s is longer than %d bytes", what, MW_MULTIPART_MAX_NAME);
  if (!mw_str_is_utf8(text)) return mw_err_set(err, MW_EINVALID, "a %s is not UTF-8", what);
  if (!mw_headers_is_value(text)) return mw_err_set(err, MW_EINVALID, "a %s has a control character", what);
  return 0;
}

static int set_name(mw_multipart *m, mw_str value, mw_err *err) {
  if (m->part.name.ptr) return mw_err_set(err, MW_EINVALID, "a part has two names");
  int rc = check_name(value, "field's name", err);
  if (rc) return rc;
  memcpy(m->text, value.ptr, value.len);
  m->part.name = mw_str_of(m->text, value.len);
  return 0;
}

// `filename*` is told from `filename` by what was read before: it wins, whichever comes first.
static int set_filename(mw_multipart *m, mw_str value, mw_err *err) {
  char *text = m->text + MW_MULTIPART_MAX_NAME;
  int rc = check_name(value, "file's name", err);
  if (rc) return rc;
  memcpy(text, value.ptr, value.len);
  m->part.raw_filename = mw_str_of(text, value.len);
  size_t from = value.len;
  while (from && text[from - 1] != '/' && text[from - 1] != '\\') from--;
  mw_str last = mw_str_of(text + from, value.len - from);
  if (mw_str_eq(last, MW_STR(".")) || mw_str_eq(last, MW_STR(".."))) last.len = 0;
  m->part.filename = last;
  m->part.is_file = true;
  return 0;
}

static int set_extended_filename(mw_multipart *m, mw_str value, mw_err *err) {
  char decoded[2 * MW_MULTIPART_MAX_HEADER];
  ptrdiff_t n = mw_params_decode(value, decoded);
  if (n < 0) return mw_err_set(err, MW_EINVALID, "a part's filename* is not UTF-8''… with percent-encoding (RFC 8187)");
  return set_filename(m, mw_str_of(decoded, (size_t)n), err);
}

static int read_disposition(mw_multipart *m, mw_str value, mw_err *err) {
  char scratch[MW_MULTIPART_MAX_HEADER];
  mw_str kind, name, text;
  bool has_plain = false, has_extended = false;
  int rc, status = 0;
  mw_params_begin(&value, &kind);
  if (!mw_str_eq_nocase(kind, MW_STR("form-data"))) return mw_err_set(err, MW_EINVALID, "a part's Content-Disposition is not form-data");
  while (!status && (rc = mw_params_next(&value, scratch, &name, &text)) == 1) {
    if (mw_str_eq_nocase(name, MW_STR("name"))) {
      status = set_name(m, text, err);
    } else if (mw_str_eq_nocase(name, MW_STR("filename")) && !has_plain) {
      has_plain = true;
      if (!has_extended) status = set_filename(m, text, err);
    } else if (mw_str_eq_nocase(name, MW_STR("filename*")) && !has_extended) {
      has_extended = true;
      status = set_extended_filename(m, text, err);
    } else if (name.len >= 8 && mw_str_eq_nocase(mw_str_of(name.ptr, 8), MW_STR("filename"))) {
      status = mw_err_set(err, MW_EINVALID, "a part's file has two names, or one in pieces");
    }
  }
  if (status) return status;
  if (rc < 0) return mw_err_set(err, MW_EINVALID, "a part's Content-Disposition is malformed");
  return m->part.name.ptr ? 0 : mw_err_set(err, MW_EINVALID, "a part has no name in its Content-Disposition");
}

static int read_field(mw_multipart *m, mw_str name, mw_str value, bool *has_disposition, mw_err *err) {
  if (mw_str_eq_nocase(name, MW_STR("content-disposition"))) {
    if (*has_disposition) return mw_err_set(err, MW_EINVALID, "a part has two Content-Disposition headers");
    *has_disposition = true;
    return read_disposition(m, value, err);
  }
  if (mw_str_eq_nocase(name, MW_STR("content-type"))) {
    if (m->part.type.ptr) return mw_err_set(err, MW_EINVALID, "a part has two Content-Type headers");
    m->part.type = value;
  } else if (mw_str_eq_nocase(name, MW_STR("content-transfer-encoding")) && !mw_str_eq_nocase(value, MW_STR("binary")) &&
             !mw_str_eq_nocase(value, MW_STR("8bit")) && !mw_str_eq_nocase(value, MW_STR("7bit"))) {
    return mw_err_set(err, MW_EINVALID, "a part has a Content-Transfer-Encoding, which HTTP does without: send its bytes as they are");
  }
  return 0;
}

// The head ends in an empty line; each other line is a field.
static int read_head(mw_multipart *m, mw_err *err) {
  mw_str rest = mw_str_of(m->head, m->head_len - 2);
  bool has_disposition = false;
  m->part = (mw_multipart_part){0};
  while (rest.len) {
    const char *lf = memchr(rest.ptr, '\n', rest.len);
    mw_str line = mw_str_of(rest.ptr, (size_t)(lf - rest.ptr));
    skip(&rest, line.len + 1);
    if (!line.len || line.ptr[line.len - 1] != '\r') return mw_err_set(err, MW_EINVALID, "a line of a part's headers does not end in CRLF");
    line.len--;
    ptrdiff_t colon = mw_str_find_byte(line, ':');
    mw_str name = mw_str_of(line.ptr, colon < 0 ? 0 : (size_t)colon);
    mw_str value = mw_str_trim(mw_str_of(line.ptr + name.len + 1, colon < 0 ? 0 : line.len - name.len - 1));
    if (!mw_headers_is_token(name) || !mw_headers_is_value(value)) return mw_err_set(err, MW_EINVALID, "a part has a malformed header");
    int rc = read_field(m, name, value, &has_disposition, err);
    if (rc) return rc;
  }
  return has_disposition ? 0 : mw_err_set(err, MW_EINVALID, "a part has no Content-Disposition");
}

static bool head_is_over(const mw_multipart *m) {
  size_t n = m->head_len;
  return (n >= 4 && memcmp(m->head + n - 4, "\r\n\r\n", 4) == 0) || (n == 2 && memcmp(m->head, "\r\n", 2) == 0);
}

static mw_multipart_event fail(int code) { return code ? MW_MULTIPART_ERROR : MW_MULTIPART_MORE; }

// MORE: goes on in another state, or needs data.
static mw_multipart_event take_head(mw_multipart *m, mw_str *data, mw_err *err) {
  while (data->len) {
    if (m->head_len == MW_MULTIPART_MAX_HEADER) {
      return fail(mw_err_set(err, MW_ELIMIT, "the headers of a part are longer than %d bytes", MW_MULTIPART_MAX_HEADER));
    }
    m->head[m->head_len++] = data->ptr[0];
    skip(data, 1);
    if (m->head[m->head_len - 1] != '\n' || !head_is_over(m)) continue;
    m->state = CONTENT;
    return read_head(m, err) ? MW_MULTIPART_ERROR : MW_MULTIPART_PART;
  }
  return MW_MULTIPART_MORE;
}

/* ---- the machine ---- */

static mw_multipart_event begin_head(mw_multipart *m, mw_err *err) {
  if (++m->parts > MW_MULTIPART_MAX_PARTS) return fail(mw_err_set(err, MW_ELIMIT, "there are more than %d parts", MW_MULTIPART_MAX_PARTS));
  m->state = HEAD;
  m->head_len = m->padding = 0;
  return MW_MULTIPART_MORE;
}

// Behind a boundary: "--" when it is the last, blanks, CRLF.
static mw_multipart_event take_after(mw_multipart *m, mw_str *data, mw_err *err) {
  char c = data->ptr[0];
  skip(data, 1);
  if (m->state == AFTER_CR && c == '\n') return begin_head(m, err);
  if (m->state == AFTER_DASH && c == '-') {
    m->state = EPILOGUE;
    return MW_MULTIPART_DONE;
  }
  if (m->state == AFTER && c == '-') {
    m->state = AFTER_DASH;
  } else if ((m->state == AFTER || m->state == PADDING) && c == '\r') {
    m->state = AFTER_CR;
  } else if ((m->state == AFTER || m->state == PADDING) && (c == ' ' || c == '\t') && ++m->padding <= MW_MULTIPART_MAX_PADDING) {
    m->state = PADDING;
  } else {
    return fail(mw_err_set(err, MW_EINVALID, "a boundary is followed by something other than the end of its line"));
  }
  return MW_MULTIPART_MORE;
}

static mw_multipart_event take_content(mw_multipart *m, mw_str *data, mw_str *piece) {
  bool found = search(m, data, piece);
  if (m->state == PREAMBLE) { // nobody's
    *piece = mw_str_of("", 0);
    if (found) m->state = AFTER;
    return MW_MULTIPART_MORE;
  }
  if (found) m->state = ENDED;
  return piece->len ? MW_MULTIPART_DATA : MW_MULTIPART_MORE;
}

mw_multipart_event mw_multipart_next(mw_multipart *m, mw_str *data, mw_str *piece, mw_err *err) {
  mw_multipart_event event = MW_MULTIPART_MORE;
  *piece = mw_str_of("", 0);
  while (event == MW_MULTIPART_MORE) {
    if (m->state == ENDED) {
      m->state = AFTER;
      return MW_MULTIPART_END;
    }
    if (!data->len) break;
    switch (m->state) {
      case PREAMBLE:
      case CONTENT: event = take_content(m, data, piece); break;
      case HEAD: event = take_head(m, data, err); break;
      case EPILOGUE: skip(data, data->len); break;
      default: event = take_after(m, data, err); break;
    }
  }
  return event;
}

int mw_multipart_finish(mw_multipart *m, mw_err *err) {
  if (m->state == EPILOGUE) return 0;
  return mw_err_set(err, MW_EINVALID, m->parts ? "the form ends before its last boundary" : "the form has no boundary: it is empty or cut off");
}
