// SPDX-License-Identifier: MIT
#include "state/late.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "store/store.h"

typedef struct row {
  mw_list node;
  uint64_t ticket;
  int64_t due_ms;
  mw_write write; // its data stands behind it
} row;

struct mw_late {
  mw_store_client *client;
  mw_loop *loop;
  int64_t after_ms;
  mw_timer timer;

  pthread_mutex_t lock;
  mw_list rows; // in the order of their due times
  uint64_t last_ticket;
  bool ticking; // the timer runs, or its start is posted
  bool added;   // since the last tick: it goes on, so that a busy server does not post for every row
  bool closed;

  void (*gone)(void *arg);
  void *gone_arg;
};

static void on_written(int status, const mw_id *existing, const mw_err *err, void *arg) {
  // Whoever owns the row appends it again and hears what is wrong with it.
  if (status && status != MW_ESTALE && status != MW_ECANCELED)
    mw_log(MW_LOG_DEBUG, "workflow", "a late journal row was not stored", MW_LOG_S("error", err ? err->text : mw_err_text(status)));
}

static void write_rows(mw_late *late, mw_list *due) {
  for (row *r; (r = MW_LIST_POP(due, row, node));) {
    mw_store_write(late->client, &r->write, on_written, NULL);
    mw_free(r);
  }
}

static void start_ticking(void *arg) {
  mw_late *late = arg;
  if (!late->closed) mw_timer_start(late->loop, &late->timer, late->after_ms / 2);
}

static void on_tick(mw_timer *timer, void *arg) {
  mw_late *late = arg;
  int64_t now_ms = mw_clock_mono_ms();
  mw_list due;
  mw_list_init(&due);
  pthread_mutex_lock(&late->lock);
  MW_LIST_EACH(&late->rows, node) {
    if (MW_CONTAINER(node, row, node)->due_ms > now_ms) break;
    mw_list_remove(node);
    mw_list_push(&due, node);
  }
  late->ticking = late->added || !mw_list_is_empty(&late->rows);
  late->added = false;
  bool again = late->ticking;
  pthread_mutex_unlock(&late->lock);
  write_rows(late, &due);
  if (again) start_ticking(late);
}

uint64_t mw_late_add(mw_late *late, const mw_write *write) {
  row *r = mw_alloc(sizeof *r + write->data.len);
  *r = (row){.due_ms = mw_clock_mono_ms() + late->after_ms, .write = *write};
  r->write.data.ptr = memcpy(r + 1, write->data.ptr, write->data.len);
  r->write.output = r->write.error = (mw_str){0};
  pthread_mutex_lock(&late->lock);
  uint64_t ticket = r->ticket = ++late->last_ticket;
  mw_list_push(&late->rows, &r->node);
  late->added = true;
  bool start = !late->ticking;
  late->ticking = true;
  pthread_mutex_unlock(&late->lock);
  if (start) mw_loop_post(late->loop, start_ticking, late);
  return ticket;
}

bool mw_late_remove(mw_late *late, uint64_t ticket) {
  row *found = NULL;
  pthread_mutex_lock(&late->lock);
  for (mw_list *node = late->rows.prev; !found && node != &late->rows; node = node->prev) {
    row *r = MW_CONTAINER(node, row, node);
    if (r->ticket == ticket) found = r;
  }
  if (found) mw_list_remove(&found->node);
  pthread_mutex_unlock(&late->lock);
  mw_free(found);
  return found != NULL;
}

mw_late *mw_late_open(mw_store *store, mw_loop *loop, int64_t after_ms) {
  mw_late *late = MW_NEW(mw_late);
  late->loop = loop;
  late->after_ms = after_ms;
  late->client = mw_store_attach(store, loop);
  mw_timer_init(&late->timer, on_tick, late);
  mw_list_init(&late->rows);
  pthread_mutex_init(&late->lock, NULL);
  return late;
}

static void on_detached(void *arg) {
  mw_late *late = arg;
  void (*gone)(void *arg) = late->gone;
  void *gone_arg = late->gone_arg;
  pthread_mutex_destroy(&late->lock);
  mw_free(late);
  if (gone) gone(gone_arg);
}

void mw_late_close(mw_late *late, void (*cb)(void *arg), void *arg) {
  late->closed = true;
  late->gone = cb;
  late->gone_arg = arg;
  mw_timer_stop(&late->timer);
  for (row *r; (r = MW_LIST_POP(&late->rows, row, node));) mw_free(r);
  mw_store_detach(late->client, on_detached, late);
}
