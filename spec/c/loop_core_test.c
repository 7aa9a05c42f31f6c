// SPDX-License-Identifier: MIT

// The loop itself: posting, deferring, timers, work, DNS, signals, polls, file watching.

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/rand.h"
#include "harness.h"
#include "loop/address.h"
#include "loop/dns.h"
#include "loop/fswatch.h"
#include "loop/poll.h"
#include "loop/signal.h"
#include "loop/thread.h"
#include "loop/work.h"

// Posting.

enum { POSTERS = 8, POSTS = 5000 };

typedef struct poster {
  mw_thread thread;
  mw_loop *loop;
  int sent;
  struct post *posts;
} poster;

typedef struct post {
  poster *from;
  int number;
} post;

static int received[POSTERS];
static int received_total;
static poster posters[POSTERS];

static void on_post(void *arg) {
  post *p = arg;
  long from = p->from - posters;
  CHECK_INT(p->number, received[from]); // each sender's posts come in order
  received[from]++;
  if (++received_total == POSTERS * POSTS) mw_loop_stop(p->from->loop);
}

static void post_many(void *arg) {
  poster *p = arg;
  for (int i = 0; i < POSTS; i++) {
    p->posts[i] = (post){p, i};
    mw_loop_post(p->loop, on_post, &p->posts[i]);
  }
}

static void test_posts_from_many_threads_all_arrive_in_order(void) {
  mw_loop *loop = mw_loop_new("posts");
  mw_loop_hold(loop);
  for (int i = 0; i < POSTERS; i++) {
    posters[i] = (poster){.loop = loop, .posts = mw_calloc(POSTS, sizeof(post))};
    CHECK_INT(mw_thread_start(&posters[i].thread, "poster", post_many, &posters[i]), 0);
  }
  mw_loop_run(loop);
  for (int i = 0; i < POSTERS; i++) {
    mw_thread_join(&posters[i].thread);
    mw_free(posters[i].posts);
  }
  CHECK_INT(received_total, POSTERS * POSTS);
  mw_loop_unhold(loop);
  mw_loop_free(loop);
}

static void set_flag(void *arg) { *(bool *)arg = true; }

static void test_turns_run_posts_also_when_nothing_is_open(void) {
  mw_loop *loop = mw_loop_new("turns");
  bool called = false;
  mw_loop_post(loop, set_flag, &called);
  for (int turns = 0; turns < 10 && mw_loop_turn(loop, false); turns++) {}
  CHECK(called);
  CHECK(!mw_loop_turn(loop, false));
  mw_loop_free(loop);
}

static void test_a_post_waits_for_the_next_turn(void) {
  mw_loop *loop = mw_loop_new("post");
  bool called = false;
  mw_loop_post(loop, set_flag, &called);
  CHECK(!called);
  mw_loop_run(loop);
  CHECK(called);
  mw_loop_free(loop);
}

static int deferred_count;
static void defer_again(void *arg) {
  if (++deferred_count < 100) mw_loop_defer(arg, defer_again, arg);
}

static void test_deferred_calls_run_even_when_nothing_else_is_open(void) {
  mw_loop *loop = mw_loop_new("defer");
  deferred_count = 0;
  mw_loop_defer(loop, defer_again, loop);
  CHECK_INT(deferred_count, 0);
  mw_loop_run(loop);
  CHECK_INT(deferred_count, 100);
  mw_loop_free(loop);
}

static void stop_from_outside(void *arg) { mw_loop_stop(arg); }

static void test_stop_from_another_thread_ends_the_run(void) {
  mw_loop *loop = mw_loop_new("stop");
  mw_loop_hold(loop);
  mw_thread thread;
  CHECK_INT(mw_thread_start(&thread, "stopper", stop_from_outside, loop), 0);
  mw_loop_run(loop);
  mw_thread_join(&thread);
  mw_loop_unhold(loop);
  mw_loop_free(loop);
}

static void test_libuv_codes_have_names(void) {
  CHECK_STR(mw_err_code(-ECONNREFUSED), "ECONNREFUSED");
  CHECK_STR(mw_err_code(MW_ETIMEOUT), "timeout");
  CHECK_STR(mw_err_text(-EPIPE), "broken pipe");
}

static void burn(void *arg) {
  int64_t until = mw_clock_mono_ms() + 30;
  while (mw_clock_mono_ms() < until) {}
}

static void test_the_longest_turn_is_known(void) {
  mw_loop *loop = mw_loop_new("lag");
  bool done = false;
  mw_timer timer;
  mw_timer_init(&timer, harness_on_timer, &done);
  mw_timer_start(loop, &timer, 50);
  mw_loop_turn(loop, false);
  mw_loop_post(loop, burn, NULL);
  RUN_UNTIL(loop, done);
  int64_t lag = mw_loop_take_lag_us(loop);
  CHECK(lag >= 29000);
  CHECK_INT(mw_loop_take_lag_us(loop), 0);
  mw_loop_free(loop);
}

// Timers.

enum { TIMERS = 10000 };

typedef struct model_timer {
  mw_timer timer;
  int64_t due_ms; // by the clock; 0: must not fire
  bool fired;
} model_timer;

static model_timer *model;
static mw_loop *model_loop;
static int pending, fired_count;
static int64_t last_due;

static int64_t random_delay(void) {
  uint64_t r = mw_rand_u64();
  switch (r % 4) {
  case 0: return (int64_t)(r >> 8) % 5;
  case 1: return (int64_t)(r >> 8) % 70;
  default: return (int64_t)(r >> 8) % 700;
  }
}

static void start_model(model_timer *m, int64_t after) {
  if (!m->due_ms) pending++;
  m->due_ms = mw_clock_mono_ms() + after;
  mw_timer_start(model_loop, &m->timer, after);
}

static void stop_model(model_timer *m) {
  if (m->due_ms) pending--;
  m->due_ms = 0;
  mw_timer_stop(&m->timer);
}

static void on_model_timer(mw_timer *timer, void *arg) {
  model_timer *m = arg;
  CHECK(m->due_ms != 0);
  CHECK(!mw_timer_is_armed(timer));
  CHECK(mw_clock_mono_ms() >= m->due_ms);      // never early
  CHECK(mw_clock_mono_ms() - m->due_ms < 3000); // and not lost (generous: sanitizers, a shared machine)
  m->due_ms = 0;
  m->fired = true;
  pending--;
  fired_count++;
  // Sometimes disturb the others.
  uint64_t r = mw_rand_u64();
  model_timer *other = &model[(r >> 16) % TIMERS];
  if (r % 8 == 0) stop_model(other);
  else if (r % 8 == 1 && fired_count < TIMERS * 2) start_model(other, random_delay());
  else if (r % 8 == 2 && fired_count < TIMERS * 2) start_model(m, random_delay());
}

static void test_ten_thousand_timers_agree_with_a_model(void) {
  model_loop = mw_loop_new("timers");
  model = mw_calloc(TIMERS, sizeof *model);
  for (int i = 0; i < TIMERS; i++) mw_timer_init(&model[i].timer, on_model_timer, &model[i]);
  for (int i = 0; i < TIMERS; i++) start_model(&model[i], random_delay());
  for (int i = 0; i < TIMERS; i += 7) stop_model(&model[i]);
  for (int i = 0; i < TIMERS; i += 11) start_model(&model[i], random_delay());
  mw_loop_run(model_loop); // ends when no timer is armed
  CHECK_INT(pending, 0);
  for (int i = 0; i < TIMERS; i++) CHECK(!mw_timer_is_armed(&model[i].timer));
  mw_free(model);
  mw_loop_free(model_loop);
}

typedef struct ordered {
  mw_timer timer;
  int64_t due_ms; // as the wheel has it: starting all of them takes time
} ordered;

static void on_ordered(mw_timer *timer, void *arg) {
  ordered *o = arg;
  CHECK(o->due_ms >= last_due);
  last_due = o->due_ms;
}

static void test_timers_fire_in_order_of_their_time(void) {
  mw_loop *loop = mw_loop_new("order");
  ordered all[200];
  last_due = 0;
  for (int i = 0; i < 200; i++) {
    mw_timer_init(&all[i].timer, on_ordered, &all[i]);
    mw_timer_start(loop, &all[i].timer, 10 + 13 * ((i * 77) % 200) / 10);
    all[i].due_ms = all[i].timer.due_ms;
  }
  burn(NULL); // several become due in one turn
  mw_loop_run(loop);
  CHECK(last_due > 0);
  mw_loop_free(loop);
}

static mw_timer pair[2];
static int pair_fired;
static void on_pair(mw_timer *timer, void *arg) {
  pair_fired++;
  mw_timer_stop(&pair[0]);
  mw_timer_stop(&pair[1]);
}

static void test_a_timer_stopped_by_another_of_the_same_millisecond_does_not_fire(void) {
  for (int after = 0; after < 3; after++) {
    mw_loop *loop = mw_loop_new("pair");
    pair_fired = 0;
    for (int i = 0; i < 2; i++) {
      mw_timer_init(&pair[i], on_pair, NULL);
      mw_timer_start(loop, &pair[i], after);
    }
    burn(NULL);
    mw_loop_run(loop);
    CHECK_INT(pair_fired, 1);
    mw_loop_free(loop);
  }
}

static int chain_left;
static mw_loop *chain_loop;
static void on_chain(mw_timer *timer, void *arg) {
  if (--chain_left) mw_timer_start(chain_loop, timer, 0);
}

static void test_zero_means_the_next_turn_and_costs_no_millisecond(void) {
  chain_loop = mw_loop_new("zero");
  chain_left = 2000;
  mw_timer timer;
  mw_timer_init(&timer, on_chain, NULL);
  mw_timer_start(chain_loop, &timer, 0);
  CHECK_INT(chain_left, 2000);
  int64_t started = mw_clock_mono_ms();
  mw_loop_run(chain_loop);
  CHECK_INT(chain_left, 0);
  CHECK(mw_clock_mono_ms() - started < 1500);
  mw_loop_free(chain_loop);
}

static void test_a_distant_timer_can_be_stopped(void) {
  mw_loop *loop = mw_loop_new("distant");
  mw_timer timers[8];
  bool fired = false;
  for (int i = 0; i < 8; i++) {
    mw_timer_init(&timers[i], harness_on_timer, &fired);
    mw_timer_start(loop, &timers[i], (int64_t)1 << (i * 8));
  }
  mw_loop_turn(loop, false);
  for (int i = 0; i < 8; i++) mw_timer_stop(&timers[i]);
  mw_loop_run(loop); // nothing keeps it alive
  mw_loop_free(loop);
}

// Work.

static atomic_int work_ran;
static int work_done, work_cancelled;
static mw_loop *work_loop;

static void do_work(void *arg) {
  CHECK(!mw_loop_is_here(work_loop));
  atomic_fetch_add(&work_ran, 1);
}
static void on_done(void *arg, int status) {
  CHECK(mw_loop_is_here(work_loop));
  if (status == 0) work_done++;
  else if (status == MW_ECANCELED) work_cancelled++;
}

static void test_work_runs_elsewhere_and_answers_here(void) {
  work_loop = mw_loop_new("work");
  atomic_store(&work_ran, 0);
  work_done = work_cancelled = 0;
  mw_work_pool *pool = mw_work_pool_new("pool", 3, 10000);
  for (int i = 0; i < 1000; i++) CHECK_INT(mw_work_submit(pool, work_loop, do_work, on_done, NULL), 0);
  CHECK_INT(work_done, 0);
  mw_loop_run(work_loop); // the jobs keep it alive
  CHECK_INT(work_done, 1000);
  CHECK_INT(atomic_load(&work_ran), 1000);
  mw_work_pool_free(pool);
  mw_loop_free(work_loop);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool at_gate;
static void wait_at_gate(void *arg) {
  atomic_store(&at_gate, true);
  pthread_mutex_lock(&gate);
  pthread_mutex_unlock(&gate);
}
static void lock_then_open(void *arg) {
  pthread_mutex_lock(&gate);
  atomic_store(&at_gate, true);
  while (!atomic_load((atomic_bool *)arg)) usleep(1000);
  usleep(20000); // the pool is being freed by then
  pthread_mutex_unlock(&gate);
}

static void test_a_full_pool_refuses_and_freeing_it_cancels_what_waits(void) {
  work_loop = mw_loop_new("full");
  work_done = work_cancelled = 0;
  mw_work_pool *pool = mw_work_pool_new("pool", 1, 2);
  atomic_bool go = false;
  mw_thread keeper;
  atomic_store(&at_gate, false);
  CHECK_INT(mw_thread_start(&keeper, "keeper", lock_then_open, &go), 0);
  while (!atomic_load(&at_gate)) usleep(1000);
  atomic_store(&at_gate, false);
  CHECK_INT(mw_work_submit(pool, work_loop, wait_at_gate, on_done, NULL), 0);
  while (!atomic_load(&at_gate)) usleep(1000); // it runs: the queue is empty again
  CHECK_INT(mw_work_submit(pool, work_loop, do_work, on_done, NULL), 0);
  CHECK_INT(mw_work_submit(pool, work_loop, do_work, on_done, NULL), 0);
  CHECK_INT(mw_work_submit(pool, work_loop, do_work, on_done, NULL), MW_EBUSY);
  atomic_store(&go, true);
  mw_work_pool_free(pool);
  mw_thread_join(&keeper);
  mw_loop_run(work_loop);
  CHECK_INT(work_done, 1);
  CHECK_INT(work_cancelled, 2);
  mw_loop_free(work_loop);
}

// DNS.

typedef struct dns_answer {
  int calls, status;
  size_t count;
  char first[MW_ADDRESS_TEXT];
  int port;
} dns_answer;

static void on_resolved(int status, const mw_address *addresses, size_t count, void *arg) {
  dns_answer *a = arg;
  a->calls++;
  a->status = status;
  a->count = count;
  if (count) {
    mw_address_format(&addresses[0], a->first);
    a->port = mw_address_port(&addresses[0]);
  }
}

static void test_numbers_and_localhost_need_no_name_server(void) {
  mw_loop *loop = mw_loop_new("dns");
  dns_answer a = {0}, b = {0}, c = {0};
  mw_dns *dns;
  CHECK_INT(mw_dns_resolve(loop, "10.1.2.3", 80, on_resolved, &a, &dns), 0);
  CHECK_INT(mw_dns_resolve(loop, "localhost", 81, on_resolved, &b, &dns), 0);
  CHECK_INT(mw_dns_resolve(loop, "[::1]", 82, on_resolved, &c, &dns), 0);
  CHECK_INT(a.calls + b.calls + c.calls, 0);
  mw_loop_run(loop);
  CHECK_INT(a.calls, 1);
  CHECK_STR(a.first, "10.1.2.3:80");
  CHECK_STR(b.first, "127.0.0.1:81");
  CHECK_STR(c.first, "[::1]:82");
  CHECK(mw_dns_resolve(loop, "", 80, on_resolved, &a, &dns) != 0);
  mw_loop_free(loop);
}

static void test_many_askers_of_one_name_get_one_answer_each_and_can_cancel(void) {
  mw_loop *loop = mw_loop_new("dns");
  dns_answer answers[20] = {{0}};
  mw_dns *dns[20];
  for (int i = 0; i < 20; i++)
    CHECK_INT(mw_dns_resolve(loop, "does-not-exist.invalid", 80, on_resolved, &answers[i], &dns[i]), 0);
  for (int i = 0; i < 20; i += 2) mw_dns_cancel(dns[i]);
  for (int i = 0; i < 20; i++) CHECK_INT(answers[i].calls, 0);
  mw_loop_run(loop);
  for (int i = 0; i < 20; i++) {
    CHECK_INT(answers[i].calls, 1);
    CHECK_INT(answers[i].status, i % 2 ? MW_EDNS : MW_ECANCELED);
  }
  dns_answer again = {0};
  CHECK_INT(mw_dns_resolve(loop, "does-not-exist.invalid", 80, on_resolved, &again, &dns[0]), 0);
  mw_dns_cancel(dns[0]);
  mw_loop_run(loop);
  CHECK_INT(again.calls, 1);
  CHECK_INT(again.status, MW_ECANCELED);
  mw_loop_free(loop);
}

// Signals and polls.

static int last_signal;
static void on_signal(int signum, void *arg) { last_signal = signum; }

static void test_a_signal_becomes_a_callback(void) {
  mw_loop *loop = mw_loop_new("signal");
  mw_signal *s;
  CHECK_INT(mw_signal_open(loop, SIGUSR1, on_signal, NULL, &s), 0);
  kill(getpid(), SIGUSR1);
  RUN_UNTIL(loop, last_signal == SIGUSR1);
  mw_signal_close(s);
  mw_signal_close(s);
  mw_loop_run(loop);
  mw_loop_free(loop);
}

static int poll_events;
static void on_poll(mw_poll *poll, int status, int events, void *arg) {
  poll_events = events;
  mw_poll_close(poll);
}

static void test_a_poll_can_be_closed_in_its_callback_with_its_descriptor(void) {
  mw_loop *loop = mw_loop_new("poll");
  int fds[2];
  CHECK_INT(pipe2(fds, O_NONBLOCK), 0);
  mw_poll *poll;
  CHECK_INT(mw_poll_open(loop, fds[0], on_poll, NULL, &poll), 0);
  CHECK_INT(mw_poll_set(poll, MW_POLL_READ), 0);
  CHECK_INT(write(fds[1], "x", 1), 1);
  RUN_UNTIL(loop, poll_events);
  CHECK_INT(poll_events, MW_POLL_READ);
  close(fds[0]);
  close(fds[1]);
  mw_loop_run(loop);
  mw_loop_free(loop);
}

// Addresses.

static void check_address(const char *text, const char *expected, bool loopback) {
  mw_address a;
  mw_err err = {0};
  char out[MW_ADDRESS_TEXT];
  int rc = mw_address_parse(mw_str_from(text), &a, &err);
  if (!expected) {
    CHECK_INT(rc, MW_EINVALID);
    CHECK(strstr(err.text, "127.0.0.1:9400") || strstr(err.text, "shorter"));
    return;
  }
  CHECK_INT(rc, 0);
  mw_address_format(&a, out);
  CHECK_STR(out, expected);
  CHECK_INT(mw_address_is_loopback(&a), loopback);
}

static void test_addresses_are_read_in_every_form(void) {
  check_address("127.0.0.1:9400", "127.0.0.1:9400", true);
  check_address("9400", "127.0.0.1:9400", true);
  check_address(":9400", "0.0.0.0:9400", false);
  check_address("localhost:1", "127.0.0.1:1", true);
  check_address("[::1]:80", "[::1]:80", true);
  check_address("[2001:db8::2]:80", "[2001:db8::2]:80", false);
  check_address("unix:/run/x.sock", "unix:/run/x.sock", true);
  check_address("unix:", NULL, false);
  check_address("", NULL, false);
  check_address("example.com:80", NULL, false);
  check_address("127.0.0.1", NULL, false);
  check_address("127.0.0.1:65536", NULL, false);
  check_address("::1:80", NULL, false);
  check_address("[::1]", NULL, false);
}

// File watching.

static int watch_calls;
static void on_change(void *arg) { watch_calls++; }

static void write_file(const char *dir, const char *name, const char *text) {
  char path[400];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "w");
  CHECK(f);
  fputs(text, f);
  fclose(f);
}

static void make_dir(const char *dir, const char *name) {
  char path[400];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  CHECK_INT(mkdir(path, 0700), 0);
}

static void test_changes_in_nested_and_new_folders_are_seen(void) {
  char dir[] = "/tmp/mw-fswatch-XXXXXX";
  CHECK(mkdtemp(dir));
  make_dir(dir, "a");
  mw_loop *loop = mw_loop_new("watch");
  mw_fswatch *w;
  mw_err err = {0};
  CHECK_INT(mw_fswatch_open(loop, "/nowhere/at/all", 20, on_change, NULL, &w, &err), MW_ENOTFOUND);
  CHECK_INT(mw_fswatch_open(loop, dir, 20, on_change, NULL, &w, &err), 0);
  watch_calls = 0;
  write_file(dir, "one.lua", "1");
  write_file(dir, "one.lua", "2");
  RUN_UNTIL(loop, watch_calls == 1);
  write_file(dir, "a/two.lua", "1");
  RUN_UNTIL(loop, watch_calls == 2);
  make_dir(dir, "a/b");
  make_dir(dir, "a/b/c");
  RUN_UNTIL(loop, watch_calls == 3);
  write_file(dir, "a/b/c/three.lua", "1");
  RUN_UNTIL(loop, watch_calls == 4);
  char path[200], command[500];
  snprintf(path, sizeof path, "%s/a/b", dir);
  snprintf(command, sizeof command, "rm -r %s && mkdir %s", path, path);
  CHECK_INT(system(command), 0);
  RUN_UNTIL(loop, watch_calls == 5);
  write_file(dir, "a/b/four.lua", "1"); // the folder that took the name of the removed one
  RUN_UNTIL(loop, watch_calls == 6);
  mw_fswatch_close(w);
  mw_loop_run(loop);
  mw_loop_free(loop);
  snprintf(command, sizeof command, "rm -r %s", dir);
  CHECK_INT(system(command), 0);
}

static void test_a_folder_that_goes_and_comes_back_is_watched_again(void) {
  char dir[] = "/tmp/mw-fswatch-XXXXXX", command[400];
  CHECK(mkdtemp(dir));
  mw_loop *loop = mw_loop_new("watch");
  mw_fswatch *w;
  mw_log_configure(MW_LOG_ERROR, MW_LOG_FORMAT_AUTO);
  CHECK_INT(mw_fswatch_open(loop, dir, 20, on_change, NULL, &w, NULL), 0);
  watch_calls = 0;
  snprintf(command, sizeof command, "rm -r %s", dir);
  CHECK_INT(system(command), 0);
  RUN_UNTIL(loop, watch_calls >= 1);
  int before = watch_calls;
  CHECK_INT(mkdir(dir, 0700), 0);
  RUN_UNTIL(loop, watch_calls > before);
  before = watch_calls;
  write_file(dir, "x.lua", "1");
  RUN_UNTIL(loop, watch_calls > before);
  mw_fswatch_close(w);
  mw_loop_run(loop);
  mw_loop_free(loop);
  CHECK_INT(system(command), 0);
}

// Runs in a process of its own that the kernel allows no watches.
static int run_without_watches(void) {
  char dir[] = "/tmp/mw-fswatch-XXXXXX", command[400];
  CHECK(mkdtemp(dir));
  make_dir(dir, "a");
  write_file(dir, "a/one.lua", "1");
  mw_log_configure(MW_LOG_ERROR, MW_LOG_FORMAT_AUTO);
  mw_loop *loop = mw_loop_new("watch");
  mw_fswatch *w;
  CHECK_INT(mw_fswatch_open(loop, dir, 20, on_change, NULL, &w, NULL), 0);
  watch_calls = 0;
  int64_t until = mw_clock_mono_ms() + 1200;
  while (mw_clock_mono_ms() < until) mw_loop_turn(loop, true); // the first sum
  CHECK_INT(watch_calls, 0);
  write_file(dir, "a/one.lua", "2"); // same size, another time
  RUN_UNTIL(loop, watch_calls == 1);
  make_dir(dir, "a/b");
  write_file(dir, "a/b/two.lua", "1");
  RUN_UNTIL(loop, watch_calls == 2);
  mw_fswatch_close(w);
  mw_loop_run(loop);
  mw_loop_free(loop);
  mw_work_shutdown();
  snprintf(command, sizeof command, "rm -r %s", dir);
  return system(command);
}

static void become_watchless(const char *self) {
  if (unshare(CLONE_NEWUSER)) _exit(77);
  int fd = open("/proc/sys/user/max_inotify_watches", O_WRONLY);
  if (fd < 0 || write(fd, "0", 1) != 1) _exit(77);
  execl(self, self, "--without-watches", (char *)NULL);
  _exit(77);
}

static void test_where_nothing_can_be_watched_files_are_compared(void) {
  pid_t pid = fork();
  if (pid == 0) become_watchless("/proc/self/exe");
  int status;
  CHECK_INT(waitpid(pid, &status, 0), pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) printf("pending: this system gives no user namespace to limit watches in\n");
  else CHECK_INT(status, 0);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--without-watches") == 0) return run_without_watches();
  const test tests[] = {
      TEST(test_posts_from_many_threads_all_arrive_in_order),
      TEST(test_a_post_waits_for_the_next_turn),
      TEST(test_turns_run_posts_also_when_nothing_is_open),
      TEST(test_deferred_calls_run_even_when_nothing_else_is_open),
      TEST(test_stop_from_another_thread_ends_the_run),
      TEST(test_libuv_codes_have_names),
      TEST(test_the_longest_turn_is_known),
      TEST(test_ten_thousand_timers_agree_with_a_model),
      TEST(test_timers_fire_in_order_of_their_time),
      TEST(test_a_timer_stopped_by_another_of_the_same_millisecond_does_not_fire),
      TEST(test_zero_means_the_next_turn_and_costs_no_millisecond),
      TEST(test_a_distant_timer_can_be_stopped),
      TEST(test_work_runs_elsewhere_and_answers_here),
      TEST(test_a_full_pool_refuses_and_freeing_it_cancels_what_waits),
      TEST(test_numbers_and_localhost_need_no_name_server),
      TEST(test_many_askers_of_one_name_get_one_answer_each_and_can_cancel),
      TEST(test_a_signal_becomes_a_callback),
      TEST(test_a_poll_can_be_closed_in_its_callback_with_its_descriptor),
      TEST(test_addresses_are_read_in_every_form),
      TEST(test_changes_in_nested_and_new_folders_are_seen),
      TEST(test_a_folder_that_goes_and_comes_back_is_watched_again),
      TEST(test_where_nothing_can_be_watched_files_are_compared),
  };
  int rc = RUN_TESTS(argc, argv, tests);
  mw_work_shutdown();
  return rc;
}
