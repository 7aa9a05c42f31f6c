// SPDX-License-Identifier: MIT
// The HTTP client against a server that says anything: a call ends exactly once, with an answer or an error that says why, and the
// same whether the bytes come at once or in pieces.
#include <signal.h>

#include "base/alloc.h"
#include "base/log.h"
#include "fuzz.h"
#include "http/client.h"
#include "loop/address.h"
#include "loop/listener.h"
#include "loop/loop.h"
#include "loop/stream.h"

#define MAX_TURNS 100000

typedef struct outcome {
  int done, status, code;
  mw_buf body;
} outcome;

static mw_loop *loop;
static mw_http_client *client;
static mw_listener *listener;
static char url[64];
static mw_str script; // what the server says
static bool cut;
static cutter cuts;
static mw_stream *speaker;
static size_t said;

static void on_data(mw_stream *stream, mw_str data, void *arg) { // the request; from here on it speaks
  if (!speaker) speaker = stream;
}

static void on_close(mw_stream *stream, int status, void *arg) {
  if (speaker == stream) speaker = NULL;
  mw_listener_release(listener);
}

static const mw_stream_handler handler = {.on_data = on_data, .on_close = on_close};

static void on_accept(mw_listener *l, mw_stream *stream, void *arg) { mw_stream_set_handler(stream, &handler, NULL); }

static void on_done(mw_http_call *call, int status, const mw_http_answer *answer, const mw_err *err, void *arg) {
  outcome *o = arg;
  o->done++;
  o->status = status;
  if (status) {
    MUST(!answer && err && err->text[0]);
    return;
  }
  MUST(answer->status >= 200 || answer->status == 101 || answer->status < 100);
  o->code = answer->status;
  mw_buf_add_str(&o->body, answer->body);
  for (size_t i = 0; i < answer->header_count; i++) {
    mw_buf_add_str(&o->body, answer->headers[i].name);
    mw_buf_add_str(&o->body, answer->headers[i].value);
  }
}

static void start(void) {
  int fd;
  mw_address address;
  signal(SIGPIPE, SIG_IGN);
  mw_log_configure(MW_LOG_FATAL, MW_LOG_FORMAT_JSON);
  loop = mw_loop_new("fuzz");
  client = mw_http_client_new(loop, NULL);
  MUST(mw_address_parse(MW_STR("127.0.0.1:0"), &address, NULL) == 0);
  MUST(mw_listener_bind(&address, false, &fd, NULL) == 0 && mw_listener_address(fd, &address) == 0);
  MUST(mw_listener_open(loop, fd, &(mw_listener_opts){.on_accept = on_accept}, &listener) == 0);
  snprintf(url, sizeof url, "http://127.0.0.1:%d/", mw_address_port(&address));
}

static void speak(void) {
  if (!speaker) return;
  if (said < script.len) {
    size_t len = cut ? next_cut(&cuts, script.len - said) : script.len - said;
    mw_stream_write(speaker, mw_str_of(script.ptr + said, len));
    said += len;
  } else {
    mw_stream *stream = speaker;
    speaker = NULL;
    mw_stream_end(stream);
  }
}

static void ask(mw_str bytes, mw_str method, bool in_pieces, outcome *o) {
  mw_http_call *call;
  script = bytes;
  said = 0;
  cut = in_pieces;
  cuts = cutter_of(bytes);
  mw_http_call_opts opts = {.method = method, .url = mw_str_from(url), .max_bytes = 65536, .max_redirects = -1, .on_done = on_done, .arg = o};
  MUST(mw_http_client_start(client, &opts, &call, NULL) == 0);
  for (int turns = 0; !o->done; turns++) {
    MUST(turns < MAX_TURNS);
    mw_loop_turn(loop, false);
    speak();
  }
  // The connection may be kept; the next call must not find what this one left.
  for (size_t idle = 1; idle;) {
    mw_http_client_stats stats;
    mw_loop_turn(loop, false);
    if (speaker) speak();
    mw_http_client_stats_get(client, &stats);
    idle = said < script.len && speaker ? 1 : 0;
  }
  MUST(o->done == 1);
}

FUZZ(bytes) {
  if (!client) start();
  outcome whole = {.body = MW_BUF_INIT}, pieces = {.body = MW_BUF_INIT};
  mw_str method = bytes.len && bytes.ptr[0] == '!' ? MW_STR("HEAD") : MW_STR("POST"); // neither is tried twice after an answer began
  if (bytes.len && bytes.ptr[0] == '!') bytes = mw_str_of(bytes.ptr + 1, bytes.len - 1);
  ask(bytes, method, false, &whole);
  ask(bytes, method, true, &pieces);
  MUST((whole.status == 0) == (pieces.status == 0));
  if (!whole.status) MUST(whole.code == pieces.code && mw_str_eq(mw_buf_str(&whole.body), mw_buf_str(&pieces.body)));
  mw_buf_deinit(&whole.body);
  mw_buf_deinit(&pieces.body);
}
