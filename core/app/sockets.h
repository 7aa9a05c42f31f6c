// SPDX-License-Identifier: MIT
#pragma once

// The listening sockets of a server: one SO_REUSEPORT socket a worker and listener (of a Unix path the same one for all), bound by the
// supervisor, which keeps them for its life, so that connections wait in the backlog while the server is started again.

#include "app/config.h"
#include "app/handover.h"
#include "app/runtime.h"

/** Binds every configured listener for every worker; a port 0 becomes the same port for all. An address that the last server of the same
 *  data folder still holds is waited for (at most the drain time). Returns 0, or the code of what failed with nothing left open. */
int mw_sockets_open(const mw_config *conf, mw_runtime_fds *fds, mw_err *err);
void mw_sockets_close(mw_runtime_fds *fds);
/** The sockets of a server before, for this configuration: those of the same address are taken, others bound or closed, and added when there are
 *  more workers. None is closed for there being fewer, since what waits in its backlog would be lost: see mw_runtime_fds. Takes the
 *  sockets in `have`. */
int mw_sockets_adopt(const mw_config *conf, mw_handover *have, mw_runtime_fds *fds, mw_err *err);
