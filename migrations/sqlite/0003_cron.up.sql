-- Cron jobs as they were declared last, and what became of each tick. Times are microseconds since 1970 in UTC.

CREATE TABLE cron_jobs (
  app          TEXT NOT NULL,
  name         TEXT NOT NULL,
  expression   TEXT NOT NULL,
  zone         TEXT NOT NULL,
  workflow     TEXT NOT NULL,
  last_tick_us INTEGER NOT NULL,
  declared_us  INTEGER NOT NULL,
  seen_us      INTEGER NOT NULL,
  paused_by    TEXT,
  paused_us    INTEGER,
  PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE cron_ticks (
  app       TEXT NOT NULL,
  name      TEXT NOT NULL,
  tick_us   INTEGER NOT NULL,
  status    TEXT NOT NULL,
  at_us     INTEGER NOT NULL,
  execution BLOB,
  reason    TEXT,
  PRIMARY KEY (app, name, tick_us)
) STRICT, WITHOUT ROWID;
CREATE INDEX cron_ticks_open ON cron_ticks (app, tick_us) WHERE status IN ('claimed', 'queued');
