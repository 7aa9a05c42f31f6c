// SPDX-License-Identifier: MIT
// `moonwatch runs`: the executions of a running server.
#include "app/cmd_runs.h"

#include <string.h>

#include "app/cli_http.h"
#include "app/commands.h"

bool mw_runs_check_id(const mw_cli *cli, const char *id) {
  size_t len = strlen(id);
  if (len == 36 && strspn(id, "0123456789abcdefABCDEF-") == len) return true;
  mw_cli_usage_error(cli, "'%s' is no id of an execution; one looks like 0192a5b4-3c2d-7e1f-8a9b-0c1d2e3f4a5b", id);
  return false;
}

static const struct {
  const char *name;
  int (*run)(mw_cli *cli);
} others[] = {{"list", mw_runs_list}, {"totals", mw_runs_totals}, {"show", mw_runs_show}, {"journal", mw_runs_journal}, {"wait", mw_runs_wait}, {"signal", mw_runs_signal},
              {"export", mw_runs_export}, {"import", mw_runs_import}, {"replay", mw_runs_replay}};

static int run_runs(mw_cli *cli) {
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (strcmp(cli->argv[0], others[i].name) == 0) return others[i].run(cli);
  return mw_runs_act(cli);
}

#define IDS "ID …"

static const mw_cli_sub subs[] = {
    {"list", NULL, "List runs, newest first", 0, 0},
    {"totals", NULL, "Say how many runs there are of each workflow and status", 0, 0},
    {"show", "ID", "Show a run with its steps and what it waits for", 1, 1},
    {"journal", "ID", "Show what a run has recorded", 1, 1},
    {"wait", "ID", "Wait until a run has ended; exit code 0: it completed", 1, 1},
    {"signal", "ID NAME [JSON]", "Send a signal to a run", 2, 3},
    {"cancel", IDS, "Cancel runs and their children; --undo undoes what they had finished", 0, MW_CLI_MAX - 1},
    {"pause", IDS, "Pause runs: a step under way ends first", 0, MW_CLI_MAX - 1},
    {"resume", IDS, "Let paused runs go on", 0, MW_CLI_MAX - 1},
    {"retry", IDS, "Retry runs now, from the step that failed or --from STEP", 0, MW_CLI_MAX - 1},
    {"rerun", IDS, "Run them again as new ones, on the code that serves now", 0, MW_CLI_MAX - 1},
    {"replay", IDS, "Say whether the code that serves now, or --to BUNDLE, takes the way that their journals say", 1, MW_CLI_MAX - 1},
    {"move", IDS, "Move runs --to latest or a bundle, when their journals replay on it", 0, MW_CLI_MAX - 1},
    {"export", "ID", "Print a run's history, with its code, as one JSON document", 1, 1},
    {"import", "FILE", "Take in a run's history; one that had not ended is paused, --resume lets it go on", 1, 1},
    {NULL, NULL, NULL, 0, 0},
};

const mw_cli_flag mw_runs_flags[] = {
    MW_CLI_HTTP_FLAGS,
    {"where", "KEY=VALUE", "Runs with this workflow, status, group, tag, error, external_id, parent, created_after … finished_before; several are joined"},
    {"limit", "N", "Of a list: so many (50)"},
    {"cursor", "CURSOR", "Of a list or journal: go on where the page before ended"},
    {"timeout", "SECONDS", "Of a wait: give up after so long (60)"},
    {"yes", NULL, "With --where: do it, and not only say how many there are"},
    {"reason", "TEXT", "Of a cancel: shown as the run's error"},
    {"undo", NULL, "Of a cancel: undo finished steps first"},
    {"from", "STEP", "Of a retry: the step to go back to; \"\" is the very beginning"},
    {"to", "CODE", "Of a move or a replay: latest, or the hash of a bundle"},
    {"input", "JSON", "Of a rerun of one run: another input"},
    {"resume", NULL, "Of an import: a run that had not ended goes on at once"},
    {"key", "KEY", "Idempotency-Key of a signal or a rerun: the same key counts once"},
    {"json", NULL, "Print answers as JSON"},
    {NULL, NULL, NULL},
};

const mw_command mw_command_runs = {
    .name = "runs",
    .summary = "Find executions, look at them, signal, cancel, pause, resume, retry, rerun, export and import them",
    .details = "An ID of - reads ids from standard input. With --where an action does nothing until --yes is added. See docs/api.md.",
    .flags = mw_runs_flags,
    .subs = subs,
    .takes_config = true,
    .run = run_runs,
};
