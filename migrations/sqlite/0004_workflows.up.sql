-- Workflows that wait, and that wait for each other. Whoever changes a status, these triggers keep what hangs on it, in the same commit:
-- a run that waits is queued by its signal, the end of a child is a signal to its parent, a slot of a group goes to the next in line.
--
-- control: 0 none, 1 pause, 2 cancel, 3 cancel with undo. waits: names of signals, each between line feeds. A run of a group is inserted, or put
-- when its time has come, as blocked (6), which the program says once more after the insert; it becomes queued as soon as it has a slot, which it keeps to its end.

ALTER TABLE executions ADD COLUMN control INTEGER NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN state TEXT;
ALTER TABLE executions ADD COLUMN waits TEXT;
ALTER TABLE executions ADD COLUMN parent_key TEXT;
ALTER TABLE executions ADD COLUMN group_slots INTEGER;
ALTER TABLE executions ADD COLUMN slot INTEGER NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN signalled INTEGER NOT NULL DEFAULT 0;

DROP INDEX executions_due;
-- The first finds when the next one is due, the second what to claim, a workflow and priority at a time. A run that never waits is in neither.
-- Every write of a run tests these conditions, so they are of comparisons: a list of three would make a table of itself each time.
CREATE INDEX executions_due ON executions (due_us, id) WHERE status <> 2 AND status < 5;
CREATE INDEX executions_ready ON executions (workflow, priority DESC, due_us, id) WHERE status <> 2 AND status < 5;
CREATE INDEX executions_parent ON executions (parent) WHERE parent IS NOT NULL;
CREATE INDEX executions_group ON executions (app, workflow, group_key, id) WHERE group_key IS NOT NULL;
CREATE INDEX executions_blocked ON executions (app, workflow, group_key, priority DESC, id) WHERE group_key IS NOT NULL AND slot = 0 AND status = 6;
CREATE INDEX executions_without_slot ON executions (due_us) WHERE group_key IS NOT NULL AND slot = 0 AND status IN (1, 3);

-- A signal that was taken keeps its id until the run ends, so that the same one sent again is not another.
CREATE TABLE signals (
  execution BLOB NOT NULL,
  id        TEXT NOT NULL,
  name      TEXT NOT NULL,
  data      TEXT,
  sent_us   INTEGER NOT NULL,
  actor     TEXT,
  taken_us  INTEGER,
  PRIMARY KEY (execution, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE workflow_groups (
  app       TEXT NOT NULL,
  workflow  TEXT NOT NULL,
  group_key TEXT NOT NULL,
  running   INTEGER NOT NULL,
  slots     INTEGER NOT NULL,
  PRIMARY KEY (app, workflow, group_key)
) STRICT, WITHOUT ROWID;

-- Workflow '*': all of the app.
CREATE TABLE workflow_pauses (
  app      TEXT NOT NULL,
  workflow TEXT NOT NULL,
  actor    TEXT NOT NULL,
  at_us    INTEGER NOT NULL,
  PRIMARY KEY (app, workflow)
) STRICT, WITHOUT ROWID;

-- One for both, since each costs every change of a status.
CREATE TRIGGER executions_park AFTER UPDATE OF status ON executions
WHEN new.status = 4 OR (new.status = 6 AND new.slot = 0 AND new.group_key IS NOT NULL)
BEGIN
  UPDATE executions SET status = 1, due_us = min(due_us, CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)) WHERE new.status = 4 AND id = new.id
    AND EXISTS (SELECT 1 FROM signals WHERE execution = new.id AND taken_us IS NULL
                AND instr(new.waits, char(10) || name || char(10)) > 0);
  INSERT INTO workflow_groups (app, workflow, group_key, running, slots)
    SELECT new.app, new.workflow, new.group_key, 0, max(1, coalesce(new.group_slots, 1)) WHERE new.status = 6
    ON CONFLICT DO UPDATE SET slots = excluded.slots;
  UPDATE executions SET slot = 1, status = 1 WHERE new.status = 6 AND id = new.id
    AND EXISTS (SELECT 1 FROM workflow_groups WHERE app = new.app AND workflow = new.workflow AND group_key = new.group_key AND running < slots);
  UPDATE workflow_groups SET running = running + 1 WHERE new.status = 6 AND app = new.app AND workflow = new.workflow AND group_key = new.group_key
    AND EXISTS (SELECT 1 FROM executions WHERE id = new.id AND slot = 1);
END;

CREATE TRIGGER signals_arrive AFTER INSERT ON signals
BEGIN
  UPDATE executions SET signalled = 1 WHERE id = new.execution AND signalled = 0;
  UPDATE executions SET status = 1, due_us = min(due_us, CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)) WHERE id = new.execution AND status = 4
    AND instr(waits, char(10) || new.name || char(10)) > 0;
END;

CREATE TRIGGER executions_end AFTER UPDATE OF status ON executions
WHEN new.status >= 8 AND old.status < 8 AND (new.parent_key IS NOT NULL OR new.signalled = 1 OR new.slot = 1)
BEGIN
  DELETE FROM signals WHERE execution = new.id;
  INSERT INTO signals (execution, id, name, data, sent_us)
    SELECT id, lower(hex(new.id)) || ':' || new.fence, '$child:' || new.parent_key,
           '{"status":"' || CASE new.status WHEN 8 THEN 'completed' WHEN 9 THEN 'failed' ELSE 'cancelled' END ||
           '","output":' || coalesce(new.output, 'null') || ',"error":' || coalesce(new.error, 'null') || '}', CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)
    FROM executions WHERE id = new.parent AND new.parent_key IS NOT NULL AND status < 8
    ON CONFLICT DO NOTHING;
  UPDATE executions SET slot = 0 WHERE id = new.id AND slot = 1;
  UPDATE executions SET slot = 1, status = 1 WHERE new.slot = 1 AND id =
    (SELECT id FROM executions WHERE app = new.app AND workflow = new.workflow AND group_key = new.group_key AND status = 6 AND slot = 0 ORDER BY priority DESC, id LIMIT 1)
    AND EXISTS (SELECT 1 FROM workflow_groups WHERE app = new.app AND workflow = new.workflow AND group_key = new.group_key AND running <= slots);
  UPDATE workflow_groups SET running = running - 1 WHERE new.slot = 1 AND app = new.app AND workflow = new.workflow AND group_key = new.group_key AND changes() = 0;
END;
