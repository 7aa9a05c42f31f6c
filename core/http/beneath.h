// SPDX-License-Identifier: MIT
#pragma once

// Opening files beneath a folder, whoever chose their names. The functions that touch the disk block: they are for a thread of a work pool.
//
//   mw_beneath_file file;
//   int rc = mw_beneath_open("public", MW_STR("css/site.css"), 0, &file);   … read(file.fd) … close(file.fd);
//
// A path is taken apart by the kernel (openat2 with RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS); where there is none, what was opened is asked
// where it lies. Either way a link that leads out of the folder leads nowhere. Names that begin with "." are not found, except
// ".well-known" at the top; nor is anything but a regular file.

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define MW_BENEATH_MAX_PATH 1024

/* ffi-begin */
typedef struct mw_beneath_file {
  int fd;
  bool is_folder; /* MW_ENOTFOUND for one: it is there, but a folder */
  uint64_t size, inode;
  int64_t modified_ns; /* since 1970 */
} mw_beneath_file;

enum { MW_BENEATH_OLD_KERNEL = 1 /* go the way without openat2; for specs */ };

/** True for a path that may be looked for: relative, at most 1,024 bytes, no empty, ".", ".." or hidden part, no control character. Pure. */
bool mw_beneath_allows(mw_str path);
/** Opens for reading. Returns 0 and the file, whose `fd` is the caller's; MW_ENOTFOUND, also for what may not be opened or is no regular file;
 *  MW_EUNAVAILABLE when descriptors have run out; MW_ECONFIG when the folder itself is not there. Blocks. */
int mw_beneath_open(const char *folder, mw_str path, int flags, mw_beneath_file *file);
/* ffi-end */
