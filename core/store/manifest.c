// SPDX-License-Identifier: MIT
#include "store/manifest.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

void mw_manifest_write(const mw_manifest *m, mw_buf *out) {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  mw_buf_printf(out, "{\"format\": %d, \"moonwatch\": \"%s\", \"created_at\": \"%s\", \"engine\": \"sqlite\", \"schema\": %d, \"host\": ", m->format,
                m->moonwatch, m->created_at, m->schema);
  mw_json_add_string(out, mw_str_from(host));
  mw_buf_add_cstr(out, ",\n \"files\": [");
  for (int i = 0; i < m->count; i++)
    mw_buf_printf(out, "%s\n  {\"name\": \"%s\", \"bytes\": %lld, \"sha256\": \"%s\"}", i ? "," : "", m->files[i].name,
                  (long long)m->files[i].bytes, m->files[i].sha256);
  mw_buf_add_cstr(out, "]}\n");
}

// ---- reading ----

// All of it is shown to people, and the file could be anybody's.
static void keep_text(char *to, size_t size, mw_str text) {
  mw_buf plain = MW_BUF_INIT;
  mw_buf_add_plain(&plain, text, " ");
  snprintf(to, size, "%s", mw_buf_cstr(&plain));
  mw_buf_deinit(&plain);
}

static void read_text(mw_json_reader *r, char *to, size_t size) {
  if (mw_json_read(r) == MW_JSON_STRING) keep_text(to, size, r->text);
}

static int64_t read_number(mw_json_reader *r) { return mw_json_read(r) == MW_JSON_NUMBER && r->is_integer ? r->integer : -1; }

static void read_file(mw_manifest *m, mw_json_reader *r) {
  int i = m->count++;
  while (mw_json_read(r) == MW_JSON_KEY) {
    if (mw_str_eq(r->text, MW_STR("name"))) read_text(r, m->files[i].name, sizeof m->files[i].name);
    else if (mw_str_eq(r->text, MW_STR("sha256"))) read_text(r, m->files[i].sha256, sizeof m->files[i].sha256);
    else if (mw_str_eq(r->text, MW_STR("bytes"))) m->files[i].bytes = read_number(r);
    else if (mw_json_skip(r)) return;
  }
}

static void read_files(mw_manifest *m, mw_json_reader *r) {
  if (mw_json_read(r) != MW_JSON_ARRAY_BEGIN) return;
  while (mw_json_read(r) == MW_JSON_OBJECT_BEGIN && m->count < MW_SNAPSHOT_MAX) read_file(m, r);
}

static bool is_whole(const mw_manifest *m) {
  for (int i = 0; i < m->count; i++)
    if (!*m->files[i].name || m->files[i].bytes < 0 || strlen(m->files[i].sha256) != 64) return false;
  return m->count > 0 && m->schema >= 0;
}

int mw_manifest_read(mw_manifest *m, mw_str text, mw_err *err) {
  mw_json_reader r;
  mw_json_reader_init(&r, text, NULL);
  *m = (mw_manifest){.schema = -1};
  if (mw_json_read(&r) == MW_JSON_OBJECT_BEGIN)
    while (mw_json_read(&r) == MW_JSON_KEY) {
      if (mw_str_eq(r.text, MW_STR("format"))) m->format = (int)read_number(&r);
      else if (mw_str_eq(r.text, MW_STR("moonwatch"))) read_text(&r, m->moonwatch, sizeof m->moonwatch);
      else if (mw_str_eq(r.text, MW_STR("created_at"))) read_text(&r, m->created_at, sizeof m->created_at);
      else if (mw_str_eq(r.text, MW_STR("schema"))) m->schema = (int)read_number(&r);
      else if (mw_str_eq(r.text, MW_STR("files"))) read_files(m, &r);
      else if (mw_json_skip(&r)) break;
    }
  bool complete = mw_json_read(&r) == MW_JSON_END;
  mw_json_reader_deinit(&r);
  if (m->format > MW_MANIFEST_FORMAT)
    return mw_err_set(err, MW_EVERSION, "it was made by Moonwatch %s in a format that this program does not know: restore it with that version or a "
                      "newer one", m->moonwatch);
  if (!complete || m->format < 1 || !is_whole(m)) return mw_err_set(err, MW_EINVALID, "its manifest is not one of a Moonwatch backup");
  return 0;
}

int64_t mw_manifest_bytes(const mw_manifest *m) {
  int64_t sum = 0;
  for (int i = 0; i < m->count; i++) sum += m->files[i].bytes;
  return sum;
}

int mw_manifest_find(const mw_manifest *m, const char *name) {
  for (int i = 0; i < m->count; i++)
    if (strcmp(m->files[i].name, name) == 0) return i;
  return -1;
}
