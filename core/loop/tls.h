// SPDX-License-Identifier: MIT
#pragma once

// mw_tls_context: certificates and trust for TLS streams (OpenSSL 3, TLS 1.2 and 1.3). Made once, shared by streams of any
// thread, reference-counted. Thread-safe.
//
//   mw_tls_context *tls; mw_tls_client_new(&(mw_tls_client_opts){0}, &tls, &err);
//
// A server's context holds pairs of certificate and key. A client gets the pair whose certificate has the name it asks for (SNI): as it
// is first, then by a wildcard, else the first pair. mw_tls_server_load puts other files in their place while connections go on. Sessions
// are resumed by tickets on whatever thread the client comes back; their keys are drawn here and change every hour.

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define MW_TLS_MAX_PAIRS 1000
#define MW_TLS_MAX_FILE_BYTES (1024 * 1024)

typedef struct mw_tls_context mw_tls_context;

typedef struct mw_tls_client_opts {
  const char *ca_file; /**< NULL: the system's certificates. */
  bool insecure;       /**< Do not verify. Only for a caller who asked for it by name. */
} mw_tls_client_opts;

typedef struct mw_tls_pair {
  const char *cert_file; /**< PEM, leaf first. */
  const char *key_file;  /**< PEM without a passphrase; may be the same file. */
} mw_tls_pair;

typedef struct mw_tls_server_opts {
  const mw_tls_pair *pairs; /**< At least one; the first is the default. Borrowed until the call returns. */
  size_t count;
  bool only_13;             /**< Refuse TLS 1.2. */
  const char *alpn;         /**< The protocol spoken ("http/1.1"); a client that offers only others is refused. NULL: not looked at. Static. */
  const char *plain_answer; /**< Sent as it is to a client that speaks HTTP without TLS. NULL: it is cut off. Static. */
  /** What is no reason to refuse: a certificate that has expired or is about to, a key that others can read. May be NULL. Called before the call returns. */
  void (*warn)(const char *text, void *arg);
  void *arg;
} mw_tls_server_opts;

int mw_tls_client_new(const mw_tls_client_opts *opts, mw_tls_context **out, mw_err *err);
/** Reads the files (it blocks). MW_ETLS with the file and what is wrong with it: missing, unreadable, no PEM, of another pair, too weak. */
int mw_tls_server_new(const mw_tls_server_opts *opts, mw_tls_context **out, mw_err *err);
/** Reads the files again, or others: streams opened from now on use them, and tickets stay good. After a failure nothing has changed. */
int mw_tls_server_load(mw_tls_context *context, const mw_tls_server_opts *opts, mw_err *err);
mw_tls_context *mw_tls_ref(mw_tls_context *context);
void mw_tls_unref(mw_tls_context *context);
