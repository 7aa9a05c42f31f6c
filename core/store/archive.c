// SPDX-License-Identifier: MIT
#include "store/archive.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

#define BLOCK 512
#define CHUNK (256 * 1024)
#define MAX_OCTAL 077777777777LL

// Offsets in a header.
enum { NAME = 0, MODE = 100, UID = 108, GID = 116, SIZE = 124, MTIME = 136, CHKSUM = 148, TYPE = 156, MAGIC = 257 };

// ---- bytes ----

long long mw_archive_read(int fd, void *bytes, size_t len) {
  size_t done = 0;
  while (done < len) {
    ssize_t n = read(fd, (char *)bytes + done, len - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) break;
    done += (size_t)n;
  }
  return (long long)done;
}

int mw_archive_write(int fd, const void *bytes, size_t len) {
  for (const char *at = bytes; len;) {
    ssize_t n = write(fd, at, len);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? -errno : -EIO;
    at += n;
    len -= (size_t)n;
  }
  return 0;
}

static int fail_write(int rc, mw_err *err) {
  if (rc == -ENOSPC || rc == -EDQUOT) return mw_err_set(err, MW_EIO, "the disk is full: free some space, or write to another one");
  return mw_err_set(err, MW_EIO, "cannot write: %s", strerror(-rc));
}

static int put_bytes(int fd, const void *bytes, size_t len, mw_err *err) {
  int rc = mw_archive_write(fd, bytes, len);
  return rc ? fail_write(rc, err) : 0;
}

static int get_bytes(int fd, void *bytes, size_t len, mw_err *err) {
  long long n = mw_archive_read(fd, bytes, len);
  if (n < 0) return mw_err_set(err, MW_EIO, "cannot read: %s", strerror((int)-n));
  return (size_t)n == len ? 0 : mw_err_set(err, MW_EIO, "it is cut short");
}

static size_t padding(int64_t size) { return (size_t)((BLOCK - size % BLOCK) % BLOCK); }

// ---- headers ----

static unsigned sum_of(const unsigned char *header) {
  unsigned sum = 0;
  for (int i = 0; i < BLOCK; i++) sum += i >= CHKSUM && i < CHKSUM + 8 ? ' ' : header[i];
  return sum;
}

static void format_size(unsigned char *at, int64_t size) {
  if (size <= MAX_OCTAL) {
    snprintf((char *)at, 12, "%011llo", (long long)size);
    return;
  }
  for (int i = 11; i > 0; i--, size >>= 8) at[i] = (unsigned char)size;
  at[0] = 0x80;
}

static int64_t parse_size(const unsigned char *at) {
  int64_t size = 0;
  if (at[0] & 0x80) {
    for (int i = 1; i < 12; i++) {
      if (size > INT64_MAX >> 8) return -1;
      size = size << 8 | at[i];
    }
    return size;
  }
  for (int i = 0; i < 12 && at[i] && at[i] != ' '; i++) {
    if (at[i] < '0' || at[i] > '7') return -1;
    size = size * 8 + (at[i] - '0');
  }
  return size;
}

static int put_header(int fd, const char *name, int64_t size, mw_err *err) {
  unsigned char h[BLOCK] = {0};
  snprintf((char *)h + NAME, 100, "%s", name);
  memcpy(h + MODE, "0000600", 7);
  memcpy(h + UID, "0000000", 7);
  memcpy(h + GID, "0000000", 7);
  format_size(h + SIZE, size);
  snprintf((char *)h + MTIME, 12, "%011llo", (long long)time(NULL) & MAX_OCTAL);
  h[TYPE] = '0';
  memcpy(h + MAGIC, "ustar\0" "00", 8);
  snprintf((char *)h + CHKSUM, 8, "%06o", sum_of(h));
  h[CHKSUM + 7] = ' ';
  return put_bytes(fd, h, BLOCK, err);
}

int mw_archive_next(int fd, mw_archive_member *member, mw_err *err) {
  unsigned char h[BLOCK];
  static const unsigned char zeros[BLOCK];
  int code = get_bytes(fd, h, BLOCK, err);
  if (code) return code;
  *member = (mw_archive_member){.size = parse_size(h + SIZE)};
  if (memcmp(h, zeros, BLOCK) == 0) return 0;
  unsigned want = 0;
  for (int i = CHKSUM; i < CHKSUM + 8 && h[i] >= '0' && h[i] <= '7'; i++) want = want * 8 + (h[i] - '0');
  if (memcmp(h + MAGIC, "ustar", 5) || want != sum_of(h)) return mw_err_set(err, MW_EINVALID, "it is no tar archive, or a damaged one");
  if (member->size < 0 || (h[TYPE] != '0' && h[TYPE])) return mw_err_set(err, MW_EINVALID, "it holds something else than plain files");
  memcpy(member->name, h + NAME, 100);
  return 0;
}

// ---- members ----

static int put_padding(int fd, int64_t size, mw_err *err) {
  static const char zeros[BLOCK];
  return put_bytes(fd, zeros, padding(size), err);
}

int mw_archive_put_text(int fd, const char *name, mw_str text, mw_err *err) {
  int code = put_header(fd, name, (int64_t)text.len, err);
  if (!code) code = put_bytes(fd, text.ptr, text.len, err);
  return code ? code : put_padding(fd, (int64_t)text.len, err);
}

int mw_archive_put(int fd, const char *name, int from, int64_t size, uint8_t sum[MW_SHA256_LEN], mw_err *err) {
  char *chunk = mw_alloc(CHUNK);
  mw_sha256 *hash = mw_sha256_new();
  int code = put_header(fd, name, size, err);
  for (int64_t left = size; !code && left > 0;) {
    size_t want = left < CHUNK ? (size_t)left : CHUNK;
    code = get_bytes(from, chunk, want, err);
    if (code) break;
    mw_sha256_add(hash, chunk, want);
    code = put_bytes(fd, chunk, want, err);
    left -= (int64_t)want;
  }
  mw_sha256_finish(hash, sum);
  mw_free(chunk);
  return code ? code : put_padding(fd, size, err);
}

int mw_archive_end(int fd, mw_err *err) {
  static const char zeros[2 * BLOCK];
  return put_bytes(fd, zeros, sizeof zeros, err);
}

static int skip_padding(int fd, int64_t size, mw_err *err) {
  char rest[BLOCK];
  return get_bytes(fd, rest, padding(size), err);
}

int mw_archive_get(int fd, const mw_archive_member *member, int to, uint8_t sum[MW_SHA256_LEN], mw_err *err) {
  char *chunk = mw_alloc(CHUNK);
  mw_sha256 *hash = mw_sha256_new();
  int code = 0;
  for (int64_t left = member->size; !code && left > 0;) {
    size_t want = left < CHUNK ? (size_t)left : CHUNK;
    code = get_bytes(fd, chunk, want, err);
    if (code) break;
    mw_sha256_add(hash, chunk, want);
    if (to >= 0) code = put_bytes(to, chunk, want, err);
    left -= (int64_t)want;
  }
  mw_sha256_finish(hash, sum);
  mw_free(chunk);
  return code ? code : skip_padding(fd, member->size, err);
}

int mw_archive_get_text(int fd, const mw_archive_member *member, size_t max, mw_buf *out, mw_err *err) {
  if (member->size > (int64_t)max) return mw_err_set(err, MW_EINVALID, "its %s is larger than %zu bytes", member->name, max);
  char *to = mw_buf_reserve(out, (size_t)member->size);
  int code = get_bytes(fd, to, (size_t)member->size, err);
  if (code) return code;
  out->len += (size_t)member->size;
  return skip_padding(fd, member->size, err);
}
