// SPDX-License-Identifier: MIT
#include "loop/signal.h"

#include "base/alloc.h"
#include "loop/loop_impl.h"

struct mw_signal {
  uv_signal_t uv;
  mw_signal_cb cb;
  void *arg;
};

static void on_signal(uv_signal_t *uv, int signum) {
  mw_signal *s = uv->data;
  s->cb(signum, s->arg);
}

static void on_closed(uv_handle_t *handle) { mw_free(handle->data); }

int mw_signal_open(mw_loop *loop, int signum, mw_signal_cb cb, void *arg, mw_signal **out) {
  MW_ASSERT_LOOP(loop);
  mw_signal *s = MW_NEW(mw_signal);
  int rc = uv_signal_init(&loop->uv, &s->uv);
  if (rc) {
    mw_free(s);
    return rc;
  }
  s->uv.data = s;
  s->cb = cb;
  s->arg = arg;
  rc = uv_signal_start(&s->uv, on_signal, signum);
  if (rc) {
    mw_signal_close(s);
    return rc;
  }
  *out = s;
  return 0;
}

void mw_signal_close(mw_signal *signal) {
  if (signal && !uv_is_closing((uv_handle_t *)&signal->uv)) uv_close((uv_handle_t *)&signal->uv, on_closed);
}
