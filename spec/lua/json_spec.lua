-- SPDX-License-Identifier: MIT
local core = require "mw.core.json"
local json = require "mw.json"

local null = json.null

local function refusal(value, opts)
  local text, err = core.encode(value, opts)
  assert.is_nil(text)
  assert.equal("encode", err.code)
  return err.message
end

describe("json.decode", function()
  it("makes Lua values", function()
    local value = json.decode('{"a":[1,-2.5,"x",true,false],"b":{"c":""},"é":0}')
    assert.same({ a = { 1, -2.5, "x", true, false }, b = { c = "" }, ["é"] = 0 }, value)
  end)

  it("leaves null members out and keeps null items", function()
    local value = json.decode('{"a":null,"b":[null,1,null]}')
    assert.is_nil(value.a)
    assert.equal(3, #value.b)
    assert.equal(null, value.b[1])
    assert.equal(null, value.b[3])
    assert.is_nil(next(json.decode('{"a":null}')))
  end)

  it("shows every null when asked", function()
    local value = json.decode('{"a":null,"b":[null]}', { null = null })
    assert.equal(null, value.a)
    assert.equal(null, value.b[1])
    assert.equal(null, json.decode("null", { null = null }))
  end)

  it("gives nil for a lone null, without an error", function()
    assert.same({ n = 1 }, { n = select("#", core.decode("null")), (core.decode("null")) })
    assert.is_nil(json.decode(" null "))
  end)

  it("marks arrays, so that empty ones stay arrays", function()
    local value = json.decode('{"list":[],"object":{}}')
    assert.is_true(json.is_array(value.list))
    assert.is_false(json.is_array(value.object))
    assert.equal('{"list":[],"object":{}}', json.encode(value, { sort = true }))
  end)

  it("gives integers beyond 2^53 as strings", function()
    local value = json.decode("[9007199254740992,9007199254740993,-9007199254740993,123456789012345678901234567890,1e20]")
    assert.same({ 9007199254740992, "9007199254740993", "-9007199254740993", "123456789012345678901234567890", 1e20 }, value)
  end)

  it("takes the last of members with the same name", function()
    assert.equal(2, json.decode('{"a":1,"a":2}').a)
    assert.is_nil(json.decode('{"a":1,"a":null}').a)
    assert.equal(3, json.decode('{"a":null,"a":3}').a)
  end)

  it("reads long arrays and objects in order", function()
    for _, n in ipairs { 1, 31, 32, 33, 127, 128, 129, 5000 } do
      local items, members = {}, {}
      for i = 1, n do items[i], members[i] = tostring(i), ('"k%d":%d'):format(i, i) end
      local list = json.decode("[" .. table.concat(items, ",") .. "]")
      local object = json.decode("{" .. table.concat(members, ",") .. "}")
      assert.equal(n, #list)
      for i = 1, n do
        assert.equal(i, list[i])
        assert.equal(i, object["k" .. i])
      end
    end
  end)

  it("reads deep texts up to the bound", function()
    local value = json.decode(("["):rep(100) .. ("]"):rep(100))
    for _ = 1, 99 do value = value[1] end
    assert.same({}, value)
    local wide = ('{"a":[' .. ("1,"):rep(200)):rep(50) .. "1" .. ("]}"):rep(50)
    assert.equal(201, #json.decode(wide).a)
    local _, err = core.decode(("["):rep(101) .. ("]"):rep(101))
    assert.equal("limit", err.code)
  end)

  it("gives chosen members of the outermost object as their bytes", function()
    local value = json.decode('{"name":"a","input": { "x" : null,"y":1.50 } ,"deep":{"input":2},"none":null}', { raw = { input = true, none = true } })
    assert.equal('{ "x" : null,"y":1.50 }', tostring(value.input))
    assert.equal("null", tostring(value.none))
    assert.equal(2, value.deep.input)
    assert.equal('{"input":{ "x" : null,"y":1.50 }}', json.encode({ input = value.input }))
    local _, err = core.decode('{"input":{"a"}}', { raw = { input = true } })
    assert.equal("json", err.code)
  end)

  it("says where a text is wrong", function()
    local ok, err = pcall(json.decode, '{"a": [1,\n 2,]}')
    assert.is_false(ok)
    assert.equal("json", err.code)
    assert.equal("line 2, column 4: expected a value, got ']'", err.message)
    for text, code in pairs { ["\"\xFF\""] = "utf8", [""] = "json", ["[1"] = "json", ["1 2"] = "json", ['{"a":1'] = "json", ['{"a":tru}'] = "json" } do
      local value, failure = core.decode(text)
      assert.is_nil(value)
      assert.equal(code, failure.code)
    end
  end)

  it("is well after a failure", function()
    for _ = 1, 100 do
      core.decode('{"a":["\\u00e9x')
      assert.equal("éy", core.decode('"\\u00e9y"'))
    end
  end)

  it("names a wrong argument", function()
    local _, err = pcall(json.decode, 5)
    assert.equal("mw.json.decode: argument 1 (text) must be string, got 5", err.message)
    _, err = pcall(json.decode, "1", { nul = null })
    assert.equal('mw.json.decode: unknown option "nul"; did you mean "null"?', err.message)
  end)
end)

describe("json.encode", function()
  it("writes every kind of value", function()
    assert.equal("null", json.encode(nil))
    assert.equal("null", json.encode(null))
    assert.equal("true", json.encode(true))
    assert.equal("-1.5", json.encode(-1.5))
    assert.equal("3", json.encode(3.0))
    assert.equal('"a\\"\\n"', json.encode('a"\n'))
    assert.equal("[1,[2,null]]", json.encode { 1, { 2, null } })
    assert.equal('{"a":{"b":[]}}', json.encode { a = { b = json.array {} } })
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array()))
  end)

  it("sorts members bytewise on request, at every level", function()
    local value = { b = 1, a = { z = 1, ["é"] = 2, y = { 1, { d = 1, c = 2 } } }, B = 2, [""] = 0, ["a b"] = 3, aa = 4 }
    assert.equal('{"":0,"B":2,"a":{"y":[1,{"c":2,"d":1}],"z":1,"é":2},"a b":3,"aa":4,"b":1}', json.encode(value, { sort = true }))
    local many = {}
    for i = 1, 3000 do many["k" .. i] = i end
    local names = {}
    for name in json.encode(many, { sort = true }):gmatch('"(k%d+)"') do names[#names + 1] = name end
    assert.equal(3000, #names)
    for i = 2, #names do assert.is_true(names[i - 1] < names[i]) end
  end)

  it("keeps Lua's order otherwise", function()
    local value, expected = { x = 1, y = 2, z = 3, longer = 4 }, {}
    for key, item in next, value do expected[#expected + 1] = ('"%s":%d'):format(key, item) end
    assert.equal("{" .. table.concat(expected, ",") .. "}", json.encode(value))
  end)

  it("knows arrays whose items do not lie in order", function()
    local list = {}
    for i = 300, 1, -1 do list[i] = i end
    assert.same(json.decode(json.encode(list)), list)
    assert.equal("[1,2]", json.encode { [2] = 2, [1] = 1 })
  end)

  it("brings decoded values back", function()
    for _, text in ipairs { '{"a":[],"b":{},"c":[null,{"d":[1.5,"x"]}],"e":"é"}', "[]", "[[]]", "{}", "0.1", '"\\u0000"', "-0", "1e+21" } do
      assert.equal(text, json.encode(json.decode(text), { sort = true }))
    end
  end)

  it("names the path of what it cannot write", function()
    assert.equal("input.items[3].price is NaN", refusal({ items = { { price = 1 }, { price = 2 }, { price = 0 / 0 } } }, { name = "input" }))
    assert.equal("value is infinite", refusal(math.huge))
    assert.equal("value[1] is infinite", refusal { -math.huge })
    assert.equal("value.f is a function, which JSON cannot express", refusal { f = print })
    assert.equal("value.co is a coroutine, which JSON cannot express", refusal { co = coroutine.create(print) })
    assert.equal("value.u is a userdata, which JSON cannot express", refusal { u = io.stdout })
    assert.equal('value["two words"]["3x"] is NaN', refusal { ["two words"] = { ["3x"] = 0 / 0 } })
    assert.equal("value.text is not valid UTF-8; put bytes through mw.crypto.base64_encode", refusal { text = "a\xFF" })
    assert.equal("value has a key that is not valid UTF-8", refusal { ["\xFF"] = 1 })
    assert.equal("value.a has a key that is not valid UTF-8", refusal({ a = { ["\xFF"] = 1 } }, { sort = true }))
  end)

  it("refuses tables that are neither arrays nor objects", function()
    assert.equal("value has no item [3] but has [4]; put mw.null where an array has nothing", refusal { 1, 2, nil, 4 })
    assert.equal("value.a has no item [1] but has [5]; put mw.null where an array has nothing", refusal { a = { [5] = 1 } })
    assert.equal("value has no item [2] but has [1000000000]; put mw.null where an array has nothing", refusal { 1, [1e9] = 1 })
    for _, value in ipairs { { 1, x = 2 }, { [1.5] = 1 }, { [0] = 1 }, { [-1] = 1 }, { 1, [2.5] = 1 }, { x = 1, [1] = 2, [2] = 3 } } do
      local message = refusal(value)
      assert.truthy(message:find("key", 1, true), message)
    end
    assert.equal("value has a key that is a boolean; keys must be strings", refusal { [true] = 1 })
    assert.truthy(refusal(json.array { a = 1 }):find('the key "a"', 1, true))
  end)

  it("refuses cycles and names both ends", function()
    local order = { customer = { name = "a" } }
    order.customer.order = order
    assert.equal("input.customer.order is a cycle: it is the same table as input", refusal(order, { name = "input" }))
    local list = {}
    list[1] = { list }
    assert.equal("value[1][1] is a cycle: it is the same table as value", refusal(list))
  end)

  it("writes a table twice that appears twice", function()
    local shared = { 1 }
    assert.equal("[[1],[1]]", json.encode { shared, shared })
  end)

  it("bounds the depth", function()
    local deep = 1
    for _ = 1, 100 do deep = { deep } end
    assert.equal(("["):rep(100) .. "1" .. ("]"):rep(100), json.encode(deep))
    assert.truthy(refusal({ deep }):find("nests deeper than 100 levels", 1, true))
  end)

  it("bounds the size of what grows from sharing", function()
    local value = ("x"):rep(1000)
    for _ = 1, 40 do value = { value, value } end
    assert.equal("value makes the JSON text longer than 67108864 bytes", refusal(value))
  end)

  it("calls no metamethods", function()
    local called = false
    local function call() called = true end
    local value = setmetatable({ a = 1 }, { __index = call, __len = call, __pairs = call, __tostring = call, __newindex = call })
    assert.equal('{"a":1}', json.encode(value))
    assert.is_false(called)
  end)

  it("shows a long path by its end", function()
    local value = { price = 0 / 0 }
    for _ = 1, 60 do value = { a_rather_long_name = value } end
    local message = refusal(value)
    assert.is_true(#message < 350)
    assert.truthy(message:find("a_rather_long_name.price is NaN", 1, true))
  end)

  it("raises error objects at the public face", function()
    local ok, err = pcall(json.encode, { a = print }, { name = "result" })
    assert.is_false(ok)
    assert.equal("encode", err.code)
    assert.equal("result.a is a function, which JSON cannot express", err.message)
    assert.is_false(err.retryable)
  end)
end)

describe("json.raw", function()
  it("keeps the bytes when it is encoded", function()
    local text = '{ "a" : 1.0,\n "b":null, "big":12345678901234567890 }'
    assert.equal('{"stored":' .. text .. "}", json.encode { stored = json.raw(text) })
    assert.equal(text, tostring(json.raw(text)))
    assert.equal("[1]", json.encode(json.raw("[1]")))
  end)

  it("takes nothing but JSON", function()
    local ok, err = pcall(json.raw, "{oops}")
    assert.is_false(ok)
    assert.equal("json", err.code)
  end)
end)

describe("json.null and the marks", function()
  it("have names for people", function()
    assert.equal("null", tostring(null))
    assert.is_true(null == json.decode("[null]")[1])
  end)

  it("cannot be altered by one plugin for another", function()
    assert.equal("mw.array", getmetatable(json.array()))
    assert.equal("mw.json", getmetatable(json.raw("1")))
    assert.equal("mw.null", getmetatable(null))
    assert.is_false((pcall(setmetatable, json.array(), {})))
  end)
end)
