// SPDX-License-Identifier: MIT
#pragma once

// What commands do with the configuration: load it with the flags of their command line.

#include "app/cli.h"
#include "app/config.h"

/** Flags of every command that takes_config, besides those of the options. */
extern const mw_cli_flag mw_cli_config_flags[];

/** Loads the configuration; says what is wrong with it and returns MW_EXIT_USAGE, or 0. */
int mw_cli_load_config(const mw_cli *cli, mw_config *conf);
/** The same without a word on stderr. Returns 0, or MW_ECONFIG with `err`. */
int mw_cli_try_config(const mw_cli *cli, mw_config *conf, mw_err *err);
