-- The routes below /{{name}}.
--
--   curl http://127.0.0.1:9400/{{name}}/7
--   curl -X POST -H 'content-type: application/json' -d '{"name":"Ada"}' http://127.0.0.1:9400/{{name}}

local mw = require "mw"

mw.get("/{{name}}/:id", function(req, res)
  res:json { id = req.params.id }
end)

mw.post("/{{name}}", function(req, res)
  local input = req:json() -- answers 400 or 415 by itself when there is no JSON
  if type(input) ~= "table" or type(input.name) ~= "string" then
    return res:status(400):json { error = "name must be a string" }
  end
  res:status(201):json { name = input.name }
end)
