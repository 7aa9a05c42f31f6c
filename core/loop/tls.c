// SPDX-License-Identifier: MIT
#include "loop/tls.h"

#include <openssl/err.h>

#include "base/alloc.h"
#include "loop/tls_impl.h"

const char *mw_tls_reason(void) {
  const char *reason = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  return reason ? reason : "unknown reason";
}

SSL_CTX *mw_tls_ctx_new(const SSL_METHOD *method) {
  SSL_CTX *ctx = SSL_CTX_new(method);
  if (!ctx) return NULL;
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); // an idle connection keeps no record buffers
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  return ctx;
}

mw_tls_context *mw_tls_context_new(SSL_CTX *take_ctx) {
  mw_tls_context *context = MW_NEW(mw_tls_context);
  atomic_store(&context->refs, 1);
  pthread_mutex_init(&context->lock, NULL);
  context->ctx = take_ctx;
  return context;
}

int mw_tls_client_new(const mw_tls_client_opts *opts, mw_tls_context **out, mw_err *err) {
  ERR_clear_error();
  SSL_CTX *ctx = mw_tls_ctx_new(TLS_client_method());
  if (!ctx) return mw_err_set(err, MW_ETLS, "cannot set up TLS: %s", mw_tls_reason());
  SSL_CTX_set_verify(ctx, opts->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
  int ok = opts->insecure ? 1
           : opts->ca_file ? SSL_CTX_load_verify_locations(ctx, opts->ca_file, NULL)
                           : SSL_CTX_set_default_verify_paths(ctx);
  if (!ok) {
    const char *file = opts->ca_file ? opts->ca_file : "the system's certificates";
    mw_err_set(err, MW_ETLS, "cannot load certificates from %s: %s", file, mw_tls_reason());
    SSL_CTX_free(ctx);
    return MW_ETLS;
  }
  ERR_clear_error();
  *out = mw_tls_context_new(ctx);
  (*out)->insecure = opts->insecure;
  return 0;
}

SSL *mw_tls_ssl_new(mw_tls_context *context) {
  pthread_mutex_lock(&context->lock);
  SSL_CTX *ctx = context->ctx;
  SSL_CTX_up_ref(ctx);
  pthread_mutex_unlock(&context->lock);
  SSL *ssl = SSL_new(ctx);
  SSL_CTX_free(ctx);
  return ssl;
}

mw_tls_context *mw_tls_ref(mw_tls_context *context) {
  atomic_fetch_add(&context->refs, 1);
  return context;
}

void mw_tls_unref(mw_tls_context *context) {
  if (!context || atomic_fetch_sub(&context->refs, 1) != 1) return;
  SSL_CTX_free(context->ctx);
  mw_tls_tickets_unref(context->tickets);
  pthread_mutex_destroy(&context->lock);
  mw_free(context);
}
