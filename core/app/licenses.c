// SPDX-License-Identifier: MIT
#include "app/licenses.h"
#include "store/pq.h"

#include <gnu/libc-version.h>
#include <hiredis/hiredis.h>
#include <llhttp.h>
#include <luajit.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <stdio.h>
#include <uv.h>
#include <zlib.h>

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)

static const char *pq_version(void) {
  static char text[16];
  if (mw_pq_load(NULL)) return "not installed";
  int version = PQlibVersion();
  snprintf(text, sizeof text, "%d.%d", version / 10000, version % 10000);
  return text;
}

const mw_license *mw_licenses(size_t *count) {
  static mw_license list[10];
  size_t n = 0;
  list[n++] = (mw_license){"Moonwatch", MW_VERSION, "MIT", NULL, "the file LICENSE"};
  list[n++] = (mw_license){"LuaJIT", LUAJIT_VERSION + sizeof "LuaJIT", "MIT", "libluajit2-5.1-2", "https://luajit.org"};
  list[n++] = (mw_license){"libuv", uv_version_string(), "MIT", "libuv1", "https://libuv.org"};
  list[n++] = (mw_license){"llhttp", NUMBER(LLHTTP_VERSION_MAJOR) "." NUMBER(LLHTTP_VERSION_MINOR) "." NUMBER(LLHTTP_VERSION_PATCH), "MIT",
                           "node-llhttp", "https://llhttp.org"};
  list[n++] = (mw_license){"OpenSSL", OpenSSL_version(OPENSSL_VERSION_STRING), "Apache-2.0", "libssl3", "https://www.openssl.org"};
  list[n++] = (mw_license){"SQLite", sqlite3_libversion(), "blessing", "libsqlite3-0", "https://sqlite.org"};
  list[n++] = (mw_license){"libpq", pq_version(), "PostgreSQL", "libpq5", "https://www.postgresql.org"};
  list[n++] = (mw_license){"hiredis", NUMBER(HIREDIS_MAJOR) "." NUMBER(HIREDIS_MINOR) "." NUMBER(HIREDIS_PATCH), "BSD-3-Clause",
                           "libhiredis0.14", "https://github.com/redis/hiredis"};
  list[n++] = (mw_license){"zlib", zlibVersion(), "Zlib", "zlib1g", "https://zlib.net"};
  list[n++] = (mw_license){"glibc", gnu_get_libc_version(), "LGPL-2.1-or-later", "libc6", "https://www.gnu.org/software/libc"};
  *count = n;
  return list;
}
