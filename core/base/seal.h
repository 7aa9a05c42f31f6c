// SPDX-License-Identifier: MIT
#pragma once

// Authenticated encryption of short texts: AES-256-GCM (NIST SP 800-38D) by OpenSSL, with a random nonce of 96 bits before and the tag of 128 bits
// behind the text. Thread-safe. A key is good for some billions of texts.

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

#define MW_SEAL_KEY_LEN 32

/** Appends the sealed `text` to `out`. `key` has MW_SEAL_KEY_LEN bytes. False when OpenSSL refuses, with nothing appended. */
bool mw_seal(mw_buf *out, const void *key, mw_str text);
/** Appends what was sealed; false (nothing appended) when it was sealed with another key, or was changed. */
bool mw_seal_open(mw_buf *out, const void *key, mw_str sealed);
