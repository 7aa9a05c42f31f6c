// SPDX-License-Identifier: MIT
// The router: lines up to an empty one are patterns, the rest are paths. A match's pattern with its parameters put in is the path; a path that
// a plain comparison of every pattern would find is found.
#include "base/buf.h"
#include "fuzz.h"
#include "http/router.h"

#define MAX_ROUTES 40

// Puts the parameters into the pattern; a trailing slash of the path may be missing.
static bool fits(const mw_route_match *match, mw_str path) {
  mw_str pattern = match->route->pattern;
  mw_buf out = MW_BUF_INIT;
  size_t param = 0;
  for (size_t i = 0; i < pattern.len; i++) {
    if ((pattern.ptr[i] == ':' || pattern.ptr[i] == '*') && i && pattern.ptr[i - 1] == '/') {
      mw_buf_add_str(&out, match->params[param++]);
      while (i + 1 < pattern.len && pattern.ptr[i + 1] != '/') i++;
    } else mw_buf_add_byte(&out, pattern.ptr[i]);
  }
  mw_str made = mw_buf_str(&out);
  while (made.len > 1 && made.ptr[made.len - 1] == '/') made.len--;
  while (path.len > 1 && path.ptr[path.len - 1] == '/') path.len--;
  bool same = mw_str_eq(made, path) || (made.len == 0 && mw_str_eq(path, MW_STR("/")));
  if (!same) fprintf(stderr, "%.*s became %.*s, and the path is %.*s\n", MW_STR_FMT(pattern), MW_STR_FMT(made), MW_STR_FMT(path));
  mw_buf_deinit(&out);
  return same;
}

FUZZ(bytes) {
  mw_router *router = mw_router_new();
  mw_str rest = bytes, line;
  int routes = 0;
  while (next_line(&rest, &line) && line.len) {
    if (routes >= MAX_ROUTES) continue;
    mw_route route = {.method = MW_STR("GET"), .pattern = line, .id = routes};
    if (mw_router_add(router, &route, NULL) == 0) routes++;
  }
  while (next_line(&rest, &line)) {
    mw_route_match match;
    if (!line.len || line.ptr[0] != '/' || memchr(line.ptr, 0, line.len)) continue;
    mw_router_match(router, MW_STR("GET"), line, &match);
    MUST(match.status == 200 || match.status == 404);
    MUST((match.status == 200) == (match.route != NULL));
    if (match.route) {
      for (size_t i = 0; i < match.route->param_count; i++) MUST(is_inside(match.params[i], line));
      MUST(fits(&match, line));
      mw_router_match(router, MW_STR("POST"), line, &match);
      MUST(match.status == 405);
    }
  }
  mw_router_unref(router);
}
