-- A run that waits for a signal, or for a slot, is queued: the program before has no other way to go on with it.
DROP TRIGGER executions_end ON {{schema}}.executions;
DROP TRIGGER executions_leave ON {{schema}}.executions;
DROP TRIGGER executions_admit_new ON {{schema}}.executions;
DROP TRIGGER executions_admit ON {{schema}}.executions;
DROP TRIGGER signals_arrive ON {{schema}}.signals;
DROP TRIGGER executions_wait ON {{schema}}.executions;
DROP FUNCTION {{schema}}.mw_execution_ends();
DROP FUNCTION {{schema}}.mw_execution_leaves();
DROP FUNCTION {{schema}}.mw_execution_admit_new();
DROP FUNCTION {{schema}}.mw_execution_admit();
DROP FUNCTION {{schema}}.mw_signal_arrives();
DROP FUNCTION {{schema}}.mw_execution_waits();
UPDATE {{schema}}.executions SET status = 1 WHERE status IN (4, 6);
DROP INDEX {{schema}}.executions_without_slot;
DROP INDEX {{schema}}.executions_blocked;
DROP INDEX {{schema}}.executions_group;
DROP INDEX {{schema}}.executions_parent;
DROP INDEX {{schema}}.executions_ready;
DROP INDEX {{schema}}.executions_due;
CREATE INDEX executions_due ON {{schema}}.executions (due_us, id) WHERE status IN (1, 3);
DROP TABLE {{schema}}.workflow_pauses;
DROP TABLE {{schema}}.workflow_groups;
DROP TABLE {{schema}}.signals;
ALTER TABLE {{schema}}.executions
  DROP COLUMN signalled,
  DROP COLUMN slot,
  DROP COLUMN group_slots,
  DROP COLUMN parent_key,
  DROP COLUMN waits,
  DROP COLUMN state,
  DROP COLUMN control;
