DROP TRIGGER executions_count_gone;
DROP TRIGGER executions_count_moved;
DROP TRIGGER executions_count_new;
DROP VIEW execution_totals;
DROP TABLE execution_counts;
