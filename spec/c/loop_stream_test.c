// SPDX-License-Identifier: MIT

// Streams and listeners: each behaviour over TCP, Unix sockets and TLS.

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "certs.h"
#include "harness.h"
#include "loop/listener.h"
#include "loop/stream.h"
#include "loop/tls.h"

typedef enum transport { TCP, UNIX, TLS, TRANSPORTS } transport;

static char dir[] = "/tmp/mw-stream-XXXXXX";

// One end of a connection, and what happened to it.
typedef struct side {
  mw_stream *stream; // NULL after on_close
  mw_listener *listener;
  mw_buf got;
  size_t got_bytes;
  bool keep, echo, pause_after_data, close_on_data, close_on_end, end_on_end, close_on_drain;
  int ends, drains, closes, status;
  char error[400];
  int connects, connect_status;
} side;

typedef struct world {
  mw_loop *loop;
  mw_tls_context *server_tls, *client_tls;
  mw_listener *listener;
  mw_address address;
  side client, server;
  bool half_close; // handlers have on_end
} world;

static world w;

static void on_data(mw_stream *s, mw_str data, void *arg) {
  side *me = arg;
  CHECK_INT(me->closes, 0);
  me->got_bytes += data.len;
  if (me->keep) mw_buf_add(&me->got, data.ptr, data.len);
  if (me->echo) mw_stream_write(s, data);
  if (me->pause_after_data) mw_stream_pause(s);
  if (me->close_on_data) mw_stream_close(s);
}

static void on_end(mw_stream *s, void *arg) {
  side *me = arg;
  me->ends++;
  if (me->close_on_end) mw_stream_close(s);
  if (me->end_on_end) mw_stream_end(s);
}

static void on_drain(mw_stream *s, void *arg) {
  side *me = arg;
  CHECK(mw_stream_queued_bytes(s) < MW_STREAM_LOW_MARK);
  me->drains++;
  if (me->close_on_drain) mw_stream_close(s);
}

static void on_close(mw_stream *s, int status, void *arg) {
  side *me = arg;
  me->closes++;
  me->status = status;
  snprintf(me->error, sizeof me->error, "%s", mw_stream_error(s));
  me->stream = NULL;
  if (me->listener) mw_listener_release(me->listener);
}

static const mw_stream_handler with_end = {on_data, on_end, on_drain, on_close};
static const mw_stream_handler without_end = {on_data, NULL, NULL, on_close};

static void on_accept(mw_listener *listener, mw_stream *stream, void *arg) {
  CHECK(w.server.stream == NULL);
  w.server.stream = stream;
  w.server.listener = listener;
  mw_stream_set_handler(stream, w.half_close ? &with_end : &without_end, &w.server);
}

static void on_connect(mw_stream *stream, int status, void *arg) {
  side *me = arg;
  me->connects++;
  me->connect_status = status;
  snprintf(me->error, sizeof me->error, "%s", mw_stream_error(stream));
}

static void listen_on(transport kind) {
  char text[100];
  mw_err err = {0};
  int fd;
  snprintf(text, sizeof text, kind == UNIX ? "unix:%s/socket" : "127.0.0.1:0", dir);
  CHECK_INT(mw_address_parse(mw_str_from(text), &w.address, &err), 0);
  CHECK_INT(mw_listener_bind(&w.address, NULL, &fd, &err), 0);
  if (kind != UNIX) CHECK_INT(mw_listener_address(fd, &w.address), 0);
  mw_listener_opts opts = {.tls = w.server_tls, .on_accept = on_accept};
  CHECK_INT(mw_listener_open(w.loop, fd, &opts, &w.listener), 0);
}

static void make_tls(const char *cert, bool insecure) {
  char pem[200], key[200], ca[200];
  certs_path(pem, sizeof pem, dir, cert, "pem");
  certs_path(key, sizeof key, dir, cert, "key");
  certs_path(ca, sizeof ca, dir, "ca", "pem");
  mw_err err = {0};
  CHECK_INT(mw_tls_server_new(&(mw_tls_server_opts){.pairs = &(mw_tls_pair){pem, key}, .count = 1}, &w.server_tls, &err), 0);
  CHECK_INT(mw_tls_client_new(&(mw_tls_client_opts){insecure ? NULL : ca, insecure}, &w.client_tls, &err), 0);
}

static void open_world(transport kind) {
  memset(&w, 0, sizeof w);
  w.half_close = true;
  w.loop = mw_loop_new("streams");
  if (kind == TLS) make_tls("server", false);
  listen_on(kind);
}

static void start_connect(const char *name) {
  mw_stream_connect_opts opts = {.address = w.address, .tls = w.client_tls, .server_name = name};
  CHECK_INT(mw_stream_connect(w.loop, &opts, on_connect, &w.client, &w.client.stream), 0);
  CHECK_INT(w.client.connects, 0);
  mw_stream_set_handler(w.client.stream, w.half_close ? &with_end : &without_end, &w.client);
}

static void connect_world(transport kind) {
  open_world(kind);
  w.client.keep = w.server.keep = true;
  start_connect("localhost");
  RUN_UNTIL(w.loop, w.client.connects && w.server.stream);
  CHECK_INT(w.client.connect_status, 0);
}

static void close_world(void) {
  if (w.client.stream) mw_stream_close(w.client.stream);
  if (w.server.stream) mw_stream_close(w.server.stream);
  mw_listener_close(w.listener, false);
  mw_loop_run(w.loop); // ends only when nothing is left
  CHECK(!w.client.stream && !w.server.stream);
  mw_loop_free(w.loop);
  mw_tls_unref(w.server_tls);
  mw_tls_unref(w.client_tls);
  mw_buf_deinit(&w.client.got);
  mw_buf_deinit(&w.server.got);
}

static char *pattern(size_t len) {
  char *bytes = mw_alloc(len);
  for (size_t i = 0; i < len; i++) bytes[i] = (char)(i * 31 + i / 251);
  return bytes;
}

static void echoes_small_messages(transport kind) {
  connect_world(kind);
  w.server.echo = true;
  CHECK_INT(mw_stream_write2(w.client.stream, MW_STR("hello "), MW_STR("world")), 0);
  RUN_UNTIL(w.loop, w.client.got.len == 11);
  CHECK_STR(mw_buf_cstr(&w.client.got), "hello world");
  CHECK_INT(mw_stream_is_tls(w.client.stream), kind == TLS);
  close_world();
}

static void carries_megabytes_both_ways(transport kind) {
  enum { TOTAL = 8 * 1024 * 1024 };
  connect_world(kind);
  w.server.echo = true;
  char *bytes = pattern(TOTAL);
  for (size_t at = 0; at < TOTAL;) {
    size_t len = TOTAL - at < 100000 ? TOTAL - at : 100000;
    CHECK_INT(mw_stream_write(w.client.stream, mw_str_of(bytes + at, len)), 0);
    at += len;
    if (mw_stream_is_full(w.client.stream)) {
      int before = w.client.drains;
      RUN_UNTIL(w.loop, w.client.drains > before);
    }
  }
  RUN_UNTIL(w.loop, w.client.got.len == TOTAL);
  CHECK(memcmp(w.client.got.ptr, bytes, TOTAL) == 0);
  mw_free(bytes);
  close_world();
}

static void a_paused_reader_slows_the_writer_and_loses_nothing(transport kind) {
  connect_world(kind);
  mw_stream_pause(w.server.stream);
  char *bytes = pattern(100000);
  size_t sent = 0;
  while (!mw_stream_is_full(w.client.stream)) {
    CHECK_INT(mw_stream_write(w.client.stream, mw_str_of(bytes, 100000)), 0);
    sent += 100000;
    mw_loop_turn(w.loop, false);
  }
  for (int i = 0; i < 20; i++) mw_loop_turn(w.loop, false);
  CHECK_INT(w.server.got_bytes, 0);
  CHECK_INT(w.client.drains, 0);
  w.server.keep = false;
  mw_stream_resume(w.server.stream);
  CHECK_INT(w.server.got_bytes, 0); // never inside resume
  RUN_UNTIL(w.loop, w.server.got_bytes == sent && w.client.drains == 1);
  mw_free(bytes);
  close_world();
}

static void pausing_in_on_data_delivers_the_rest_later(transport kind) {
  connect_world(kind);
  w.server.pause_after_data = true;
  char *bytes = pattern(500000);
  CHECK_INT(mw_stream_write(w.client.stream, mw_str_of(bytes, 500000)), 0);
  int rounds = 0;
  while (w.server.got_bytes < 500000) {
    size_t before = w.server.got_bytes;
    RUN_UNTIL(w.loop, w.server.got_bytes > before);
    rounds++;
    mw_stream_resume(w.server.stream);
  }
  CHECK(rounds >= 8); // the buffer holds 64 KiB
  CHECK(memcmp(w.server.got.ptr, bytes, 500000) == 0);
  mw_free(bytes);
  close_world();
}

static void a_peer_that_never_reads_is_given_up(transport kind) {
  connect_world(kind);
  mw_stream_pause(w.server.stream);
  char *bytes = pattern(1000000);
  int rc = 0;
  for (int i = 0; i < 100 && rc == 0; i++) rc = mw_stream_write(w.client.stream, mw_str_of(bytes, 1000000));
  CHECK_INT(rc, MW_ELIMIT);
  CHECK(mw_stream_is_closing(w.client.stream));
  CHECK_INT(w.client.closes, 0);
  RUN_UNTIL(w.loop, w.client.closes);
  CHECK_INT(w.client.status, MW_ELIMIT);
  CHECK(strstr(w.client.error, "does not read"));
  mw_free(bytes);
  close_world();
}

static void half_close_leaves_the_other_direction_open(transport kind) {
  connect_world(kind);
  mw_stream_write(w.client.stream, MW_STR("question"));
  mw_stream_end(w.client.stream);
  CHECK_INT(mw_stream_write(w.client.stream, MW_STR("more")), MW_ECLOSED);
  RUN_UNTIL(w.loop, w.server.ends);
  CHECK_STR(mw_buf_cstr(&w.server.got), "question");
  CHECK_INT(w.server.closes, 0);
  mw_stream_write(w.server.stream, MW_STR("answer"));
  mw_stream_end(w.server.stream);
  RUN_UNTIL(w.loop, w.client.closes && w.server.closes); // both have ended: closed by themselves
  CHECK_STR(mw_buf_cstr(&w.client.got), "answer");
  CHECK_INT(w.client.ends, 1);
  CHECK_INT(w.client.status, 0);
  CHECK_INT(w.server.status, 0);
  close_world();
}

static void without_on_end_the_stream_closes(transport kind) {
  open_world(kind);
  w.half_close = false;
  start_connect("localhost");
  RUN_UNTIL(w.loop, w.client.connects && w.server.stream);
  mw_stream_end(w.client.stream);
  RUN_UNTIL(w.loop, w.server.closes && w.client.closes);
  CHECK_INT(w.server.status, 0);
  CHECK_INT(w.client.status, 0);
  close_world();
}

static void closing_inside_any_callback_is_fine(transport kind) {
  connect_world(kind);
  w.server.close_on_data = true;
  mw_stream_write(w.client.stream, MW_STR("x"));
  RUN_UNTIL(w.loop, w.server.closes && w.client.ends);
  CHECK_INT(w.server.status, 0);
  close_world();

  connect_world(kind);
  w.server.close_on_end = true;
  mw_stream_end(w.client.stream);
  RUN_UNTIL(w.loop, w.server.closes);
  close_world();

  connect_world(kind);
  w.client.close_on_drain = true;
  w.server.keep = false;
  char *bytes = pattern(16000000);
  mw_stream_pause(w.server.stream);
  mw_stream_write(w.client.stream, mw_str_of(bytes, 16000000));
  CHECK(mw_stream_is_full(w.client.stream));
  mw_stream_resume(w.server.stream);
  RUN_UNTIL(w.loop, w.client.closes);
  CHECK_INT(w.client.drains, 1);
  mw_free(bytes);
  close_world();
}

static void closing_twice_and_with_a_queue_calls_back_once(transport kind) {
  connect_world(kind);
  mw_stream_pause(w.server.stream);
  char *bytes = pattern(8000000);
  mw_stream_write(w.client.stream, mw_str_of(bytes, 8000000));
  mw_stream_close(w.client.stream);
  mw_stream_close(w.client.stream);
  mw_stream_abort(w.client.stream, MW_EIO);
  CHECK_INT(mw_stream_write(w.client.stream, MW_STR("x")), MW_ECLOSED);
  CHECK_INT(w.client.closes, 0);
  RUN_UNTIL(w.loop, w.client.closes);
  mw_loop_turn(w.loop, false);
  CHECK_INT(w.client.closes, 1);
  CHECK_INT(w.client.status, 0);
  mw_free(bytes);
  close_world();
}

static void finish_delivers_everything_to_a_slow_reader(transport kind) {
  connect_world(kind);
  w.client.keep = false;
  mw_stream_pause(w.client.stream);
  char *bytes = pattern(6000000);
  mw_stream_write(w.server.stream, mw_str_of(bytes, 6000000));
  mw_stream_write(w.client.stream, MW_STR("the server has not read this")); // a plain close would reset
  mw_stream_finish(w.server.stream, 3000);
  for (int i = 0; i < 10; i++) mw_loop_turn(w.loop, false);
  CHECK_INT(w.server.closes, 0);
  mw_stream_resume(w.client.stream);
  RUN_UNTIL(w.loop, w.client.ends);
  CHECK_INT(w.client.got_bytes, 6000000);
  CHECK_INT(w.server.got_bytes, 0);
  mw_stream_close(w.client.stream);
  RUN_UNTIL(w.loop, w.server.closes);
  CHECK_INT(w.server.status, 0);
  mw_free(bytes);
  close_world();
}

static void finish_does_not_wait_for_ever(transport kind) {
  connect_world(kind);
  mw_stream_pause(w.client.stream);
  char *bytes = pattern(6000000);
  mw_stream_write(w.server.stream, mw_str_of(bytes, 6000000));
  int64_t started = mw_clock_mono_ms();
  mw_stream_finish(w.server.stream, 50);
  RUN_UNTIL(w.loop, w.server.closes);
  CHECK(mw_clock_mono_ms() - started < 3000);
  mw_free(bytes);
  close_world();
}

static void closing_before_the_connect_answers_cancels_it_once(transport kind) {
  open_world(kind);
  start_connect("localhost");
  mw_stream_close(w.client.stream);
  CHECK_INT(w.client.connects, 0);
  RUN_UNTIL(w.loop, w.client.closes);
  CHECK_INT(w.client.connects, 1);
  CHECK_INT(w.client.connect_status, MW_ECANCELED);
  CHECK_INT(w.client.closes, 1);
  close_world();
}

static void what_is_written_before_the_connection_stands_is_sent(transport kind) {
  open_world(kind);
  w.server.keep = true;
  start_connect("localhost");
  CHECK_INT(mw_stream_write(w.client.stream, MW_STR("early ")), 0);
  CHECK_INT(mw_stream_write2(w.client.stream, MW_STR("bi"), MW_STR("rd")), 0);
  mw_stream_end(w.client.stream);
  RUN_UNTIL(w.loop, w.server.ends);
  CHECK_STR(mw_buf_cstr(&w.server.got), "early bird");
  close_world();
}

#define EACH_TRANSPORT(name)                                                                                   \
  static void test_tcp_##name(void) { name(TCP); }                                                             \
  static void test_unix_##name(void) { name(UNIX); }                                                           \
  static void test_tls_##name(void) { name(TLS); }

EACH_TRANSPORT(echoes_small_messages)
EACH_TRANSPORT(carries_megabytes_both_ways)
EACH_TRANSPORT(a_paused_reader_slows_the_writer_and_loses_nothing)
EACH_TRANSPORT(pausing_in_on_data_delivers_the_rest_later)
EACH_TRANSPORT(a_peer_that_never_reads_is_given_up)
EACH_TRANSPORT(half_close_leaves_the_other_direction_open)
EACH_TRANSPORT(without_on_end_the_stream_closes)
EACH_TRANSPORT(closing_inside_any_callback_is_fine)
EACH_TRANSPORT(closing_twice_and_with_a_queue_calls_back_once)
EACH_TRANSPORT(finish_delivers_everything_to_a_slow_reader)
EACH_TRANSPORT(finish_does_not_wait_for_ever)
EACH_TRANSPORT(closing_before_the_connect_answers_cancels_it_once)
EACH_TRANSPORT(what_is_written_before_the_connection_stands_is_sent)

// Faults of the network.

static int raw_connect(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_INT(connect(fd, (struct sockaddr *)&w.address.storage, w.address.len), 0);
  return fd;
}

static void reset(int fd) {
  struct linger hard = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close(fd);
}

static void test_a_reset_is_reported_once(void) {
  open_world(TCP);
  int fd = raw_connect();
  RUN_UNTIL(w.loop, w.server.stream);
  reset(fd);
  RUN_UNTIL(w.loop, w.server.closes);
  CHECK_INT(w.server.status, -ECONNRESET);
  CHECK_STR(w.server.error, "connection reset by peer");
  close_world();
}

static void test_a_reset_under_a_full_queue_is_reported(void) {
  open_world(TCP);
  int fd = raw_connect();
  RUN_UNTIL(w.loop, w.server.stream);
  char *bytes = pattern(8000000);
  mw_stream_write(w.server.stream, mw_str_of(bytes, 8000000));
  CHECK(mw_stream_is_full(w.server.stream));
  reset(fd);
  RUN_UNTIL(w.loop, w.server.closes);
  CHECK(w.server.status < 0);
  mw_free(bytes);
  close_world();
}

static void test_what_a_peer_said_before_it_stopped_taking_bytes_arrives(void) {
  open_world(TCP);
  w.server.keep = true;
  int fd = raw_connect();
  RUN_UNTIL(w.loop, w.server.stream);
  CHECK_INT(shutdown(fd, SHUT_RD), 0); // Linux: the peer is not told; close makes it EPIPE or a reset
  CHECK_INT(send(fd, "413 too large", 13, 0), 13);
  close(fd);
  int rc = 0;
  char *bytes = pattern(100000);
  for (int i = 0; i < 5 && rc == 0; i++) rc = mw_stream_write(w.server.stream, mw_str_of(bytes, 100000));
  RUN_UNTIL(w.loop, w.server.closes || w.server.ends);
  CHECK_STR(mw_buf_cstr(&w.server.got), "413 too large");
  mw_free(bytes);
  close_world();
}

static void test_a_refused_connection_calls_back_once_with_the_reason(void) {
  open_world(TCP);
  mw_listener_close(w.listener, false);
  mw_loop_turn(w.loop, false);
  start_connect(NULL);
  RUN_UNTIL(w.loop, w.client.closes);
  CHECK_INT(w.client.connects, 1);
  CHECK_INT(w.client.connect_status, -ECONNREFUSED);
  CHECK(strstr(w.client.error, "connection refused"));
  w.listener = NULL;
  close_world();
}

static void test_a_connect_that_hangs_times_out(void) {
  open_world(TCP);
  mw_stream_connect_opts opts = {.timeout_ms = 40};
  CHECK(mw_address_from_host("192.0.2.1", 9, &opts.address)); // TEST-NET: nobody answers
  int rc = mw_stream_connect(w.loop, &opts, on_connect, &w.client, &w.client.stream);
  if (rc == 0) {
    mw_stream_set_handler(w.client.stream, &with_end, &w.client);
    RUN_UNTIL(w.loop, w.client.closes);
    CHECK_INT(w.client.connects, 1);
    CHECK(w.client.connect_status < 0); // MW_ETIMEOUT where the network swallows it, else what the machine says
  } else {
    w.client.stream = NULL; // a machine without a route
  }
  close_world();
}

// TLS.

static void check_refused(const char *cert, const char *name, const char *expected) {
  memset(&w, 0, sizeof w);
  w.half_close = true;
  w.loop = mw_loop_new("tls");
  make_tls(cert, false);
  listen_on(TLS);
  start_connect(name);
  RUN_UNTIL(w.loop, w.client.closes && w.server.closes);
  CHECK_INT(w.client.connects, 1);
  CHECK_INT(w.client.connect_status, MW_ETLS);
  CHECK(strstr(w.client.error, expected));
  CHECK_INT(w.server.status, MW_ETLS);
  CHECK(strstr(w.server.error, "no TLS handshake with the client"));
  close_world();
}

static void test_tls_certificates_are_verified_and_refused_in_words(void) {
  check_refused("server", "elsewhere.example", "is for another name");
  check_refused("expired", "localhost", "has expired");
  check_refused("future", "localhost", "not valid yet");
  check_refused("selfsigned", "localhost", "self-signed");
  check_refused("foreign", "localhost", "an authority that is not trusted here");
}

static void test_tls_addresses_are_verified_too(void) {
  open_world(TLS);
  start_connect("127.0.0.1");
  RUN_UNTIL(w.loop, w.client.connects);
  CHECK_INT(w.client.connect_status, 0);
  close_world();
  open_world(TLS);
  start_connect(NULL); // then the address that was connected to counts
  RUN_UNTIL(w.loop, w.client.connects);
  CHECK_INT(w.client.connect_status, 0);
  close_world();
  check_refused("named", "127.0.0.1", "is for another name");
}

static void test_tls_insecure_takes_any_certificate(void) {
  memset(&w, 0, sizeof w);
  w.half_close = true;
  w.loop = mw_loop_new("tls");
  make_tls("selfsigned", true);
  listen_on(TLS);
  start_connect("whatever.example");
  RUN_UNTIL(w.loop, w.client.connects);
  CHECK_INT(w.client.connect_status, 0);
  close_world();
}

static void test_tls_server_survives_plain_bytes_and_early_leavers(void) {
  open_world(TLS);
  int fd = raw_connect();
  CHECK_INT(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
  RUN_UNTIL(w.loop, w.server.closes == 1);
  CHECK_INT(w.server.status, MW_ETLS);
  CHECK_INT(w.server.got_bytes, 0);
  close(fd);
  fd = raw_connect();
  RUN_UNTIL(w.loop, w.server.stream);
  close(fd);
  RUN_UNTIL(w.loop, w.server.closes == 2);
  CHECK_INT(w.server.status, MW_ETLS);
  close_world();
}

static void test_tls_client_tells_a_plain_server_apart(void) {
  memset(&w, 0, sizeof w);
  w.half_close = true;
  w.loop = mw_loop_new("tls");
  make_tls("server", false);
  mw_tls_context *server_tls = w.server_tls;
  w.server_tls = NULL; // the listener speaks plainly
  listen_on(TCP);
  w.server_tls = server_tls;
  w.server.echo = true;
  start_connect("localhost");
  RUN_UNTIL(w.loop, w.client.closes);
  CHECK_INT(w.client.connect_status, MW_ETLS);
  CHECK(strstr(w.client.error, "no TLS handshake with localhost"));
  close_world();
}

static void test_tls_without_a_goodbye_is_an_error(void) {
  connect_world(TLS);
  mw_stream_write(w.client.stream, MW_STR("x"));
  RUN_UNTIL(w.loop, w.server.got_bytes == 1);
  mw_stream_abort(w.server.stream, MW_EIO); // drops the connection, no close_notify
  RUN_UNTIL(w.loop, w.client.closes);
  CHECK_INT(w.client.status, MW_ECLOSED);
  CHECK(strstr(w.client.error, "cut short"));
  CHECK_INT(w.client.ends, 0);
  close_world();
}

static void test_tls_files_that_do_not_fit_are_named(void) {
  char pem[200], key[200];
  mw_err err = {0};
  mw_tls_context *context;
  certs_path(pem, sizeof pem, dir, "server", "pem");
  certs_path(key, sizeof key, dir, "expired", "key");
  CHECK_INT(mw_tls_server_new(&(mw_tls_server_opts){.pairs = &(mw_tls_pair){pem, key}, .count = 1}, &context, &err), MW_ETLS);
  CHECK(strstr(err.text, "is not the key"));
  CHECK_INT(mw_tls_server_new(&(mw_tls_server_opts){.pairs = &(mw_tls_pair){"/nowhere.pem", key}, .count = 1}, &context, &err), MW_ETLS);
  CHECK(strstr(err.text, "/nowhere.pem"));
  CHECK_INT(mw_tls_client_new(&(mw_tls_client_opts){.ca_file = key}, &context, &err), MW_ETLS);
  CHECK(strstr(err.text, key));
}

// Listeners.

static int accepted_fds[8];
static mw_stream *accepted[8];
static int accepted_count;
static void on_accept_many(mw_listener *listener, mw_stream *stream, void *arg) { accepted[accepted_count++] = stream; }

static void test_a_listener_takes_no_more_than_its_limit_until_one_is_released(void) {
  memset(&w, 0, sizeof w);
  w.loop = mw_loop_new("limit");
  accepted_count = 0;
  int fd;
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &w.address, NULL), 0);
  CHECK_INT(mw_listener_bind(&w.address, &(mw_listener_bind_opts){.reuseport = true}, &fd, NULL), 0);
  CHECK_INT(mw_listener_address(fd, &w.address), 0);
  mw_listener_opts opts = {.max_connections = 2, .on_accept = on_accept_many};
  mw_listener *l;
  CHECK_INT(mw_listener_open(w.loop, fd, &opts, &l), 0);
  for (int i = 0; i < 4; i++) accepted_fds[i] = raw_connect();
  RUN_UNTIL(w.loop, accepted_count == 2);
  for (int i = 0; i < 10; i++) mw_loop_turn(w.loop, false);
  CHECK_INT(accepted_count, 2);
  CHECK_INT(mw_listener_connections(l), 2);
  mw_listener_pause(l);
  mw_listener_release(l);
  for (int i = 0; i < 10; i++) mw_loop_turn(w.loop, false);
  CHECK_INT(accepted_count, 2);
  mw_listener_resume(l);
  RUN_UNTIL(w.loop, accepted_count == 3);
  mw_listener_release(l);
  RUN_UNTIL(w.loop, accepted_count == 4);
  mw_listener_close(l, true);
  for (int i = 0; i < 10; i++) mw_loop_turn(w.loop, false);
  mw_listener_release(l); // after close: allowed, and the last one frees it
  mw_listener_release(l);
  int again = raw_connect(); // the descriptor was kept: the backlog still takes connections
  close(again);
  close(fd);
  for (int i = 0; i < 4; i++) {
    mw_stream_close(accepted[i]);
    close(accepted_fds[i]);
  }
  mw_loop_run(w.loop);
  mw_loop_free(w.loop);
}

static void test_an_address_in_use_and_a_stale_socket_file_are_told_apart(void) {
  mw_address tcp, local;
  char text[100];
  int fd, second;
  mw_err err = {0};
  CHECK_INT(mw_address_parse(MW_STR("127.0.0.1:0"), &tcp, NULL), 0);
  CHECK_INT(mw_listener_bind(&tcp, NULL, &fd, NULL), 0);
  CHECK_INT(mw_listener_address(fd, &tcp), 0);
  CHECK_INT(mw_listener_bind(&tcp, NULL, &second, &err), -EADDRINUSE);
  CHECK(strstr(err.text, "in use by another program"));
  close(fd);
  snprintf(text, sizeof text, "unix:%s/stale", dir);
  CHECK_INT(mw_address_parse(mw_str_from(text), &local, NULL), 0);
  CHECK_INT(mw_listener_bind(&local, NULL, &fd, &err), 0);
  CHECK_INT(mw_listener_bind(&local, NULL, &second, &err), -EADDRINUSE);
  close(fd); // the file stays, nobody answers
  CHECK_INT(mw_listener_bind(&local, NULL, &second, &err), 0);
  close(second);
  unlink(text + 5);
}

static void test_a_loop_that_ends_with_open_streams_names_them_and_does_not_hang(void) {
  open_world(TCP);
  int fd = raw_connect();
  RUN_UNTIL(w.loop, w.server.stream);
  mw_stream_close(w.server.stream);
  mw_listener_close(w.listener, false);
  mw_loop_free(w.loop); // closes what was closing; the callbacks come
  CHECK_INT(w.server.closes, 1);
  close(fd);
}

static void make_certificates(void) {
  CHECK(mkdtemp(dir));
  certs_make_ca(dir, "ca");
  certs_make_ca(dir, "otherca");
  certs_make(dir, "server", "ca", "DNS:localhost,IP:127.0.0.1", -1, 30);
  certs_make(dir, "named", "ca", "DNS:localhost", -1, 30);
  certs_make(dir, "expired", "ca", "DNS:localhost", -30, -1);
  certs_make(dir, "future", "ca", "DNS:localhost", 10, 30);
  certs_make(dir, "foreign", "otherca", "DNS:localhost", -1, 30);
  certs_make(dir, "selfsigned", NULL, "DNS:localhost", -1, 30);
}

#define TEST_EACH(name) TEST(test_tcp_##name), TEST(test_unix_##name), TEST(test_tls_##name)

int main(int argc, char **argv) {
  make_certificates();
  const test tests[] = {
      TEST_EACH(echoes_small_messages),
      TEST_EACH(carries_megabytes_both_ways),
      TEST_EACH(a_paused_reader_slows_the_writer_and_loses_nothing),
      TEST_EACH(pausing_in_on_data_delivers_the_rest_later),
      TEST_EACH(a_peer_that_never_reads_is_given_up),
      TEST_EACH(half_close_leaves_the_other_direction_open),
      TEST_EACH(without_on_end_the_stream_closes),
      TEST_EACH(closing_inside_any_callback_is_fine),
      TEST_EACH(closing_twice_and_with_a_queue_calls_back_once),
      TEST_EACH(finish_delivers_everything_to_a_slow_reader),
      TEST_EACH(finish_does_not_wait_for_ever),
      TEST_EACH(closing_before_the_connect_answers_cancels_it_once),
      TEST_EACH(what_is_written_before_the_connection_stands_is_sent),
      TEST(test_a_reset_is_reported_once),
      TEST(test_a_reset_under_a_full_queue_is_reported),
      TEST(test_what_a_peer_said_before_it_stopped_taking_bytes_arrives),
      TEST(test_a_refused_connection_calls_back_once_with_the_reason),
      TEST(test_a_connect_that_hangs_times_out),
      TEST(test_tls_certificates_are_verified_and_refused_in_words),
      TEST(test_tls_addresses_are_verified_too),
      TEST(test_tls_insecure_takes_any_certificate),
      TEST(test_tls_server_survives_plain_bytes_and_early_leavers),
      TEST(test_tls_client_tells_a_plain_server_apart),
      TEST(test_tls_without_a_goodbye_is_an_error),
      TEST(test_tls_files_that_do_not_fit_are_named),
      TEST(test_a_listener_takes_no_more_than_its_limit_until_one_is_released),
      TEST(test_an_address_in_use_and_a_stale_socket_file_are_told_apart),
      TEST(test_a_loop_that_ends_with_open_streams_names_them_and_does_not_hang),
  };
  int rc = RUN_TESTS(argc, argv, tests);
  char command[100];
  snprintf(command, sizeof command, "rm -r %s", dir);
  return system(command) || rc;
}
