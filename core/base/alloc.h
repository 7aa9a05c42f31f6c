// SPDX-License-Identifier: MIT
#pragma once

// Memory from the C heap. Running out aborts the process with a message, so callers have no branch for it;
// sizes that come from outside are checked against a named limit before they get here. Thread-safe.

#include <stddef.h>

/** Returns `size` uninitialised bytes. Aborts when there are none. */
void *mw_alloc(size_t size);
/** Returns `count * size` zeroed bytes; aborts on overflow. */
void *mw_calloc(size_t count, size_t size);
/** Grows or shrinks `ptr` (may be NULL). */
void *mw_realloc(void *ptr, size_t size);
/** Frees what the functions here returned; NULL is fine. */
void mw_free(void *ptr);
/** Returns a zero-terminated copy of `text`. */
char *mw_strdup(const char *text);
/** Returns a zero-terminated copy of `len` bytes. */
char *mw_strndup(const char *text, size_t len);

/** Allocates one zeroed `type`. */
#define MW_NEW(type) ((type *)mw_calloc(1, sizeof(type)))
