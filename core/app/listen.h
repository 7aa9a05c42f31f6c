// SPDX-License-Identifier: MIT
#pragma once

// The listeners of a server: which there are, which option names the address of each, who may reach it. The one table that start,
// hand-over, access rule and routes go by. Adding a listener is a row here, an option, and its routes in lua/mw/boot.lua.

#include <stdbool.h>
#include <stddef.h>

#include "app/config.h"
#include "base/err.h"
#include "loop/address.h"

/** Surfaces; also the tags of mw_server_listen and of lua/mw/boot.lua. */
enum { MW_LISTENER_MAIN, MW_LISTENER_APP, MW_LISTENER_API, MW_LISTENER_OPS, MW_LISTENER_CONTROL, MW_LISTENERS };

typedef struct mw_listen_kind {
  const char *name;  /**< In the log, in DATA/addresses and between supervisor and server. */
  int option;        /**< Index of the option that names its address; -1: none (the control socket, which the server opens itself). */
  bool faces_world;  /**< May be bound beyond loopback without a token: it answers plugin routes and probes only. */
} mw_listen_kind;

/** By tag. */
extern const mw_listen_kind mw_listen_kinds[MW_LISTENERS];

/** Returns the tag called `name`, or -1. */
int mw_listen_find(mw_str name);
/** True when the configuration gives that listener an address. */
bool mw_listen_is_set(const mw_config *conf, int tag);
/** Parses an address to listen on: "host:port", "http://host:port", "unix:/path". MW_EINVALID with a sentence that shows the forms. */
int mw_listen_parse(mw_str text, mw_address *address, mw_err *err);
/** The configured address of a listener; the error names option and origin. */
int mw_listen_address(const mw_config *conf, int tag, mw_address *address, mw_err *err);
/** Parses `listen_mode`, the mode of Unix sockets, in octal. Returns false when it is none. */
bool mw_listen_parse_mode(const char *text, unsigned *mode);
