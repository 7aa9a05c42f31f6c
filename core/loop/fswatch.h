// SPDX-License-Identifier: MIT
#pragma once

// mw_fswatch: tells that something below a folder changed. Watches every folder below it (inotify through libuv), also those
// made later; waits until it has been quiet for `settle_ms`, so that an editor's save is one event. Where the system has no
// watches left it falls back to comparing names, sizes and times every second.

#include "base/err.h"

typedef struct mw_loop mw_loop;
typedef struct mw_fswatch mw_fswatch;
typedef void (*mw_fswatch_cb)(void *arg);

int mw_fswatch_open(mw_loop *loop, const char *dir, int settle_ms, mw_fswatch_cb cb, void *arg, mw_fswatch **out, mw_err *err);
void mw_fswatch_close(mw_fswatch *watch);
