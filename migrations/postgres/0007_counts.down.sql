DROP TRIGGER executions_count_gone ON {{schema}}.executions;
DROP TRIGGER executions_count_moved ON {{schema}}.executions;
DROP TRIGGER executions_count_new ON {{schema}}.executions;
DROP FUNCTION {{schema}}.mw_count_executions();
DROP VIEW {{schema}}.execution_totals;
DROP TABLE {{schema}}.execution_counts;
