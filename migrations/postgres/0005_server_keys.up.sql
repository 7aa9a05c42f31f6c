-- Keys of the server's own (lua/mw/access/server_key.lua), 64 hex digits each.
CREATE TABLE {{schema}}.server_keys (
  name       text PRIMARY KEY,
  secret     text NOT NULL,
  created_us bigint NOT NULL
);
