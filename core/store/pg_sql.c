// SPDX-License-Identifier: MIT
#include "store/pg_sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS 4
#define MAX_PLACEHOLDERS 65535

typedef struct scan {
  const char *at, *end;
  int placeholders;
  bool ended;         /**< A semicolon was seen. */
  bool more;          /**< Something follows it. */
  bool calls_session; /**< set_config or a session's advisory lock is called somewhere. */
  int nwords;         /**< Leading bare words; stops at the first other token. */
  bool words_end;
  char words[MAX_WORDS][16]; /**< In capitals. */
} scan;

static bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/** Skips to after the closing `quote`; doubled quotes stay inside, and backslash pairs when `escapes`. */
static void skip_quoted(scan *s, char quote, bool escapes) {
  for (s->at++; s->at < s->end; s->at++) {
    if (escapes && *s->at == '\\' && s->at + 1 < s->end) {
      s->at++;
    } else if (*s->at == quote) {
      s->at++;
      if (s->at >= s->end || *s->at != quote) return;
    }
  }
}

static void skip_block_comment(scan *s) {
  int depth = 0;
  while (s->at < s->end) {
    if (s->at + 1 < s->end && s->at[0] == '/' && s->at[1] == '*') {
      depth++;
      s->at += 2;
    } else if (s->at + 1 < s->end && s->at[0] == '*' && s->at[1] == '/') {
      s->at += 2;
      if (--depth == 0) return;
    } else {
      s->at++;
    }
  }
}

/** At a `$`: a placeholder, a dollar-quoted string, or only a dollar. */
static void scan_dollar(scan *s) {
  const char *tag = s->at++;
  if (s->at < s->end && is_digit(*s->at)) {
    long n = 0;
    for (; s->at < s->end && is_digit(*s->at); s->at++) {
      if (n <= MAX_PLACEHOLDERS) n = n * 10 + (*s->at - '0');
    }
    if (n > s->placeholders) s->placeholders = (int)n;
    return;
  }
  while (s->at < s->end && (is_name_start(*s->at) || is_digit(*s->at))) s->at++;
  if (s->at >= s->end || *s->at != '$') return;
  size_t len = (size_t)(++s->at - tag);
  const char *close = memmem(s->at, (size_t)(s->end - s->at), tag, len);
  s->at = close ? close + len : s->end;
}

static bool touches_session(mw_str name) {
  static const char *const names[] = {"set_config",
                                      "pg_advisory_lock",
                                      "pg_advisory_lock_shared",
                                      "pg_try_advisory_lock",
                                      "pg_try_advisory_lock_shared",
                                      NULL};
  if (name.len < 10) return false;
  for (const char *const *at = names; *at; at++) {
    if (mw_str_eq_nocase(name, mw_str_from(*at))) return true;
  }
  return false;
}

static void scan_word(scan *s) {
  const char *begin = s->at;
  while (s->at < s->end && (is_name_start(*s->at) || is_digit(*s->at) || *s->at == '$')) s->at++;
  size_t len = (size_t)(s->at - begin);
  if (len == 1 && s->at < s->end && *s->at == '\'') {
    skip_quoted(s, '\'', *begin == 'e' || *begin == 'E');
    s->words_end = true;
    return;
  }
  if (touches_session(mw_str_of(begin, len))) s->calls_session = true;
  if (s->words_end || s->nwords == MAX_WORDS) return;
  char *word = s->words[s->nwords++];
  for (size_t i = 0; i < len && i < sizeof s->words[0] - 1; i++) {
    word[i] = begin[i] >= 'a' && begin[i] <= 'z' ? (char)(begin[i] - 32) : begin[i];
  }
}

static void scan_all(scan *s) {
  while (s->at < s->end) {
    char c = *s->at;
    if (is_space(c)) {
      s->at++;
    } else if (c == '-' && s->at + 1 < s->end && s->at[1] == '-') {
      while (s->at < s->end && *s->at != '\n') s->at++;
    } else if (c == '/' && s->at + 1 < s->end && s->at[1] == '*') {
      skip_block_comment(s);
    } else if (c == ';') {
      s->ended = true;
      s->at++;
    } else if (s->ended) {
      s->more = true;
      return;
    } else if (is_name_start(c)) {
      scan_word(s);
    } else {
      s->words_end = true;
      if (c == '\'' || c == '"')
        skip_quoted(s, c, false);
      else if (c == '$')
        scan_dollar(s);
      else
        s->at++;
    }
  }
}

static bool word_is(const scan *s, int i, const char *word) {
  return i < s->nwords && strcmp(s->words[i], word) == 0;
}

static bool is_one_of(const scan *s, const char *const *list) {
  for (; *list; list++) {
    if (word_is(s, 0, *list)) return true;
  }
  return false;
}

static bool is_temp_table(const scan *s) {
  return word_is(s, 0, "CREATE") && (word_is(s, 1, "TEMP") || word_is(s, 1, "TEMPORARY") ||
                                     ((word_is(s, 1, "LOCAL") || word_is(s, 1, "GLOBAL") ||
                                       (word_is(s, 1, "OR") && word_is(s, 2, "REPLACE"))) &&
                                      (word_is(s, 2, "TEMP") || word_is(s, 2, "TEMPORARY") ||
                                       word_is(s, 3, "TEMP") || word_is(s, 3, "TEMPORARY"))));
}

static int deny(const scan *s, const char *why, mw_err *err) {
  return mw_err_set(err, MW_EDENIED, "%s%s%s %s", s->words[0], s->nwords > 1 && word_is(s, 0, "SET") ? " " : "",
                    s->nwords > 1 && word_is(s, 0, "SET") ? s->words[1] : "", why);
}

static int check_alone(const scan *s, mw_err *err) {
  static const char *const control[] = {"BEGIN", "START",     "COMMIT",  "END",  "ROLLBACK",
                                        "ABORT", "SAVEPOINT", "RELEASE", "LOCK", "DECLARE",
                                        "FETCH", "MOVE",      "CLOSE",   NULL};
  static const char *const session[] = {"SET",     "RESET",      "DISCARD", "PREPARE",
                                        "EXECUTE", "DEALLOCATE", "LOAD",    NULL};
  static const char *const listen[] = {"LISTEN", "UNLISTEN", NULL};
  if (is_one_of(s, control)) {
    return deny(s,
                "needs a transaction, and connections are shared between tasks: run it inside mw.transaction, "
                "which begins, "
                "commits and rolls back by itself",
                err);
  }
  if (is_one_of(s, session)) {
    return deny(s,
                "would change a connection that other tasks share: use it inside mw.transaction (SET LOCAL for "
                "a setting)",
                err);
  }
  if (is_temp_table(s)) {
    return mw_err_set(
        err, MW_EDENIED,
        "a temporary table lives in one connection, which other tasks share: make and use it inside "
        "mw.transaction");
  }
  if (s->calls_session) {
    return mw_err_set(
        err, MW_EDENIED,
        "set_config and advisory locks of a session stay on a connection that other tasks share: use "
        "them inside mw.transaction (pg_advisory_xact_lock)");
  }
  if (is_one_of(s, listen)) return deny(s, "is not possible here: connections are shared between tasks", err);
  if (word_is(s, 0, "COPY"))
    return deny(s, "is not possible here: use INSERT … SELECT FROM unnest($1::…[])", err);
  return 0;
}

static int check_in_tx(const scan *s, mw_err *err) {
  static const char *const control[] = {"BEGIN", "START", "COMMIT", "END", "ABORT", NULL};
  static const char *const never[] = {"LISTEN", "UNLISTEN", "DISCARD", NULL};
  bool to_savepoint =
      word_is(s, 0, "ROLLBACK") && (word_is(s, 1, "TO") || (s->nwords > 2 && word_is(s, 2, "TO")));
  if (is_one_of(s, control) || (word_is(s, 0, "ROLLBACK") && !to_savepoint) ||
      (word_is(s, 0, "PREPARE") && word_is(s, 1, "TRANSACTION"))) {
    return deny(s,
                "is not possible inside mw.transaction: return from its function to commit, raise an error to "
                "roll back",
                err);
  }
  if (is_one_of(s, never)) return deny(s, "is not possible inside mw.transaction", err);
  if (word_is(s, 0, "COPY"))
    return deny(s, "is not possible here: use INSERT … SELECT FROM unnest($1::…[])", err);
  return 0;
}

static bool leaves_session(const scan *s) {
  static const char *const words[] = {"RESET", "PREPARE", "DEALLOCATE", "DECLARE", "LOAD", "DO", "CALL", NULL};
  if (s->calls_session || is_one_of(s, words) || is_temp_table(s)) return true;
  return word_is(s, 0, "SET") && !word_is(s, 1, "LOCAL") && !word_is(s, 1, "TRANSACTION") &&
         !word_is(s, 1, "CONSTRAINTS");
}

int mw_pg_sql_check(mw_str text, bool in_tx, mw_pg_sql *sql, mw_err *err) {
  *sql = (mw_pg_sql){0, false};
  if (text.len && memchr(text.ptr, 0, text.len)) {
    return mw_err_set(err, MW_EINVALID, "the statement has a NUL byte in it");
  }
  scan s = {.at = text.ptr, .end = text.ptr + text.len};
  if (text.len) scan_all(&s);
  if (s.nwords == 0 && !s.words_end) return mw_err_set(err, MW_EINVALID, "the statement is empty");
  if (s.more) {
    return mw_err_set(err, MW_EINVALID,
                      "more than one statement in one call: call once for each, inside mw.transaction when "
                      "they belong together");
  }
  if (s.placeholders > MAX_PLACEHOLDERS) {
    return mw_err_set(err, MW_EINVALID, "placeholders go up to $%d: pass an array and unnest it",
                      MAX_PLACEHOLDERS);
  }
  int rc = in_tx ? check_in_tx(&s, err) : check_alone(&s, err);
  if (rc) return rc;
  sql->placeholders = s.placeholders;
  sql->leaves_session = leaves_session(&s);
  return 0;
}
