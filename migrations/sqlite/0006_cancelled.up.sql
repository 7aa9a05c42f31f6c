-- What was cancelled and has work to do yet, steps to undo; claimed whatever is paused. Nearly always empty.
CREATE INDEX executions_cancelled ON executions (due_us, id) WHERE control >= 2 AND status <> 2 AND status < 5;
