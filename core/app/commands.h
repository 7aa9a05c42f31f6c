// SPDX-License-Identifier: MIT
#pragma once

// The commands, one file each (core/app/cmd_<name>.c); app/cli.c lists them in the order help shows.

#include "app/cli.h"

extern const mw_command mw_command_test, mw_command_version, mw_command_help;
