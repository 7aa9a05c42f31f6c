-- Keys of the server's own (lua/mw/access/server_key.lua), 64 hex digits each.
CREATE TABLE server_keys (
  name       TEXT NOT NULL PRIMARY KEY,
  secret     TEXT NOT NULL,
  created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
