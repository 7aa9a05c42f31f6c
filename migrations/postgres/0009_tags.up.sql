-- Which executions have a tag, so that a list of them reads no others. Kept by triggers; what has no tags costs nothing. Tags with a NUL, which
-- text cannot hold, are left out.

CREATE TABLE {{schema}}.execution_tags (
  app       text NOT NULL,
  tag       text NOT NULL,
  execution uuid NOT NULL,
  PRIMARY KEY (app, tag, execution)
);

LOCK TABLE {{schema}}.executions IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO {{schema}}.execution_tags (app, tag, execution)
  SELECT e.app, t.tag, e.id FROM {{schema}}.executions e CROSS JOIN LATERAL json_array_elements_text(e.tags::json) AS t(tag)
  WHERE e.tags IS NOT NULL AND strpos(e.tags, '\u0000') = 0 ON CONFLICT DO NOTHING;

CREATE FUNCTION {{schema}}.mw_tag_execution() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO {{schema}}.execution_tags (app, tag, execution) SELECT NEW.app, tag, NEW.id FROM json_array_elements_text(NEW.tags::json) AS t(tag) ON CONFLICT DO NOTHING;
  ELSE
    DELETE FROM {{schema}}.execution_tags WHERE execution = OLD.id AND app = OLD.app AND tag IN (SELECT json_array_elements_text(OLD.tags::json));
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER executions_tag AFTER INSERT ON {{schema}}.executions FOR EACH ROW
  WHEN (NEW.tags IS NOT NULL AND strpos(NEW.tags, '\u0000') = 0) EXECUTE FUNCTION {{schema}}.mw_tag_execution();
CREATE TRIGGER executions_untag AFTER DELETE ON {{schema}}.executions FOR EACH ROW
  WHEN (OLD.tags IS NOT NULL AND strpos(OLD.tags, '\u0000') = 0) EXECUTE FUNCTION {{schema}}.mw_tag_execution();
