// SPDX-License-Identifier: MIT
#pragma once

// Certificates for specs, made afresh: an authority and servers' certificates signed by it, as PEM files in a folder.
//
//   certs_make_ca(dir, "ca");
//   certs_make(dir, "server", "ca", "DNS:localhost,IP:127.0.0.1", -1, 1);    // dir/server.pem, dir/server.key

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "harness.h"

static inline void certs_path(char *path, size_t size, const char *dir, const char *name, const char *ext) {
  snprintf(path, size, "%s/%s.%s", dir, name, ext);
}

static inline void certs_add_extension(X509 *cert, X509 *issuer, int nid, const char *value) {
  X509V3_CTX ctx;
  X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
  X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
  CHECK(ext);
  X509_add_ext(cert, ext, -1);
  X509_EXTENSION_free(ext);
}

/** Writes dir/name.pem and dir/name.key. `issuer` NULL: self-signed; `names` NULL: an authority. Valid from and until days from now. */
static inline void certs_make(const char *dir, const char *name, const char *issuer, const char *names, int from_days,
                              int until_days) {
  char path[400];
  EVP_PKEY *key = EVP_EC_gen("P-256"), *issuer_key = key;
  X509 *cert = X509_new(), *issuer_cert = cert;
  X509_set_version(cert, 2);
  static long serial = 1;
  ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
  X509_gmtime_adj(X509_getm_notBefore(cert), (long)from_days * 86400);
  X509_gmtime_adj(X509_getm_notAfter(cert), (long)until_days * 86400);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
  X509_set_pubkey(cert, key);
  if (issuer) {
    certs_path(path, sizeof path, dir, issuer, "pem");
    FILE *f = fopen(path, "r");
    CHECK(f);
    issuer_cert = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    certs_path(path, sizeof path, dir, issuer, "key");
    f = fopen(path, "r");
    CHECK(f);
    issuer_key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
  }
  X509_set_issuer_name(cert, X509_get_subject_name(issuer_cert));
  certs_add_extension(cert, issuer_cert, NID_basic_constraints, names ? "critical,CA:FALSE" : "critical,CA:TRUE");
  if (names) certs_add_extension(cert, issuer_cert, NID_subject_alt_name, names);
  CHECK(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
  certs_path(path, sizeof path, dir, name, "pem");
  FILE *f = fopen(path, "w");
  CHECK(f);
  PEM_write_X509(f, cert);
  fclose(f);
  certs_path(path, sizeof path, dir, name, "key");
  f = fopen(path, "w");
  CHECK(f);
  PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
  fclose(f);
  if (issuer) {
    X509_free(issuer_cert);
    EVP_PKEY_free(issuer_key);
  }
  X509_free(cert);
  EVP_PKEY_free(key);
}

static inline void certs_make_ca(const char *dir, const char *name) { certs_make(dir, name, NULL, NULL, -1, 30); }
