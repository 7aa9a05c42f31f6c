// SPDX-License-Identifier: MIT
#pragma once

// What `moonwatch runs` can do, a file a kind. Each returns the command's exit code; the arguments after the first are its own.

#include "app/cli.h"

/** Flags of `runs`; which of them mean something depends on what is done. */
extern const mw_cli_flag mw_runs_flags[];

/** True for an execution's id as far as it may stand in a path; otherwise says what is wrong with it. */
bool mw_runs_check_id(const mw_cli *cli, const char *id);

/** runs signal ID NAME [JSON] */
int mw_runs_signal(mw_cli *cli);
/** runs cancel|pause|resume|retry|rerun ID… (`-`: ids from standard input), or --where KEY=VALUE … [--yes] */
int mw_runs_act(mw_cli *cli);
