-- Cron jobs as they were declared last, and what became of each tick. Times are microseconds since 1970 in UTC.

CREATE TABLE {{schema}}.cron_jobs (
  app          text NOT NULL,
  name         text NOT NULL,
  expression   text NOT NULL,
  zone         text NOT NULL,
  workflow     text NOT NULL,
  last_tick_us bigint NOT NULL,
  declared_us  bigint NOT NULL,
  seen_us      bigint NOT NULL,
  paused_by    text,
  paused_us    bigint,
  PRIMARY KEY (app, name)
);

CREATE TABLE {{schema}}.cron_ticks (
  app       text NOT NULL,
  name      text NOT NULL,
  tick_us   bigint NOT NULL,
  status    text NOT NULL,
  at_us     bigint NOT NULL,
  execution uuid,
  reason    text,
  PRIMARY KEY (app, name, tick_us)
);
CREATE INDEX cron_ticks_open ON {{schema}}.cron_ticks (app, tick_us) WHERE status IN ('claimed', 'queued');
