// SPDX-License-Identifier: MIT
#include "loop/poll.h"

#include "base/alloc.h"
#include "loop/loop_impl.h"

struct mw_poll {
  uv_poll_t uv;
  int events; /**< What is watched: libuv takes two system calls to be told the same again. */
  mw_poll_cb cb;
  void *arg;
};

static void on_events(uv_poll_t *uv, int status, int events) {
  mw_poll *poll = uv->data;
  if (status) poll->events = 0; // libuv has stopped it
  int ours = ((events & UV_READABLE) ? MW_POLL_READ : 0) | ((events & UV_WRITABLE) ? MW_POLL_WRITE : 0);
  poll->cb(poll, status, ours, poll->arg);
}

static void on_closed(uv_handle_t *handle) { mw_free(handle->data); }

int mw_poll_open(mw_loop *loop, int fd, mw_poll_cb cb, void *arg, mw_poll **out) {
  MW_ASSERT_LOOP(loop);
  mw_poll *poll = MW_NEW(mw_poll);
  int rc = uv_poll_init(&loop->uv, &poll->uv, fd);
  if (rc) {
    mw_free(poll); // a failed init leaves no handle behind
    return rc;
  }
  poll->uv.data = poll;
  poll->cb = cb;
  poll->arg = arg;
  *out = poll;
  return 0;
}

int mw_poll_set(mw_poll *poll, int events) {
  if (events == poll->events) return 0;
  int theirs = ((events & MW_POLL_READ) ? UV_READABLE : 0) | ((events & MW_POLL_WRITE) ? UV_WRITABLE : 0);
  int rc = events ? uv_poll_start(&poll->uv, theirs, on_events) : uv_poll_stop(&poll->uv);
  poll->events = rc ? 0 : events;
  return rc;
}

void mw_poll_close(mw_poll *poll) {
  if (!poll || uv_is_closing((uv_handle_t *)&poll->uv)) return;
  uv_poll_stop(&poll->uv);
  uv_close((uv_handle_t *)&poll->uv, on_closed);
}
