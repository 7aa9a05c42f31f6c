-- SPDX-License-Identifier: MIT

-- The smallest plugin: a route. Save a change and ask again; there is nothing to restart.
--
--   curl 'http://127.0.0.1:9400/hello?name=Ada'

local mw = require "mw"

mw.get("/hello", function(req, res)
  res:json { hello = req.query.name or "world", at = mw.now() }
end)
