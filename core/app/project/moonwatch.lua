-- Settings of this project. All of them: `moonwatch config`; where each value came from: `moonwatch config --origin`.
-- The environment (MOONWATCH_*) and flags win over this file, so secrets need not stand here.
return {
  listen = "127.0.0.1:9400",
  data = "data",
  plugins = "plugins",
  -- database = "postgres://user@host/name",   -- default: SQLite in the data folder
  -- env = { "PAYMENT_URL" },                  -- environment variables that plugins may read, besides APP_*
  log = { level = "info" },
}
