// SPDX-License-Identifier: MIT
#include "bind/bind.h"

#include "bind/bind_cron.h"
#include "bind/bind_crypto.h"
#include "bind/bind_fetch.h"
#include "bind/bind_files.h"
#include "bind/bind_json.h"
#include "bind/bind_http.h"
#include "bind/bind_multipart.h"
#include "bind/bind_redis.h"
#include "bind/bind_runtime.h"
#include "bind/bind_store.h"
#include "vm/sandbox.h"

const lua_CFunction mw_bind_modules[] = {
    mw_open_sandbox,
    mw_open_task,
    mw_open_runtime,
    mw_open_store,
    mw_open_json,
    mw_open_crypto,
    mw_open_cron,
    mw_open_fetch,
    mw_open_redis,
    mw_open_http,
    mw_open_multipart,
    mw_open_files,
    NULL,
};
