// SPDX-License-Identifier: MIT
#pragma once

// The request methods the server knows, as small numbers: index into sets (uint32_t) of them.

#include "base/str.h"

#define MW_METHOD_TABLE(X)                                                                                     \
  X(GET) X(HEAD) X(POST) X(PUT) X(PATCH) X(DELETE) X(OPTIONS) X(TRACE) X(PROPFIND) X(PROPPATCH) X(MKCOL)       \
  X(COPY) X(MOVE) X(LOCK) X(UNLOCK) X(SEARCH) X(REPORT) X(PURGE) X(LINK) X(UNLINK)

typedef enum mw_method {
#define MW_METHOD_ENUM(name) MW_METHOD_##name,
  MW_METHOD_TABLE(MW_METHOD_ENUM)
#undef MW_METHOD_ENUM
      MW_METHOD_COUNT
} mw_method;

/** Returns the number of a method (exact case), or -1. */
int mw_method_parse(mw_str name);
mw_str mw_method_name(int method);
