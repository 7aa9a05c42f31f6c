DROP TRIGGER executions_untag ON {{schema}}.executions;
DROP TRIGGER executions_tag ON {{schema}}.executions;
DROP FUNCTION {{schema}}.mw_tag_execution();
DROP TABLE {{schema}}.execution_tags;
