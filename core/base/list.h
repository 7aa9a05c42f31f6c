// SPDX-License-Identifier: MIT
#pragma once

// mw_list: an intrusive doubly linked ring. The head is an mw_list as well; a node is embedded in the object.
//
//   mw_list waiters; mw_list_init(&waiters);
//   mw_list_push(&waiters, &job->node);
//   for (job *j; (j = MW_LIST_POP(&waiters, job, node));) …

#include <stdbool.h>
#include <stddef.h>

typedef struct mw_list {
  struct mw_list *next;
  struct mw_list *prev;
} mw_list;

/** Makes an empty ring, or a node that is in none. */
static inline void mw_list_init(mw_list *list) { list->next = list->prev = list; }
static inline bool mw_list_is_empty(const mw_list *list) { return list->next == list; }

/** Adds `node` at the end. */
static inline void mw_list_push(mw_list *list, mw_list *node) {
  node->prev = list->prev;
  node->next = list;
  list->prev->next = node;
  list->prev = node;
}
/** Adds `node` at the beginning. */
static inline void mw_list_unshift(mw_list *list, mw_list *node) { mw_list_push(list->next, node); }
/** Takes `node` out of whatever ring it is in; harmless on an initialised lone node. */
static inline void mw_list_remove(mw_list *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  mw_list_init(node);
}
/** Takes the first node off; NULL when the ring is empty. */
static inline mw_list *mw_list_pop(mw_list *list) {
  mw_list *node = list->next;
  if (node == list) return NULL;
  mw_list_remove(node);
  return node;
}
/** Moves all of `from` to the end of `to`. */
static inline void mw_list_splice(mw_list *to, mw_list *from) {
  if (mw_list_is_empty(from)) return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  mw_list_init(from);
}

#define MW_CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void *mw_list_container(mw_list *node, size_t offset) {
  return node ? (char *)node - offset : NULL;
}
/** Pops the first object of `type` linked through `member`, or NULL. */
#define MW_LIST_POP(list, type, member) ((type *)mw_list_container(mw_list_pop(list), offsetof(type, member)))
/** Walks nodes; the current one may be removed in the body. */
#define MW_LIST_EACH(list, node)                                                                               \
  for (mw_list *node = (list)->next, *node##_next = node->next; node != (list);                                \
       node = node##_next, node##_next = node->next)
