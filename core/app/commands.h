// SPDX-License-Identifier: MIT
#pragma once

// The commands, one file each (core/app/cmd_<name>.c); app/cli.c lists them in the order help shows.

#include "app/cli.h"

/** Flags of `serve`, and of the program that takes over from one. */
extern const mw_cli_flag mw_serve_flags[];

extern const mw_command mw_command_init;
extern const mw_command mw_command_new;
extern const mw_command mw_command_serve;
extern const mw_command mw_command_check;
extern const mw_command mw_command_reload;
extern const mw_command mw_command_trigger;
extern const mw_command mw_command_runs;
extern const mw_command mw_command_workflows;
extern const mw_command mw_command_cron;
extern const mw_command mw_command_keys;
extern const mw_command mw_command_login;
extern const mw_command mw_command_logout;
extern const mw_command mw_command_migrate;
extern const mw_command mw_command_backup;
extern const mw_command mw_command_restore;
extern const mw_command mw_command_doctor;
extern const mw_command mw_command_config;
extern const mw_command mw_command_test;
extern const mw_command mw_command_types;
extern const mw_command mw_command_completion;
extern const mw_command mw_command_version;
extern const mw_command mw_command_help;
extern const mw_command mw_command_serve_child,
    mw_command_upgrade;
extern const mw_command mw_command_words;
