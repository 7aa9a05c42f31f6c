// SPDX-License-Identifier: MIT
#pragma once

// The supervisor: a small process that owns the listening sockets and one server process. A server that dies is started again, at once
// the first time, then with growing pauses up to 30 s; a minute of life resets them. A server that fails before it was ever ready ends
// the supervisor as well, with the server's exit code, because trying again would hide the reason.
//
// SIGTERM and SIGINT drain the server and end both; a second one, or the end of the drain time, kills it. SIGHUP is passed on.
//
// SIGUSR2 swaps the program for the one that is now at the path this one was started by; see upgrade.c.

#include "app/config.h"
#include "app/handover.h"
#include "app/program.h"
#include "app/runtime.h"

/** Runs until stopped; returns the exit code. Takes the sockets in `fds`. `from`: the server of an earlier program of this process is taken
 *  over; else NULL, and one is started. */
int mw_supervisor_run(const mw_config *conf, mw_runtime_fds *fds, const mw_program *program, const mw_handover *from);
