-- Which executions have a tag, so that a list of them reads no others. Kept by triggers; what has no tags costs nothing.

CREATE TABLE execution_tags (
  app       TEXT NOT NULL,
  tag       TEXT NOT NULL,
  execution BLOB NOT NULL,
  PRIMARY KEY (app, tag, execution)
) STRICT, WITHOUT ROWID;

INSERT INTO execution_tags (app, tag, execution)
  SELECT e.app, t.value, e.id FROM executions e, json_each(e.tags) t WHERE e.tags IS NOT NULL AND json_valid(e.tags) ON CONFLICT DO NOTHING;

CREATE TRIGGER executions_tag AFTER INSERT ON executions WHEN new.tags IS NOT NULL
BEGIN
  INSERT INTO execution_tags (app, tag, execution) SELECT new.app, value, new.id FROM json_each(new.tags) WHERE true ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER executions_untag AFTER DELETE ON executions WHEN old.tags IS NOT NULL
BEGIN
  DELETE FROM execution_tags WHERE execution = old.id AND app = old.app AND tag IN (SELECT value FROM json_each(old.tags));
END;
