// SPDX-License-Identifier: MIT
#pragma once

// What `moonwatch runs` can do, a file a kind. Each returns the command's exit code; the arguments after the first are its own.

#include "app/cli.h"

/** Flags of `runs`; which of them mean something depends on what is done. */
extern const mw_cli_flag mw_runs_flags[];

/** True for an execution's id as far as it may stand in a path; otherwise says what is wrong with it. */
bool mw_runs_check_id(const mw_cli *cli, const char *id);

/** runs list [--where KEY=VALUE …] [--limit N] [--cursor CURSOR] */
int mw_runs_list(mw_cli *cli);
/** runs totals [--where workflow=NAME] [--where status=NAMES]: how many of each workflow and status */
int mw_runs_totals(mw_cli *cli);
/** runs show ID */
int mw_runs_show(mw_cli *cli);
/** runs journal ID [--cursor NUMBER] */
int mw_runs_journal(mw_cli *cli);
/** runs wait ID [--timeout SECONDS]: 0 when it completed */
int mw_runs_wait(mw_cli *cli);
/** runs signal ID NAME [JSON] */
int mw_runs_signal(mw_cli *cli);
/** runs cancel|pause|resume|retry|rerun ID… (`-`: ids from standard input), or --where KEY=VALUE … [--yes] */
int mw_runs_act(mw_cli *cli);
/** runs export ID, runs import FILE (`-`: standard input) [--resume] */
int mw_runs_export(mw_cli *cli);
int mw_runs_import(mw_cli *cli);
/** runs replay ID… [--to latest|pinned|BUNDLE]; MW_EXIT_FAILED when one diverges. */
int mw_runs_replay(mw_cli *cli);
