// SPDX-License-Identifier: MIT
#pragma once

// Addresses to listen on or connect to: "127.0.0.1:9400", "[::1]:9400", ":9400" (all interfaces), "9400" (loopback),
// "unix:/run/moonwatch.sock". Pure; no look-up of names.

#include <stdbool.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/str.h"

typedef struct mw_address {
  struct sockaddr_storage storage;
  socklen_t len;
} mw_address;

/** Parses; returns 0, or MW_EINVALID with a sentence that shows the forms. */
int mw_address_parse(mw_str text, mw_address *address, mw_err *err);
/** Parses a numeric host ("::1", "10.0.0.1") and a port; returns false when it is a name. */
bool mw_address_from_host(const char *host, int port, mw_address *address);
/** Writes "127.0.0.1:9400" or "unix:/path"; returns the length. */
#define MW_ADDRESS_TEXT 128
int mw_address_format(const mw_address *address, char text[MW_ADDRESS_TEXT]);
/** Writes only the host part ("127.0.0.1", "::1", "unix"). */
int mw_address_format_host(const mw_address *address, char text[MW_ADDRESS_TEXT]);
/** True for 127.0.0.0/8, ::1 and Unix sockets. */
bool mw_address_is_loopback(const mw_address *address);
/** Returns the port, 0 for Unix sockets. */
int mw_address_port(const mw_address *address);
