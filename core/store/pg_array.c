// SPDX-License-Identifier: MIT
#include "store/pg_array.h"

#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

// array_recv (src/backend/utils/adt/arrayfuncs.c): dimensions, "has nulls", element type, then a dimension's
// length and lower bound, then each element's length (-1: NULL) and bytes. All big-endian.
#define HEADER_BYTES 20

static void put_u32(char *at, uint32_t value) {
  uint32_t big = htobe32(value);
  memcpy(at, &big, 4);
}

void mw_pg_array_init(mw_pg_array *array, uint32_t oid) {
  mw_buf_reset(&array->buf, 256 * 1024);
  array->count = 0;
  array->has_null = false;
  char *at = mw_buf_reserve(&array->buf, HEADER_BYTES);
  put_u32(at, 1);
  put_u32(at + 8, oid);
  put_u32(at + 16, 1);
  array->buf.len = HEADER_BYTES;
}

void mw_pg_array_deinit(mw_pg_array *array) { mw_buf_deinit(&array->buf); }

static void add(mw_pg_array *array, const void *bytes, size_t len) {
  char *at = mw_buf_reserve(&array->buf, len + 4);
  put_u32(at, (uint32_t)len);
  if (len) memcpy(at + 4, bytes, len);
  array->buf.len += len + 4;
  array->count++;
}

void mw_pg_array_add_i64(mw_pg_array *array, int64_t value) {
  uint64_t big = htobe64((uint64_t)value);
  add(array, &big, sizeof big);
}

void mw_pg_array_add_id(mw_pg_array *array, const mw_id *id) { add(array, id->bytes, sizeof id->bytes); }

void mw_pg_array_add_text(mw_pg_array *array, mw_str text) { add(array, text.ptr, text.len); }

void mw_pg_array_add_text_or_null(mw_pg_array *array, mw_str text) {
  if (text.len) {
    add(array, text.ptr, text.len);
    return;
  }
  put_u32(mw_buf_reserve(&array->buf, 4), UINT32_MAX);
  array->buf.len += 4;
  array->count++;
  array->has_null = true;
}

void mw_pg_bind_array(mw_pg_binds *binds, mw_pg_array *array) {
  assert(binds->count < MW_PG_PARAMS_ROOM);
  put_u32(array->buf.ptr, array->count ? 1 : 0);
  put_u32(array->buf.ptr + 4, array->has_null);
  put_u32(array->buf.ptr + 12, array->count);
  binds->values[binds->count] = array->buf.ptr;
  binds->lengths[binds->count] = array->count ? (int)array->buf.len : 12;
  binds->formats[binds->count++] = 1;
}

void mw_pg_bind_i64(mw_pg_binds *binds, int64_t value) {
  assert(binds->count < MW_PG_PARAMS_ROOM);
  snprintf(binds->numbers[binds->count], sizeof binds->numbers[0], "%lld", (long long)value);
  binds->values[binds->count] = binds->numbers[binds->count];
  binds->formats[binds->count++] = 0;
}

void mw_pg_bind_text(mw_pg_binds *binds, const char *text) {
  assert(binds->count < MW_PG_PARAMS_ROOM);
  binds->values[binds->count] = text;
  binds->formats[binds->count++] = 0;
}

mw_pg_params mw_pg_binds_params(mw_pg_binds *binds) {
  return (mw_pg_params){binds->count, binds->values, binds->lengths, binds->formats};
}
