// SPDX-License-Identifier: MIT
#pragma once

// The inside of mw_tls_context, for tls*.c and stream_tls.c only.

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "loop/tls.h"

typedef struct mw_tls_tickets mw_tls_tickets;

struct mw_tls_context {
  atomic_int refs;
  pthread_mutex_t lock; // for `ctx`
  SSL_CTX *ctx;         // of a server: that of the first pair, which owns those of the others
  mw_tls_tickets *tickets;
  const char *plain_answer;
  bool insecure;
};

/** A context with what holds for both sides; NULL when OpenSSL has none. */
SSL_CTX *mw_tls_ctx_new(const SSL_METHOD *method);
mw_tls_context *mw_tls_context_new(SSL_CTX *take_ctx);
/** The reason of the oldest OpenSSL error of this thread; empties the queue. */
const char *mw_tls_reason(void);
/** A connection's state with the certificates of now; NULL when there is no memory. */
SSL *mw_tls_ssl_new(mw_tls_context *context);

/** Keys for session tickets, shared by contexts; reference-counted, thread-safe. */
mw_tls_tickets *mw_tls_tickets_new(void);
mw_tls_tickets *mw_tls_tickets_ref(mw_tls_tickets *tickets);
void mw_tls_tickets_unref(mw_tls_tickets *tickets);
/** Makes a context's tickets come from `tickets`, which it holds. */
void mw_tls_tickets_use(mw_tls_tickets *tickets, SSL_CTX *ctx);
