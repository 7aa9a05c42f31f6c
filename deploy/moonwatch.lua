-- Moonwatch's configuration: a Lua table. `moonwatch config --origin --config /etc/moonwatch/moonwatch.lua` shows every option, its value and
-- where that came from. Secrets (token, database) do not belong here: put them into /etc/moonwatch/environment, mode 0600, as
-- MOONWATCH_TOKEN=… or DATABASE_URL=…, which systemd reads as root.
return {
  listen = "127.0.0.1:9400",
  data = "/var/lib/moonwatch",
  plugins = "/etc/moonwatch/plugins",
  environment = "production",

  -- To serve the world: a token in the environment file, and
  --   listen = "https://0.0.0.0:443",
  --   tls = { cert = "/etc/moonwatch/tls/cert.pem", key = "/etc/moonwatch/tls/key.pem" },
}
