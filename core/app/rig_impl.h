// SPDX-License-Identifier: MIT
#pragma once

// The inside of mw_rig, for rig.c, rig_host.c and rig_client.c only.

#include "app/proxies.h"
#include "app/rig.h"
#include "base/list.h"
#include "bind/bind_http.h"
#include "bind/host.h"
#include "loop/loop.h"
#include "state/kv.h"
#include "store/databases.h"
#include "store/store.h"
#include "vm/vm.h"

struct mw_rig {
  mw_config *conf;
  mw_map env;
  mw_world world;
  mw_proxies proxies;
  uint64_t access_version;
  char *plugins, *prelude, *dir;
  lua_CFunction module;
  void *user;

  mw_loop *loop;
  mw_store *store;
  mw_databases *databases; // NULL: none is configured
  mw_store_client *client; // host.store, which a crash takes away
  mw_kv *kv;
  mw_http_host *http;
  mw_host host;
  mw_vm *vm;
  uint64_t generation;
  mw_list connections;
  int last_connection;
  int outside;
  bool crashed, silent, waking;
  int64_t wake_us;
  mw_buf log, taken, report;
};

extern const mw_host_ops mw_rig_host_ops;

/** Executions may be due then: tells the engine in the next turn. */
void mw_rig_wake(mw_rig *rig, int64_t due_us);
/** Moves bytes between clients and server; true when any moved. */
bool mw_rig_pump(mw_rig *rig);
void mw_rig_close_connections(mw_rig *rig);
