-- Times are microseconds since 1970 in UTC; payloads are text and never jsonb, which refuses the JSON string "\u0000".
-- Statuses: 1 queued, 2 running, 3 sleeping, 4 waiting, 5 paused, 6 blocked, 7 stuck, 8 completed, 9 failed, 10 cancelled.

CREATE TABLE {{schema}}.nodes (
  epoch          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node_id        uuid NOT NULL,
  name           text NOT NULL,
  started_us     bigint NOT NULL,
  lease_until_us bigint,
  stopped_us     bigint
);

CREATE TABLE {{schema}}.apps (
  name       text PRIMARY KEY,
  created_us bigint NOT NULL
);
INSERT INTO {{schema}}.apps (name, created_us) VALUES ('default', (extract(epoch FROM now()) * 1000000)::bigint);

CREATE TABLE {{schema}}.code (
  hash       text PRIMARY KEY,
  text       text NOT NULL,
  created_us bigint NOT NULL
);

CREATE TABLE {{schema}}.executions (
  id              uuid PRIMARY KEY,
  app             text NOT NULL DEFAULT 'default',
  workflow        text NOT NULL,
  external_id     text,
  status          smallint NOT NULL,
  owner           bigint,
  fence           bigint NOT NULL DEFAULT 0,
  due_us          bigint NOT NULL DEFAULT 0,
  priority        integer NOT NULL DEFAULT 0,
  bundle          text NOT NULL DEFAULT '',
  api_level       integer NOT NULL DEFAULT 1,
  journal_version integer NOT NULL DEFAULT 1,
  seed            text NOT NULL DEFAULT '',
  input           text,
  output          text,
  error           text,
  request_hash    text,
  group_key       text,
  tags            text,
  parent          uuid,
  created_us      bigint NOT NULL,
  started_us      bigint,
  finished_us     bigint
);
-- Every run passes through the first two; keep it at that.
CREATE INDEX executions_by_workflow ON {{schema}}.executions (workflow, status, id);
CREATE INDEX executions_by_status ON {{schema}}.executions (status, id);
CREATE INDEX executions_due ON {{schema}}.executions (due_us, id) WHERE status IN (1, 3);
CREATE UNIQUE INDEX executions_external ON {{schema}}.executions (app, workflow, external_id) WHERE external_id IS NOT NULL;

CREATE TABLE {{schema}}.journal (
  execution uuid NOT NULL,
  number    bigint NOT NULL,
  fence     bigint NOT NULL,
  at_us     bigint NOT NULL,
  data      text NOT NULL,
  PRIMARY KEY (execution, number)
);

CREATE TABLE {{schema}}.idempotency (
  app          text NOT NULL,
  key          text NOT NULL,
  execution    uuid NOT NULL,
  request_hash text NOT NULL,
  created_us   bigint NOT NULL,
  PRIMARY KEY (app, key)
);
CREATE INDEX idempotency_created ON {{schema}}.idempotency (created_us);

CREATE TABLE {{schema}}.changes (
  app     text NOT NULL,
  number  bigint NOT NULL,
  at_us   bigint NOT NULL,
  kind    text NOT NULL,
  subject text NOT NULL,
  actor   text NOT NULL,
  detail  text,
  PRIMARY KEY (app, number)
);

CREATE TABLE {{schema}}.change_counters (
  app  text PRIMARY KEY,
  last bigint NOT NULL
);

CREATE TABLE {{schema}}.audit (
  id      uuid PRIMARY KEY,
  app     text NOT NULL DEFAULT 'default',
  at_us   bigint NOT NULL,
  actor   text NOT NULL,
  action  text NOT NULL,
  subject text NOT NULL,
  before  text,
  after   text,
  reason  text
);

-- The program writes ids as text in both directions through these two, on SQLite as well.
CREATE FUNCTION {{schema}}.mw_uuid(id text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT id::uuid';
CREATE FUNCTION {{schema}}.mw_uuid_text(id uuid) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT id::text';
CREATE FUNCTION {{schema}}.mw_time_text(us bigint) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE AS
  $$SELECT to_char(to_timestamp(us / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS') || '.' ||
           lpad((us % 1000000)::text, 6, '0') || 'Z'$$;

CREATE VIEW {{schema}}.executions_view AS
SELECT id::text AS id, app, workflow, external_id,
       CASE status WHEN 1 THEN 'queued' WHEN 2 THEN 'running' WHEN 3 THEN 'sleeping' WHEN 4 THEN 'waiting' WHEN 5 THEN 'paused'
                   WHEN 6 THEN 'blocked' WHEN 7 THEN 'stuck' WHEN 8 THEN 'completed' WHEN 9 THEN 'failed'
                   WHEN 10 THEN 'cancelled' ELSE status::text END AS status,
       owner, fence, bundle, input, output, error,
       {{schema}}.mw_time_text(due_us) AS due_at, {{schema}}.mw_time_text(created_us) AS created_at,
       {{schema}}.mw_time_text(started_us) AS started_at, {{schema}}.mw_time_text(finished_us) AS finished_at
FROM {{schema}}.executions;

CREATE VIEW {{schema}}.journal_view AS
SELECT execution::text AS execution, number, fence, {{schema}}.mw_time_text(at_us) AS at, data FROM {{schema}}.journal;
