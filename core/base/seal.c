// SPDX-License-Identifier: MIT
#include "base/seal.h"

#include <limits.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/rand.h"

enum { NONCE_LEN = 12, TAG_LEN = 16 };

static bool encrypt(EVP_CIPHER_CTX *ctx, const void *key, unsigned char *to, mw_str text) {
  int len = 0, rest = 0;
  unsigned char *cipher = to + NONCE_LEN;
  return EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, to) == 1 &&
         EVP_EncryptUpdate(ctx, cipher, &len, (const unsigned char *)text.ptr, (int)text.len) == 1 &&
         EVP_EncryptFinal_ex(ctx, cipher + len, &rest) == 1 &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_LEN, cipher + text.len) == 1;
}

bool mw_seal(mw_buf *out, const void *key, mw_str text) {
  if (text.len > INT_MAX - NONCE_LEN - TAG_LEN) return false;
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  unsigned char *to = (unsigned char *)mw_buf_reserve(out, NONCE_LEN + text.len + TAG_LEN);
  mw_rand_bytes(to, NONCE_LEN);
  bool ok = ctx && encrypt(ctx, key, to, text);
  if (ok) out->len += NONCE_LEN + text.len + TAG_LEN;
  EVP_CIPHER_CTX_free(ctx);
  return ok;
}

static bool decrypt(EVP_CIPHER_CTX *ctx, const void *key, unsigned char *to, mw_str sealed) {
  int len = 0, rest = 0;
  const unsigned char *from = (const unsigned char *)sealed.ptr;
  int text_len = (int)sealed.len - NONCE_LEN - TAG_LEN;
  return EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, from) == 1 &&
         EVP_DecryptUpdate(ctx, to, &len, from + NONCE_LEN, text_len) == 1 &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_LEN, (void *)(from + NONCE_LEN + text_len)) == 1 &&
         EVP_DecryptFinal_ex(ctx, to + len, &rest) == 1;
}

bool mw_seal_open(mw_buf *out, const void *key, mw_str sealed) {
  if (sealed.len < NONCE_LEN + TAG_LEN || sealed.len > INT_MAX) return false;
  EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
  size_t len = sealed.len - NONCE_LEN - TAG_LEN;
  unsigned char *to = (unsigned char *)mw_buf_reserve(out, len + 1);
  bool ok = ctx && decrypt(ctx, key, to, sealed);
  if (ok) out->len += len;
  EVP_CIPHER_CTX_free(ctx);
  return ok;
}
