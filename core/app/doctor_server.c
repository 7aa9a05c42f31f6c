// SPDX-License-Identifier: MIT
// Checks of plugins, ports and the server that runs on the data folder.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "app/certificates.h"
#include "app/cli_http.h"
#include "app/doctor.h"
#include "app/listen.h"
#include "app/port_holder.h"
#include "app/runtime.h"
#include "loop/listener.h"
#include "store/data_dir.h"

#define SOON_DAYS 14

static void check_access(mw_doctor *d) {
  mw_err err;
  if (mw_config_check_access(d->conf, &err)) mw_doctor_fail(d, "access", "%s", err.text);
}

static void check_plugins(mw_doctor *d) {
  static const char what[] = "plugins";
  mw_err err = {0};
  if (access(d->conf->plugins, F_OK))
    return mw_doctor_warn(d, what, "there is no folder %s: `moonwatch init` writes a project with a first plugin", d->conf->plugins);
  int rc = mw_runtime_check(d->conf, false, &err);
  if (!rc) mw_doctor_ok(d, what, "all in %s load", d->conf->plugins);
  else if (rc == MW_ELUA) mw_doctor_fail(d, what, "one does not load: `moonwatch check` says which, where and why");
  else mw_doctor_fail(d, what, "%s", err.text[0] ? err.text : mw_err_text(rc));
}

/** Returns the days until the first certificate of a file is over; false: it cannot be read. */
static bool read_days(const char *path, int *days) {
  FILE *file = fopen(path, "re");
  bool any = false;
  for (X509 *cert; file && (cert = PEM_read_X509(file, NULL, NULL, NULL)); X509_free(cert)) {
    int day = 0, second = 0;
    if (!ASN1_TIME_diff(&day, &second, NULL, X509_get0_notAfter(cert))) continue;
    if (second < 0) day--;
    if (!any || day < *days) *days = day;
    any = true;
  }
  ERR_clear_error();
  if (file) fclose(file);
  return any;
}

static void check_certificates(mw_doctor *d) {
  static const char what[] = "certificates";
  mw_err err = {0};
  if (!d->conf->tls_cert.count) return;
  if (mw_certificates_check(d->conf, &err)) return mw_doctor_fail(d, what, "%s", err.text);
  for (size_t i = 0; i < d->conf->tls_cert.count; i++) {
    const char *path = d->conf->tls_cert.items[i];
    int days;
    if (!read_days(path, &days)) mw_doctor_fail(d, what, "%s cannot be read", path);
    else if (days < 0) mw_doctor_fail(d, what, "%s is over since %d days: put a new one there, it is loaded without a restart", path, -days);
    else if (days < SOON_DAYS) mw_doctor_warn(d, what, "%s is over in %d days: put a new one there, it is loaded without a restart", path, days);
    else mw_doctor_ok(d, what, "%s is good for %d days", path, days);
  }
}

// ---- processes ----

/** Reads a process's parent; 0 when there is none to see. */
static pid_t parent_of(pid_t pid) {
  char path[64];
  int parent = 0;
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  FILE *file = fopen(path, "re");
  if (file && fscanf(file, "%*d (%*[^)]) %*c %d", &parent) != 1) parent = 0;
  if (file) fclose(file);
  return parent;
}

static bool is_child_server(pid_t pid) {
  char path[64], line[256] = "";
  snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
  FILE *file = fopen(path, "re");
  size_t n = file ? fread(line, 1, sizeof line - 1, file) : 0;
  if (file) fclose(file);
  return memmem(line, n, "__serve", 7) != NULL;
}

static void check_listener(mw_doctor *d, int tag, pid_t ours) {
  mw_listen_address configured;
  mw_err err;
  mw_port_holder holder;
  char what[64], text[MW_ADDRESS_TEXT];
  int fd;
  snprintf(what, sizeof what, "%s", mw_config_options[mw_listen_kinds[tag].option].name);
  if (mw_listen_configured(d->conf, tag, &configured, &err)) return mw_doctor_fail(d, what, "%s", err.text);
  mw_address address = configured.address;
  mw_address_format(&address, text);
  if (address.storage.ss_family == AF_UNIX) return mw_doctor_ok(d, what, "%s", text);
  int rc = mw_listener_bind(&address, NULL, &fd, &err);
  if (!rc) {
    close(fd);
    mw_doctor_ok(d, what, "%s is free", text);
  } else if (rc != -EADDRINUSE) mw_doctor_fail(d, what, "%s", err.text);
  else if (!mw_port_holder_find(&address, &holder)) {
    if (ours > 0) mw_doctor_ok(d, what, "%s is in use, by the server of this data folder as it seems (run as root to see)", text);
    else mw_doctor_fail(d, what, "%s is in use by a process of another user: stop it or listen elsewhere", text);
  } else if (ours > 0 && (holder.pid == ours || holder.pid == parent_of(ours) || parent_of(holder.pid) == ours))
    mw_doctor_ok(d, what, "%s is served by process %d", text, (int)ours);
  else mw_doctor_fail(d, what, "%s is in use by process %d (%s): stop it or listen elsewhere", text, (int)holder.pid, holder.name);
}

static void check_listeners(mw_doctor *d) {
  long ours = mw_data_dir_holder(d->conf->data);
  for (int tag = 0; tag < MW_LISTENERS; tag++)
    if (mw_listen_is_set(d->conf, tag)) check_listener(d, tag, (pid_t)ours);
}

// ---- the server ----

static void add_reason(mw_str reason, void *arg) {
  mw_buf *out = arg;
  if (out->len) mw_buf_add_cstr(out, "; ");
  mw_buf_add_plain(out, reason, " ");
}

static void judge_answer(mw_doctor *d, const mw_cli_answer *answer, long pid) {
  static const char what[] = "server";
  mw_buf version = MW_BUF_INIT, reasons = MW_BUF_INIT;
  mw_cli_json_string(mw_buf_str(&answer->body), "version", &version);
  mw_cli_json_each(mw_buf_str(&answer->body), "reasons", add_reason, &reasons);
  if (answer->status != 200)
    mw_doctor_fail(d, what, "process %ld runs and is not ready: %s", pid, reasons.len ? mw_buf_cstr(&reasons) : "it does not say why");
  else if (strcmp(mw_buf_cstr(&version), MW_VERSION))
    mw_doctor_warn(d, what, "process %ld runs version %s and this program is %s: restart it", pid, mw_buf_cstr(&version), MW_VERSION);
  else mw_doctor_ok(d, what, "process %ld runs version %s and is ready", pid, MW_VERSION);
  mw_buf_deinit(&version);
  mw_buf_deinit(&reasons);
}

static void check_server(mw_doctor *d) {
  mw_cli_answer answer;
  long pid = mw_data_dir_holder(d->conf->data);
  if (pid == 0) return mw_doctor_ok(d, "server", "none runs on %s", d->conf->data);
  if (pid < 0) return mw_doctor_warn(d, "server", "the lock of %s cannot be read: run this as its user or as root", d->conf->data);
  if (mw_cli_http(d->cli, d->conf, &(mw_cli_request){.method = "GET", .path = "/readyz", .timeout_s = 3}, &answer))
    return mw_doctor_fail(d, "server", "process %ld uses %s and does not answer on its control socket: it starts, hangs, or is another command",
                          pid, d->conf->data);
  judge_answer(d, &answer, pid);
  mw_cli_answer_deinit(&answer);
  pid_t parent = parent_of((pid_t)pid);
  if (is_child_server((pid_t)pid)) mw_doctor_ok(d, "supervisor", "process %d restarts it", (int)parent);
  else mw_doctor_ok(d, "supervisor", "none (--no-supervisor): whoever started process %ld has to restart it", pid);
}

const mw_doctor_check mw_doctor_server_checks[] = {
    {.name = "access", .run = check_access, .timeout_ms = 2000},
    {.name = "plugins", .run = check_plugins, .timeout_ms = 30000},
    {.name = "certificates", .run = check_certificates, .timeout_ms = 5000},
    {.name = "listen", .run = check_listeners, .timeout_ms = 10000},
    {.name = "server", .run = check_server, .timeout_ms = 10000},
    {.name = NULL},
};
