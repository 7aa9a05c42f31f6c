// SPDX-License-Identifier: MIT
#pragma once

// mw_tls_context: certificates and trust for TLS streams (OpenSSL 3, TLS 1.2 and 1.3). Made once, shared by streams of any
// thread, reference-counted. Thread-safe.
//
//   mw_tls_context *tls; mw_tls_client_new(&(mw_tls_client_opts){0}, &tls, &err);

#include <stdbool.h>

#include "base/err.h"

typedef struct mw_tls_context mw_tls_context;

typedef struct mw_tls_client_opts {
  const char *ca_file; /**< NULL: the system's certificates. */
  bool insecure;       /**< Do not verify. Only for a caller who asked for it by name. */
} mw_tls_client_opts;

typedef struct mw_tls_server_opts {
  const char *cert_file; /**< PEM, leaf first. */
  const char *key_file;
} mw_tls_server_opts;

int mw_tls_client_new(const mw_tls_client_opts *opts, mw_tls_context **out, mw_err *err);
int mw_tls_server_new(const mw_tls_server_opts *opts, mw_tls_context **out, mw_err *err);
mw_tls_context *mw_tls_ref(mw_tls_context *context);
void mw_tls_unref(mw_tls_context *context);
