// SPDX-License-Identifier: MIT
#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_die(void *ptr, size_t size) {
  if (ptr || size == 0) return ptr;
  fprintf(stderr, "moonwatch: out of memory (%zu bytes wanted)\n", size);
  abort();
}

void *mw_alloc(size_t size) { return or_die(malloc(size), size); }

void *mw_calloc(size_t count, size_t size) {
  void *ptr = calloc(count, size);
  return or_die(ptr, count && size ? 1 : 0);
}

void *mw_realloc(void *ptr, size_t size) {
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  return or_die(realloc(ptr, size), size);
}

void mw_free(void *ptr) { free(ptr); }

char *mw_strdup(const char *text) { return mw_strndup(text, strlen(text)); }

char *mw_strndup(const char *text, size_t len) {
  char *copy = mw_alloc(len + 1);
  if (len) memcpy(copy, text, len);
  copy[len] = 0;
  return copy;
}
