// SPDX-License-Identifier: MIT
#pragma once

// libpq, loaded when a PostgreSQL is first wanted: with what it needs itself (GnuTLS, Kerberos, LDAP) it costs each process more than three
// megabytes and some milliseconds, which a server on SQLite need not pay. Include this instead of <libpq-fe.h>; its functions are called as
// always, after mw_pq_load has succeeded once.
//
//   int rc = mw_pq_load(&err);
//   if (!rc) conn = PQconnectdb(…);

#include <libpq-fe.h>

#include "base/err.h"

/** What we use of it. */
#define MW_PQ_TABLE(X)                                                                                                          \
  X(PQbackendPID) X(PQcancel) X(PQclear) X(PQcmdStatus) X(PQcmdTuples) X(PQconnectPoll)                                         \
  X(PQconnectStartParams) X(PQconnectdbParams) X(PQconninfoFree) X(PQconninfoParse) X(PQconsumeInput)                           \
  X(PQenterPipelineMode) X(PQerrorMessage) X(PQexec) X(PQfinish) X(PQflush) X(PQfname) X(PQfreeCancel) X(PQfreemem)             \
  X(PQftype) X(PQgetCancel) X(PQgetResult) X(PQgetisnull) X(PQgetlength) X(PQgetvalue) X(PQisBusy) X(PQlibVersion) X(PQnotifies)              \
  X(PQnfields) X(PQntuples) X(PQpipelineSync) X(PQresultErrorField) X(PQresultErrorMessage) X(PQresultStatus)                   \
  X(PQsendPrepare) X(PQsendQuery) X(PQsendQueryParams) X(PQsendQueryPrepared) X(PQserverVersion)                                \
  X(PQsetNoticeReceiver) X(PQsetSingleRowMode) X(PQsetnonblocking) X(PQsocket) X(PQstatus) X(PQtransactionStatus)               \
  X(PQunescapeBytea)

typedef struct mw_pq_functions {
#define MW_PQ_FIELD(name) __typeof__(name) *name;
  MW_PQ_TABLE(MW_PQ_FIELD)
#undef MW_PQ_FIELD
} mw_pq_functions;

/** Filled by mw_pq_load. */
extern mw_pq_functions mw_pq;

/** Loads the library once a process. MW_EUNAVAILABLE with what to install. Thread-safe. */
int mw_pq_load(mw_err *err);

#define PQbackendPID mw_pq.PQbackendPID
#define PQcancel mw_pq.PQcancel
#define PQclear mw_pq.PQclear
#define PQcmdStatus mw_pq.PQcmdStatus
#define PQcmdTuples mw_pq.PQcmdTuples
#define PQconnectPoll mw_pq.PQconnectPoll
#define PQconnectStartParams mw_pq.PQconnectStartParams
#define PQconnectdbParams mw_pq.PQconnectdbParams
#define PQconninfoFree mw_pq.PQconninfoFree
#define PQconninfoParse mw_pq.PQconninfoParse
#define PQconsumeInput mw_pq.PQconsumeInput
#define PQenterPipelineMode mw_pq.PQenterPipelineMode
#define PQerrorMessage mw_pq.PQerrorMessage
#define PQexec mw_pq.PQexec
#define PQfinish mw_pq.PQfinish
#define PQflush mw_pq.PQflush
#define PQfname mw_pq.PQfname
#define PQfreeCancel mw_pq.PQfreeCancel
#define PQfreemem mw_pq.PQfreemem
#define PQftype mw_pq.PQftype
#define PQgetCancel mw_pq.PQgetCancel
#define PQgetResult mw_pq.PQgetResult
#define PQgetisnull mw_pq.PQgetisnull
#define PQgetlength mw_pq.PQgetlength
#define PQgetvalue mw_pq.PQgetvalue
#define PQisBusy mw_pq.PQisBusy
#define PQlibVersion mw_pq.PQlibVersion
#define PQnfields mw_pq.PQnfields
#define PQnotifies mw_pq.PQnotifies
#define PQntuples mw_pq.PQntuples
#define PQpipelineSync mw_pq.PQpipelineSync
#define PQresultErrorField mw_pq.PQresultErrorField
#define PQresultErrorMessage mw_pq.PQresultErrorMessage
#define PQresultStatus mw_pq.PQresultStatus
#define PQsendPrepare mw_pq.PQsendPrepare
#define PQsendQuery mw_pq.PQsendQuery
#define PQsendQueryParams mw_pq.PQsendQueryParams
#define PQsendQueryPrepared mw_pq.PQsendQueryPrepared
#define PQserverVersion mw_pq.PQserverVersion
#define PQsetNoticeReceiver mw_pq.PQsetNoticeReceiver
#define PQsetSingleRowMode mw_pq.PQsetSingleRowMode
#define PQsetnonblocking mw_pq.PQsetnonblocking
#define PQsocket mw_pq.PQsocket
#define PQstatus mw_pq.PQstatus
#define PQtransactionStatus mw_pq.PQtransactionStatus
#define PQunescapeBytea mw_pq.PQunescapeBytea
