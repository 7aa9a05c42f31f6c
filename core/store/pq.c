// SPDX-License-Identifier: MIT
#include "store/pq.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#define LIBRARY "libpq.so.5"

mw_pq_functions mw_pq;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char missing[200];

// The macros of the header stand for the table's fields, and a stringified name would be theirs.
static const char *const names[] = {
#define NAME(name) #name,
    MW_PQ_TABLE(NAME)
#undef NAME
};

static void load(void) {
  void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  void **functions = (void **)&mw_pq;
  if (!library) {
    snprintf(missing, sizeof missing, "PostgreSQL needs " LIBRARY ", which is not installed (Debian: apt-get install libpq5)");
    return;
  }
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    functions[i] = dlsym(library, names[i]);
    if (functions[i]) continue;
    snprintf(missing, sizeof missing, LIBRARY " has no %s; PostgreSQL needs its version 14 or later", names[i]);
    return;
  }
}

int mw_pq_load(mw_err *err) {
  pthread_once(&once, load);
  return missing[0] ? mw_err_set(err, MW_EUNAVAILABLE, "%s", missing) : 0;
}
