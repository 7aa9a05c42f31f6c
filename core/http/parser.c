// SPDX-License-Identifier: MIT
#include "http/parser.h"

#include <llhttp.h>

enum { REFUSE_TOO_MANY = 1, REFUSE_SPACE, REFUSE_NAME };

typedef struct parse {
  llhttp_t llhttp; // first, so that callbacks find the rest
  mw_head *head;
  int refused;
  bool named; // a field waits for its value
} parse;

static int on_field(llhttp_t *llhttp, const char *at, size_t len) {
  parse *p = (parse *)llhttp;
  mw_head *head = p->head;
  if (head->count == MW_STRICT_MAX_FIELDS) p->refused = REFUSE_TOO_MANY;
  else if (len == 0) p->refused = REFUSE_NAME;
  else if (at[len] != ':') p->refused = REFUSE_SPACE;
  p->named = true;
  if (p->refused) return -1;
  head->fields[head->count++] = (mw_header){{at, len}, {at + len, 0}};
  return 0;
}

static int on_value(llhttp_t *llhttp, const char *at, size_t len) {
  parse *p = (parse *)llhttp;
  if (!p->named) { // llhttp says nothing of an empty name
    p->refused = REFUSE_NAME;
    return -1;
  }
  p->named = false;
  p->head->fields[p->head->count - 1].value = mw_str_of(at, len);
  return 0;
}

static const llhttp_settings_t settings = {.on_header_field = on_field, .on_header_value = on_value};

static int explain(const parse *p, const char **why) {
  if (p->refused == REFUSE_TOO_MANY) {
    *why = "there are more than 100 header fields";
    return 431;
  }
  *why = p->refused == REFUSE_SPACE  ? "a header name is not followed directly by its colon"
         : p->refused == REFUSE_NAME ? "a header has no name"
                                     : llhttp_get_error_reason(&p->llhttp);
  if (!*why || !**why) *why = "the request is not valid HTTP";
  return 400;
}

static int read_fields(mw_head *head, mw_str text, const char **why) {
  parse p;
  llhttp_init(&p.llhttp, HTTP_REQUEST, &settings);
  // What it would say about lengths is said better, and with more statuses, by mw_strict_framing_check.
  llhttp_set_lenient_chunked_length(&p.llhttp, 1);
  llhttp_set_lenient_transfer_encoding(&p.llhttp, 1);
  p.head = head;
  p.refused = 0;
  p.named = false;
  llhttp_errno_t rc = llhttp_execute(&p.llhttp, text.ptr, text.len);
  if (rc != HPE_OK && rc != HPE_PAUSED_UPGRADE) return explain(&p, why);
  for (size_t i = 0; i < head->count; i++) {
    head->fields[i].value = mw_str_trim(head->fields[i].value);
    if (!mw_headers_is_value(head->fields[i].value)) {
      *why = "a header value has a control character";
      return 400;
    }
  }
  return 0;
}

int mw_head_parse(mw_head *head, mw_str text, const char **why) {
  head->method = head->target = mw_str_of("", 0);
  head->count = 0;
  head->content_length = -1;
  head->chunked = head->keep_alive = head->expect_continue = false;
  ptrdiff_t cr = mw_str_find_byte(text, '\r');
  int status = mw_strict_request_line(mw_str_of(text.ptr, (size_t)cr), &head->method, &head->target, &head->minor, why);
  if (status) return status;
  mw_strict_framing framing = {.minor = head->minor, .target = head->target, .method = head->method};
  if ((status = read_fields(head, text, why))) return status;
  if ((status = mw_strict_framing_check(head->fields, head->count, &framing, why))) return status;
  head->target = framing.target;
  head->content_length = framing.content_length;
  head->chunked = framing.chunked;
  head->keep_alive = framing.keep_alive;
  head->expect_continue = framing.expect_continue;
  return 0;
}
