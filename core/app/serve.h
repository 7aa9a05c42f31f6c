// SPDX-License-Identifier: MIT
#pragma once

// The server process: what runs in the supervisor's child, or in the foreground with --no-supervisor.

#include "app/config.h"
#include "app/runtime.h"

/** Runs the server to its end; returns its exit code. While the server before still drains in the same data folder, it waits. */
int mw_serve(const mw_config *conf, mw_runtime_fds *fds);
/** Turns the configuration's log options on. */
void mw_serve_configure_log(const mw_config *conf);

/** Starts `moonwatch __serve` in a child that gets the configuration, the sockets and one end of `fds->supervisor`'s pair by inheritance.
 *  Returns its pid with the other end in `*pipe_fd`, or a negative code. */
int mw_serve_spawn(const mw_config *conf, const mw_runtime_fds *fds, int *pipe_fd, mw_err *err);
