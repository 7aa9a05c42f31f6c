// SPDX-License-Identifier: MIT
// `moonwatch runs`: signals, and what operators do with one run or with many.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/cli_config.h"
#include "app/cli_http.h"
#include "app/cmd_runs.h"
#include "base/alloc.h"
#include "base/json.h"

#define MAX_IDS 1000 // of one request
#define ID_TEXT 37

// ---- pieces of a body ----

static void add_name(mw_buf *body, const char *name) {
  if (body->len > 1) mw_buf_add_byte(body, ',');
  mw_json_add_string(body, mw_str_from(name));
  mw_buf_add_byte(body, ':');
}

static void add_text(mw_buf *body, const char *name, const char *value) {
  if (!value) return;
  add_name(body, name);
  mw_json_add_string(body, mw_str_from(value));
}

static void add_raw(mw_buf *body, const char *name, const char *json) {
  add_name(body, name);
  mw_buf_add_cstr(body, json);
}

/** What the action takes besides the runs. */
static void add_options(const mw_cli *cli, mw_buf *body) {
  add_text(body, "reason", mw_cli_get(cli, "reason"));
  add_text(body, "from", mw_cli_get(cli, "from"));
  add_text(body, "to", mw_cli_get(cli, "to"));
  if (mw_cli_has(cli, "undo")) add_raw(body, "undo", "true");
}

/** Refuses JSON with a slip in it here, where its place can be shown. */
static bool check_json(const mw_cli *cli, const char *what, const char *json) {
  mw_err err = {0};
  if (!mw_json_check(mw_str_from(json), NULL, &err)) return true;
  mw_cli_fail(cli, MW_EXIT_USAGE, "the %s is not JSON: %s", what, err.text);
  return false;
}

static int check_flags(const mw_cli *cli) {
  static const char *const needs[][2] = {{"reason", "cancel"}, {"undo", "cancel"}, {"from", "retry"}, {"input", "rerun"}, {"to", "move"}};
  for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
    if (mw_cli_has(cli, needs[i][0]) && strcmp(cli->argv[0], needs[i][1]) != 0)
      return mw_cli_usage_error(cli, "--%s belongs to `runs %s`", needs[i][0], needs[i][1]);
  if (strcmp(cli->argv[0], "move") == 0 && !mw_cli_has(cli, "to")) return mw_cli_usage_error(cli, "say where to: --to latest, or --to BUNDLE");
  return 0;
}

// ---- signal ----

static void show_signal(const mw_cli *cli, mw_str body) { printf("%s has the signal %s\n", cli->argv[1], cli->argv[2]); }

int mw_runs_signal(mw_cli *cli) {
  const char *data = cli->argv[3];
  int code = check_flags(cli);
  if (code) return code;
  if (!mw_runs_check_id(cli, cli->argv[1]) || (data && !check_json(cli, "data", data))) return MW_EXIT_USAGE;
  mw_buf path = MW_BUF_INIT;
  mw_buf_printf(&path, "/api/v1/executions/%s/signals/", cli->argv[1]);
  mw_cli_add_escaped(&path, cli->argv[2]);
  mw_cli_request request = {.method = "POST", .path = mw_buf_cstr(&path), .body = data ? mw_str_from(data) : MW_STR(""), .key = mw_cli_get(cli, "key")};
  code = mw_cli_http_show(cli, &request, show_signal);
  mw_buf_deinit(&path);
  return code;
}

// ---- one run ----

static void show_one(const mw_cli *cli, mw_str body) {
  mw_buf id = MW_BUF_INIT, status = MW_BUF_INIT, control = MW_BUF_INIT;
  mw_cli_json_string(body, "id", &id);
  mw_cli_json_string(body, "status", &status);
  mw_cli_json_string(body, "control", &control);
  if (strcmp(cli->argv[0], "rerun") == 0) printf("%s\n", mw_buf_cstr(&id));
  else if (control.len)
    printf("%s is %s; its owner was asked: %s\n", mw_buf_cstr(&id), mw_buf_cstr(&status),
           strcmp(mw_buf_cstr(&control), "undo") == 0 ? "cancel with undo" : mw_buf_cstr(&control));
  else printf("%s is %s\n", mw_buf_cstr(&id), mw_buf_cstr(&status));
  mw_buf_deinit(&id);
  mw_buf_deinit(&status);
  mw_buf_deinit(&control);
}

static int act_on_one(mw_cli *cli, const char *id) {
  const char *input = mw_cli_get(cli, "input");
  char path[128];
  if (input && !check_json(cli, "input", input)) return MW_EXIT_USAGE;
  snprintf(path, sizeof path, "/api/v1/executions/%s/%s", id, cli->argv[0]);
  mw_buf body = MW_BUF_INIT;
  mw_buf_add_byte(&body, '{');
  add_options(cli, &body);
  if (input) add_raw(&body, "input", input);
  mw_buf_add_byte(&body, '}');
  mw_cli_request request = {.method = "POST", .path = path, .body = mw_buf_str(&body), .key = mw_cli_get(cli, "key")};
  int code = mw_cli_http_show(cli, &request, show_one);
  mw_buf_deinit(&body);
  return code;
}

// ---- many ----

typedef struct report {
  long done, unchanged, skipped, failed, matched;
  mw_buf next;
} report;

static long number_of(mw_str body, const char *name) {
  mw_buf text = MW_BUF_INIT;
  long n = mw_cli_json_string(body, name, &text) ? strtol(mw_buf_cstr(&text), NULL, 10) : 0;
  mw_buf_deinit(&text);
  return n;
}

static void print_line(mw_str item, void *arg) { printf("%.*s\n", MW_STR_FMT(item)); }

static void print_problem(mw_str item, void *arg) {
  mw_buf id = MW_BUF_INIT, detail = MW_BUF_INIT;
  mw_cli_json_string(item, "id", &id);
  mw_cli_json_string(item, "detail", &detail);
  fprintf(stderr, "%s: %s\n", mw_buf_cstr(&id), mw_buf_cstr(&detail));
  mw_buf_deinit(&id);
  mw_buf_deinit(&detail);
}

static void print_sample(mw_str item, void *arg) {
  mw_buf id = MW_BUF_INIT, workflow = MW_BUF_INIT, status = MW_BUF_INIT;
  mw_cli_json_string(item, "id", &id);
  mw_cli_json_string(item, "workflow", &workflow);
  mw_cli_json_string(item, "status", &status);
  printf("  %s  %-10s %s\n", mw_buf_cstr(&id), mw_buf_cstr(&status), mw_buf_cstr(&workflow));
  mw_buf_deinit(&id);
  mw_buf_deinit(&workflow);
  mw_buf_deinit(&status);
}

static int send_bulk(mw_cli *cli, const mw_config *conf, mw_str body, mw_cli_answer *answer) {
  mw_cli_request request = {.method = "POST", .path = "/api/v1/executions/bulk", .body = body, .timeout_s = 90};
  int code = mw_cli_http(cli, conf, &request, answer);
  if (code || answer->status / 100 == 2) return code;
  code = mw_cli_answer_fail(cli, answer);
  mw_cli_answer_deinit(answer);
  return code;
}

/** Adds an answer to the report and prints it; returns how many runs it was about. */
static long take_answer(const mw_cli *cli, mw_str body, report *r) {
  long done = number_of(body, "done"), unchanged = number_of(body, "unchanged"), skipped = number_of(body, "skipped"), failed = number_of(body, "failed");
  r->done += done;
  r->unchanged += unchanged;
  r->skipped += skipped;
  r->failed += failed;
  mw_buf_reset(&r->next, 256);
  mw_cli_json_string(body, "next", &r->next);
  if (mw_cli_has(cli, "json")) {
    printf("%.*s\n", MW_STR_FMT(body));
  } else {
    mw_cli_json_each(body, "created", print_line, NULL);
    mw_cli_json_each(body, "problems", print_problem, NULL);
  }
  return done + unchanged + skipped + failed;
}

/** Sends the request, and again from where each answer stopped. `head` is the body but for its end. */
static int go_through(mw_cli *cli, const mw_config *conf, mw_str head, report *r) {
  int code = 0;
  for (bool more = true; more && !code;) {
    mw_cli_answer answer;
    mw_buf body = MW_BUF_INIT;
    mw_buf_add_str(&body, head);
    if (r->next.len) add_text(&body, "cursor", mw_buf_cstr(&r->next));
    mw_buf_add_byte(&body, '}');
    code = send_bulk(cli, conf, mw_buf_str(&body), &answer);
    mw_buf_deinit(&body);
    if (code) break;
    long count = take_answer(cli, mw_buf_str(&answer.body), r);
    mw_cli_answer_deinit(&answer);
    more = r->next.len > 0;
    if (more && !count) code = mw_cli_fail(cli, MW_EXIT_FAILED, "the server cannot go on; run it again for the rest");
  }
  return code;
}

static int finish(const mw_cli *cli, const report *r, int code) {
  static const char *const past[][2] = {{"cancel", "cancelled"}, {"pause", "paused"}, {"resume", "resumed"}, {"retry", "retried"}, {"rerun", "run again"}, {"move", "moved"}};
  const char *what = "done";
  for (size_t i = 0; i < sizeof past / sizeof *past; i++)
    if (strcmp(cli->argv[0], past[i][0]) == 0) what = past[i][1];
  if (!mw_cli_has(cli, "json")) fprintf(stderr, "%ld %s, %ld as they were, %ld passed by, %ld failed\n", r->done, what, r->unchanged, r->skipped, r->failed);
  return code ? code : r->failed || r->skipped ? MW_EXIT_FAILED : MW_EXIT_OK;
}

static void begin_body(const mw_cli *cli, mw_buf *body) {
  mw_buf_add_byte(body, '{');
  add_text(body, "action", cli->argv[0]);
  add_options(cli, body);
}

// ---- by ids ----

typedef struct id_list {
  char (*ids)[ID_TEXT];
  size_t count, room;
} id_list;

static int add_id(const mw_cli *cli, id_list *list, const char *id) {
  if (!mw_runs_check_id(cli, id)) return MW_EXIT_USAGE;
  if (list->count == list->room) {
    list->room = list->room ? list->room * 2 : 64;
    list->ids = mw_realloc(list->ids, list->room * sizeof *list->ids);
  }
  strcpy(list->ids[list->count++], id);
  return 0;
}

/** The first word of every line. */
static int read_ids(const mw_cli *cli, id_list *list) {
  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    char *id = line + strspn(line, " \t\r\n");
    id[strcspn(id, " \t\r\n")] = '\0';
    int code = *id ? add_id(cli, list, id) : 0;
    if (code) return code;
  }
  return 0;
}

static int collect_ids(const mw_cli *cli, id_list *list) {
  for (int i = 1; i < cli->argc; i++) {
    int code = strcmp(cli->argv[i], "-") == 0 ? read_ids(cli, list) : add_id(cli, list, cli->argv[i]);
    if (code) return code;
  }
  return 0;
}

static int act_on_part(mw_cli *cli, const mw_config *conf, const id_list *list, size_t first, report *r) {
  mw_buf head = MW_BUF_INIT;
  begin_body(cli, &head);
  add_raw(&head, "ids", "[");
  for (size_t i = first; i < list->count && i < first + MAX_IDS; i++) mw_buf_printf(&head, "%s\"%s\"", i > first ? "," : "", list->ids[i]);
  mw_buf_add_byte(&head, ']');
  int code = go_through(cli, conf, mw_buf_str(&head), r);
  mw_buf_deinit(&head);
  return code;
}

static int act_on_list(mw_cli *cli, const mw_config *conf, const id_list *list) {
  report r = {.next = MW_BUF_INIT};
  int code = 0;
  for (size_t first = 0; !code && first < list->count; first += MAX_IDS) code = act_on_part(cli, conf, list, first, &r);
  mw_buf_deinit(&r.next);
  return finish(cli, &r, code);
}

// ---- by a filter ----

static int add_filter(const mw_cli *cli, mw_buf *body) {
  const char *condition;
  mw_buf filter = MW_BUF_INIT;
  mw_buf_add_byte(&filter, '{');
  for (int i = 0; (condition = mw_cli_get_nth(cli, "where", i)); i++) {
    const char *equals = strchr(condition, '=');
    char name[64];
    if (!equals || equals == condition || !equals[1] || (size_t)(equals - condition) >= sizeof name) {
      mw_buf_deinit(&filter);
      return mw_cli_usage_error(cli, "--where %s: write KEY=VALUE, as in --where status=failed", condition);
    }
    snprintf(name, sizeof name, "%.*s", (int)(equals - condition), condition);
    add_text(&filter, name, equals + 1);
  }
  mw_buf_add_byte(&filter, '}');
  add_raw(body, "filter", mw_buf_cstr(&filter));
  mw_buf_deinit(&filter);
  return 0;
}

static void show_preview(const mw_cli *cli, mw_str body, long matched) {
  if (mw_cli_has(cli, "json")) {
    printf("%.*s\n", MW_STR_FMT(body));
    return;
  }
  mw_cli_json_each(body, "sample", print_sample, NULL);
  if (matched > 10) printf("  …\n");
  printf("%ld executions\n", matched);
  if (matched) fprintf(stderr, "Nothing was done. Add --yes to %s them.\n", cli->argv[0]);
}

static int act_on_filter(mw_cli *cli, const mw_config *conf) {
  mw_cli_answer answer;
  mw_buf body = MW_BUF_INIT, head = MW_BUF_INIT;
  report r = {.next = MW_BUF_INIT};
  begin_body(cli, &head);
  int code = add_filter(cli, &head);
  mw_buf_add_str(&body, mw_buf_str(&head));
  mw_buf_add_cstr(&body, ",\"dry_run\":true}");
  if (!code) code = send_bulk(cli, conf, mw_buf_str(&body), &answer);
  if (!code) {
    long matched = number_of(mw_buf_str(&answer.body), "matched");
    if (!mw_cli_has(cli, "yes") || !matched) show_preview(cli, mw_buf_str(&answer.body), matched);
    mw_cli_answer_deinit(&answer);
    if (mw_cli_has(cli, "yes") && matched) {
      mw_buf_printf(&head, ",\"expect\":%ld", matched);
      code = finish(cli, &r, go_through(cli, conf, mw_buf_str(&head), &r));
    }
  }
  mw_buf_deinit(&r.next);
  mw_buf_deinit(&body);
  mw_buf_deinit(&head);
  return code;
}

// ---- together ----

static int act_on_some(mw_cli *cli, const id_list *list) {
  mw_config conf;
  if (!mw_cli_has(cli, "where") && !list->count) return mw_cli_fail(cli, MW_EXIT_OK, "there are no ids, so nothing was done");
  if (list->count == 1) return act_on_one(cli, list->ids[0]);
  if (mw_cli_has(cli, "input")) return mw_cli_usage_error(cli, "--input belongs to the rerun of one run");
  if (mw_cli_has(cli, "key")) return mw_cli_usage_error(cli, "--key belongs to one run");
  int code = mw_cli_load_config(cli, &conf);
  if (code) return code;
  code = list->count ? act_on_list(cli, &conf, list) : act_on_filter(cli, &conf);
  mw_config_deinit(&conf);
  return code;
}

int mw_runs_act(mw_cli *cli) {
  id_list list = {0};
  int code = check_flags(cli);
  if (code) return code;
  if ((cli->argc > 1) == mw_cli_has(cli, "where"))
    return mw_cli_usage_error(cli, "say which runs: moonwatch runs %s ID …, or --where status=failed", cli->argv[0]);
  code = collect_ids(cli, &list);
  if (!code) code = act_on_some(cli, &list);
  mw_free(list.ids);
  return code;
}
