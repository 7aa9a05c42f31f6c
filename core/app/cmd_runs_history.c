// SPDX-License-Identifier: MIT
// `moonwatch runs export` and `import`: a run's history as a document.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/cli_http.h"
#include "app/cmd_runs.h"

static void show_document(const mw_cli *cli, mw_str body) { printf("%.*s\n", MW_STR_FMT(body)); }

int mw_runs_export(mw_cli *cli) {
  char path[128];
  if (!mw_runs_check_id(cli, cli->argv[1])) return MW_EXIT_USAGE;
  snprintf(path, sizeof path, "/api/v1/executions/%s/export", cli->argv[1]);
  return mw_cli_http_show(cli, &(mw_cli_request){.method = "GET", .path = path}, show_document);
}

static int read_all(int fd, mw_buf *out) {
  ssize_t n;
  while ((n = read(fd, mw_buf_reserve(out, 65536), 65536)) > 0) {
    out->len += (size_t)n;
    if (out->len > MW_CLI_HTTP_MAX_BYTES) return EFBIG;
  }
  return n < 0 ? errno : 0;
}

static int read_document(const mw_cli *cli, mw_buf *out) {
  const char *file = cli->argv[1];
  bool is_stdin = strcmp(file, "-") == 0;
  int fd = is_stdin ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
  int why = fd < 0 ? errno : read_all(fd, out);
  if (fd >= 0 && !is_stdin) close(fd);
  return why ? mw_cli_fail(cli, MW_EXIT_USAGE, "%s: %s", is_stdin ? "standard input" : file, strerror(why)) : 0;
}

static void show_imported(const mw_cli *cli, mw_str body) {
  mw_buf id = MW_BUF_INIT, status = MW_BUF_INIT;
  mw_cli_json_string(body, "id", &id);
  mw_cli_json_string(body, "status", &status);
  // Written by the server, which writes no blanks.
  bool is_new = memmem(body.ptr, body.len, "\"created\":true", strlen("\"created\":true")) != NULL;
  printf("%s is %s%s\n", mw_buf_cstr(&id), mw_buf_cstr(&status), is_new ? "" : "; it is here already and stays as it is");
  if (is_new && strcmp(mw_buf_cstr(&status), "paused") == 0) fprintf(stderr, "`moonwatch runs resume %s` lets it go on.\n", mw_buf_cstr(&id));
  mw_buf_deinit(&id);
  mw_buf_deinit(&status);
}

int mw_runs_import(mw_cli *cli) {
  mw_buf body = MW_BUF_INIT;
  int code = read_document(cli, &body);
  if (!code) {
    const char *path = mw_cli_has(cli, "resume") ? "/api/v1/executions/import?resume=true" : "/api/v1/executions/import";
    code = mw_cli_http_show(cli, &(mw_cli_request){.method = "POST", .path = path, .body = mw_buf_str(&body)}, show_imported);
  }
  mw_buf_deinit(&body);
  return code;
}
