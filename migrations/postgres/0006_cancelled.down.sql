DROP INDEX {{schema}}.executions_cancelled;
