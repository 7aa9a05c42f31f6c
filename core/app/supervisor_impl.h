// SPDX-License-Identifier: MIT
#pragma once

// What the two files of the supervisor share: supervisor.c (the server: start, crash, drain) and upgrade.c (a new program that takes
// over). One thread; everything happens in the one poll loop of supervisor.c.

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "app/config.h"
#include "app/handover.h"
#include "app/program.h"
#include "app/runtime.h"

/** What a server may need beyond its drain time to write down that it was cut short. */
#define MW_KILL_GRACE_MS 2000

typedef enum mw_upgrade_state {
  MW_UPGRADE_NONE,
  MW_UPGRADE_CHECKING,  /**< The new program checks itself, the server before serves. */
  MW_UPGRADE_FINISHING, /**< It is in order; the server before ends. */
  MW_UPGRADE_STARTING,  /**< The server before is gone; the new one is to serve. */
} mw_upgrade_state;

typedef struct mw_upgrade {
  mw_upgrade_state state;
  pid_t pid; /**< 0: none. */
  int pair_fd;
  bool ready, again;
  int64_t due_ms;      /**< When the present state must be over; 0: never. */
  int fds[MW_HANDOVER_MAX_FDS]; /**< What came over the pair. */
  size_t fd_count;
  mw_handover next;    /**< Put together of it. */
} mw_upgrade;

typedef struct mw_supervisor {
  const mw_config *conf;
  mw_runtime_fds *fds;
  const mw_program *program;
  pid_t pid;          /**< The server; 0: none runs. */
  int pair_fd;        /**< Our end of its pair; -1. */
  int signal_fd;
  int crashes;        /**< In a row. */
  int64_t started_ms;
  int64_t start_at_ms; /**< When the next one is due; 0: none is. */
  int64_t kill_at_ms;  /**< While draining. */
  int64_t watchdog_ms, ping_at_ms; /**< How often systemd wants to hear of us, and when the server is asked next; 0: it does not. */
  bool draining, was_ready, is_done;
  int exit_code;
  mw_upgrade upgrade;
} mw_supervisor;

// supervisor.c
/** Starts the server again, at once or after a pause. */
void mw_supervisor_schedule_start(mw_supervisor *self);
/** Tells systemd that all is as it should be (again). */
void mw_supervisor_tell_ready(const mw_supervisor *self);

// upgrade.c
/** Nothing is under way. */
void mw_upgrade_init(mw_upgrade *upgrade);
/** SIGUSR2. One that comes during a swap is done after it. */
void mw_upgrade_begin(mw_supervisor *self);
/** The pair of the new program is readable. */
void mw_upgrade_hear(mw_supervisor *self);
/** The server before has ended. Returns false when that is no part of a swap. */
bool mw_upgrade_on_server_exit(mw_supervisor *self);
/** A child has ended. Returns false when it is not the new program. */
bool mw_upgrade_on_exit(mw_supervisor *self, pid_t pid, int status);
void mw_upgrade_look_at_clock(mw_supervisor *self, int64_t now_ms);
/** The supervisor drains: ends the new program, or makes it the server when there is no other. */
void mw_upgrade_abandon(mw_supervisor *self);
