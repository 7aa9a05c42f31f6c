-- What was cancelled and has work to do yet, steps to undo; claimed whatever is paused. Nearly always empty.
CREATE INDEX executions_cancelled ON {{schema}}.executions (due_us, id) WHERE control >= 2 AND status IN (1, 3, 4);
