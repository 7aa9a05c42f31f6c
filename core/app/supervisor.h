// SPDX-License-Identifier: MIT
#pragma once

// The supervisor: a small process that owns the listening sockets and one server process. A server that dies is started again, at once
// the first time, then with growing pauses up to 30 s; a minute of life resets them. A server that fails before it was ever ready ends
// the supervisor as well, with the server's exit code, because trying again would hide the reason.
//
// SIGTERM and SIGINT drain the server and end both; a second one, or the end of the drain time, kills it. SIGHUP is passed on.

#include "app/config.h"
#include "app/runtime.h"

/** Runs until stopped; returns the exit code. Takes the sockets in `fds`. */
int mw_supervisor_run(const mw_config *conf, mw_runtime_fds *fds);
