-- Workflows that wait, and that wait for each other. Whoever changes a status, these triggers keep what hangs on it, in the same commit:
-- a run that waits is queued by its signal, the end of a child is a signal to its parent, a slot of a group goes to the next in line.
--
-- control: 0 none, 1 pause, 2 cancel, 3 cancel with undo. waits: names of signals, each between line feeds. A run of a group is inserted, or put
-- when its time has come, as blocked (6); it becomes queued as soon as it has a slot, which it keeps to its end.

ALTER TABLE {{schema}}.executions
  ADD COLUMN control integer NOT NULL DEFAULT 0,
  ADD COLUMN state text,
  ADD COLUMN waits text,
  ADD COLUMN parent_key text,
  ADD COLUMN group_slots integer,
  ADD COLUMN slot integer NOT NULL DEFAULT 0,
  ADD COLUMN signalled integer NOT NULL DEFAULT 0;

DROP INDEX {{schema}}.executions_due;
-- The first finds when the next one is due, the second what to claim, a workflow and priority at a time. A run that never waits is in neither.
CREATE INDEX executions_due ON {{schema}}.executions (due_us, id) WHERE status IN (1, 3, 4);
CREATE INDEX executions_ready ON {{schema}}.executions (workflow, priority DESC, due_us, id) WHERE status IN (1, 3, 4);
CREATE INDEX executions_parent ON {{schema}}.executions (parent) WHERE parent IS NOT NULL;
CREATE INDEX executions_group ON {{schema}}.executions (app, workflow, group_key, id) WHERE group_key IS NOT NULL;
CREATE INDEX executions_blocked ON {{schema}}.executions (app, workflow, group_key, priority DESC, id) WHERE status = 6 AND slot = 0 AND group_key IS NOT NULL;
CREATE INDEX executions_without_slot ON {{schema}}.executions (due_us) WHERE status IN (1, 3) AND group_key IS NOT NULL AND slot = 0;

-- A signal that was taken keeps its id until the run ends, so that the same one sent again is not another.
CREATE TABLE {{schema}}.signals (
  execution uuid NOT NULL,
  id        text NOT NULL,
  name      text NOT NULL,
  data      text,
  sent_us   bigint NOT NULL,
  actor     text,
  taken_us  bigint,
  PRIMARY KEY (execution, id)
);

CREATE TABLE {{schema}}.workflow_groups (
  app       text NOT NULL,
  workflow  text NOT NULL,
  group_key text NOT NULL,
  running   bigint NOT NULL,
  slots     bigint NOT NULL,
  PRIMARY KEY (app, workflow, group_key)
);

-- Workflow '*': all of the app.
CREATE TABLE {{schema}}.workflow_pauses (
  app      text NOT NULL,
  workflow text NOT NULL,
  actor    text NOT NULL,
  at_us    bigint NOT NULL,
  PRIMARY KEY (app, workflow)
);

-- The row is locked by then: a signal was either sent before, and is seen, or waits for this commit and sees it.
CREATE FUNCTION {{schema}}.mw_execution_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM {{schema}}.signals s WHERE s.execution = NEW.id AND s.taken_us IS NULL
             AND strpos(NEW.waits, chr(10) || s.name || chr(10)) > 0) THEN
    NEW.status := 1;
    NEW.due_us := least(NEW.due_us, (extract(epoch FROM statement_timestamp()) * 1000000)::bigint);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER executions_wait BEFORE UPDATE OF status ON {{schema}}.executions FOR EACH ROW
  WHEN (NEW.status = 4 AND NEW.waits IS NOT NULL) EXECUTE FUNCTION {{schema}}.mw_execution_waits();

CREATE FUNCTION {{schema}}.mw_signal_arrives() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE {{schema}}.executions e SET signalled = 1,
    due_us = CASE WHEN e.status = 4 AND strpos(e.waits, chr(10) || NEW.name || chr(10)) > 0 THEN least(e.due_us, (extract(epoch FROM statement_timestamp()) * 1000000)::bigint) ELSE e.due_us END,
    status = CASE WHEN e.status = 4 AND strpos(e.waits, chr(10) || NEW.name || chr(10)) > 0 THEN 1 ELSE e.status END
  WHERE e.id = NEW.execution;
  RETURN NULL;
END $$;
CREATE TRIGGER signals_arrive AFTER INSERT ON {{schema}}.signals FOR EACH ROW EXECUTE FUNCTION {{schema}}.mw_signal_arrives();

CREATE FUNCTION {{schema}}.mw_execution_admit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO {{schema}}.workflow_groups AS g (app, workflow, group_key, running, slots)
    VALUES (NEW.app, NEW.workflow, NEW.group_key, 0, greatest(1, NEW.group_slots))
    ON CONFLICT (app, workflow, group_key) DO UPDATE SET slots = excluded.slots;
  UPDATE {{schema}}.workflow_groups g SET running = running + 1 WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key AND g.running < g.slots;
  IF FOUND THEN
    NEW.status := 1;
    NEW.slot := 1;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER executions_admit BEFORE UPDATE OF status ON {{schema}}.executions FOR EACH ROW
  WHEN (NEW.status = 6 AND NEW.slot = 0 AND NEW.group_key IS NOT NULL) EXECUTE FUNCTION {{schema}}.mw_execution_admit();

-- After, and not before: a row that was there already is not inserted, and has no slot to take.
CREATE FUNCTION {{schema}}.mw_execution_admit_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE {{schema}}.executions SET status = 6 WHERE id = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER executions_admit_new AFTER INSERT ON {{schema}}.executions FOR EACH ROW
  WHEN (NEW.status = 6 AND NEW.group_key IS NOT NULL) EXECUTE FUNCTION {{schema}}.mw_execution_admit_new();

CREATE FUNCTION {{schema}}.mw_execution_leaves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.slot := 0;
  RETURN NEW;
END $$;
CREATE TRIGGER executions_leave BEFORE UPDATE OF status ON {{schema}}.executions FOR EACH ROW
  WHEN (NEW.status >= 8 AND NEW.slot = 1) EXECUTE FUNCTION {{schema}}.mw_execution_leaves();

-- After the whole statement, which may change the parent as well.
CREATE FUNCTION {{schema}}.mw_execution_ends() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  next uuid;
BEGIN
  DELETE FROM {{schema}}.signals WHERE execution = NEW.id;
  IF NEW.parent_key IS NOT NULL THEN
    PERFORM 1 FROM {{schema}}.executions WHERE id = NEW.parent AND status < 8 FOR NO KEY UPDATE;
    IF FOUND THEN
      INSERT INTO {{schema}}.signals (execution, id, name, data, sent_us) VALUES (NEW.parent, replace(NEW.id::text, '-', '') || ':' || NEW.fence,
        '$child:' || NEW.parent_key,
        '{"status":"' || CASE NEW.status WHEN 8 THEN 'completed' WHEN 9 THEN 'failed' ELSE 'cancelled' END ||
        '","output":' || coalesce(NEW.output, 'null') || ',"error":' || coalesce(NEW.error, 'null') || '}', (extract(epoch FROM statement_timestamp()) * 1000000)::bigint)
        ON CONFLICT DO NOTHING;
    END IF;
  END IF;
  IF OLD.slot = 1 THEN
    PERFORM 1 FROM {{schema}}.workflow_groups g WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key AND g.running <= g.slots FOR UPDATE;
    IF FOUND THEN
      LOOP
        SELECT g.id INTO next FROM {{schema}}.executions g WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key AND g.status = 6 AND g.slot = 0 ORDER BY g.priority DESC, g.id LIMIT 1;
        EXIT WHEN NOT FOUND;
        UPDATE {{schema}}.executions SET status = 1, slot = 1 WHERE id = next AND status = 6;
        IF FOUND THEN
          RETURN NULL;
        END IF;
      END LOOP;
    END IF;
    UPDATE {{schema}}.workflow_groups g SET running = running - 1 WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER executions_end AFTER UPDATE OF status ON {{schema}}.executions FOR EACH ROW
  WHEN (NEW.status >= 8 AND OLD.status < 8 AND (NEW.parent_key IS NOT NULL OR NEW.signalled = 1 OR OLD.slot = 1))
  EXECUTE FUNCTION {{schema}}.mw_execution_ends();
