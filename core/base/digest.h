// SPDX-License-Identifier: MIT
#pragma once

// Digests, HMAC, base64, hex, constant-time compare; OpenSSL does the work. Thread-safe.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define MW_DIGEST_MAX 64
#define MW_SHA256_LEN 32

/* ffi-begin */
/** Hashes `data` with "sha256", "sha1", "sha384", "sha512" or "md5" into `out` (room for MW_DIGEST_MAX). Returns the digest's
 *  length, or 0 for an unknown name. */
size_t mw_digest(const char *name, mw_str data, uint8_t *out);
/** Computes an HMAC (RFC 2104) with the same names into `out` (room for MW_DIGEST_MAX). Returns its length, or 0. */
size_t mw_digest_hmac(const char *name, mw_str key, mw_str data, uint8_t *out);
/** The same for the one that is always there; `out` has MW_SHA256_LEN bytes. */
void mw_digest_sha256(mw_str data, uint8_t *out);
/** SHA-256 of what comes in pieces. `mw_sha256_finish` writes MW_SHA256_LEN bytes (`out` may be NULL) and frees it. */
typedef struct mw_sha256 mw_sha256;
mw_sha256 *mw_sha256_new(void);
void mw_sha256_add(mw_sha256 *hash, const void *bytes, size_t len);
void mw_sha256_finish(mw_sha256 *hash, uint8_t *out);
/** Compares without telling by time where they differ; the lengths are not secret. */
bool mw_digest_equal(mw_str a, mw_str b);

void mw_hex_encode(mw_buf *out, mw_str data);
/** Decodes either case; returns false (nothing appended) on an odd length or a foreign character. */
bool mw_hex_decode(mw_buf *out, mw_str text);
/** Encodes with padding, or in the URL alphabet without it (RFC 4648 sections 4 and 5). */
void mw_base64_encode(mw_buf *out, mw_str data, bool url);
/** Decodes both alphabets, with or without padding; returns false (nothing appended) on anything else. */
bool mw_base64_decode(mw_buf *out, mw_str text);
/* ffi-end */
