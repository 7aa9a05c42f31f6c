// SPDX-License-Identifier: MIT
#pragma once

// What systemd is told (sd_notify): datagrams to the socket that NOTIFY_SOCKET names. Nothing happens when it is not set. Never blocks,
// never fails. The supervisor's, so that the process id that systemd knows is the one that speaks.

#include <stdint.h>

/** Sends lines such as "READY=1\nSTATUS=serving". */
void mw_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Milliseconds within which the watchdog wants to hear WATCHDOG=1 from this process; 0: it does not. */
int64_t mw_notify_watchdog_ms(void);
/** Between fork and exec: the program does not speak to systemd. */
void mw_notify_forget(void);
