// SPDX-License-Identifier: MIT
#pragma once

// Who listens on a TCP port, as far as /proc shows it: the sockets of other users' processes are seen by root alone.

#include <stdbool.h>
#include <sys/types.h>

#include "loop/address.h"

typedef struct mw_port_holder {
  pid_t pid;
  char name[64]; /**< Of its program; "" when it cannot be read. */
} mw_port_holder;

/** Finds a process that listens on the port of `address` (on that address or on all). False: none is seen. Reads /proc; some ms. */
bool mw_port_holder_find(const mw_address *address, mw_port_holder *holder);
