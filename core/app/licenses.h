// SPDX-License-Identifier: MIT
#pragma once

// What is linked into the program: names, versions, licences.

#include <stddef.h>

typedef struct mw_license {
  const char *name;
  const char *version;  /**< Of what runs, not of the headers, where the library tells. */
  const char *spdx;     /**< SPDX expression. */
  const char *package;  /**< Debian's package; the text is /usr/share/doc/PACKAGE/copyright. NULL: Moonwatch itself. */
  const char *home;
} mw_license;

/** All of it, Moonwatch first; `*count` how many. Valid for ever. */
const mw_license *mw_licenses(size_t *count);
