DROP TABLE {{schema}}.cron_ticks;
DROP TABLE {{schema}}.cron_jobs;
