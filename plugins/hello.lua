-- SPDX-License-Identifier: MIT
-- Routes, a group with middleware, and a counter that all workers share.
--
--   curl http://127.0.0.1:9400/hello/Ada

local mw = require "mw"

mw.get("/hello/:name", function(req, res)
  res:json { hello = req.params.name, visits = mw.kv.incr("visits") }
end)

local function need_key(req, res, next)
  if req.headers["x-key"] ~= (mw.env.APP_KEY or "demo") then
    return res:status(401):json { error = "send the header x-key: demo" }
  end
  next()
end

mw.group("/private", need_key, function(r)
  r.get("/time", function(_, res) res:json { now = mw.now() } end)
end)
