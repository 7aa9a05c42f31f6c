// SPDX-License-Identifier: MIT
#include "vm/ref.h"

#include <assert.h>

mw_ref mw_ref_take(lua_State *L) {
  mw_vm *vm = mw_vm_of(L);
  return (mw_ref){vm, luaL_ref(L, LUA_REGISTRYINDEX)};
}

void mw_ref_push(const mw_ref *ref, lua_State *L) {
  assert(ref->vm == mw_vm_of(L));
  if (ref->ref == LUA_NOREF) lua_pushnil(L);
  else lua_rawgeti(L, LUA_REGISTRYINDEX, ref->ref);
}

void mw_ref_free(mw_ref *ref) {
  if (ref->vm && ref->ref != LUA_NOREF) luaL_unref(mw_vm_lua(ref->vm), LUA_REGISTRYINDEX, ref->ref);
  *ref = MW_REF_NONE;
}
