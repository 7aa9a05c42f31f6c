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
enum {
  MW_LISTENER_MAIN,
  MW_LISTENER_APP,
  MW_LISTENER_API,
  MW_LISTENER_OPS,
  MW_LISTENER_CONTROL,
  MW_LISTENER_REDIRECT,
  MW_LISTENERS
};

typedef struct mw_listen_kind {
  const char *name;  /**< In the log, in DATA/addresses and between supervisor and server. */
  int option;        /**< Index of the option that names its address; -1: none (the control socket, which the server opens itself). */
  bool faces_world;  /**< May be bound beyond loopback without a token: it answers no more than plugin routes and probes. */
} mw_listen_kind;

/** By tag. */
extern const mw_listen_kind mw_listen_kinds[MW_LISTENERS];

/** Returns the tag called `name`, or -1. */
int mw_listen_find(mw_str name);
/** True when the configuration gives that listener an address. */
bool mw_listen_is_set(const mw_config *conf, int tag);
/** Where to listen, and whether TLS is spoken there. */
typedef struct mw_listen_address {
  mw_address address;
  bool is_tls;
} mw_listen_address;

/** Room for an address as text, with its scheme. */
#define MW_LISTEN_TEXT (MW_ADDRESS_TEXT + 8)

/** Parses "host:port", "http://host:port", "https://host:port" or "unix:/path". MW_EINVALID with a sentence that shows the forms. */
int mw_listen_parse(mw_str text, mw_listen_address *out, mw_err *err);
/** Writes an address that is bound as DATA/addresses has it: "127.0.0.1:9400", "https://127.0.0.1:9443". */
void mw_listen_format(const mw_listen_address *address, char text[MW_LISTEN_TEXT]);
/** The configured address of a listener; the error names option and origin. */
int mw_listen_configured(const mw_config *conf, int tag, mw_listen_address *out, mw_err *err);
/** Parses `listen_mode`, the mode of Unix sockets, in octal. Returns false when it is none. */
bool mw_listen_parse_mode(const char *text, unsigned *mode);
