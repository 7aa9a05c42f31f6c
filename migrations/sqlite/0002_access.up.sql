-- Who may use the built-in surfaces. Secrets are stored as their SHA-256 in hex; scopes are joined by spaces.

CREATE TABLE keys (
  id           BLOB NOT NULL PRIMARY KEY,
  app          TEXT NOT NULL DEFAULT 'default',
  environment  TEXT,
  kind         TEXT NOT NULL,
  name         TEXT NOT NULL,
  scopes       TEXT NOT NULL,
  prefix       TEXT NOT NULL,
  hash         TEXT NOT NULL,
  created_us   INTEGER NOT NULL,
  created_by   TEXT NOT NULL,
  last_used_us INTEGER,
  expires_us   INTEGER,
  revoked_us   INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX keys_by_name ON keys (app, name) WHERE revoked_us IS NULL;

CREATE TABLE sessions (
  id           BLOB NOT NULL PRIMARY KEY,
  app          TEXT NOT NULL DEFAULT 'default',
  prefix       TEXT NOT NULL,
  hash         TEXT NOT NULL,
  created_us   INTEGER NOT NULL,
  last_used_us INTEGER NOT NULL,
  expires_us   INTEGER NOT NULL,
  ended_us     INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE login_links (
  hash       TEXT NOT NULL PRIMARY KEY,
  created_us INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
