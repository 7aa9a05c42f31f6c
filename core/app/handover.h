// SPDX-License-Identifier: MIT
#pragma once

// What passes between programs when one takes over from the other, as a memory file of lines that any version can read (unknown lines
// are skipped), with the numbers of descriptors that pass along:
//
//     moonwatch 0.1.0
//     workers 2
//     listener main 5,6 127.0.0.1:0
//     config 7
//     server 4711 8
//     again
//
// It goes to a new program in its command line (sockets only), back from it over the pair (sockets and configuration, see
// mw_handover_send), and to what the supervisor becomes in MOONWATCH_HANDOVER (all of it).

#include <stdbool.h>
#include <sys/types.h>

#include "app/config.h"
#include "app/runtime.h"
#include "base/err.h"

#define MW_HANDOVER_ENV "MOONWATCH_HANDOVER"
/** Descriptors that one hand-over can carry. */
#define MW_HANDOVER_MAX_FDS (2 + MW_LISTENERS * MW_MAX_WORKERS)

typedef struct mw_handover {
  char version[32];
  mw_runtime_fds fds;
  char addresses[MW_LISTENERS][256]; /**< As configured. */
  int config_fd;                     /**< A packed configuration (mw_handover_pack); -1: none. */
  pid_t server;                      /**< 0: none. */
  int pair_fd;                       /**< Our end of its pair. */
  bool again;                        /**< Another swap was asked for meanwhile. */
} mw_handover;

/** Nothing: no sockets, no process. */
void mw_handover_init(mw_handover *handover);
/** The sockets of `fds` with the addresses of `conf`. Descriptors stay the caller's. */
void mw_handover_set_sockets(mw_handover *handover, const mw_config *conf, const mw_runtime_fds *fds);
/** Makes a memory file of it (close-on-exec). Returns its descriptor or a negative code. */
int mw_handover_write(const mw_handover *handover, mw_err *err);
/** Reads such a file. A listener this version does not know is closed. MW_EPROTOCOL when it is none. */
int mw_handover_read(int fd, mw_handover *handover, mw_err *err);
/** Sets or clears close-on-exec on all descriptors in it. */
void mw_handover_set_inherited(const mw_handover *handover, bool inherited);
/** Sends sockets and configuration over the pair, as MW_PAIR_SOCKETS. */
int mw_handover_send(int pair_fd, const mw_handover *handover, mw_err *err);
/** Puts together what came over the pair: `fds` in the order they came. Takes them all, also on failure. */
int mw_handover_receive(const int *fds, size_t count, mw_handover *handover, mw_err *err);

/** Writes a configuration into a memory file; returns its descriptor or a negative code. */
int mw_handover_pack(const mw_config *conf, mw_err *err);
/** Reads it, and closes the descriptor. */
int mw_handover_unpack(int fd, mw_config *conf, mw_err *err);
