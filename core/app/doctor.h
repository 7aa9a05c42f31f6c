// SPDX-License-Identifier: MIT
#pragma once

// `moonwatch doctor`: checks of an installation. A check only looks, and says one or more lines: fine, a warning, or what is wrong, each
// ending in what to do. Each runs in a child process with a deadline, so that a dead disk, a database that does not answer or a plugin
// that loops costs one line and not the report.
//
//   static void check_space(mw_doctor *d) { if (…) mw_doctor_warn(d, "data space", "2 %% are free: make room"); else mw_doctor_ok(…); }

#include <stdbool.h>
#include <stdint.h>

#include "app/config.h"

typedef struct mw_cli mw_cli;
typedef struct mw_doctor mw_doctor;

typedef enum mw_doctor_level { MW_DOCTOR_OK, MW_DOCTOR_WARN, MW_DOCTOR_FAIL } mw_doctor_level;

typedef struct mw_doctor_check {
  const char *name;      /**< Of the line that says that it did not end. */
  void (*run)(mw_doctor *doctor);
  int64_t timeout_ms;
  bool needs_deep;       /**< Only with --deep. */
  int engine;            /**< 0: both; 1: SQLite only; 2: PostgreSQL only. */
} mw_doctor_check;

struct mw_doctor {
  const mw_cli *cli;
  const mw_config *conf;
  int out; /**< Where the child writes. */
};

/** Say a line about `what` (a few words, stable: programs read them). In the child only. */
void mw_doctor_ok(mw_doctor *doctor, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));
void mw_doctor_warn(mw_doctor *doctor, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));
void mw_doctor_fail(mw_doctor *doctor, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));

typedef void (*mw_doctor_line_cb)(mw_doctor_level level, const char *what, const char *text, void *arg);
/** Runs the checks in order and calls `cb` with each line. */
void mw_doctor_run(mw_doctor *doctor, bool deep, mw_doctor_line_cb cb, void *arg);

/** The tables, each ended by a row without a name. */
extern const mw_doctor_check mw_doctor_data_checks[], mw_doctor_database_checks[], mw_doctor_machine_checks[], mw_doctor_server_checks[];
