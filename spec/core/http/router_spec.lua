-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("base/str.h", "base/err.h")

ffi.cdef [[
  typedef struct mw_router mw_router;
  typedef struct mw_route {
    mw_str method, pattern; int id; size_t max_body_bytes; int64_t timeout_ms; bool stream; size_t param_count; mw_str param_names[16];
  } mw_route;
  typedef struct mw_route_match { const mw_route *route; int status; uint32_t allow; mw_str params[16]; } mw_route_match;
  mw_router *mw_router_new(void);
  void mw_router_unref(mw_router *router);
  int mw_router_add(mw_router *router, const mw_route *route, mw_err *err);
  void mw_router_match(const mw_router *router, mw_str method, mw_str path, mw_route_match *match);
  size_t mw_router_allow(const mw_route_match *match, char *text, size_t size);
]]

local C = ffi.C
local EINVALID, EEXISTS = -20000, -20005
local function str(text) return ffi.new("mw_str", text, #text) end
local function lua(s) return ffi.string(s.ptr, s.len) end

describe("router", function()
  local router, patterns

  local function add(method, pattern)
    local route, err = ffi.new("mw_route"), ffi.new("mw_err")
    route.method, route.pattern, route.id = str(method), str(pattern), #patterns + 1
    local rc = C.mw_router_add(router, route, err)
    if rc == 0 then patterns[#patterns + 1] = method .. " " .. pattern end
    return rc, ffi.string(err.text)
  end

  local function match(method, path)
    local m = ffi.new("mw_route_match")
    local subject = str(path)
    C.mw_router_match(router, str(method), subject, m)
    if m.route == nil then
      local text = ffi.new("char[200]")
      C.mw_router_allow(m, text, 200)
      return m.status, ffi.string(text)
    end
    local params = {}
    for i = 0, tonumber(m.route.param_count) - 1 do params[lua(m.route.param_names[i])] = lua(m.params[i]) end
    return patterns[m.route.id], params
  end

  before_each(function() router, patterns = C.mw_router_new(), {} end)
  after_each(function() C.mw_router_unref(router) end)

  it("finds literal paths that share beginnings", function()
    for _, path in ipairs { "/", "/a", "/ab", "/abc", "/abd", "/b/c", "/b/cd", "/b" } do assert.equal(0, (add("GET", path))) end
    for _, path in ipairs { "/", "/a", "/ab", "/abc", "/abd", "/b/c", "/b/cd", "/b" } do
      assert.equal("GET " .. path, (match("GET", path)))
    end
    for _, path in ipairs { "/abcd", "/b/", "/b/c/d", "/x", "/ABC" } do
      local found = match("GET", path)
      assert.equal(path == "/b/" and "GET /b" or 404, found)
    end
  end)

  it("fills parameters in order, each a whole segment", function()
    add("GET", "/users/:id")
    add("GET", "/users/:id/posts/:post")
    assert.same({ "GET /users/:id", { id = "7" } }, { match("GET", "/users/7") })
    assert.same({ "GET /users/:id/posts/:post", { id = "7", post = "a b" } }, { match("GET", "/users/7/posts/a b") })
    assert.equal(404, (match("GET", "/users")))
    assert.equal(404, (match("GET", "/users/")))
    assert.equal(404, (match("GET", "/users/7/posts")))
  end)

  it("prefers literal text to a parameter and a parameter to a wildcard", function()
    add("GET", "/x/*rest")
    add("GET", "/x/:id")
    add("GET", "/x/new")
    assert.equal("GET /x/new", (match("GET", "/x/new")))
    assert.equal("GET /x/:id", (match("GET", "/x/newer")))
    assert.same({ "GET /x/*rest", { rest = "a/b" } }, { match("GET", "/x/a/b") })
  end)

  it("goes back when the better choice leads nowhere", function()
    add("GET", "/users/new")
    add("GET", "/users/:id/edit")
    add("GET", "/:section/*rest")
    assert.same({ "GET /users/:id/edit", { id = "new" } }, { match("GET", "/users/new/edit") })
    assert.same({ "GET /:section/*rest", { section = "users", rest = "new/drop" } }, { match("GET", "/users/new/drop") })
  end)

  it("gives a wildcard the rest, which may be empty", function()
    add("GET", "/files/*path")
    assert.same({ path = "" }, select(2, match("GET", "/files")))
    assert.same({ path = "" }, select(2, match("GET", "/files/")))
    assert.same({ path = "a/b/" }, select(2, match("GET", "/files/a/b/")))
    assert.equal(404, (match("GET", "/filesystem")))
  end)

  it("takes everything with /*path", function()
    add("*", "/*path")
    assert.same({ "* /*path", { path = "" } }, { match("GET", "/") })
    assert.same({ "* /*path", { path = "x/y" } }, { match("DELETE", "/x/y") })
  end)

  it("ignores one trailing slash", function()
    add("GET", "/a/b/")
    assert.equal("GET /a/b/", (match("GET", "/a/b")))
    assert.equal("GET /a/b/", (match("GET", "/a/b/")))
  end)

  it("tells a method that is not allowed from a path that is not there", function()
    add("GET", "/x")
    add("POST", "/x")
    add("DELETE", "/:any")
    assert.same({ 405, "GET, HEAD, POST, DELETE" }, { match("PUT", "/x") })
    assert.same({ 404, "" }, { match("PUT", "/x/y") })
    assert.equal("DELETE /:any", (match("DELETE", "/x")))
  end)

  it("answers HEAD by GET unless it has its own route", function()
    add("GET", "/x")
    assert.equal("GET /x", (match("HEAD", "/x")))
    add("HEAD", "/x")
    assert.equal("HEAD /x", (match("HEAD", "/x")))
  end)

  it("uses a route for any method only when none names the method", function()
    add("*", "/x")
    add("GET", "/x")
    assert.equal("GET /x", (match("GET", "/x")))
    assert.equal("* /x", (match("PATCH", "/x")))
  end)

  it("never splits a segment at a decoded slash", function()
    add("GET", "/files/:name")
    assert.same({ "GET /files/:name", { name = "a\0b" } }, { match("GET", "/files/a\0b") })
  end)

  it("refuses what is taken, whatever the parameters are called", function()
    add("GET", "/users/:id")
    local rc, why = add("GET", "/users/:name")
    assert.equal(EEXISTS, rc)
    assert.equal("GET /users/:name is taken by /users/:id", why)
  end)

  it("refuses patterns that cannot match, saying why", function()
    local bad = {
      ["users"] = "begin with", [""] = "begin with", ["/a//b"] = "two slashes", ["/:"] = "needs a name", ["/:1a"] = "needs a name",
      ["/*"] = "needs a name", ["/*rest/x"] = "at the end only", ["/:id.json"] = "whole segment", ["/:id/:id"] = "twice",
      ["/a b"] = "after decoding", ["/a%20b"] = "after decoding", ["/a?b"] = "after decoding",
    }
    for pattern, expected in pairs(bad) do
      local rc, why = add("GET", pattern)
      assert.equal(EINVALID, rc, pattern)
      assert.matches(expected, why, 1, true)
    end
    assert.equal(EINVALID, (add("BREW", "/x")))
    assert.equal(EINVALID, (add("GET", ("/:p"):rep(17):gsub(":p", function() return ":p" end))))
  end)

  it("agrees with a plain search over every pattern", function()
    local words = { "a", "ab", "b", "", ":x", "*r" }
    local seed = 1
    local function random(n)
      seed = (seed * 16807) % 2147483647
      return seed % n + 1
    end
    local known = {}
    for _ = 1, 200 do
      local parts = {}
      for i = 1, random(4) do
        local word = words[random(#words)]
        if word == "*r" then word = "*r" .. i end
        if word == ":x" then word = ":x" .. i end
        if word ~= "" then parts[#parts + 1] = word end
        if word:sub(1, 1) == "*" then break end
      end
      local pattern = "/" .. table.concat(parts, "/")
      if add("GET", pattern) == 0 then known[#known + 1] = parts end
    end
    -- The best pattern by the rules, segment by segment.
    local function rank(parts, segments)
      local key = {}
      for i, part in ipairs(parts) do
        local kind = part:sub(1, 1)
        if kind == "*" then return #segments >= i - 1 and table.concat(key) .. "3" or nil end
        if not segments[i] then return nil end
        if kind ~= ":" and part ~= segments[i] then return nil end
        key[i] = kind == ":" and "2" or "1"
      end
      return #parts == #segments and table.concat(key) or nil
    end
    for _ = 1, 2000 do
      local segments = {}
      for i = 1, random(5) - 1 do segments[i] = ({ "a", "ab", "b", "abc" })[random(4)] end
      local best, expected
      for _, parts in ipairs(known) do
        local key = rank(parts, segments)
        if key and (not best or key < best) then best, expected = key, "GET /" .. table.concat(parts, "/") end
      end
      assert.equal(expected or 404, (match("GET", "/" .. table.concat(segments, "/"))), table.concat(segments, "/"))
    end
  end)
end)
