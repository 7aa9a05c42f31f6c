// SPDX-License-Identifier: MIT
#pragma once

// mw.core.store: the store for lua/mw. Everything waits (suspends the task) unless said; a failure is nil and an error object, which
// has `sqlstate` when the database gave one.
//
//   query(db, sql, params | nil, timeout_s | nil) -> rows            db: "engine", "app" or a name that is open; rows.affected; NULL columns are absent
//   begin(db, timeout_s | nil) -> tx      tx:query(sql, params, timeout_s) -> rows      tx:finish(commit) -> true
//   is_open(name) -> bool (does not wait)      open_database(name) -> true          a further database (mw.db), on this worker
//   create(workflow, input, bundle, seed, status, due_us, external_id, key, request_hash, app, api_level) -> id, created
//   append(id, fence, number, data, status, due_us, output, error, patience_s) -> true
//          outside of a task, or in a cancelled one, it does not wait: it returns true, and a failure is logged
//   claim(limit) -> list of {id, fence, created_us, interrupted, workflow, input, bundle, seed, app, api_level}, next_due_us | nil
//   put_code({{hash, text}, …}) -> true       get_code(hash) -> text | nil
//   get(id) -> row | nil                      journal(id) -> list of {number, data, at_us}
//   add_change(app, kind, subject, actor, detail_json) -> true
//   is_up() -> bool, why | nil      engine() -> "sqlite" | "postgres"      epoch() -> number      lease_left() -> seconds  (do not wait)
//
// In SQL for "engine", also in its transactions, `{{schema}}.` stands for our schema, a parameter {id = "…"} for an id column; ids come out as text.

#include <lua.h>

/** Registers `mw.core.store`. Part of mw_vm_conf.modules. */
int mw_open_store(lua_State *L);
