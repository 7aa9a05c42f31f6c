// SPDX-License-Identifier: MIT
#pragma once

// mw_certificates: the TLS side of the https listeners. Files are read by the server process only, on a pool's thread; they are read again
// when they have changed and rested for a moment, when asked, and once a day (which warns of one that ends). Connections go on with what
// they began with. Main thread.
//
//   mw_certificates *certs; mw_certificates_open(conf, &certs, &err);    // NULL when no listener speaks TLS
//   mw_certificates_watch(certs, main, pool);
//   mw_certificates_reload(certs);
//   mw_certificates_stop(certs); … free the pool and the loop …; mw_certificates_free(certs);

#include "app/config.h"
#include "base/err.h"

typedef struct mw_loop mw_loop;
typedef struct mw_work_pool mw_work_pool;
typedef struct mw_tls_context mw_tls_context;
typedef struct mw_certificates mw_certificates;

/** Loads the configured pairs; blocks. Returns MW_ECONFIG with file and reason when one cannot be used. */
int mw_certificates_open(const mw_config *conf, mw_certificates **out, mw_err *err);
/** Begins to look at the files. NULL is fine. */
void mw_certificates_watch(mw_certificates *certs, mw_loop *main, mw_work_pool *pool);
/** Reads the files again; what is wrong is logged and changes nothing. NULL is fine. */
void mw_certificates_reload(mw_certificates *certs);
/** Borrowed; NULL for NULL. Any thread. */
mw_tls_context *mw_certificates_context(const mw_certificates *certs);
/** Watches no more. NULL is fine. */
void mw_certificates_stop(mw_certificates *certs);
/** After its pool was freed. NULL is fine. */
void mw_certificates_free(mw_certificates *certs);

/** For `moonwatch check`: loads and drops. Warnings are logged. */
int mw_certificates_check(const mw_config *conf, mw_err *err);
