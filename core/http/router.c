// SPDX-License-Identifier: MIT

// The tree splits literal text byte-wise (radix) and parameters segment-wise. A node is reached with the text before it matched; it
// consumes its own literal, then tries, in this order: literal children, a parameter, a wildcard, going back when a choice leads
// nowhere. Since a parameter is always one whole segment, each node can be reached at one place of a path only, so going back
// costs at most one visit a node.

#include "http/router.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "http/method.h"

enum { ANY = MW_METHOD_COUNT };

typedef struct leaf {
  const mw_route *routes[MW_METHOD_COUNT + 1];
  uint32_t methods; // which of them are set, without ANY
} leaf;

typedef struct node node;
struct node {
  mw_str text; // literal text that leads here
  node *children, *next;
  node *param;  // one segment
  leaf *here;   // the path ends here
  leaf *rest;   // a wildcard takes what follows
};

struct mw_router {
  atomic_int refs;
  mw_arena arena;
  node *root;
};

static node *new_node(mw_router *router, mw_str text) {
  node *n = mw_arena_calloc(&router->arena, sizeof *n);
  n->text = text;
  return n;
}

mw_router *mw_router_new(void) {
  mw_router *router = mw_calloc(1, sizeof *router);
  atomic_init(&router->refs, 1);
  mw_arena_init(&router->arena);
  router->root = new_node(router, MW_STR(""));
  return router;
}

mw_router *mw_router_ref(mw_router *router) {
  atomic_fetch_add_explicit(&router->refs, 1, memory_order_relaxed);
  return router;
}

void mw_router_unref(mw_router *router) {
  if (!router || atomic_fetch_sub_explicit(&router->refs, 1, memory_order_acq_rel) != 1) return;
  mw_arena_deinit(&router->arena);
  mw_free(router);
}

/* ---- building ---- */

static size_t common_prefix(mw_str a, mw_str b) {
  size_t n = 0;
  while (n < a.len && n < b.len && a.ptr[n] == b.ptr[n]) n++;
  return n;
}

// Cuts `n` in two after `at` bytes of its text; `n` stays the upper half.
static void split_node(mw_router *router, node *n, size_t at) {
  node *lower = new_node(router, mw_str_of(n->text.ptr + at, n->text.len - at));
  lower->children = n->children;
  lower->param = n->param;
  lower->here = n->here;
  lower->rest = n->rest;
  n->text.len = at;
  n->children = lower;
  n->param = NULL;
  n->here = n->rest = NULL;
}

static node *add_literal(mw_router *router, node *from, mw_str text) {
  while (text.len) {
    node *child = from->children;
    while (child && child->text.ptr[0] != text.ptr[0]) child = child->next;
    if (!child) {
      child = new_node(router, text);
      child->next = from->children;
      from->children = child;
      return child;
    }
    size_t same = common_prefix(child->text, text);
    if (same < child->text.len) split_node(router, child, same);
    text = mw_str_of(text.ptr + same, text.len - same);
    from = child;
  }
  return from;
}

static bool is_name_byte(char c, bool first) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static int bad_pattern(mw_err *err, mw_str pattern, const char *why) {
  return mw_err_set(err, MW_EINVALID, "route pattern \"%.*s\": %s", MW_STR_FMT(pattern), why);
}

static int take_name(mw_route *route, mw_str *rest, mw_err *err) {
  size_t n = 0;
  while (n < rest->len && is_name_byte(rest->ptr[n], n == 0)) n++;
  mw_str name = mw_str_of(rest->ptr, n);
  if (n == 0) return bad_pattern(err, route->pattern, "a \":\" or \"*\" needs a name of letters, digits and _ after it");
  if (n < rest->len && rest->ptr[n] != '/') {
    return bad_pattern(err, route->pattern, "a parameter is a whole segment: put a \"/\" after its name");
  }
  for (size_t i = 0; i < route->param_count; i++) {
    if (mw_str_eq(route->param_names[i], name)) return bad_pattern(err, route->pattern, "it names a parameter twice");
  }
  if (route->param_count == MW_ROUTER_MAX_PARAMS) return bad_pattern(err, route->pattern, "it has more than 16 parameters");
  route->param_names[route->param_count++] = name;
  *rest = mw_str_of(rest->ptr + n, rest->len - n);
  return 0;
}

static int check_literal(const mw_route *route, mw_str text, mw_err *err) {
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if (c < 0x21 || c == 0x7f || c == '?' || c == '#' || c == '%') {
      return bad_pattern(err, route->pattern, "write the path as it reads after decoding, without spaces, %, ? or #");
    }
    if (c == '/' && i + 1 < text.len && text.ptr[i + 1] == '/') {
      return bad_pattern(err, route->pattern, "two slashes in a row never match: a path's are collapsed");
    }
  }
  return 0;
}

// Finds the next ":" or "*" that begins a segment; the length of the text without one.
static size_t literal_length(mw_str text) {
  for (size_t i = 0; i < text.len; i++) {
    if ((text.ptr[i] == ':' || text.ptr[i] == '*') && i > 0 && text.ptr[i - 1] == '/') return i;
  }
  return text.len;
}

static leaf **walk_pattern(mw_router *router, mw_route *route, int *rc, mw_err *err) {
  mw_str rest = route->pattern;
  if (rest.len > 1 && rest.ptr[rest.len - 1] == '/') rest.len--;
  node *at = router->root;
  while (rest.len) {
    size_t n = literal_length(rest);
    mw_str text = mw_str_of(rest.ptr, n);
    if ((*rc = check_literal(route, text, err))) return NULL;
    at = add_literal(router, at, text);
    rest = mw_str_of(rest.ptr + n, rest.len - n);
    if (!rest.len) break;
    bool wild = rest.ptr[0] == '*';
    rest = mw_str_of(rest.ptr + 1, rest.len - 1);
    if ((*rc = take_name(route, &rest, err))) return NULL;
    if (wild && rest.len) {
      *rc = bad_pattern(err, route->pattern, "a wildcard stands at the end only");
      return NULL;
    }
    if (wild) return &at->rest;
    if (!at->param) at->param = new_node(router, MW_STR(""));
    at = at->param;
  }
  return &at->here;
}

int mw_router_add(mw_router *router, const mw_route *route, mw_err *err) {
  bool any = mw_str_eq(route->method, MW_STR("*"));
  int method = any ? ANY : mw_method_parse(route->method);
  if (method < 0) {
    return mw_err_set(err, MW_EINVALID, "route %.*s: \"%.*s\" is no method that the server knows (GET, POST, … or *)",
                      MW_STR_FMT(route->pattern), MW_STR_FMT(route->method));
  }
  if (!route->pattern.len || route->pattern.ptr[0] != '/') {
    return bad_pattern(err, route->pattern, "it must begin with \"/\"");
  }
  if (route->pattern.len > 1024) return bad_pattern(err, mw_str_of(route->pattern.ptr, 40), "it is over 1024 bytes");
  mw_route *copy = mw_arena_alloc(&router->arena, sizeof *copy);
  *copy = *route;
  copy->method = mw_arena_str(&router->arena, route->method);
  copy->pattern = mw_arena_str(&router->arena, route->pattern);
  copy->param_count = 0;
  int rc = 0;
  leaf **slot = walk_pattern(router, copy, &rc, err);
  if (!slot) return rc;
  if (!*slot) *slot = mw_arena_calloc(&router->arena, sizeof **slot);
  if ((*slot)->routes[method]) {
    const mw_route *taken = (*slot)->routes[method];
    return mw_err_set(err, MW_EEXISTS, "%.*s %.*s is taken by %.*s", MW_STR_FMT(copy->method), MW_STR_FMT(copy->pattern),
                      MW_STR_FMT(taken->pattern));
  }
  (*slot)->routes[method] = copy;
  if (!any) (*slot)->methods |= 1u << method;
  return 0;
}

/* ---- matching ---- */

typedef struct search {
  mw_route_match *match;
  mw_str path;
  int method;
  size_t tail; // 1: a trailing slash was left off, which a wildcard keeps
} search;

static bool take_leaf(search *s, const leaf *l) {
  const mw_route *route = s->method >= 0 ? l->routes[s->method] : NULL;
  if (!route && s->method == MW_METHOD_HEAD) route = l->routes[MW_METHOD_GET];
  if (!route) route = l->routes[ANY];
  if (!route) {
    s->match->allow |= l->methods;
    return false;
  }
  s->match->route = route; // a reserved one ends the search, mw_router_match takes it away again
  return true;
}

// `at`: where in the path; `params`: how many are filled.
static bool find_in(search *s, const node *n, size_t at, size_t params) {
  size_t left = s->path.len - at;
  if (left == 0) {
    if (n->here && take_leaf(s, n->here)) return true;
  } else {
    for (const node *child = n->children; child; child = child->next) {
      if (child->text.ptr[0] != s->path.ptr[at]) continue;
      if (child->text.len <= left && !memcmp(child->text.ptr, s->path.ptr + at, child->text.len)) {
        if (find_in(s, child, at + child->text.len, params)) return true;
      } else if (child->rest && child->text.len == left + 1 && child->text.ptr[left] == '/' &&
                 !memcmp(child->text.ptr, s->path.ptr + at, left)) {
        s->match->params[params] = mw_str_of(s->path.ptr + s->path.len, 0);
        if (take_leaf(s, child->rest)) return true; // "/files" for "/files/*path"
      }
      break;
    }
    if (n->param && s->path.ptr[at] != '/') {
      const char *slash = memchr(s->path.ptr + at, '/', left);
      size_t len = slash ? (size_t)(slash - (s->path.ptr + at)) : left;
      s->match->params[params] = mw_str_of(s->path.ptr + at, len);
      if (find_in(s, n->param, at + len, params + 1)) return true;
    }
  }
  if (n->rest) {
    s->match->params[params] = mw_str_of(s->path.ptr + at, left ? left + s->tail : 0);
    if (take_leaf(s, n->rest)) return true;
  }
  // "/files" also reaches a wildcard behind "/": a child "/" of an ended path.
  if (left == 0) {
    for (const node *child = n->children; child; child = child->next) {
      if (child->text.len == 1 && child->text.ptr[0] == '/' && child->rest) {
        s->match->params[params] = mw_str_of(s->path.ptr + at, 0);
        return take_leaf(s, child->rest);
      }
    }
  }
  return false;
}

void mw_router_match(const mw_router *router, mw_str method, mw_str path, mw_route_match *match) {
  match->route = NULL;
  match->allow = 0;
  size_t tail = path.len > 1 && path.ptr[path.len - 1] == '/';
  path.len -= tail;
  search s = {match, path, mw_method_parse(method), tail};
  find_in(&s, router->root, 0, 0);
  if (match->route && match->route->is_reserved) match->route = NULL;
  match->status = match->route ? 200 : match->allow ? 405 : 404;
}

size_t mw_router_allow(const mw_route_match *match, char *text, size_t size) {
  uint32_t allow = match->allow;
  if (allow & (1u << MW_METHOD_GET)) allow |= 1u << MW_METHOD_HEAD;
  size_t len = 0;
  for (int m = 0; m < MW_METHOD_COUNT; m++) {
    if (!(allow & (1u << m))) continue;
    mw_str name = mw_method_name(m);
    if (len + name.len + 3 > size) break;
    if (len) {
      memcpy(text + len, ", ", 2);
      len += 2;
    }
    memcpy(text + len, name.ptr, name.len);
    len += name.len;
  }
  if (size) text[len < size ? len : size - 1] = 0;
  return len;
}
