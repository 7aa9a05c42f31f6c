// SPDX-License-Identifier: MIT
#include "http/problem.h"

#include "base/json.h"
#include "http/status.h"

static void add_member(mw_buf *out, const char *label, mw_str text) {
  if (!text.len) return;
  mw_buf_add_cstr(out, label);
  mw_json_add_string(out, text);
}

void mw_problem_format(const mw_problem *problem, mw_buf *out) {
  mw_buf_add_cstr(out, "{\"type\":\"about:blank\",\"title\":");
  mw_json_add_string(out, mw_status_reason(problem->status));
  mw_buf_add_cstr(out, ",\"status\":");
  mw_buf_add_i64(out, problem->status);
  add_member(out, ",\"detail\":", problem->detail);
  add_member(out, ",\"code\":", problem->code);
  add_member(out, ",\"hint\":", problem->hint);
  add_member(out, ",\"trace_id\":", problem->trace_id);
  mw_buf_add_byte(out, '}');
}
