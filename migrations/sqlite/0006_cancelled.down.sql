DROP INDEX executions_cancelled;
