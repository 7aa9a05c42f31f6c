// SPDX-License-Identifier: MIT
#include "base/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>

// Fetched once: OpenSSL 3 looks an algorithm up by name at every use of EVP_sha256(), which costs more than hashing
// a short text.
static struct { const char *name; EVP_MD *md; } digests[] = {
    {"sha256", NULL}, {"sha1", NULL}, {"sha384", NULL}, {"sha512", NULL}, {"md5", NULL}};

static void fetch_all(void) {
  for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
    digests[i].md = EVP_MD_fetch(NULL, digests[i].name, NULL);
}

static const EVP_MD *find(const char *name) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, fetch_all);
  for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
    if (strcmp(digests[i].name, name) == 0) return digests[i].md;
  return NULL;
}

size_t mw_digest(const char *name, mw_str data, uint8_t *out) {
  const EVP_MD *md = find(name);
  unsigned len = 0;
  if (!md || EVP_Digest(data.len ? data.ptr : "", data.len, out, &len, md, NULL) != 1) return 0;
  return len;
}

size_t mw_digest_hmac(const char *name, mw_str key, mw_str data, uint8_t *out) {
  const EVP_MD *md = find(name);
  unsigned len = 0;
  if (!md || key.len > INT32_MAX) return 0;
  const unsigned char *bytes = (const unsigned char *)(data.len ? data.ptr : "");
  if (!HMAC(md, key.len ? key.ptr : "", (int)key.len, bytes, data.len, out, &len)) return 0;
  return len;
}

void mw_digest_sha256(mw_str data, uint8_t *out) {
  uint8_t whole[MW_DIGEST_MAX];
  if (mw_digest("sha256", data, whole) != MW_SHA256_LEN) abort(); // OpenSSL without SHA-256 cannot serve at all
  memcpy(out, whole, MW_SHA256_LEN);
}

mw_sha256 *mw_sha256_new(void) {
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  if (!ctx || EVP_DigestInit_ex(ctx, find("sha256"), NULL) != 1) abort();
  return (mw_sha256 *)ctx;
}

void mw_sha256_add(mw_sha256 *hash, const void *bytes, size_t len) { EVP_DigestUpdate((EVP_MD_CTX *)hash, bytes, len); }

void mw_sha256_finish(mw_sha256 *hash, uint8_t *out) {
  if (out) EVP_DigestFinal_ex((EVP_MD_CTX *)hash, out, NULL);
  EVP_MD_CTX_free((EVP_MD_CTX *)hash);
}

bool mw_digest_equal(mw_str a, mw_str b) {
  return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}

void mw_hex_encode(mw_buf *out, mw_str data) {
  static const char hex[] = "0123456789abcdef";
  char *to = mw_buf_reserve(out, data.len * 2);
  for (size_t i = 0; i < data.len; i++) {
    *to++ = hex[(unsigned char)data.ptr[i] >> 4];
    *to++ = hex[data.ptr[i] & 15];
  }
  out->len += data.len * 2;
}

static int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool mw_hex_decode(mw_buf *out, mw_str text) {
  if (text.len % 2) return false;
  char *to = mw_buf_reserve(out, text.len / 2);
  for (size_t i = 0; i < text.len; i += 2) {
    int high = hex_value(text.ptr[i]), low = hex_value(text.ptr[i + 1]);
    if (high < 0 || low < 0) return false;
    *to++ = (char)(high << 4 | low);
  }
  out->len += text.len / 2;
  return true;
}

void mw_base64_encode(mw_buf *out, mw_str data, bool url) {
  static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const char *letters = url ? safe : standard;
  const unsigned char *p = (const unsigned char *)data.ptr;
  char *begin = mw_buf_reserve(out, (data.len + 2) / 3 * 4), *to = begin;
  size_t left = data.len;
  for (; left >= 3; p += 3, left -= 3) {
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    *to++ = letters[bits >> 18];
    *to++ = letters[bits >> 12 & 63];
    *to++ = letters[bits >> 6 & 63];
    *to++ = letters[bits & 63];
  }
  if (left) {
    uint32_t bits = (uint32_t)p[0] << 16 | (left == 2 ? (uint32_t)p[1] << 8 : 0);
    *to++ = letters[bits >> 18];
    *to++ = letters[bits >> 12 & 63];
    if (left == 2) *to++ = letters[bits >> 6 & 63];
    for (size_t pad = left; !url && pad < 3; pad++) *to++ = '=';
  }
  out->len += (size_t)(to - begin);
}

static int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;
  if (c == '/' || c == '_') return 63;
  return -1;
}

bool mw_base64_decode(mw_buf *out, mw_str text) {
  size_t pads = 0;
  while (text.len && pads < 2 && text.ptr[text.len - 1] == '=') text.len--, pads++;
  if (text.len % 4 == 1 || (pads && (text.len + pads) % 4)) return false;
  char *begin = mw_buf_reserve(out, text.len / 4 * 3 + 2), *to = begin;
  uint32_t bits = 0;
  int have = 0;
  for (size_t i = 0; i < text.len; i++) {
    int value = base64_value(text.ptr[i]);
    if (value < 0) return false;
    bits = bits << 6 | (uint32_t)value;
    have += 6;
    if (have < 8) continue;
    have -= 8;
    *to++ = (char)(bits >> have);
  }
  if (bits & ((1u << have) - 1)) return false; // two texts would mean the same bytes
  out->len += (size_t)(to - begin);
  return true;
}
