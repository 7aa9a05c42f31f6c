-- How many executions there are of each workflow and status, kept by triggers in the commit that changes them; execution_totals is what
-- to read. `part` is for PostgreSQL, where many transactions count at once. One that is put into another status by a trigger passes
-- through the first: a count may be below 0 for a moment, never after a commit.

CREATE TABLE execution_counts (
  app      TEXT NOT NULL,
  workflow TEXT NOT NULL,
  status   INTEGER NOT NULL,
  part     INTEGER NOT NULL DEFAULT 0,
  n        INTEGER NOT NULL,
  PRIMARY KEY (app, workflow, status, part)
) STRICT, WITHOUT ROWID;

INSERT INTO execution_counts (app, workflow, status, n) SELECT app, workflow, status, count(*) FROM executions GROUP BY app, workflow, status;

CREATE VIEW execution_totals AS SELECT app, workflow, status, n AS total FROM execution_counts WHERE n <> 0;

CREATE TRIGGER executions_count_new AFTER INSERT ON executions
BEGIN
  INSERT INTO execution_counts (app, workflow, status, n) VALUES (new.app, new.workflow, new.status, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER executions_count_moved AFTER UPDATE OF status ON executions WHEN new.status <> old.status
BEGIN
  INSERT INTO execution_counts (app, workflow, status, n) VALUES (new.app, new.workflow, old.status, -1) ON CONFLICT DO UPDATE SET n = n - 1;
  INSERT INTO execution_counts (app, workflow, status, n) VALUES (new.app, new.workflow, new.status, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER executions_count_gone AFTER DELETE ON executions
BEGIN
  INSERT INTO execution_counts (app, workflow, status, n) VALUES (old.app, old.workflow, old.status, -1) ON CONFLICT DO UPDATE SET n = n - 1;
END;
