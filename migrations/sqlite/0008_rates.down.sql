-- What waits for its turn has a slot and a time, and goes on without.
DROP TRIGGER executions_end;
DROP TRIGGER executions_park;
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
ALTER TABLE workflow_groups DROP COLUMN next_us;
ALTER TABLE workflow_groups DROP COLUMN burst;
ALTER TABLE workflow_groups DROP COLUMN every_us;
ALTER TABLE executions DROP COLUMN group_burst;
ALTER TABLE executions DROP COLUMN group_every_us;
