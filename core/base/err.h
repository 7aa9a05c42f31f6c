// SPDX-License-Identifier: MIT
#pragma once

// Errors: one int travels through every layer. 0 is success, libuv's negative codes pass through untouched, ours
// start at -20000 and are all in the table below. Where words help, the last parameter is an mw_err on the caller's
// stack (or NULL).
//
//   if (rc) return mw_err_set(err, MW_ETIMEOUT, "connect %s:%d", host, port);
//   if ((rc = load(path, err))) return mw_err_wrap(err, "load plugin %s", path);

#include <stdbool.h>
#include <stdarg.h>

/** name, value, code for programs, text for people, worth retrying */
#define MW_ERR_TABLE(X)                                                                                        \
  X(MW_EINVALID, -20000, "invalid", "the value is not valid", false)                                           \
  X(MW_ETIMEOUT, -20001, "timeout", "the time for it is over", true)                                           \
  X(MW_ECANCELED, -20002, "cancelled", "it was cancelled", false)                                              \
  X(MW_ELIMIT, -20003, "limit", "a limit was reached", false)                                                  \
  X(MW_ENOTFOUND, -20004, "not_found", "there is no such thing", false)                                        \
  X(MW_EEXISTS, -20005, "exists", "it exists already", false)                                                  \
  X(MW_ECONFLICT, -20006, "conflict", "it conflicts with what is there", false)                                \
  X(MW_EDENIED, -20007, "denied", "it is not allowed", false)                                                  \
  X(MW_EUNAVAILABLE, -20008, "unavailable", "a service it needs is away", true)                                \
  X(MW_EBUSY, -20009, "busy", "too much work is waiting", true)                                                \
  X(MW_ECLOSED, -20010, "closed", "the connection was closed", true)                                           \
  X(MW_EPROTOCOL, -20011, "protocol", "the other side broke the protocol", false)                              \
  X(MW_EJSON, -20012, "json", "the JSON is not valid", false)                                                  \
  X(MW_EUTF8, -20013, "utf8", "the text is not valid UTF-8", false)                                            \
  X(MW_ETLS, -20014, "tls", "the TLS connection failed", false)                                                \
  X(MW_EDNS, -20015, "dns", "the host name has no address", true)                                              \
  X(MW_ESQL, -20016, "sql", "the database refused the statement", false)                                       \
  X(MW_ECONSTRAINT, -20017, "constraint", "a constraint of the database refused the row", false)               \
  X(MW_ESERIALIZE, -20018, "serialization", "another transaction was in the way", true)                        \
  X(MW_ESTALE, -20019, "stale", "another owner has taken over", false)                                         \
  X(MW_ELUA, -20020, "lua", "the Lua code failed", false)                                                      \
  X(MW_ESYNTAX, -20021, "syntax", "the Lua code does not compile", false)                                      \
  X(MW_EMEMORY, -20022, "memory", "the memory budget is used up", false)                                       \
  X(MW_EKILLED, -20023, "killed", "it ran too long without a pause", false)                                    \
  X(MW_ECONFIG, -20024, "config", "the configuration is not valid", false)                                     \
  X(MW_ELOCKED, -20025, "locked", "another process is using it", false)                                        \
  X(MW_EVERSION, -20026, "version", "it was made by another version", false)                                   \
  X(MW_EIO, -20027, "io", "reading or writing failed", true)                                                   \
  X(MW_AGAIN, -20028, "again", "it has to wait", true)                                                         \
  X(MW_EENCODE, -20029, "encode", "the value cannot be written as JSON", false)                                \
  X(MW_EREDIS, -20040, "redis", "Redis refused the command", false)

enum {
#define MW_ERR_ENUM(name, value, code, text, retryable) name = value,
  MW_ERR_TABLE(MW_ERR_ENUM)
#undef MW_ERR_ENUM
};

/* ffi-begin */
typedef struct mw_err {
  int code;        /* 0 when nothing went wrong */
  char text[500];  /* one sentence, always zero-terminated */
} mw_err;
const char *mw_err_code(int code);
const char *mw_err_text(int code);
bool mw_err_is_retryable(int code);
/* ffi-end */

/** Returns the stable short name of a code ("timeout"; libuv's as "ECONNREFUSED"); never NULL. */
const char *mw_err_code(int code);
/** Returns the sentence of a code; never NULL. */
const char *mw_err_text(int code);
/** True when trying again later can help. */
bool mw_err_is_retryable(int code);
/** Teaches this layer another range of codes (loop registers libuv's). Call before threads start. */
void mw_err_register(const char *(*name)(int code), const char *(*text)(int code));

/** Fills `err` (may be NULL) and returns `code`. Text too long is cut at a character. */
int mw_err_set(mw_err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int mw_err_vset(mw_err *err, int code, const char *format, va_list args);
/** Puts "context: " before the text; returns the code that `err` holds (or `MW_EINVALID` when NULL). */
int mw_err_wrap(mw_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
