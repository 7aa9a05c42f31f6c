// SPDX-License-Identifier: MIT

// TLS between a stream and its wire. OpenSSL reads and writes two memory BIOs; the stream moves their bytes:
//
//   wire -> feed -> in BIO -> SSL_read -> deliver       write -> SSL_write -> out BIO -> flush -> wire
//
// Decrypted bytes go through the loop's read buffer as well: by then the BIO has its copy of what was read into it.

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"
#include "loop/stream_impl.h"
#include "loop/tls_impl.h"

#define CHUNK_BYTES (64 * 1024) // encrypted at once; bounds what the out BIO keeps

struct mw_stream_tls {
  SSL *ssl;
  BIO *in, *out; // owned by ssl
  mw_stream *stream;
  mw_timer kick;
  mw_buf early; // written before the handshake was done
  char *peer_name;
  const char *plain_answer; // static; NULL: none
  bool is_server, established, notified;
};

static void on_kick(mw_timer *timer, void *arg);

// The client's expectations: SNI, and a certificate for that name or address.
static int expect_name(mw_stream_tls *tls, const mw_address *peer, const char *name, bool insecure) {
  char host[MW_ADDRESS_TEXT];
  mw_address ip;
  if (!name || !*name) {
    mw_address_format_host(peer, host);
    name = host;
  }
  tls->peer_name = mw_strdup(name);
  X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
  if (mw_address_from_host(name, 0, &ip)) {
    mw_address_format_host(&ip, host); // without the brackets of [::1]
    return insecure || X509_VERIFY_PARAM_set1_ip_asc(param, host) ? 0 : MW_ETLS;
  }
  if (!SSL_set_tlsext_host_name(tls->ssl, (char *)name)) return MW_ETLS;
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return insecure || X509_VERIFY_PARAM_set1_host(param, name, 0) ? 0 : MW_ETLS;
}

int mw_stream_tls_open(mw_stream *s, mw_tls_context *context, bool is_server, const char *server_name) {
  ERR_clear_error();
  SSL *ssl = mw_tls_ssl_new(context);
  if (!ssl) return MW_ETLS;
  mw_stream_tls *tls = MW_NEW(mw_stream_tls);
  tls->ssl = ssl;
  tls->stream = s;
  tls->is_server = is_server;
  tls->plain_answer = context->plain_answer;
  tls->in = BIO_new(BIO_s_mem());
  tls->out = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(tls->in, -1);
  SSL_set_bio(ssl, tls->in, tls->out);
  mw_timer_init(&tls->kick, on_kick, tls);
  s->tls = tls;
  if (is_server) {
    SSL_set_accept_state(ssl);
    return 0;
  }
  SSL_set_connect_state(ssl);
  return expect_name(tls, &s->peer, server_name, context->insecure);
}

void mw_stream_tls_free(mw_stream_tls *tls) {
  if (!tls) return;
  mw_timer_stop(&tls->kick);
  SSL_free(tls->ssl);
  mw_buf_deinit(&tls->early);
  mw_free(tls->peer_name);
  mw_free(tls);
}

bool mw_stream_tls_is_established(const mw_stream_tls *tls) { return tls->established; }
const char *mw_stream_tls_protocol(const mw_stream_tls *tls) { return SSL_get_version(tls->ssl); }

// Hands what OpenSSL produced to the wire.
static int flush(mw_stream *s) {
  char *bytes;
  long len = BIO_get_mem_data(s->tls->out, &bytes);
  if (len <= 0) return 0;
  int rc = mw_stream_write_raw(s, mw_str_of(bytes, (size_t)len), mw_str_of(NULL, 0));
  (void)BIO_reset(s->tls->out);
  return rc;
}

static void fail_verification(mw_stream *s, long result) {
  const char *name = s->tls->peer_name;
  switch (result) {
  case X509_V_ERR_HOSTNAME_MISMATCH:
  case X509_V_ERR_IP_ADDRESS_MISMATCH:
    mw_stream_fail(s, MW_ETLS, "the certificate that %s showed is for another name", name);
    return;
  case X509_V_ERR_CERT_HAS_EXPIRED:
    mw_stream_fail(s, MW_ETLS, "the certificate of %s has expired", name);
    return;
  case X509_V_ERR_CERT_NOT_YET_VALID:
    mw_stream_fail(s, MW_ETLS, "the certificate of %s is not valid yet (is the clock right?)", name);
    return;
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    mw_stream_fail(s, MW_ETLS, "the certificate of %s is self-signed and not trusted", name);
    return;
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    mw_stream_fail(s, MW_ETLS, "the certificate of %s is signed by an authority that is not trusted here", name);
    return;
  default:
    mw_stream_fail(s, MW_ETLS, "the certificate of %s was refused: %s", name, X509_verify_cert_error_string(result));
  }
}

static void fail(mw_stream *s) {
  mw_stream_tls *tls = s->tls;
  unsigned long code = ERR_get_error();
  ERR_clear_error();
  flush(s); // the alert that says why
  if (s->closing) return;
  if (ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST && tls->plain_answer) {
    mw_stream_write_raw(s, mw_str_from(tls->plain_answer), mw_str_of(NULL, 0));
    if (s->closing) return;
  }
  long verify = SSL_get_verify_result(tls->ssl);
  if (!tls->is_server && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verify != X509_V_OK) {
    fail_verification(s, verify);
    return;
  }
  const char *reason = ERR_reason_error_string(code);
  const char *who = tls->is_server ? "the client" : tls->peer_name;
  if (tls->established) mw_stream_fail(s, MW_ETLS, "TLS with %s broke: %s", who, reason ? reason : "unknown reason");
  else mw_stream_fail(s, MW_ETLS, "no TLS handshake with %s: %s", who, reason ? reason : "unknown reason");
}

static int encrypt(mw_stream *s, mw_str data) {
  while (data.len) {
    size_t len = data.len < CHUNK_BYTES ? data.len : CHUNK_BYTES;
    ERR_clear_error();
    if (SSL_write(s->tls->ssl, data.ptr, (int)len) <= 0) {
      fail(s);
      return MW_ETLS;
    }
    data = mw_str_of(data.ptr + len, data.len - len);
    if (!data.len) break;
    int rc = flush(s);
    if (rc) return rc;
  }
  return 0;
}

int mw_stream_tls_write(mw_stream *s, mw_str head, mw_str body) {
  mw_stream_tls *tls = s->tls;
  if (!tls->established) {
    if (tls->early.len && tls->early.len + head.len + body.len > MW_STREAM_MAX_QUEUED) {
      mw_stream_fail(s, MW_ELIMIT, "too much was written before the TLS handshake was done");
      return MW_ELIMIT;
    }
    if (head.len) mw_buf_add(&tls->early, head.ptr, head.len);
    if (body.len) mw_buf_add(&tls->early, body.ptr, body.len);
    return 0;
  }
  int rc = encrypt(s, head);
  if (rc == 0) rc = encrypt(s, body);
  return rc ? rc : flush(s);
}

void mw_stream_tls_notify(mw_stream *s) {
  mw_stream_tls *tls = s->tls;
  if (!tls->established || tls->notified || s->broken) return;
  tls->notified = true;
  ERR_clear_error();
  SSL_shutdown(tls->ssl);
  ERR_clear_error();
  flush(s);
}

static void established(mw_stream *s) {
  mw_stream_tls *tls = s->tls;
  tls->established = true;
  mw_buf early = tls->early;
  tls->early = (mw_buf)MW_BUF_INIT;
  if (early.len) mw_stream_tls_write(s, mw_buf_str(&early), mw_str_of(NULL, 0));
  mw_buf_deinit(&early);
  if (s->closing) return;
  if (s->ending) mw_stream_tls_notify(s);
  if (!s->closing) mw_stream_ready(s);
}

// Returns true when the handshake is done (now or before).
static bool shake(mw_stream *s) {
  mw_stream_tls *tls = s->tls;
  if (tls->established) return true;
  ERR_clear_error();
  int rc = SSL_do_handshake(tls->ssl);
  if (rc != 1 && SSL_get_error(tls->ssl, rc) != SSL_ERROR_WANT_READ) {
    fail(s);
    return false;
  }
  flush(s);
  if (rc == 1 && !s->closing) established(s);
  return rc == 1;
}

static void pump(mw_stream *s) {
  if (!shake(s)) return;
  mw_stream_tls *tls = s->tls;
  while (mw_stream_wants_data(s)) {
    ERR_clear_error();
    int n = SSL_read(tls->ssl, s->loop->read_buffer, sizeof s->loop->read_buffer);
    if (n > 0) {
      mw_stream_deliver(s, mw_str_of(s->loop->read_buffer, (size_t)n));
      continue;
    }
    int why = SSL_get_error(tls->ssl, n);
    if (why == SSL_ERROR_ZERO_RETURN) mw_stream_got_end(s);
    else if (why != SSL_ERROR_WANT_READ) fail(s);
    break;
  }
  if (!s->closing) flush(s); // answers to key updates
}

static void on_kick(mw_timer *timer, void *arg) {
  mw_stream *s = ((mw_stream_tls *)arg)->stream;
  if (!s->closing) pump(s);
}

void mw_stream_tls_kick(mw_stream *s) {
  mw_stream_tls *tls = s->tls;
  if (tls->established && (BIO_pending(tls->in) || SSL_has_pending(tls->ssl))) mw_timer_start(s->loop, &tls->kick, 0);
}

void mw_stream_tls_start(mw_stream *s) { pump(s); }

void mw_stream_tls_feed(mw_stream *s, mw_str data) {
  BIO_write(s->tls->in, data.ptr, (int)data.len);
  pump(s);
}

void mw_stream_tls_wire_end(mw_stream *s) {
  if (!s->tls->established) {
    const char *who = s->tls->is_server ? "the client" : s->tls->peer_name;
    mw_stream_fail(s, MW_ETLS, "no TLS handshake with %s: it closed the connection", who);
  } else if (s->finishing || (SSL_get_shutdown(s->tls->ssl) & SSL_RECEIVED_SHUTDOWN)) {
    mw_stream_got_end(s);
  } else {
    mw_stream_fail(s, MW_ECLOSED, "the peer closed the TLS connection without saying goodbye: the data may be cut short");
  }
}
