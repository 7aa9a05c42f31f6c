// SPDX-License-Identifier: MIT
// TLS contexts of a server, by handshakes in memory: which certificate, which protocol, and sessions that are resumed.

#include <openssl/ssl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/world.h"
#include "certs.h"
#include "loop/thread.h"
#include "loop/tls_impl.h"

static char dir[] = "/tmp/moonwatch-tls-XXXXXX";
static mw_tls_context *server;
static SSL_CTX *client;
static SSL_SESSION *session;
static int warnings;

static int keep_session(SSL *ssl, SSL_SESSION *given) {
  SSL_SESSION_free(session);
  session = given;
  return 1; // ours now
}

static void count_warning(const char *text, void *arg) { warnings++; }

static int load(mw_tls_context **context, const char *const *names, bool only_13, mw_err *err) {
  char paths[8][2][200];
  mw_tls_pair pairs[8];
  size_t n = 0;
  for (; names[n]; n++) {
    certs_path(paths[n][0], sizeof paths[n][0], dir, names[n], "pem");
    certs_path(paths[n][1], sizeof paths[n][1], dir, names[n], "key");
    pairs[n] = (mw_tls_pair){paths[n][0], paths[n][1]};
  }
  mw_tls_server_opts opts = {.pairs = pairs, .count = n, .only_13 = only_13, .alpn = "http/1.1", .warn = count_warning};
  return *context ? mw_tls_server_load(*context, &opts, err) : mw_tls_server_new(&opts, context, err);
}

static void open_world(void) {
  static const char *const names[] = {"one", "two", "wild", NULL};
  server = NULL;
  session = NULL;
  CHECK_INT(load(&server, names, false, NULL), 0);
  client = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
  SSL_CTX_sess_set_new_cb(client, keep_session);
}

static void close_world(void) {
  SSL_SESSION_free(session);
  SSL_CTX_free(client);
  mw_tls_unref(server);
}

// What a handshake gave.
typedef struct outcome {
  bool ok, resumed;
  char shown[64]; // the certificate's common name
} outcome;

static outcome shake(const char *name, const char *alpn, int version, SSL_SESSION *resume) {
  outcome out = {0};
  SSL *s = mw_tls_ssl_new(server), *c = SSL_new(client);
  BIO *sb, *cb;
  CHECK(BIO_new_bio_pair(&sb, 0, &cb, 0));
  SSL_set_bio(s, sb, sb);
  SSL_set_bio(c, cb, cb);
  SSL_set_accept_state(s);
  SSL_set_connect_state(c);
  SSL_set_min_proto_version(c, version);
  SSL_set_max_proto_version(c, version);
  if (name) SSL_set_tlsext_host_name(c, name);
  if (alpn) SSL_set_alpn_protos(c, (const unsigned char *)alpn, (unsigned)strlen(alpn));
  if (resume) SSL_set_session(c, resume);
  for (int i = 0; i < 20; i++) {
    SSL_do_handshake(c);
    SSL_do_handshake(s);
  }
  char byte = 'x';
  out.ok = SSL_is_init_finished(c) && SSL_is_init_finished(s) && SSL_write(s, &byte, 1) == 1 && SSL_read(c, &byte, 1) == 1; // tickets come with it
  out.resumed = out.ok && SSL_session_reused(c);
  if (out.ok && version == TLS1_2_VERSION) keep_session(c, SSL_get1_session(c)); // of a renewed ticket the callback is not told there
  X509 *cert = out.ok ? SSL_get1_peer_certificate(c) : NULL;
  if (cert) X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, out.shown, sizeof out.shown);
  X509_free(cert);
  SSL_set_shutdown(c, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); // or its session would not count
  SSL_free(c);
  SSL_free(s);
  return out;
}

static const char *shown(const char *name) {
  static outcome last;
  last = shake(name, NULL, TLS1_3_VERSION, NULL);
  return last.ok ? last.shown : "(no handshake)";
}

static void test_a_client_gets_the_certificate_of_the_name_it_asks_for(void) {
  open_world();
  CHECK_STR(shown(NULL), "one");
  CHECK_STR(shown("nobody.example"), "one");
  CHECK_STR(shown("two.example"), "two");
  CHECK_STR(shown("TWO.Example"), "two");
  CHECK_STR(shown("a.wild.example"), "wild");
  CHECK_STR(shown("b.a.wild.example"), "one");
  CHECK_STR(shown("wild.example"), "one");
  CHECK_STR(shown("exact.wild.example"), "two"); // a name of its own wins over the wildcard
  CHECK_STR(shown("shared.example"), "one");     // the first pair that has a name keeps it
  close_world();
}

static void test_a_client_that_offers_other_protocols_only_is_refused(void) {
  open_world();
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    CHECK(shake(NULL, "\x08http/1.1", version, NULL).ok);
    CHECK(shake("two.example", "\x02h2\x08http/1.1", version, NULL).ok);
    CHECK(!shake(NULL, "\x02h2", version, NULL).ok);
    CHECK(!shake("two.example", "\x02h2", version, NULL).ok);
  }
  close_world();
}

static void test_sessions_are_resumed_also_after_other_files_were_loaded(void) {
  static const char *const others[] = {"two", NULL};
  open_world();
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    CHECK(shake("two.example", NULL, version, NULL).ok);
    CHECK(session);
    for (int i = 0; i < 3; i++) CHECK(shake("two.example", NULL, version, session).resumed); // each time with the newest ticket
  }
  CHECK_INT(load(&server, others, false, NULL), 0);
  CHECK(shake("two.example", NULL, TLS1_3_VERSION, session).resumed);
  CHECK_STR(shown(NULL), "two");
  close_world();
}

static void test_the_keys_of_tickets_change_and_are_forgotten(void) {
  mw_world world = {.wall_us = mw_clock_wall_us(), .mono_ns = mw_clock_mono_ns()};
  mw_world_use(&world);
  open_world();
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    int64_t hour = 3600 * (int64_t)1000000000;
    CHECK(shake(NULL, NULL, version, NULL).ok);
    SSL_SESSION *old = session;
    session = NULL;
    world.mono_ns += hour + hour / 2;
    CHECK(shake(NULL, NULL, version, old).resumed); // under a key that seals no more: it gets a new ticket
    CHECK(session);
    SSL_SESSION *renewed = session;
    session = NULL;
    world.mono_ns += 2 * hour;
    CHECK(!shake(NULL, NULL, version, old).resumed);
    CHECK(shake(NULL, NULL, version, renewed).resumed);
    SSL_SESSION_free(renewed);
    world.mono_ns += 1000 * hour;
    CHECK(!shake(NULL, NULL, version, old).resumed);
    CHECK(shake(NULL, NULL, version, NULL).ok);
    CHECK(shake(NULL, NULL, version, session).resumed);
    SSL_SESSION_free(old);
  }
  close_world();
  mw_world_use(NULL);
}

static void test_a_load_that_fails_changes_nothing(void) {
  static const char *const missing[] = {"two", "missing", NULL}, *const others[] = {"wild", NULL};
  mw_err err = {0};
  open_world();
  CHECK_INT(load(&server, missing, false, &err), MW_ETLS);
  CHECK(strstr(err.text, "missing.pem"));
  CHECK_STR(shown(NULL), "one");
  SSL *begun = mw_tls_ssl_new(server); // holds what it began with
  CHECK_INT(load(&server, others, true, &err), 0);
  CHECK_STR(shown(NULL), "wild");
  CHECK(!shake(NULL, NULL, TLS1_2_VERSION, NULL).ok);
  SSL_free(begun);
  close_world();
}

// A worker's side of many connections, with a client of its own.
static void shake_many(void *arg) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  for (int i = 0; i < 60; i++) {
    SSL *s = mw_tls_ssl_new(server), *c = SSL_new(ctx);
    BIO *sb, *cb;
    CHECK(BIO_new_bio_pair(&sb, 0, &cb, 0));
    SSL_set_bio(s, sb, sb);
    SSL_set_bio(c, cb, cb);
    SSL_set_accept_state(s);
    SSL_set_connect_state(c);
    SSL_set_tlsext_host_name(c, (i % 2 ? "two.example" : "a.wild.example"));
    for (int turn = 0; turn < 6; turn++) {
      SSL_do_handshake(c);
      SSL_do_handshake(s);
    }
    CHECK(SSL_is_init_finished(c) && SSL_is_init_finished(s));
    SSL_free(c);
    SSL_free(s);
  }
  SSL_CTX_free(ctx);
  atomic_fetch_add((atomic_int *)arg, 1);
}

static void test_files_are_loaded_while_threads_shake_hands(void) {
  static const char *const sets[2][4] = {{"wild", "two", NULL}, {"one", "two", "wild", NULL}};
  mw_thread threads[3];
  atomic_int ended = 0;
  open_world();
  for (int i = 0; i < 3; i++) CHECK_INT(mw_thread_start(&threads[i], "shake", shake_many, &ended), 0);
  for (int i = 0; atomic_load(&ended) < 3; i++) CHECK_INT(load(&server, sets[i % 2], i % 3 == 0, NULL), 0);
  for (int i = 0; i < 3; i++) mw_thread_join(&threads[i]);
  close_world();
}

static void test_certificates_that_end_are_warned_of(void) {
  static const char *const good[] = {"one", NULL}, *const soon[] = {"soon", NULL}, *const old[] = {"old", NULL}, *const early[] = {"early", NULL};
  const struct {
    const char *const *names;
    int count;
  } cases[] = {{good, 0}, {soon, 1}, {old, 1}, {early, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    server = NULL;
    warnings = 0;
    CHECK_INT(load(&server, cases[i].names, false, NULL), 0);
    CHECK_INT(warnings, cases[i].count);
    mw_tls_unref(server);
  }
}

int main(int argc, char **argv) {
  umask(077);
  CHECK(mkdtemp(dir));
  certs_make_ca(dir, "ca");
  certs_make(dir, "one", "ca", "DNS:one.example,DNS:shared.example", -1, 30);
  certs_make(dir, "two", "ca", "DNS:two.example,DNS:shared.example,DNS:exact.wild.example", -1, 30);
  certs_make(dir, "wild", "ca", "DNS:*.wild.example", -1, 30);
  certs_make(dir, "soon", "ca", "DNS:soon.example", -80, 10);
  certs_make(dir, "old", "ca", "DNS:old.example", -80, -1);
  certs_make(dir, "early", "ca", "DNS:early.example", 2, 80);
  const test tests[] = {
      TEST(test_a_client_gets_the_certificate_of_the_name_it_asks_for),
      TEST(test_a_client_that_offers_other_protocols_only_is_refused),
      TEST(test_sessions_are_resumed_also_after_other_files_were_loaded),
      TEST(test_the_keys_of_tickets_change_and_are_forgotten),
      TEST(test_a_load_that_fails_changes_nothing),
      TEST(test_files_are_loaded_while_threads_shake_hands),
      TEST(test_certificates_that_end_are_warned_of),
  };
  int rc = RUN_TESTS(argc, argv, tests);
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", dir);
  return system(command) || rc;
}
