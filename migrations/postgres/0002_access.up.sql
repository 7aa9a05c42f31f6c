-- Who may use the built-in surfaces. Secrets are stored as their SHA-256 in hex; scopes are joined by spaces.

CREATE TABLE {{schema}}.keys (
  id           uuid PRIMARY KEY,
  app          text NOT NULL DEFAULT 'default',
  environment  text,
  kind         text NOT NULL,
  name         text NOT NULL,
  scopes       text NOT NULL,
  prefix       text NOT NULL,
  hash         text NOT NULL,
  created_us   bigint NOT NULL,
  created_by   text NOT NULL,
  last_used_us bigint,
  expires_us   bigint,
  revoked_us   bigint
);
CREATE UNIQUE INDEX keys_by_name ON {{schema}}.keys (app, name) WHERE revoked_us IS NULL;

CREATE TABLE {{schema}}.sessions (
  id           uuid PRIMARY KEY,
  app          text NOT NULL DEFAULT 'default',
  prefix       text NOT NULL,
  hash         text NOT NULL,
  created_us   bigint NOT NULL,
  last_used_us bigint NOT NULL,
  expires_us   bigint NOT NULL,
  ended_us     bigint
);

CREATE TABLE {{schema}}.login_links (
  hash       text PRIMARY KEY,
  created_us bigint NOT NULL,
  created_by text NOT NULL,
  expires_us bigint NOT NULL
);
