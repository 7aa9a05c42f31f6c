-- What waits for its turn has a slot and a time, and goes on without.
CREATE OR REPLACE FUNCTION {{schema}}.mw_execution_admit() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE OR REPLACE FUNCTION {{schema}}.mw_execution_ends() RETURNS trigger LANGUAGE plpgsql AS $$
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

ALTER TABLE {{schema}}.workflow_groups
  DROP COLUMN next_us,
  DROP COLUMN burst,
  DROP COLUMN every_us;
ALTER TABLE {{schema}}.executions
  DROP COLUMN group_burst,
  DROP COLUMN group_every_us;
