// SPDX-License-Identifier: MIT
#pragma once

// mw_access_log: one line a request, in a file or on stdout. Each server writes lines into a buffer of its own (mw_access_sink), which goes
// to the log's thread when it is large or a fifth of a second old; only that thread touches the file. So a slow disk or a full pipe
// never holds up a loop: beyond MW_ACCESS_MAX_QUEUED bytes lines are dropped, counted, and the program's log says how many.
//
// A file that was moved away is opened anew (within a second, or at mw_access_log_reopen), as logrotate expects. Whatever a client sent is
// written so that it can neither end a line nor leave its field.
//
//   mw_access_log *log; mw_access_log_open("/var/log/moonwatch/access.log", MW_ACCESS_COMBINED, &log, &err);
//   mw_server_conf conf = {.access_log = log};        // any number of servers, on any threads
//   … the servers are freed … ; mw_access_log_close(log);

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/timer.h"

#define MW_ACCESS_MAX_QUEUED (4 * 1024 * 1024)
/** Of a field more is not written. */
#define MW_ACCESS_MAX_FIELD 2048

typedef struct mw_access_log mw_access_log;

/* ffi-begin */
typedef enum mw_access_format { MW_ACCESS_COMBINED, MW_ACCESS_JSON } mw_access_format;

/** What a line tells. Slices are borrowed; an empty one is not there. */
typedef struct mw_access_entry {
  int64_t wall_us;     /**< When the request came. */
  int64_t duration_ns;
  int status;          /**< 499: the client went away before an answer. */
  int minor;           /**< HTTP/1.x. */
  uint64_t bytes;      /**< Of the answer's body, as it was sent. */
  bool hides_query;    /**< The query is a secret. */
  mw_str ip, peer, method, target, host, referer, user_agent, route, trace_id, tls;
} mw_access_entry;

/** Appends a line. Pure. */
void mw_access_format_line(mw_access_format format, const mw_access_entry *entry, mw_buf *out);
/* ffi-end */

/** Opens a file for appending (mode 0640), or "stdout", and starts the thread. MW_ECONFIG with a sentence when it cannot be opened. */
int mw_access_log_open(const char *to, mw_access_format format, mw_access_log **out, mw_err *err);
/** Opens the file anew before the next line. Thread-safe. NULL is fine. */
void mw_access_log_reopen(mw_access_log *log);
/** Writes what is queued (for two seconds at most) and ends the thread. After the last sink. NULL is fine. */
void mw_access_log_close(mw_access_log *log);

/** A server's end of the log; owner's thread only. */
typedef struct mw_access_sink {
  mw_access_log *log; /**< NULL: nothing is written. */
  mw_loop *loop;
  mw_buf lines;
  mw_timer timer;
} mw_access_sink;

void mw_access_sink_init(mw_access_sink *sink, mw_access_log *log, mw_loop *loop);
void mw_access_sink_add(mw_access_sink *sink, const mw_access_entry *entry);
/** Hands over what is buffered. */
void mw_access_sink_deinit(mw_access_sink *sink);
