// SPDX-License-Identifier: MIT
#pragma once

// One blocking HTTP request of a command to a running server: over DATA/moonwatch.sock, or to the address that --url or MOONWATCH_URL
// names (http or https, with MOONWATCH_TOKEN).

#include "app/cli.h"
#include "app/config.h"
#include "base/buf.h"

/** Commands that use it list these flags first. */
#define MW_CLI_HTTP_FLAGS {"url", "URL", "Address of the server (default: MOONWATCH_URL, else the socket in the data folder)"}

/** Answers larger than this are refused. */
#define MW_CLI_HTTP_MAX_BYTES (16 * 1024 * 1024)

typedef struct mw_cli_request {
  const char *method, *path;
  mw_str body;         /**< JSON; empty: none. */
  const char *key;     /**< Idempotency-Key, or NULL. */
  int timeout_s;       /**< Between two pieces of the answer. 0: 60. */
} mw_cli_request;

typedef struct mw_cli_answer {
  int status;
  mw_buf body;
} mw_cli_answer;

/** Returns 0 with an answer of any status, or MW_EXIT_UNREACHABLE (or MW_EXIT_USAGE) after saying where it looked. */
int mw_cli_http(const mw_cli *cli, const mw_config *conf, const mw_cli_request *request, mw_cli_answer *answer);
void mw_cli_answer_deinit(mw_cli_answer *answer);
/** Loads the configuration, sends one request and, when it succeeded, prints the answer as it is (--json) or calls `show` with it.
 *  Returns the command's exit code. */
int mw_cli_http_show(mw_cli *cli, const mw_cli_request *request, void (*show)(const mw_cli *cli, mw_str body));
/** Says what a failed answer says (problem+json or the compatible shapes); returns MW_EXIT_FAILED. */
int mw_cli_answer_fail(const mw_cli *cli, const mw_cli_answer *answer);
/** Appends the string or number that is the member `key` of a JSON object, or of its member object ("error.message"), as a
 *  terminal may show it; false when there is none. */
bool mw_cli_json_string(mw_str json, const char *key, mw_buf *out);
/** Calls `each` with the text of every item of the array `key` of a JSON object, in order. */
void mw_cli_json_each(mw_str json, const char *key, void (*each)(mw_str item, void *arg), void *arg);
/** Prints the member `key` of a JSON object as a column of `width` (0: as wide as it is) and a blank; "-" when there is none. At most `most`
 *  characters of it, 0: all. */
void mw_cli_print_cell(mw_str json, const char *key, int width, int most);
/** Appends a text as a part of a URL: all but letters, digits and "-._~" as %XX. */
void mw_cli_add_escaped(mw_buf *out, const char *text);
/** Appends "?name=value", or "&name=value" when the path has parameters already; nothing when `value` is NULL. */
void mw_cli_add_parameter(mw_buf *path, const char *name, const char *value);
