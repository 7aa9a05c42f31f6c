// SPDX-License-Identifier: MIT
#pragma once

// mw_poll: readiness of a descriptor that another library owns (libpq, hiredis). Owner's thread only.

#include <stdbool.h>

typedef struct mw_loop mw_loop;
typedef struct mw_poll mw_poll;
enum { MW_POLL_READ = 1, MW_POLL_WRITE = 2 };
typedef void (*mw_poll_cb)(mw_poll *poll, int status, int events, void *arg);

int mw_poll_open(mw_loop *loop, int fd, mw_poll_cb cb, void *arg, mw_poll **out);
/** Sets what is watched; 0 watches nothing. */
int mw_poll_set(mw_poll *poll, int events);
/** Stops watching; no callback after this. The descriptor stays open and may be closed at once; it may have been closed just before,
 * but not in an earlier turn of the loop. NULL does nothing. */
void mw_poll_close(mw_poll *poll);
