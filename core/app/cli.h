// SPDX-License-Identifier: MIT
#pragma once

// The command line: a table of commands, one parser for their flags, one place for usage errors and `did you mean`.
// Data goes to stdout, everything said to people about a failure to stderr.
//
//   static int run_version(mw_cli *cli) { puts(MW_VERSION); return MW_EXIT_OK; }
//   const mw_command mw_command_version = {.name = "version", .summary = "Print the version", .run = run_version};

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/** What the process tells the shell. Stable: scripts rely on it. */
enum {
  MW_EXIT_OK = 0,          /**< Done. */
  MW_EXIT_FAILED = 1,      /**< It was tried and failed; stderr says why. */
  MW_EXIT_USAGE = 2,       /**< The command line or the configuration is not valid; nothing was tried. */
  MW_EXIT_UNREACHABLE = 3, /**< No server answered. */
};

/** Flags and arguments of one call never pass this. */
#define MW_CLI_MAX 64

typedef struct mw_cli_flag {
  const char *name;  /**< Without dashes; NULL ends a list. */
  const char *value; /**< How help names the value ("FILE"); NULL: the flag takes none. */
  const char *help;  /**< One line. */
} mw_cli_flag;

/** What a command can be asked to do: `moonwatch keys create`. */
typedef struct mw_cli_sub {
  const char *name;    /**< NULL ends a list. */
  const char *args;    /**< As mw_command.args; NULL: none. */
  const char *summary; /**< One line, imperative, no full stop. */
  int min_args, max_args;
} mw_cli_sub;

typedef struct mw_cli mw_cli;

typedef struct mw_command {
  const char *name;
  const char *args;    /**< Arguments as help shows them ("NAME [JSON]"); NULL: none are taken. */
  const char *summary; /**< One line, imperative, no full stop. */
  const char *details; /**< Further lines for `moonwatch help NAME`; may be NULL. */
  const mw_cli_flag *flags; /**< NULL: none. */
  const mw_cli_sub *subs;   /**< The first argument is one of these names, already checked when `run` is called; NULL: not so. */
  int min_args, max_args;
  bool takes_config;   /**< Accepts the flags of the options in app/config.h as well. */
  bool is_raw;         /**< Gets its arguments unparsed. */
  bool is_hidden;      /**< For the program itself; not listed. */
  int (*run)(mw_cli *cli);
} mw_command;

struct mw_cli {
  char **line; /**< As main() got it. */
  const mw_command *command;
  int argc;
  char *argv[MW_CLI_MAX + 1]; /**< Arguments after the command, without flags (with them for a raw command); NULL-ended. */
  struct {
    const char *name;
    const char *value; /**< NULL for a flag without value. */
  } flags[MW_CLI_MAX];
  int flag_count;
};

/** All commands, in the order help lists them; NULL-ended. */
extern const mw_command *const mw_commands[];

/** Parses and runs a whole command line; returns the exit code. */
int mw_cli_main(int argc, char **argv);
/** True when a flag was given. */
bool mw_cli_has(const mw_cli *cli, const char *name);
/** Returns the value of a flag (the last one wins), or NULL. */
const char *mw_cli_get(const mw_cli *cli, const char *name);
/** Says "moonwatch NAME: …" on stderr with a pointer to help; returns MW_EXIT_USAGE. */
int mw_cli_usage_error(const mw_cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Returns the value number `index`, from 0, of a flag that may be given several times, or NULL. */
const char *mw_cli_get_nth(const mw_cli *cli, const char *name, int index);
/** Says "moonwatch NAME: …" on stderr; returns `code`. */
int mw_cli_fail(const mw_cli *cli, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/** Returns the name in the NULL-ended list `names` that `name` most likely means, or NULL. */
const char *mw_cli_suggest(const char *name, const char *const *names);
/** Collects every flag that `command` takes, those of the configuration included; returns how many, at most `cap`. */
int mw_cli_flags_of(const mw_command *command, mw_cli_flag *out, int cap);
/** Returns the command called `name`, or NULL. */
const mw_command *mw_cli_find(const char *name);
/** Says that there is none, and which one it most likely means; returns MW_EXIT_USAGE. */
int mw_cli_unknown_command(const mw_cli *cli, const char *name);
/** Prints all commands. */
void mw_cli_print_overview(FILE *out);
/** Prints the help of one command. */
void mw_cli_print_help(const mw_command *command);
