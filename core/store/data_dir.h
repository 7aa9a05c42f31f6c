// SPDX-License-Identifier: MIT
#pragma once

// The data folder: made private, locked by one process, marked with the id of this node. Blocking; the opening of a store and the
// command line use it.
//
//   int fd; mw_data_dir_make("data", &err); mw_data_dir_lock("data", &fd, &err); … close(fd);

#include <stdbool.h>

#include "base/err.h"
#include "base/id.h"

/** Longest path of a data folder. */
#define MW_DATA_DIR_MAX 3900

/** Makes the folder (0700) and those above it when they are absent. MW_EIO says why it cannot be used: a file, not writable, … */
int mw_data_dir_make(const char *path, mw_err *err);
/** Takes the folder for this process until `*fd` is closed. MW_ELOCKED names the process that has it. A process killed just now keeps its
 *  lock until the kernel has taken it apart, so this waits up to 400 ms. */
int mw_data_dir_lock(const char *path, int *fd, mw_err *err);
/** Returns the process that has the folder, 0 when nobody does, -1 when it cannot be told. Changes nothing. */
long mw_data_dir_holder(const char *path);
/** Reads this node's id, or makes one when `make` and there is none (else `*id` stays). */
int mw_data_dir_node_id(const char *path, bool make, mw_id *id, mw_err *err);
/** Refuses a folder in which a restore was cut short (MW_EINVALID, with what to do). */
int mw_data_dir_check_restored(const char *path, mw_err *err);
/** The file whose presence says so. */
#define MW_DATA_DIR_RESTORING "restore.unfinished"
