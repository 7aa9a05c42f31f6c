// SPDX-License-Identifier: MIT
#include "http/range.h"

#include <stdbool.h>
#include <stdlib.h>

// Digits only; what is too large for the type is as good as endless.
static bool read_number(mw_str text, uint64_t *number) {
  *number = 0;
  for (size_t i = 0; i < text.len; i++) {
    if (text.ptr[i] < '0' || text.ptr[i] > '9') return false;
    if (*number > (UINT64_MAX - 9) / 10) *number = UINT64_MAX;
    else *number = *number * 10 + (uint64_t)(text.ptr[i] - '0');
  }
  return text.len > 0;
}

// "0-99", "100-", "-100". Returns 1 with a range, 0 when it is beyond the end, -1 when it is malformed.
static int read_one(mw_str text, uint64_t size, mw_range *range) {
  ptrdiff_t dash = mw_str_find_byte(text, '-');
  uint64_t first, last;
  if (dash < 0) return -1;
  mw_str left = mw_str_of(text.ptr, (size_t)dash), right = mw_str_of(text.ptr + dash + 1, text.len - (size_t)dash - 1);
  if (!left.len) { // the last so many
    if (!read_number(right, &last)) return -1;
    if (!last || !size) return 0;
    *range = (mw_range){last < size ? size - last : 0, size - 1};
    return 1;
  }
  if (!read_number(left, &first)) return -1;
  last = UINT64_MAX;
  if (right.len && !read_number(right, &last)) return -1;
  if (last < first) return -1;
  if (first >= size) return 0;
  *range = (mw_range){first, last < size ? last : size - 1};
  return 1;
}

static int by_first(const void *a, const void *b) {
  uint64_t x = ((const mw_range *)a)->first, y = ((const mw_range *)b)->first;
  return (x > y) - (x < y);
}

static int merge(mw_range *ranges, int count) {
  int kept = 0;
  qsort(ranges, (size_t)count, sizeof *ranges, by_first);
  for (int i = 1; i < count; i++) {
    if (ranges[i].first > ranges[kept].last + 1) ranges[++kept] = ranges[i];
    else if (ranges[i].last > ranges[kept].last) ranges[kept].last = ranges[i].last;
  }
  return kept + 1;
}

int mw_range_parse(mw_str header, uint64_t size, mw_range ranges[16]) {
  mw_range asked[MW_RANGE_MAX_ASKED];
  int count = 0, seen = 0;
  mw_str unit = MW_STR("bytes="), item;
  if (header.len < unit.len || !mw_str_eq_nocase(mw_str_of(header.ptr, unit.len), unit)) return 0;
  mw_str rest = mw_str_of(header.ptr + unit.len, header.len - unit.len);
  while (rest.len && mw_str_split(&rest, ',', &item)) {
    item = mw_str_trim(item);
    if (!item.len) continue;
    if (++seen > MW_RANGE_MAX_ASKED) return 0;
    int got = read_one(item, size, &asked[count]);
    if (got < 0) return 0;
    count += got;
  }
  if (!seen) return 0;
  if (!count) return -1;
  count = merge(asked, count);
  if (count > MW_RANGE_MAX) return 0;
  memcpy(ranges, asked, (size_t)count * sizeof *ranges);
  return count;
}
