-- How fast runs of a group begin: one each every_us, after the first `burst` of a while without any. Whoever gets a slot gets the time of its turn
-- as well, and sleeps until then; next_us is when the next one's would be if there were no burst. NULL in executions: as the group has it.

ALTER TABLE {{schema}}.executions
  ADD COLUMN group_every_us bigint,
  ADD COLUMN group_burst bigint;
ALTER TABLE {{schema}}.workflow_groups
  ADD COLUMN every_us bigint NOT NULL DEFAULT 0,
  ADD COLUMN burst bigint NOT NULL DEFAULT 1,
  ADD COLUMN next_us bigint NOT NULL DEFAULT 0;

CREATE OR REPLACE FUNCTION {{schema}}.mw_execution_admit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  now_us bigint := (extract(epoch FROM statement_timestamp()) * 1000000)::bigint;
  turn_us bigint;
BEGIN
  INSERT INTO {{schema}}.workflow_groups AS g (app, workflow, group_key, running, slots, every_us, burst)
    VALUES (NEW.app, NEW.workflow, NEW.group_key, 0, greatest(1, NEW.group_slots), coalesce(NEW.group_every_us, 0), coalesce(NEW.group_burst, 1))
    ON CONFLICT (app, workflow, group_key) DO UPDATE SET slots = excluded.slots, every_us = coalesce(NEW.group_every_us, g.every_us),
      burst = coalesce(NEW.group_burst, g.burst);
  UPDATE {{schema}}.workflow_groups g SET running = running + 1,
      next_us = CASE WHEN g.every_us > 0 THEN greatest(g.next_us, now_us) + g.every_us ELSE 0 END
    WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key AND g.running < g.slots
    RETURNING g.next_us - g.burst * g.every_us INTO turn_us;
  IF FOUND THEN
    NEW.status := CASE WHEN turn_us > now_us THEN 3 ELSE 1 END;
    NEW.due_us := greatest(NEW.due_us, turn_us);
    NEW.slot := 1;
  END IF;
  RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION {{schema}}.mw_execution_ends() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  next uuid;
  now_us bigint := (extract(epoch FROM statement_timestamp()) * 1000000)::bigint;
  turn_us bigint;
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
    SELECT CASE WHEN g.every_us > 0 THEN g.next_us - (g.burst - 1) * g.every_us ELSE 0 END INTO turn_us FROM {{schema}}.workflow_groups g
      WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key AND g.running <= g.slots FOR UPDATE;
    IF FOUND THEN
      LOOP
        SELECT g.id INTO next FROM {{schema}}.executions g WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key AND g.status = 6 AND g.slot = 0 ORDER BY g.priority DESC, g.id LIMIT 1;
        EXIT WHEN NOT FOUND;
        UPDATE {{schema}}.executions e SET status = CASE WHEN turn_us > now_us THEN 3 ELSE 1 END, due_us = greatest(e.due_us, turn_us), slot = 1
          WHERE e.id = next AND e.status = 6;
        IF FOUND THEN
          UPDATE {{schema}}.workflow_groups g SET next_us = greatest(g.next_us, now_us) + g.every_us
            WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key AND g.every_us > 0;
          RETURN NULL;
        END IF;
      END LOOP;
    END IF;
    UPDATE {{schema}}.workflow_groups g SET running = running - 1 WHERE g.app = NEW.app AND g.workflow = NEW.workflow AND g.group_key = NEW.group_key;
  END IF;
  RETURN NULL;
END $$;
