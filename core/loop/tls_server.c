// SPDX-License-Identifier: MIT

// The server's side: pairs of certificate and key, each an SSL_CTX of its own, and the choice among them by the name a client asks
// for. The context of the first pair (the default) owns the table of names and the others, so that they live as long as any connection
// that began with them, whatever was loaded since.

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/map.h"
#include "base/str.h"
#include "loop/tls_impl.h"

#define MAX_NAME 255
#define SOON_DAYS 14

// Forward secrecy and authenticated encryption only; the order of TLS 1.3 is OpenSSL's own.
static const char ciphers[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
                              "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char groups[] = "X25519:P-256:P-384";

typedef struct pairs {
  mw_map names; // "www.example.com", "*.example.com" -> SSL_CTX
  SSL_CTX **others;
  size_t count;
} pairs;

static int ctx_slot = -1;
static pthread_once_t slot_once = PTHREAD_ONCE_INIT;

static void free_pairs(pairs *all) {
  if (!all) return;
  for (size_t i = 0; i < all->count; i++) SSL_CTX_free(all->others[i]);
  mw_free(all->others);
  mw_map_deinit(&all->names);
  mw_free(all);
}

static void drop_with_ctx(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp) { free_pairs(ptr); }
static void make_slot(void) { ctx_slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, drop_with_ctx); }

/* ---- what a client asks for ---- */

static mw_str normal_name(const char *name, size_t len, char room[MAX_NAME + 1]) {
  if (len && name[len - 1] == '.') len--;
  if (!len || len > MAX_NAME) return mw_str_of(NULL, 0);
  for (size_t i = 0; i < len; i++) room[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
  room[len] = 0;
  return mw_str_of(room, len);
}

static SSL_CTX *find_by_name(const pairs *all, const char *asked) {
  char room[MAX_NAME + 1];
  mw_str name = normal_name(asked, strlen(asked), room);
  if (!name.len || room[0] == '*') return NULL;
  SSL_CTX *found = mw_map_get(&all->names, name);
  ptrdiff_t dot = mw_str_find_byte(name, '.');
  if (found || dot < 1) return found;
  room[dot - 1] = '*';
  return mw_map_get(&all->names, mw_str_of(room + dot - 1, name.len - (size_t)dot + 1));
}

static int on_server_name(SSL *ssl, int *alert, void *arg) {
  const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  SSL_CTX *found = asked ? find_by_name(arg, asked) : NULL;
  if (!found) return SSL_TLSEXT_ERR_NOACK;
  SSL_set_SSL_CTX(ssl, found);
  return SSL_TLSEXT_ERR_OK;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *offered, unsigned len, void *arg) {
  size_t own = strlen(arg);
  for (unsigned at = 0; at < len; at += 1u + offered[at]) {
    if (offered[at] != own || at + 1 + own > len || memcmp(offered + at + 1, arg, own) != 0) continue;
    *out = offered + at + 1;
    *out_len = (unsigned char)own;
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL; // no_application_protocol, RFC 7301 section 3.2
}

/* ---- files ---- */

static void warn(const mw_tls_server_opts *opts, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(const mw_tls_server_opts *opts, const char *format, ...) {
  char text[600];
  va_list args;
  if (!opts->warn) return;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  opts->warn(text, opts->arg);
}

static int check_file(const char *path, const char *what, struct stat *st, mw_err *err) {
  if (stat(path, st) || access(path, R_OK)) return mw_err_set(err, MW_ETLS, "cannot read the %s file %s: %s", what, path, mw_err_text(-errno));
  if (!S_ISREG(st->st_mode)) return mw_err_set(err, MW_ETLS, "the %s file %s is no file", what, path);
  if (st->st_size > MW_TLS_MAX_FILE_BYTES) return mw_err_set(err, MW_ETLS, "the %s file %s is larger than 1 MiB", what, path);
  return 0;
}

static int no_passphrase(char *buf, int size, int rwflag, void *arg) {
  *(bool *)arg = true;
  return -1;
}

static int load_key(SSL_CTX *ctx, const mw_tls_pair *pair, mw_err *err) {
  bool is_encrypted = false;
  SSL_CTX_set_default_passwd_cb(ctx, no_passphrase); // it would ask the terminal
  SSL_CTX_set_default_passwd_cb_userdata(ctx, &is_encrypted);
  // OpenSSL compares the key with the certificate here already.
  bool ok = SSL_CTX_use_PrivateKey_file(ctx, pair->key_file, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(ctx) == 1;
  SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
  SSL_CTX_set_default_passwd_cb(ctx, NULL);
  if (ok) return 0;
  if (is_encrypted)
    return mw_err_set(err, MW_ETLS, "the key file %s has a passphrase; store it without one: openssl pkey -in %s -out NEW", pair->key_file,
                      pair->key_file);
  return mw_err_set(err, MW_ETLS, "%s is not the key (PEM) of the certificate %s: %s", pair->key_file, pair->cert_file, mw_tls_reason());
}

// The sixth part of a certificate's life, at most two weeks: whoever renews at a third is late by then.
static void warn_of_end(const mw_tls_server_opts *opts, const char *file, const X509 *leaf) {
  int days = 0, seconds = 0, life_days = 0, life_seconds = 0;
  if (!ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(leaf))) return;
  if (!ASN1_TIME_diff(&life_days, &life_seconds, X509_get0_notBefore(leaf), X509_get0_notAfter(leaf))) return;
  double left = days + seconds / 86400.0, soon = (life_days + life_seconds / 86400.0) / 6;
  if (left < 0) warn(opts, "the certificate %s has expired", file);
  else if (left < (soon < SOON_DAYS ? soon : SOON_DAYS)) warn(opts, "the certificate %s expires in %.1f days: it should have been renewed", file, left);
}

static void look_at_pair(const mw_tls_server_opts *opts, const mw_tls_pair *pair, SSL_CTX *ctx, const struct stat *key) {
  X509 *leaf = SSL_CTX_get0_certificate(ctx);
  warn_of_end(opts, pair->cert_file, leaf);
  if (X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0)
    warn(opts, "the certificate %s is not valid yet (is the clock right?)", pair->cert_file);
  if (key->st_mode & 077)
    warn(opts, "the key file %s can be read by others than its owner (mode %04o): chmod 600 it", pair->key_file, key->st_mode & 07777u);
}

static int load_pair(const mw_tls_server_opts *opts, const mw_tls_pair *pair, mw_tls_tickets *tickets, SSL_CTX **out, mw_err *err) {
  struct stat cert, key;
  int rc = check_file(pair->cert_file, "certificate", &cert, err);
  if (!rc) rc = check_file(pair->key_file, "key", &key, err);
  if (rc) return rc;
  ERR_clear_error();
  SSL_CTX *ctx = mw_tls_ctx_new(TLS_server_method());
  if (!ctx) return mw_err_set(err, MW_ETLS, "cannot set up TLS: %s", mw_tls_reason());
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_security_level(ctx, 2); // 112 bits: no RSA below 2048, no SHA-1
  if (opts->only_13) SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
  SSL_CTX_set_cipher_list(ctx, ciphers);
  SSL_CTX_set1_groups_list(ctx, groups);
  static const unsigned char id[] = "moonwatch";
  SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1);
  if (opts->alpn) SSL_CTX_set_alpn_select_cb(ctx, on_alpn, (void *)opts->alpn);
  mw_tls_tickets_use(tickets, ctx);
  if (SSL_CTX_use_certificate_chain_file(ctx, pair->cert_file) != 1)
    rc = mw_err_set(err, MW_ETLS, "%s holds no usable certificate (PEM, leaf first): %s", pair->cert_file, mw_tls_reason());
  if (!rc) rc = load_key(ctx, pair, err);
  ERR_clear_error();
  if (rc) {
    SSL_CTX_free(ctx);
    return rc;
  }
  look_at_pair(opts, pair, ctx, &key);
  *out = ctx;
  return 0;
}

/* ---- names ---- */

static bool add_name(pairs *all, SSL_CTX *ctx, const char *name, size_t len) {
  char room[MAX_NAME + 1];
  mw_str key = normal_name(name, len, room);
  if (!key.len || memchr(name, 0, len)) return false;
  if (!mw_map_get(&all->names, key)) mw_map_set(&all->names, key, ctx); // the first pair that has a name keeps it
  return true;
}

// Alternative names; the common name only where there are none (RFC 9525 has it no more, old certificates do).
static bool add_names(pairs *all, SSL_CTX *ctx) {
  X509 *leaf = SSL_CTX_get0_certificate(ctx);
  bool any = false;
  GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_DNS) continue;
    any |= add_name(all, ctx, (const char *)ASN1_STRING_get0_data(name->d.dNSName), (size_t)ASN1_STRING_length(name->d.dNSName));
  }
  if (!names) {
    char text[MAX_NAME + 1];
    int len = X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, text, sizeof text);
    if (len > 0) any = add_name(all, ctx, text, strlen(text));
  }
  GENERAL_NAMES_free(names);
  return any;
}

/* ---- the whole ---- */

static int load_all(const mw_tls_server_opts *opts, mw_tls_tickets *tickets, SSL_CTX **out, mw_err *err) {
  if (!opts->count || opts->count > MW_TLS_MAX_PAIRS)
    return mw_err_set(err, MW_ETLS, "a server has 1 to %d pairs of certificate and key, not %zu", MW_TLS_MAX_PAIRS, opts->count);
  pthread_once(&slot_once, make_slot);
  SSL_CTX *first;
  int rc = load_pair(opts, &opts->pairs[0], tickets, &first, err);
  if (rc) return rc;
  pairs *all = MW_NEW(pairs);
  mw_map_init(&all->names);
  all->others = mw_calloc(opts->count, sizeof *all->others);
  SSL_CTX_set_ex_data(first, ctx_slot, all);
  SSL_CTX_set_tlsext_servername_callback(first, on_server_name);
  SSL_CTX_set_tlsext_servername_arg(first, all);
  add_names(all, first);
  for (size_t i = 1; i < opts->count && !rc; i++) {
    SSL_CTX *ctx;
    rc = load_pair(opts, &opts->pairs[i], tickets, &ctx, err);
    if (rc) break;
    all->others[all->count++] = ctx;
    if (!add_names(all, ctx)) warn(opts, "the certificate %s has no name, so no client gets it", opts->pairs[i].cert_file);
  }
  if (rc) SSL_CTX_free(first);
  else *out = first;
  return rc;
}

int mw_tls_server_new(const mw_tls_server_opts *opts, mw_tls_context **out, mw_err *err) {
  mw_tls_tickets *tickets = mw_tls_tickets_new();
  SSL_CTX *ctx;
  int rc = load_all(opts, tickets, &ctx, err);
  if (rc) {
    mw_tls_tickets_unref(tickets);
    return rc;
  }
  *out = mw_tls_context_new(ctx);
  (*out)->tickets = tickets;
  (*out)->plain_answer = opts->plain_answer;
  return 0;
}

int mw_tls_server_load(mw_tls_context *context, const mw_tls_server_opts *opts, mw_err *err) {
  SSL_CTX *ctx;
  int rc = load_all(opts, context->tickets, &ctx, err);
  if (rc) return rc;
  pthread_mutex_lock(&context->lock);
  SSL_CTX *old = context->ctx;
  context->ctx = ctx;
  pthread_mutex_unlock(&context->lock);
  SSL_CTX_free(old);
  return 0;
}
