-- Times are microseconds since 1970 in UTC, ids 16-byte UUIDv7, payloads JSON text. For people: executions_view, journal_view.
-- Statuses: 1 queued, 2 running, 3 sleeping, 4 waiting, 5 paused, 6 blocked, 7 stuck, 8 completed, 9 failed, 10 cancelled.

CREATE TABLE nodes (
  epoch          INTEGER PRIMARY KEY AUTOINCREMENT,
  node_id        BLOB NOT NULL,
  name           TEXT NOT NULL,
  started_us     INTEGER NOT NULL,
  lease_until_us INTEGER,
  stopped_us     INTEGER
) STRICT;

CREATE TABLE apps (
  name       TEXT NOT NULL PRIMARY KEY,
  created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO apps (name, created_us) VALUES ('default', CAST(strftime('%s', 'now') AS INTEGER) * 1000000);

CREATE TABLE code (
  hash       TEXT NOT NULL PRIMARY KEY,
  text       TEXT NOT NULL,
  created_us INTEGER NOT NULL
) STRICT;

CREATE TABLE executions (
  id              BLOB NOT NULL PRIMARY KEY,
  app             TEXT NOT NULL DEFAULT 'default',
  workflow        TEXT NOT NULL,
  external_id     TEXT,
  status          INTEGER NOT NULL,
  owner           INTEGER,
  fence           INTEGER NOT NULL DEFAULT 0,
  due_us          INTEGER NOT NULL DEFAULT 0,
  priority        INTEGER NOT NULL DEFAULT 0,
  bundle          TEXT NOT NULL DEFAULT '',
  api_level       INTEGER NOT NULL DEFAULT 1,
  journal_version INTEGER NOT NULL DEFAULT 1,
  seed            TEXT NOT NULL DEFAULT '',
  input           TEXT,
  output          TEXT,
  error           TEXT,
  request_hash    TEXT,
  group_key       TEXT,
  tags            TEXT,
  parent          BLOB,
  created_us      INTEGER NOT NULL,
  started_us      INTEGER,
  finished_us     INTEGER
) STRICT, WITHOUT ROWID;
-- Every run passes through the first two; keep it at that.
CREATE INDEX executions_by_workflow ON executions (workflow, status, id);
CREATE INDEX executions_by_status ON executions (status, id);
CREATE INDEX executions_due ON executions (due_us, id) WHERE status IN (1, 3);
CREATE UNIQUE INDEX executions_external ON executions (app, workflow, external_id) WHERE external_id IS NOT NULL;

CREATE TABLE journal (
  execution BLOB NOT NULL,
  number    INTEGER NOT NULL,
  fence     INTEGER NOT NULL,
  at_us     INTEGER NOT NULL,
  data      TEXT NOT NULL,
  PRIMARY KEY (execution, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
  app          TEXT NOT NULL,
  key          TEXT NOT NULL,
  execution    BLOB NOT NULL,
  request_hash TEXT NOT NULL,
  created_us   INTEGER NOT NULL,
  PRIMARY KEY (app, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_created ON idempotency (created_us);

CREATE TABLE changes (
  app     TEXT NOT NULL,
  number  INTEGER NOT NULL,
  at_us   INTEGER NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  actor   TEXT NOT NULL,
  detail  TEXT,
  PRIMARY KEY (app, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE change_counters (
  app  TEXT NOT NULL PRIMARY KEY,
  last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  id      BLOB NOT NULL PRIMARY KEY,
  app     TEXT NOT NULL DEFAULT 'default',
  at_us   INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  before  TEXT,
  after   TEXT,
  reason  TEXT
) STRICT, WITHOUT ROWID;

CREATE VIEW executions_view AS
SELECT lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' ||
             substr(hex(id), 17, 4) || '-' || substr(hex(id), 21, 12)) AS id,
       app, workflow, external_id,
       CASE status WHEN 1 THEN 'queued' WHEN 2 THEN 'running' WHEN 3 THEN 'sleeping' WHEN 4 THEN 'waiting' WHEN 5 THEN 'paused'
                   WHEN 6 THEN 'blocked' WHEN 7 THEN 'stuck' WHEN 8 THEN 'completed' WHEN 9 THEN 'failed'
                   WHEN 10 THEN 'cancelled' ELSE CAST(status AS TEXT) END AS status,
       owner, fence, bundle, input, output, error,
       strftime('%Y-%m-%dT%H:%M:%S', due_us / 1000000, 'unixepoch') || printf('.%06dZ', due_us % 1000000) AS due_at,
       strftime('%Y-%m-%dT%H:%M:%S', created_us / 1000000, 'unixepoch') || printf('.%06dZ', created_us % 1000000) AS created_at,
       strftime('%Y-%m-%dT%H:%M:%S', started_us / 1000000, 'unixepoch') || printf('.%06dZ', started_us % 1000000) AS started_at,
       strftime('%Y-%m-%dT%H:%M:%S', finished_us / 1000000, 'unixepoch') || printf('.%06dZ', finished_us % 1000000) AS finished_at
FROM executions;

CREATE VIEW journal_view AS
SELECT lower(substr(hex(execution), 1, 8) || '-' || substr(hex(execution), 9, 4) || '-' || substr(hex(execution), 13, 4) || '-' ||
             substr(hex(execution), 17, 4) || '-' || substr(hex(execution), 21, 12)) AS execution,
       number, fence,
       strftime('%Y-%m-%dT%H:%M:%S', at_us / 1000000, 'unixepoch') || printf('.%06dZ', at_us % 1000000) AS at,
       data
FROM journal;
