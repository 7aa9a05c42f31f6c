// SPDX-License-Identifier: MIT

// Session tickets (RFC 5077, RFC 8446 section 4.6.1): what a client needs to come back without a full handshake, sealed with a key that
// all workers share and nobody else has. A stolen key opens what was said in the sessions that it sealed, so it lives for hours, in
// memory only, and is wiped.

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rand.h"
#include "loop/tls_impl.h"

#define ROTATE_MS (3600 * 1000)
#define KEYS 3 // the one that seals, and those that are still understood
#define SESSION_S (2 * 3600) // no longer than the oldest key is kept

typedef struct ticket_key {
  unsigned char name[16], hmac[32], aes[32];
} ticket_key;

struct mw_tls_tickets {
  atomic_int refs;
  pthread_mutex_t lock;
  ticket_key keys[KEYS]; // newest first
  int64_t rotated_ms;
};

static int ctx_slot = -1;
static pthread_once_t slot_once = PTHREAD_ONCE_INIT;

static void drop_with_ctx(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp) { mw_tls_tickets_unref(ptr); }

static void make_slot(void) { ctx_slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, drop_with_ctx); }

mw_tls_tickets *mw_tls_tickets_new(void) {
  mw_tls_tickets *tickets = MW_NEW(mw_tls_tickets);
  atomic_store(&tickets->refs, 1);
  pthread_mutex_init(&tickets->lock, NULL);
  mw_rand_bytes(tickets->keys, sizeof tickets->keys);
  tickets->rotated_ms = mw_clock_mono_ms();
  return tickets;
}

mw_tls_tickets *mw_tls_tickets_ref(mw_tls_tickets *tickets) {
  atomic_fetch_add(&tickets->refs, 1);
  return tickets;
}

void mw_tls_tickets_unref(mw_tls_tickets *tickets) {
  if (!tickets || atomic_fetch_sub(&tickets->refs, 1) != 1) return;
  explicit_bzero(tickets->keys, sizeof tickets->keys);
  pthread_mutex_destroy(&tickets->lock);
  mw_free(tickets);
}

static void rotate(mw_tls_tickets *tickets) {
  for (int64_t now = mw_clock_mono_ms(); now - tickets->rotated_ms >= ROTATE_MS; tickets->rotated_ms += ROTATE_MS) {
    memmove(tickets->keys + 1, tickets->keys, sizeof tickets->keys - sizeof *tickets->keys);
    mw_rand_bytes(tickets->keys, sizeof *tickets->keys);
    if (now - tickets->rotated_ms >= (KEYS + 1) * (int64_t)ROTATE_MS) tickets->rotated_ms = now - KEYS * (int64_t)ROTATE_MS; // it slept long
  }
}

// Copies the key that seals (`name` NULL) or that is called so; returns its age in rotations, or -1.
static int find_key(mw_tls_tickets *tickets, const unsigned char *name, ticket_key *out) {
  int found = -1;
  pthread_mutex_lock(&tickets->lock);
  rotate(tickets);
  for (int i = 0; i < KEYS && found < 0; i++) {
    if (name && memcmp(tickets->keys[i].name, name, sizeof tickets->keys[i].name) != 0) continue;
    *out = tickets->keys[i];
    found = i;
  }
  pthread_mutex_unlock(&tickets->lock);
  return found;
}

static int init_mac(EVP_MAC_CTX *mac, ticket_key *key) {
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->hmac, sizeof key->hmac),
                               OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0), OSSL_PARAM_construct_end()};
  return EVP_MAC_CTX_set_params(mac, params);
}

// Returns what SSL_CTX_set_tlsext_ticket_key_evp_cb wants: 1 go on, 2 go on and give a new ticket, 0 a full handshake, -1 failed.
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seals) {
  mw_tls_tickets *tickets = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_slot);
  ticket_key key;
  int age = find_key(tickets, seals ? NULL : name, &key);
  if (age < 0) return 0;
  if (seals) {
    memcpy(name, key.name, sizeof key.name);
    mw_rand_bytes(iv, (size_t)EVP_CIPHER_get_iv_length(EVP_aes_256_cbc()));
  }
  int ok = seals ? EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv)
                 : EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv);
  ok = ok == 1 && init_mac(mac, &key) == 1;
  explicit_bzero(&key, sizeof key);
  if (!ok) return -1;
  return age || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1; // with TLS 1.3 a ticket is used once, RFC 8446 section C.4
}

void mw_tls_tickets_use(mw_tls_tickets *tickets, SSL_CTX *ctx) {
  pthread_once(&slot_once, make_slot);
  SSL_CTX_set_ex_data(ctx, ctx_slot, mw_tls_tickets_ref(tickets));
  SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); // the client keeps it
  SSL_CTX_set_timeout(ctx, SESSION_S);
}
