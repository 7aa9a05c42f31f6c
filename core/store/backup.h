// SPDX-License-Identifier: MIT
#pragma once

// Backup and restore of the SQLite files of a data folder: one tar file with manifest.json (store/manifest.h) in front of moonwatch.db, app.db
// and, when asked for, telemetry.db. All of one moment (store/snapshot.h). Blocking; for the command line.
//
//   mw_backup_write(&(mw_backup){.data_dir = "data", .file = "monday.tar"}, &manifest, &err);
//   mw_backup_restore(&(mw_restore){.data_dir = "elsewhere", .file = "monday.tar"}, &manifest, &aside, &err);

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/manifest.h"

typedef struct mw_backup {
  const char *data_dir;
  const char *file;          /**< "-": standard output. Replaced in one step, and only by a whole backup; until then FILE.part is worked in. */
  bool with_telemetry;
  const volatile bool *stop; /**< Set by a signal: clean up and return MW_ECANCELED. May be NULL. */
} mw_backup;

/** Makes a backup of a folder, in use or not, and fills `manifest`. Needs about twice the size of the databases free beside FILE (for "-":
 *  once, in $TMPDIR or /var/tmp). MW_ENOTFOUND: no database there. MW_ELOCKED: another backup writes that file. */
int mw_backup_write(const mw_backup *backup, mw_manifest *manifest, mw_err *err);

typedef struct mw_restore {
  const char *data_dir;      /**< Made when absent. */
  const char *file;          /**< "-": standard input. */
  bool force;                /**< Move databases that are there aside, into a folder below. */
  bool only_check;           /**< Read all of the file and compare; data_dir is not touched. */
  const volatile bool *stop;
} mw_restore;

/** Puts a backup into a folder that nobody uses: read and compared whole beside the old files first, then renamed into place. The next server
 *  there is a node of its own (a new node.id) and takes up every execution of the backup. `aside` (an empty buffer) gets the folder that holds
 *  the old files, if any. MW_ELOCKED names who uses the folder; MW_EEXISTS: databases are there; MW_EVERSION: newer than this
 *  program; MW_EINVALID, MW_EIO: damaged or cut short. After a failure the folder is as it was; a crash between the renames is told by the next
 *  start, and cured by restoring again. */
int mw_backup_restore(const mw_restore *restore, mw_manifest *manifest, mw_buf *aside, mw_err *err);
