// SPDX-License-Identifier: MIT
#include "store/pg_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// OIDs of pg_type that never change (src/include/catalog/pg_type.dat).
enum {
  OID_BOOL = 16,
  OID_BYTEA = 17,
  OID_INT8 = 20,
  OID_INT2 = 21,
  OID_INT4 = 23,
  OID_OID = 26,
  OID_FLOAT4 = 700,
  OID_FLOAT8 = 701
};

static const char *format_number(mw_arena *arena, double num) {
  char text[40];
  if (isnan(num)) return "NaN";
  if (isinf(num)) return num > 0 ? "Infinity" : "-Infinity";
  if (num == floor(num) && fabs(num) < 9007199254740992.0) {
    snprintf(text, sizeof text, "%lld", (long long)num);
  } else {
    for (int digits = 15; digits <= 17; digits++) {
      snprintf(text, sizeof text, "%.*g", digits, num);
      if (strtod(text, NULL) == num) break;
    }
  }
  return mw_arena_strndup(arena, text, strlen(text));
}

static const char *format_int(mw_arena *arena, int64_t value) {
  char text[24];
  int len = snprintf(text, sizeof text, "%lld", (long long)value);
  return mw_arena_strndup(arena, text, (size_t)len);
}

static int make_one(mw_pg_params *p, int i, mw_arena *arena, const mw_value *v, mw_err *err) {
  switch (v->kind) {
    case MW_VALUE_NULL: return 0;
    case MW_VALUE_BOOL: p->values[i] = v->i ? "true" : "false"; return 0;
    case MW_VALUE_INT: p->values[i] = format_int(arena, v->i); return 0;
    case MW_VALUE_NUM: p->values[i] = format_number(arena, v->num); return 0;
    case MW_VALUE_TEXT:
      if (v->str.len && memchr(v->str.ptr, 0, v->str.len)) {
        return mw_err_set(err, MW_EINVALID,
                          "parameter $%d has a NUL byte, which PostgreSQL's text cannot hold: pass it as bytes",
                          i + 1);
      }
      p->values[i] = mw_arena_strndup(arena, v->str.ptr, v->str.len);
      return 0;
    case MW_VALUE_BLOB:
      p->values[i] = mw_arena_strndup(arena, v->str.ptr, v->str.len);
      p->lengths[i] = (int)v->str.len;
      p->formats[i] = 1;
      return 0;
  }
  return mw_err_set(err, MW_EINVALID, "parameter $%d has no kind", i + 1);
}

int mw_pg_params_make(mw_pg_params *params, mw_arena *arena, const mw_value *values, size_t count, int wanted,
                      mw_err *err) {
  *params = (mw_pg_params){.count = wanted};
  if (count > (size_t)wanted) {
    return mw_err_set(err, MW_EINVALID, "the statement takes %d parameters and was given %zu", wanted, count);
  }
  if (wanted == 0) return 0;
  params->values = mw_arena_calloc(arena, (size_t)wanted * sizeof *params->values);
  params->lengths = mw_arena_calloc(arena, (size_t)wanted * sizeof *params->lengths);
  params->formats = mw_arena_calloc(arena, (size_t)wanted * sizeof *params->formats);
  for (size_t i = 0; i < count; i++) {
    int rc = make_one(params, (int)i, arena, &values[i], err);
    if (rc) return rc;
  }
  return 0;
}

static mw_value blob_of(mw_arena *arena, const char *text) {
  size_t len = 0;
  unsigned char *bytes = PQunescapeBytea((const unsigned char *)text, &len);
  mw_value value = MW_VALUE_OF_BLOB(mw_str_of("", 0));
  if (bytes) value.str = mw_str_of(mw_arena_strndup(arena, (const char *)bytes, len), len);
  PQfreemem(bytes);
  return value;
}

mw_value mw_pg_value_get(mw_arena *arena, const PGresult *result, int row, int column) {
  if (PQgetisnull(result, row, column)) return MW_VALUE_OF_NULL;
  const char *text = PQgetvalue(result, row, column);
  switch (PQftype(result, column)) {
    case OID_BOOL: return (mw_value){.kind = MW_VALUE_BOOL, .i = text[0] == 't'};
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_OID: return MW_VALUE_OF_INT(strtoll(text, NULL, 10));
    case OID_FLOAT4:
    case OID_FLOAT8: return (mw_value){.kind = MW_VALUE_NUM, .num = strtod(text, NULL)};
    case OID_BYTEA: return blob_of(arena, text);
    default: {
      size_t len = (size_t)PQgetlength(result, row, column);
      return MW_VALUE_OF_TEXT(mw_str_of(mw_arena_strndup(arena, text, len), len));
    }
  }
}

int mw_pg_error_code(const char *sqlstate) {
  if (sqlstate[0] == 0) return MW_EUNAVAILABLE;
  if (strncmp(sqlstate, "23", 2) == 0) return MW_ECONSTRAINT;
  if (strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0) return MW_ESERIALIZE;
  if (strcmp(sqlstate, "57014") == 0 || strcmp(sqlstate, "25P03") == 0) return MW_ETIMEOUT;
  if (strncmp(sqlstate, "08", 2) == 0 || strncmp(sqlstate, "57P", 3) == 0 || strcmp(sqlstate, "53300") == 0)
    return MW_EUNAVAILABLE;
  return MW_ESQL;
}

int mw_pg_error_get(const PGresult *result, char sqlstate[MW_PG_SQLSTATE], mw_err *err) {
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
  const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
  const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
  snprintf(sqlstate, MW_PG_SQLSTATE, "%.5s", state ? state : "");
  if (!primary) {
    const char *text = PQresultErrorMessage(result);
    int len = (int)strcspn(text, "\n");
    return mw_err_set(err, mw_pg_error_code(sqlstate), "%.*s", len, text);
  }
  return mw_err_set(err, mw_pg_error_code(sqlstate), "%s%s%s%s%s%s%s%s", primary,
                    position ? " (at character " : "", position ? position : "", position ? ")" : "",
                    detail ? "; " : "", detail ? detail : "", hint ? "; hint: " : "", hint ? hint : "");
}
