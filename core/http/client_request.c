// SPDX-License-Identifier: MIT

// What a call sends. Everything that reaches the wire is checked here, so that no value of a user can end a header early.

#include <string.h>

#include "base/alloc.h"
#include "base/digest.h"
#include "http/client_impl.h"

static bool is_token(mw_str text) {
  if (text.len == 0) return false;
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!alnum && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c))) return false;
  }
  return true;
}

static bool is_value(mw_str text) {
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if ((c < 0x20 && c != '\t') || c == 0x7F) return false;
  }
  return true;
}

static const mw_str framing[] = {
    {"transfer-encoding", 17}, {"connection", 10}, {"keep-alive", 10},       {"upgrade", 7},
    {"te", 2},                 {"trailer", 7},     {"proxy-connection", 16}, {"expect", 6},
};

static bool is_framing(mw_str name) {
  for (size_t i = 0; i < sizeof framing / sizeof *framing; i++)
    if (mw_str_eq_nocase(name, framing[i])) return true;
  return false;
}

static int check_header(const mw_http_header *h, size_t body_len, mw_err *err) {
  if (!is_token(h->name)) return mw_err_set(err, MW_EINVALID, "a header's name must be a token like X-Request-Id");
  if (!is_value(h->value))
    return mw_err_set(err, MW_EINVALID, "the header %.*s has a line break or another control character in its value",
                      MW_STR_FMT(h->name));
  if (is_framing(h->name))
    return mw_err_set(err, MW_EINVALID, "the header %.*s is set by the client itself", MW_STR_FMT(h->name));
  uint64_t len;
  if (mw_str_eq_nocase(h->name, MW_STR("content-length")) && !(mw_str_parse_u64(h->value, &len) && len == body_len))
    return mw_err_set(err, MW_EINVALID, "the header Content-Length is set by the client itself, and %.*s is not the body's length",
                      MW_STR_FMT(h->value));
  return 0;
}

static int copy_headers(mw_http_call *call, const mw_http_call_opts *opts, mw_err *err) {
  if (opts->header_count > MW_HTTP_MAX_HEADERS)
    return mw_err_set(err, MW_EINVALID, "more than %d headers", MW_HTTP_MAX_HEADERS);
  size_t total = 0;
  call->headers = mw_arena_alloc(&call->arena, (opts->header_count + 1) * sizeof *call->headers);
  for (size_t i = 0; i < opts->header_count; i++) {
    mw_http_header h = {opts->headers[i].name, mw_str_trim(opts->headers[i].value)};
    int rc = check_header(&h, opts->body.len, err);
    if (rc) return rc;
    total += h.name.len + h.value.len;
    if (total > MW_HTTP_MAX_HEAD) return mw_err_set(err, MW_EINVALID, "the headers are larger than %d bytes", MW_HTTP_MAX_HEAD);
    if (mw_str_eq_nocase(h.name, MW_STR("content-length"))) continue;
    call->headers[call->header_count++] =
        (mw_http_header){mw_arena_str(&call->arena, h.name), mw_arena_str(&call->arena, h.value)};
  }
  return 0;
}

static int set_url(mw_http_call *call, mw_str text, mw_err *err) {
  call->url_text = mw_arena_str(&call->arena, text);
  return mw_url_parse(call->url_text, &call->url, err);
}

static bool has_header(const mw_http_call *call, mw_str name) {
  for (size_t i = 0; i < call->header_count; i++)
    if (mw_str_eq_nocase(call->headers[i].name, name)) return true;
  return false;
}

static bool is_credential(mw_str name) {
  return mw_str_eq_nocase(name, MW_STR("authorization")) || mw_str_eq_nocase(name, MW_STR("cookie")) ||
         mw_str_eq_nocase(name, MW_STR("proxy-authorization")) || mw_str_eq_nocase(name, MW_STR("host"));
}

static int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// user:password of the URL becomes a header (RFC 7617), so that redirects treat both alike.
static void add_basic(mw_http_call *call) {
  mw_str info = call->url.userinfo;
  if (info.len == 0 || has_header(call, MW_STR("authorization"))) return;
  mw_buf plain = MW_BUF_INIT, value = MW_BUF_INIT;
  for (size_t i = 0; i < info.len; i++) {
    bool coded = info.ptr[i] == '%' && i + 2 < info.len && hex(info.ptr[i + 1]) >= 0 && hex(info.ptr[i + 2]) >= 0;
    mw_buf_add_byte(&plain, coded ? (char)(hex(info.ptr[i + 1]) * 16 + hex(info.ptr[i + 2])) : info.ptr[i]);
    if (coded) i += 2;
  }
  if (mw_str_find_byte(info, ':') < 0) mw_buf_add_byte(&plain, ':');
  mw_buf_add_cstr(&value, "Basic ");
  mw_base64_encode(&value, mw_buf_str(&plain), false);
  call->headers[call->header_count++] =
      (mw_http_header){MW_STR("Authorization"), mw_arena_str(&call->arena, mw_buf_str(&value))};
  mw_buf_deinit(&plain);
  mw_buf_deinit(&value);
}

int mw_http_request_prepare(mw_http_call *call, const mw_http_call_opts *opts, mw_err *err) {
  mw_str method = opts->method.len ? opts->method : MW_STR("GET");
  if (!is_token(method) || method.len > 32) return mw_err_set(err, MW_EINVALID, "the method must be a word like GET or POST");
  if (mw_str_eq(method, MW_STR("CONNECT"))) return mw_err_set(err, MW_EINVALID, "the method CONNECT is for proxies");
  call->method = mw_arena_str(&call->arena, method);
  int rc = set_url(call, opts->url, err);
  if (rc == 0) rc = copy_headers(call, opts, err);
  if (rc == 0) add_basic(call);
  // Who asks for codings himself, for a part, or for pieces as they come, gets what came.
  call->decodes = rc == 0 && !opts->on_body && !has_header(call, MW_STR("accept-encoding")) && !has_header(call, MW_STR("range"));
  if (rc == 0 && opts->body.ptr) call->body = mw_arena_str(&call->arena, opts->body);
  return rc;
}

static bool expects_body(mw_str method) {
  return mw_str_eq(method, MW_STR("POST")) || mw_str_eq(method, MW_STR("PUT")) || mw_str_eq(method, MW_STR("PATCH"));
}

void mw_http_request_format(const mw_http_call *call, mw_buf *out) {
  mw_buf_add_str(out, call->method);
  mw_buf_add_byte(out, ' ');
  mw_url_add_target(&call->url, out);
  mw_buf_add_cstr(out, " HTTP/1.1\r\n");
  if (call->left_origin || !has_header(call, MW_STR("host"))) {
    mw_buf_add_cstr(out, "Host: ");
    mw_url_add_authority(&call->url, out);
    mw_buf_add_cstr(out, "\r\n");
  }
  if (!has_header(call, MW_STR("user-agent"))) mw_buf_add_cstr(out, "User-Agent: moonwatch/" MW_VERSION "\r\n");
  if (!has_header(call, MW_STR("accept"))) mw_buf_add_cstr(out, "Accept: */*\r\n");
  if (call->decodes) mw_buf_add_cstr(out, "Accept-Encoding: gzip, deflate\r\n");
  for (size_t i = 0; i < call->header_count; i++) {
    if (call->left_origin && is_credential(call->headers[i].name)) continue;
    mw_buf_add_str(out, call->headers[i].name);
    mw_buf_add_cstr(out, ": ");
    mw_buf_add_str(out, call->headers[i].value);
    mw_buf_add_cstr(out, "\r\n");
  }
  if (call->body.ptr || expects_body(call->method)) mw_buf_printf(out, "Content-Length: %zu\r\n", call->body.len);
  mw_buf_add_cstr(out, "\r\n");
}

bool mw_http_request_is_idempotent(const mw_http_call *call) {
  static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
  for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
    if (mw_str_eq(call->method, mw_str_from(methods[i]))) return true;
  return false;
}

// A GET that was a POST has no body, and no headers that describe one.
static void drop_body(mw_http_call *call) {
  call->method = MW_STR("GET");
  call->body = mw_str_of(NULL, 0);
  size_t kept = 0;
  for (size_t i = 0; i < call->header_count; i++) {
    mw_str name = call->headers[i].name;
    if (name.len >= 8 && mw_str_eq_nocase(mw_str_of(name.ptr, 8), MW_STR("content-"))) continue;
    call->headers[kept++] = call->headers[i];
  }
  call->header_count = kept;
}

int mw_http_request_redirect(mw_http_call *call, int status, mw_str location, mw_err *err) {
  mw_url before = call->url;
  mw_buf text = MW_BUF_INIT;
  int rc = mw_url_resolve(&call->url, location, &text, err);
  if (rc == 0) rc = set_url(call, mw_buf_str(&text), err);
  mw_buf_deinit(&text);
  if (rc) return mw_err_set(err, MW_EPROTOCOL, "the redirect leads nowhere: %s", err->text);
  if (!mw_url_is_same_origin(&before, &call->url)) call->left_origin = true;
  bool is_post = mw_str_eq(call->method, MW_STR("POST"));
  bool is_read = mw_str_eq(call->method, MW_STR("GET")) || mw_str_eq(call->method, MW_STR("HEAD"));
  if ((is_post && (status == 301 || status == 302)) || (status == 303 && !is_read)) drop_body(call);
  return 0;
}
