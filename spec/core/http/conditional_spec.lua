-- SPDX-License-Identifier: MIT
local ffi = require("support.cdef")("http/conditional.h")

local C = ffi.C
local BEFORE, THEN, LATER = "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"

local keep
local function make(headers, opts)
  opts = opts or {}
  local c = ffi.new("mw_conditional")
  keep = { headers, opts.etag or 'W/"a"' }
  c.etag.ptr, c.etag.len = keep[2], #keep[2]
  c.modified, c.now, c.is_read = 784111777, opts.now or 784200000, opts.is_read ~= false
  for name, value in pairs(headers) do c[name].ptr, c[name].len = value, #value end
  return c
end

local function evaluate(headers, opts) return C.mw_conditional_evaluate(make(headers, opts)) end
local function holds(if_range, opts) return C.mw_conditional_range_holds(make({ if_range = if_range }, opts)) end

describe("conditional", function()
  it("goes on when nothing is asked", function()
    assert.equal(200, evaluate {})
    assert.is_true(holds(nil))
  end)

  it("answers 304 to who has it already", function()
    for _, list in ipairs { '"a"', 'W/"a"', '"x", W/"a"', '"x","a"', "*", ' , "a"' } do
      assert.equal(304, evaluate { if_none_match = list }, list)
      assert.equal(412, evaluate({ if_none_match = list }, { is_read = false }), list)
    end
    for _, list in ipairs { '"b"', "a", '"a', 'w/"a"', '"x" a "a"', "", 'W/' } do assert.equal(200, evaluate { if_none_match = list }, list) end
  end)

  it("looks at dates where there are no tags", function()
    assert.equal(304, evaluate { if_modified_since = THEN })
    assert.equal(304, evaluate { if_modified_since = LATER })
    assert.equal(200, evaluate { if_modified_since = BEFORE })
    assert.equal(200, evaluate { if_modified_since = "yesterday" })
    assert.equal(200, evaluate({ if_modified_since = THEN }, { is_read = false }))
    assert.equal(200, evaluate { if_none_match = '"b"', if_modified_since = THEN })
  end)

  it("answers 412 to who expects something else", function()
    assert.equal(412, evaluate { if_unmodified_since = BEFORE })
    assert.equal(200, evaluate { if_unmodified_since = THEN })
    assert.equal(200, evaluate { if_unmodified_since = "never" })
    assert.equal(412, evaluate({ if_match = '"b"' }, { etag = '"a"' }))
    assert.equal(200, evaluate({ if_match = '"b", "a"' }, { etag = '"a"' }))
    assert.equal(200, evaluate { if_match = "*" })
    assert.equal(200, evaluate({ if_match = '"a"', if_unmodified_since = BEFORE }, { etag = '"a"' }))
    assert.equal(304, evaluate({ if_match = '"a"', if_none_match = '"a"' }, { etag = '"a"' }))
  end)

  it("compares If-Match strongly, so that a weak tag never holds", function()
    assert.equal(412, evaluate { if_match = 'W/"a"' })
    assert.equal(412, evaluate { if_match = '"a"' })
  end)

  it("sends a range only of what the client has the rest of", function()
    assert.is_true(holds('"a"', { etag = '"a"' }))
    for _, text in ipairs { '"b"', 'W/"a"', '"a", "b"', "a", "", "*" } do assert.is_false(holds(text, { etag = '"a"' }), text) end
    assert.is_false(holds('W/"a"'))
    assert.is_true(holds(THEN))
    assert.is_false(holds(BEFORE))
    assert.is_false(holds(LATER))
    assert.is_false(holds(THEN, { now = 784111777 })) -- it may have changed again within that second
  end)
end)
