// SPDX-License-Identifier: MIT
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind_json.h"
#include "bind/json_state.h"

enum { MAX_DEPTH = 100, DEFAULT_BYTES = 64 << 20, SHOWN_KEY = 40, SHOWN_PATH = 300, KEEP_KEYS = 64 * 1024, LOOK = 4096 };

// One open table and the member or item of it that is being written.
typedef struct frame {
  const void *table;
  const char *key; // NULL: an item
  size_t key_len;
  int index;
} frame;

typedef struct encoder {
  lua_State *L;
  mw_buf *out;
  mw_buf *keys;
  const mw_json_encode_opts *opts;
  size_t limit;   // of out->len
  const mw_json_state *state;
  int depth;
  unsigned tables; // opened so far
  lua_Hook hook;   // at the start
  frame frames[MAX_DEPTH + 1];
  mw_err *err;
} encoder;

static bool encode_value(encoder *e, int index);

/* ---- what is wrong, and where ---- */

static bool is_name(mw_str text) {
  if (text.len == 0 || (text.ptr[0] >= '0' && text.ptr[0] <= '9')) return false;
  for (size_t i = 0; i < text.len; i++) {
    char c = text.ptr[i];
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

static void add_key(mw_buf *path, mw_str key) {
  bool is_cut = key.len > SHOWN_KEY;
  if (is_cut) key.len = SHOWN_KEY;
  if (!is_cut && is_name(key)) {
    mw_buf_add_byte(path, '.');
    mw_buf_add_str(path, key);
    return;
  }
  mw_buf_add_byte(path, '[');
  mw_json_add_string(path, key);
  if (is_cut) mw_buf_add_cstr(path, "…");
  mw_buf_add_byte(path, ']');
}

// The name of what the first `depth` frames lead to: input.items[3].price
static void add_path(const encoder *e, int depth, mw_buf *path) {
  mw_buf_add_cstr(path, e->opts->name ? e->opts->name : "value");
  for (int i = 0; i < depth; i++) {
    const frame *f = &e->frames[i];
    if (f->key) add_key(path, mw_str_of(f->key, f->key_len));
    else mw_buf_printf(path, "[%d]", f->index);
  }
  if (path->len <= SHOWN_PATH) return;
  size_t skip = path->len - SHOWN_PATH; // the end says more than the beginning
  while (skip < path->len && ((unsigned char)path->ptr[skip] & 0xC0) == 0x80) skip++;
  mw_buf_consume(path, skip);
}

__attribute__((format(printf, 2, 3))) static bool refuse(encoder *e, const char *format, ...) {
  char what[200];
  va_list args;
  va_start(args, format);
  vsnprintf(what, sizeof what, format, args);
  va_end(args);
  mw_buf path = MW_BUF_INIT;
  add_path(e, e->depth, &path);
  mw_err_set(e->err, MW_EENCODE, "%s %s", mw_buf_cstr(&path), what);
  mw_buf_deinit(&path);
  return false;
}

// Over the depth bound: either a table holds itself, or it is just deep.
static bool refuse_depth(encoder *e) {
  for (int outer = 0; outer < e->depth; outer++) {
    for (int inner = outer + 1; inner < e->depth; inner++) {
      if (e->frames[inner].table != e->frames[outer].table) continue;
      mw_buf path = MW_BUF_INIT, same = MW_BUF_INIT;
      add_path(e, inner, &path);
      add_path(e, outer, &same);
      mw_err_set(e->err, MW_EENCODE, "%s is a cycle: it is the same table as %s", mw_buf_cstr(&path),
                 mw_buf_cstr(&same));
      mw_buf_deinit(&path);
      mw_buf_deinit(&same);
      return false;
    }
  }
  return refuse(e, "nests deeper than %d levels", MAX_DEPTH);
}

static bool refuse_size(encoder *e) {
  e->depth = 0;
  return refuse(e, "makes the JSON text longer than %zu bytes", e->opts->max_bytes ? e->opts->max_bytes : DEFAULT_BYTES);
}

// Lua's hooks do not run within C. Whoever stops a task that runs too long sets one, so a new hook means: come back now.
static bool is_stopped(encoder *e) {
  if (++e->tables % LOOK || lua_gethook(e->L) == e->hook) return false;
  mw_err_set(e->err, MW_EKILLED, "encoding was stopped, it ran too long");
  return true;
}

// The key at `index` has no place in a JSON object, or none beside array items.
static bool refuse_key(encoder *e, int index, bool among_items) {
  lua_State *L = e->L;
  if (lua_type(L, index) == LUA_TSTRING) {
    size_t len;
    const char *key = lua_tolstring(L, index, &len);
    return refuse(e, "is an array and also has the key \"%.*s\"; JSON has arrays and objects, nothing between",
                  (int)(len > SHOWN_KEY ? SHOWN_KEY : len), key);
  }
  if (lua_type(L, index) == LUA_TNUMBER) {
    double number = lua_tonumber(L, index);
    if (among_items) return refuse(e, "is an array and also has the key %.14g", number);
    return refuse(e, "has the key %.14g; the keys of an object must be strings", number);
  }
  return refuse(e, "has a key that is a %s; keys must be strings", luaL_typename(L, index));
}

/* ---- values ---- */

static bool encode_string(encoder *e, int index) {
  mw_str text;
  text.ptr = lua_tolstring(e->L, index, &text.len);
  if (e->out->len + text.len > e->limit) return refuse_size(e);
  if (mw_json_add_string_strict(e->out, text)) {
    return refuse(e, "is not valid UTF-8; put bytes through mw.crypto.base64_encode");
  }
  return true;
}

static bool encode_number(encoder *e, int index) {
  double number = lua_tonumber(e->L, index);
  if (mw_json_add_number(e->out, number) == 0) return true;
  return refuse(e, isnan(number) ? "is NaN" : "is infinite");
}

static bool encode_box(encoder *e, int index) {
  lua_State *L = e->L;
  bool is_box = lua_getmetatable(L, index);
  if (is_box) {
    is_box = lua_topointer(L, -1) == e->state->box_mark;
    lua_pop(L, 1);
  }
  if (!is_box) return refuse(e, "is a userdata, which JSON cannot express");
  mw_str text = mw_str_of(lua_touserdata(L, index), lua_objlen(L, index));
  if (e->out->len + text.len > e->limit) return refuse_size(e);
  mw_buf_add_str(e->out, text);
  return true;
}

// Writes the value on top as item `number` and pops it.
static bool encode_item(encoder *e, frame *f, int number) {
  f->index = number;
  if (number > 1) mw_buf_add_byte(e->out, ',');
  if (!encode_value(e, lua_gettop(e->L))) return false;
  lua_pop(e->L, 1);
  return true;
}

// An array whose keys do not come in order (they are in the table's hash part), or no array at all.
static bool encode_unordered(encoder *e, int table, frame *f) {
  lua_State *L = e->L;
  double last = 0, count = 0;
  e->depth--; // mistakes here are of the table, not of an item
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1), count++) {
    if (lua_type(L, -2) != LUA_TNUMBER) return refuse_key(e, lua_gettop(L) - 1, true);
    double key = lua_tonumber(L, -2);
    if (key < 1 || key != floor(key)) return refuse_key(e, lua_gettop(L) - 1, true);
    if (key > last) last = key;
  }
  if (last != count) {
    int hole = 1;
    for (;; hole++) {
      lua_rawgeti(L, table, hole);
      bool is_hole = lua_isnil(L, -1);
      lua_pop(L, 1);
      if (is_hole) break;
    }
    return refuse(e, "has no item [%d] but has [%.14g]; put mw.null where an array has nothing", hole, last);
  }
  e->depth++;
  for (int i = 1; i <= (int)count; i++) {
    lua_rawgeti(L, table, i);
    if (!encode_item(e, f, i)) return false;
  }
  return true;
}

// The first pair is on the stack: …, key, value.
static bool encode_array(encoder *e, int table, frame *f) {
  lua_State *L = e->L;
  mw_buf_add_byte(e->out, '[');
  size_t begin = e->out->len;
  int expected = 1;
  do {
    if (lua_type(L, -2) != LUA_TNUMBER || lua_tonumber(L, -2) != expected) {
      lua_pop(L, 2);
      e->out->len = begin;
      if (!encode_unordered(e, table, f)) return false;
      break;
    }
    if (!encode_item(e, f, expected)) return false;
    expected++;
  } while (lua_next(L, table));
  mw_buf_add_byte(e->out, ']');
  return true;
}

static bool encode_key(encoder *e, frame *f, mw_str key, bool is_first) {
  f->key = key.ptr;
  f->key_len = key.len;
  if (!is_first) mw_buf_add_byte(e->out, ',');
  if (e->out->len + key.len > e->limit) return refuse_size(e);
  if (mw_json_add_string_strict(e->out, key)) {
    e->depth--;
    return refuse(e, "has a key that is not valid UTF-8");
  }
  mw_buf_add_byte(e->out, ':');
  return true;
}

static bool encode_members(encoder *e, int table, frame *f) {
  lua_State *L = e->L;
  bool is_first = true;
  do {
    if (lua_type(L, -2) != LUA_TSTRING) {
      e->depth--;
      return refuse_key(e, lua_gettop(L) - 1, false);
    }
    mw_str key;
    key.ptr = lua_tolstring(L, -2, &key.len);
    if (!encode_key(e, f, key, is_first) || !encode_value(e, lua_gettop(L))) return false;
    is_first = false;
    lua_pop(L, 1);
  } while (lua_next(L, table));
  return true;
}

static int compare_keys(const void *a, const void *b) { return mw_str_cmp(*(const mw_str *)a, *(const mw_str *)b); }

// The names stay alive because their table does.
static bool encode_sorted(encoder *e, int table, frame *f) {
  lua_State *L = e->L;
  size_t begin = e->keys->len, count = 0;
  do {
    if (lua_type(L, -2) != LUA_TSTRING) {
      e->depth--;
      return refuse_key(e, lua_gettop(L) - 1, false);
    }
    mw_str key;
    key.ptr = lua_tolstring(L, -2, &key.len);
    mw_buf_add(e->keys, &key, sizeof key);
    count++;
    lua_pop(L, 1);
  } while (lua_next(L, table));
  qsort(e->keys->ptr + begin, count, sizeof(mw_str), compare_keys);
  for (size_t i = 0; i < count; i++) {
    mw_str key;
    memcpy(&key, e->keys->ptr + begin + i * sizeof key, sizeof key);
    if (!encode_key(e, f, key, i == 0)) return false;
    lua_pushlstring(L, key.ptr, key.len);
    lua_rawget(L, table);
    if (!encode_value(e, lua_gettop(L))) return false;
    lua_pop(L, 1);
  }
  e->keys->len = begin;
  return true;
}

static bool is_marked(encoder *e, int table) {
  if (!lua_getmetatable(e->L, table)) return false;
  bool is_array = lua_topointer(e->L, -1) == e->state->array_mark;
  if (!is_array) { // a metatable of its own that says so: mw_json_push_array_meta
    mw_json_push_array_mark(e->L);
    lua_rawget(e->L, -2);
    is_array = lua_toboolean(e->L, -1);
    lua_pop(e->L, 1);
  }
  lua_pop(e->L, 1);
  return is_array;
}

static bool encode_object(encoder *e, int table, frame *f) {
  mw_buf_add_byte(e->out, '{');
  if (!(e->opts->sort ? encode_sorted(e, table, f) : encode_members(e, table, f))) return false;
  mw_buf_add_byte(e->out, '}');
  return true;
}

static bool encode_table(encoder *e, int table) {
  lua_State *L = e->L;
  if (e->depth >= MAX_DEPTH) return refuse_depth(e);
  if (is_stopped(e)) return false;
  luaL_checkstack(L, 8, "json");
  bool marked = is_marked(e, table);
  lua_pushnil(L);
  if (!lua_next(L, table)) { // nothing, or key, value
    mw_buf_add_cstr(e->out, marked ? "[]" : "{}");
    return true;
  }
  bool is_array = lua_type(L, -2) == LUA_TNUMBER;
  if (marked && !is_array) return refuse_key(e, lua_gettop(L) - 1, true);
  frame *f = &e->frames[e->depth++];
  *f = (frame){lua_topointer(L, table), NULL, 0, 0};
  if (!(is_array ? encode_array(e, table, f) : encode_object(e, table, f))) return false;
  e->depth--;
  return true;
}

static bool encode_value(encoder *e, int index) {
  lua_State *L = e->L;
  if (e->out->len > e->limit) return refuse_size(e);
  switch (lua_type(L, index)) {
  case LUA_TNIL: mw_buf_add(e->out, "null", 4); return true;
  case LUA_TBOOLEAN: mw_buf_add_cstr(e->out, lua_toboolean(L, index) ? "true" : "false"); return true;
  case LUA_TNUMBER: return encode_number(e, index);
  case LUA_TSTRING: return encode_string(e, index);
  case LUA_TTABLE: return encode_table(e, index);
  case LUA_TUSERDATA: return encode_box(e, index);
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, index) == NULL) {
      mw_buf_add(e->out, "null", 4);
      return true;
    }
    break;
  case LUA_TTHREAD: return refuse(e, "is a coroutine, which JSON cannot express");
  default: break;
  }
  return refuse(e, "is a %s, which JSON cannot express", luaL_typename(L, index));
}

int mw_json_encode(lua_State *L, int index, const mw_json_encode_opts *opts, mw_buf *out, mw_err *err) {
  static const mw_json_encode_opts defaults = {false, NULL, 0};
  int top = lua_gettop(L);
  if (index < 0) index = top + 1 + index;
  if (!opts) opts = &defaults;
  luaL_checkstack(L, 8, "json");
  encoder e;
  e.L = L;
  e.out = out;
  mw_json_state *state = mw_json_state_of(L);
  e.state = state;
  e.keys = &state->keys;
  e.opts = opts;
  e.limit = out->len + (opts->max_bytes ? opts->max_bytes : DEFAULT_BYTES);
  e.depth = 0;
  e.tables = 0;
  e.hook = lua_gethook(L);
  mw_err local;
  e.err = err ? err : &local;
  mw_buf_reset(e.keys, KEEP_KEYS);
  size_t begin = out->len;
  bool ok = encode_value(&e, index);
  if (ok && out->len > e.limit) ok = refuse_size(&e);
  lua_settop(L, top);
  if (ok) return 0;
  out->len = begin;
  return e.err->code;
}
