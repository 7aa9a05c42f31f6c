// SPDX-License-Identifier: MIT
#pragma once

// mw_router: paths to routes, a radix tree. Built once, then immutable and shared by threads (reference-counted).
//
// Patterns: "/users/:id", "/files/*path" (the rest, at the end only). Literal text wins over a parameter, a parameter over a
// wildcard. A path is compared after percent-decoding; a decoded "/" (%2F) inside a segment never splits it. One trailing slash is
// ignored. Matching does not allocate.
//
//   mw_router *r = mw_router_new();
//   mw_router_add(r, &(mw_route){.method = MW_STR("GET"), .pattern = MW_STR("/users/:id"), .id = 7}, &err);

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define MW_ROUTER_MAX_PARAMS 16

typedef struct mw_router mw_router;

typedef struct mw_route {
  mw_str method;          /**< "GET" …, or "*" for any. GET answers HEAD too. */
  mw_str pattern;
  int id;                 /**< The user's number: index of the handler. */
  size_t max_body_bytes;  /**< 0: the server's. */
  int64_t timeout_ms;     /**< 0: the server's. */
  bool stream;            /**< on_request comes after the headers; the body by on_body. */
  bool raw_body;          /**< A compressed body is handed over as it came. */
  bool no_compress;       /**< Its answers are sent as they are. */
  bool has_secret_query;  /**< The access log leaves its query out. */
  bool is_reserved;       /**< Paths that match it are answered 404, or 405 where other methods have a route: patterns that come
                               later in the order, such as "/:a/:b", never see them. */
  size_t param_count;     /**< Set by mw_router_add, with the names. */
  mw_str param_names[MW_ROUTER_MAX_PARAMS];
} mw_route;

typedef struct mw_route_match {
  const mw_route *route; /**< NULL: none. */
  int status;            /**< 200, 404 or 405. */
  uint32_t allow;        /**< For 405: set of methods, see mw_router_allow. */
  mw_str params[MW_ROUTER_MAX_PARAMS]; /**< Slices of the path that was matched. */
} mw_route_match;

mw_router *mw_router_new(void);
mw_router *mw_router_ref(mw_router *router);
void mw_router_unref(mw_router *router);
/** Copies the route in. MW_EINVALID for a bad pattern (says which and why), MW_EEXISTS when method and pattern are taken. */
int mw_router_add(mw_router *router, const mw_route *route, mw_err *err);
/** Matches a decoded path (http/path.h). */
void mw_router_match(const mw_router *router, mw_str method, mw_str path, mw_route_match *match);
/** Writes "GET, HEAD, POST" for a 405. */
size_t mw_router_allow(const mw_route_match *match, char *text, size_t size);
