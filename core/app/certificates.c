// SPDX-License-Identifier: MIT
#include "app/certificates.h"

#include <string.h>
#include <sys/stat.h>

#include "app/listen.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "loop/tls.h"
#include "loop/work.h"

// Files of a pair are replaced one after the other: they are read when a look finds them as the look before did.
#define LOOK_MS 2000
#define DAY_MS (24 * 3600 * 1000)

struct mw_certificates {
  const mw_config *conf;
  mw_loop *main;
  mw_work_pool *pool;
  mw_tls_context *context;
  mw_timer timer;
  bool busy, again, stopped; // main thread; while busy the job owns what is below
  bool forced;
  uint64_t loaded, seen; // fingerprints of the files
  int64_t loaded_ms;
};

static const char plain_answer[] =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 43\r\nConnection: close\r\n\r\n"
    "This port speaks TLS: begin with https://.\n";

static bool has_tls(const mw_config *conf) {
  mw_listen_address address;
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    if (mw_listen_is_set(conf, tag) && !mw_listen_configured(conf, tag, &address, NULL) && address.is_tls) return true;
  return false;
}

/* ---- loading; any thread ---- */

static void on_warning(const char *text, void *arg) { mw_log(MW_LOG_WARN, "tls", text); }

static mw_tls_pair *make_pairs(const mw_config *conf) {
  mw_tls_pair *pairs = mw_calloc(conf->tls_cert.count, sizeof *pairs);
  for (size_t i = 0; i < conf->tls_cert.count; i++) {
    const char *cert = conf->tls_cert.items[i];
    pairs[i] = (mw_tls_pair){cert, conf->tls_key.count ? conf->tls_key.items[i] : cert};
  }
  return pairs;
}

// Makes `*context`, or loads into the one that is there.
static int load(const mw_config *conf, mw_tls_context **context, mw_err *err) {
  mw_tls_pair *pairs = make_pairs(conf);
  mw_tls_server_opts opts = {.pairs = pairs, .count = conf->tls_cert.count, .only_13 = strcmp(conf->tls_min_version, "1.3") == 0,
                             .alpn = "http/1.1", .plain_answer = plain_answer, .warn = on_warning};
  int rc = *context ? mw_tls_server_load(*context, &opts, err) : mw_tls_server_new(&opts, context, err);
  mw_free(pairs);
  return rc;
}

static uint64_t add_file(uint64_t sum, const char *path) {
  struct stat st;
  memset(&st, 0, sizeof st);
  if (stat(path, &st)) return sum * 31;
  int64_t parts[] = {(int64_t)st.st_dev, (int64_t)st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_mode, (int64_t)sum};
  return mw_map_hash(mw_str_of((const char *)parts, sizeof parts));
}

static uint64_t fingerprint(const mw_config *conf) {
  uint64_t sum = 1;
  for (size_t i = 0; i < conf->tls_cert.count; i++) sum = add_file(sum, conf->tls_cert.items[i]);
  for (size_t i = 0; i < conf->tls_key.count; i++) sum = add_file(sum, conf->tls_key.items[i]);
  return sum;
}

/* ---- looking ---- */

static void look(void *arg) {
  mw_certificates *certs = arg;
  mw_err err = {0};
  uint64_t now = fingerprint(certs->conf);
  bool settled = now != certs->loaded && now == certs->seen;
  certs->seen = now;
  bool is_day_over = mw_clock_mono_ms() - certs->loaded_ms > DAY_MS;
  if (!certs->forced && !settled && !is_day_over) return;
  certs->forced = false;
  certs->loaded_ms = mw_clock_mono_ms();
  certs->loaded = now;
  if (load(certs->conf, &certs->context, &err))
    mw_log(MW_LOG_ERROR, "tls", "the certificates cannot be loaded; those from before go on", MW_LOG_S("error", err.text));
  else mw_log(MW_LOG_INFO, "tls", "certificates loaded", MW_LOG_I("pairs", certs->conf->tls_cert.count));
}

static void begin_look(mw_certificates *certs);

static void on_looked(void *arg, int status) {
  mw_certificates *certs = arg;
  certs->busy = false;
  if (certs->stopped) return;
  if (certs->again) {
    certs->again = false;
    certs->forced = true;
    begin_look(certs);
  } else {
    mw_timer_start(certs->main, &certs->timer, LOOK_MS);
  }
}

static void begin_look(mw_certificates *certs) {
  mw_timer_stop(&certs->timer);
  certs->busy = !mw_work_submit(certs->pool, certs->main, look, on_looked, certs);
  if (!certs->busy) mw_timer_start(certs->main, &certs->timer, LOOK_MS); // the queue is full
}

static void on_timer(mw_timer *timer, void *arg) { begin_look(arg); }

/* ---- the whole ---- */

int mw_certificates_open(const mw_config *conf, mw_certificates **out, mw_err *err) {
  mw_tls_context *context = NULL;
  *out = NULL;
  if (!has_tls(conf)) return 0;
  uint64_t loaded = fingerprint(conf);
  if (load(conf, &context, err)) return MW_ECONFIG;
  mw_certificates *certs = MW_NEW(mw_certificates);
  *certs = (mw_certificates){.conf = conf, .context = context, .loaded = loaded, .seen = loaded, .loaded_ms = mw_clock_mono_ms()};
  mw_timer_init(&certs->timer, on_timer, certs);
  *out = certs;
  return 0;
}

void mw_certificates_watch(mw_certificates *certs, mw_loop *main, mw_work_pool *pool) {
  if (!certs) return;
  certs->main = main;
  certs->pool = pool;
  mw_timer_start(main, &certs->timer, LOOK_MS);
}

void mw_certificates_reload(mw_certificates *certs) {
  if (!certs || !certs->main || certs->stopped) return;
  if (certs->busy) {
    certs->again = true;
    return;
  }
  certs->forced = true;
  begin_look(certs);
}

mw_tls_context *mw_certificates_context(const mw_certificates *certs) { return certs ? certs->context : NULL; }

void mw_certificates_stop(mw_certificates *certs) {
  if (!certs) return;
  certs->stopped = true;
  mw_timer_stop(&certs->timer);
}

void mw_certificates_free(mw_certificates *certs) {
  if (!certs) return;
  mw_tls_unref(certs->context);
  mw_free(certs);
}

int mw_certificates_check(const mw_config *conf, mw_err *err) {
  mw_tls_context *context = NULL;
  if (!has_tls(conf)) return 0;
  int rc = load(conf, &context, err);
  mw_tls_unref(context);
  return rc;
}
