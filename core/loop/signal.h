// SPDX-License-Identifier: MIT
#pragma once

// mw_signal: process signals as loop callbacks. Use from one loop a process.

typedef struct mw_loop mw_loop;
typedef struct mw_signal mw_signal;
typedef void (*mw_signal_cb)(int signum, void *arg);

int mw_signal_open(mw_loop *loop, int signum, mw_signal_cb cb, void *arg, mw_signal **out);
void mw_signal_close(mw_signal *signal);
