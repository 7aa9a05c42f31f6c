// SPDX-License-Identifier: MIT
#pragma once

// Notices between nodes (store.h): each writer's connection listens, and notices are sent on it, outside of the groups' transactions, because
// PostgreSQL lets one transaction at a time commit a NOTIFY. The payload begins with our schema: several may live in one database.

#include "store/pg_writer.h"

typedef struct mw_pg_notices mw_pg_notices;

mw_pg_notices *mw_pg_notices_new(mw_pg_writer *writer);
void mw_pg_notices_free(mw_pg_notices *notices);
/** The writer's connection is up: listens on it, and says once that there may be work. */
void mw_pg_notices_on_up(mw_pg_notices *notices, mw_pg_conn *conn);
/** mw_store_notify. */
void mw_pg_notify(mw_store_client *client, mw_store_notice notice, mw_str id);
