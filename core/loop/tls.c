// SPDX-License-Identifier: MIT
#include "loop/tls.h"

#include <openssl/err.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/alloc.h"
#include "loop/stream_impl.h"

struct mw_tls_context {
  atomic_int refs;
  SSL_CTX *ctx;
  bool insecure;
};

// The reason of the oldest OpenSSL error of this thread; empties the queue.
static const char *openssl_reason(void) {
  const char *reason = ERR_reason_error_string(ERR_get_error());
  ERR_clear_error();
  return reason ? reason : "unknown reason";
}

static mw_tls_context *context_new(const SSL_METHOD *method) {
  SSL_CTX *ctx = SSL_CTX_new(method);
  if (!ctx) return NULL;
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); // an idle connection keeps no record buffers
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  mw_tls_context *context = MW_NEW(mw_tls_context);
  atomic_store(&context->refs, 1);
  context->ctx = ctx;
  return context;
}

int mw_tls_client_new(const mw_tls_client_opts *opts, mw_tls_context **out, mw_err *err) {
  ERR_clear_error();
  mw_tls_context *context = context_new(TLS_client_method());
  if (!context) return mw_err_set(err, MW_ETLS, "cannot set up TLS: %s", openssl_reason());
  context->insecure = opts->insecure;
  SSL_CTX_set_verify(context->ctx, opts->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
  int ok = opts->insecure ? 1
           : opts->ca_file ? SSL_CTX_load_verify_locations(context->ctx, opts->ca_file, NULL)
                           : SSL_CTX_set_default_verify_paths(context->ctx);
  if (!ok) {
    const char *file = opts->ca_file ? opts->ca_file : "the system's certificates";
    mw_err_set(err, MW_ETLS, "cannot load certificates from %s: %s", file, openssl_reason());
    mw_tls_unref(context);
    return MW_ETLS;
  }
  ERR_clear_error();
  *out = context;
  return 0;
}

static int load_files(SSL_CTX *ctx, const mw_tls_server_opts *opts, mw_err *err) {
  if (access(opts->cert_file, R_OK)) return mw_err_set(err, MW_ETLS, "cannot read the certificate file %s", opts->cert_file);
  if (access(opts->key_file, R_OK)) return mw_err_set(err, MW_ETLS, "cannot read the key file %s", opts->key_file);
  if (SSL_CTX_use_certificate_chain_file(ctx, opts->cert_file) != 1)
    return mw_err_set(err, MW_ETLS, "%s holds no usable certificate (PEM, leaf first): %s", opts->cert_file, openssl_reason());
  // OpenSSL compares the key with the certificate here already.
  if (SSL_CTX_use_PrivateKey_file(ctx, opts->key_file, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
    return mw_err_set(err, MW_ETLS, "%s is not the key (PEM) of the certificate %s: %s", opts->key_file, opts->cert_file,
                      openssl_reason());
  return 0;
}

int mw_tls_server_new(const mw_tls_server_opts *opts, mw_tls_context **out, mw_err *err) {
  ERR_clear_error();
  mw_tls_context *context = context_new(TLS_server_method());
  if (!context) return mw_err_set(err, MW_ETLS, "cannot set up TLS: %s", openssl_reason());
  int rc = load_files(context->ctx, opts, err);
  if (rc) {
    mw_tls_unref(context);
    return rc;
  }
  SSL_CTX_set_options(context->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
  static const unsigned char id[] = "moonwatch";
  SSL_CTX_set_session_id_context(context->ctx, id, sizeof id - 1);
  *out = context;
  return 0;
}

mw_tls_context *mw_tls_ref(mw_tls_context *context) {
  atomic_fetch_add(&context->refs, 1);
  return context;
}

void mw_tls_unref(mw_tls_context *context) {
  if (!context || atomic_fetch_sub(&context->refs, 1) != 1) return;
  SSL_CTX_free(context->ctx);
  mw_free(context);
}

SSL_CTX *mw_tls_ssl_ctx(const mw_tls_context *context) { return context->ctx; }
bool mw_tls_is_insecure(const mw_tls_context *context) { return context->insecure; }
