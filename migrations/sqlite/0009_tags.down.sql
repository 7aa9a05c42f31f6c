DROP TRIGGER executions_untag;
DROP TRIGGER executions_tag;
DROP TABLE execution_tags;
