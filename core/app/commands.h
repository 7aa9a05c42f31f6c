// SPDX-License-Identifier: MIT
#pragma once

// The commands, one file each (core/app/cmd_<name>.c); app/cli.c lists them in the order help shows.

#include "app/cli.h"

extern const mw_command mw_command_init, mw_command_serve, mw_command_check, mw_command_reload, mw_command_trigger,
    mw_command_migrate, mw_command_backup, mw_command_restore, mw_command_config, mw_command_test, mw_command_version, mw_command_help, mw_command_serve_child;
