// SPDX-License-Identifier: MIT
#include "base/fault.h"

#ifdef MW_DEBUG

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/duration.h"
#include "base/log.h"
#include "base/rand.h"

typedef struct plan {
  bool armed, crash;
  int code;
  double probability;
  int64_t after, times; // times 0: without end
  int64_t delay_us;
  int64_t reached, fired;
  uint64_t random;
} plan;

static const struct {
  const char *name;
  int code;
} points[] = {
#define POINT(name, code, what) {#name, code},
    MW_FAULT_TABLE(POINT)
#undef POINT
};

atomic_bool mw_fault_is_armed[MW_FAULT_POINTS];
static plan plans[MW_FAULT_POINTS];
static atomic_bool tells; // armed by the environment: a log line when a point acts for the first time
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/** splitmix64, as base/rand.h; each point has its own, so that threads at other points do not change what it draws. */
static double draw(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return (double)((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
}

static uint64_t seed_of(const char *name, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325u; // FNV-1a
  for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
  return hash ^ seed;
}

static void wait_us(int64_t us) {
  struct timespec left = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
  while (nanosleep(&left, &left) && errno == EINTR) continue;
}

int mw_fault_pass(mw_fault_point point) {
  pthread_mutex_lock(&lock);
  plan *p = &plans[point], act = *p;
  bool acts = p->armed && p->reached++ >= p->after && (p->probability >= 1 || draw(&p->random) < p->probability);
  if (acts && ++p->fired == p->times) {
    p->armed = false;
    atomic_store(&mw_fault_is_armed[point], false);
  }
  pthread_mutex_unlock(&lock);
  if (!acts) return 0;
  if (act.fired == 0 && atomic_load(&tells)) mw_log(MW_LOG_WARN, "fault", "a fault point acts", MW_LOG_S("point", points[point].name));
  if (act.delay_us) wait_us(act.delay_us);
  if (act.crash) {
    kill(getpid(), SIGKILL);
    _exit(137);
  }
  return act.code;
}

// ---- reading what should happen ----

static int find_point(mw_str name) {
  for (int i = 0; i < MW_FAULT_POINTS; i++)
    if (mw_str_eq(name, mw_str_from(points[i].name))) return i;
  return -1;
}

static bool find_code(mw_str name, int *code) {
  for (int number = 1; number < 134; number++) {
    const char *known = strerrorname_np(number);
    if (known && mw_str_eq(name, mw_str_from(known))) return *code = -number, true;
  }
#define OURS(id, value, text, sentence, retryable) \
  if (mw_str_eq(name, MW_STR(text))) return *code = value, true;
  MW_ERR_TABLE(OURS)
#undef OURS
  return false;
}

static bool read_number(mw_str text, int64_t *out) {
  uint64_t value = 0;
  if (!mw_str_parse_u64(text, &value) || value > INT64_MAX) return false;
  *out = (int64_t)value;
  return true;
}

static bool read_probability(mw_str text, double *out) {
  char copy[32], *end;
  if (text.len == 0 || text.len >= sizeof copy) return false;
  memcpy(copy, text.ptr, text.len);
  copy[text.len] = 0;
  *out = strtod(copy, &end);
  return *end == 0 && *out >= 0 && *out <= 1;
}

/** What follows `prefix`; false when the word does not begin with it. */
static bool skip(mw_str word, const char *prefix, mw_str *rest) {
  size_t len = strlen(prefix);
  if (!mw_str_starts_with(word, mw_str_from(prefix))) return false;
  *rest = mw_str_of(word.ptr + len, word.len - len);
  return true;
}

static bool read_word(mw_str word, int own_code, plan *p) {
  mw_str rest;
  if (mw_str_eq(word, MW_STR("off"))) return p->armed = false, true;
  if (mw_str_eq(word, MW_STR("crash"))) return p->crash = true;
  if (mw_str_eq(word, MW_STR("error"))) return p->code = own_code, true;
  if (skip(word, "error:", &rest)) return find_code(rest, &p->code);
  if (skip(word, "delay:", &rest)) return mw_duration_parse(rest, &p->delay_us, NULL) == 0;
  if (skip(word, "after=", &rest)) return read_number(rest, &p->after);
  if (skip(word, "times=", &rest)) return read_number(rest, &p->times);
  return skip(word, "p", &rest) && read_probability(rest, &p->probability);
}

/** Takes the part before `mark` off `text`. */
static mw_str cut(mw_str *text, char mark) {
  mw_str part = mw_str_of(text->ptr, 0);
  mw_str_split(text, mark, &part);
  return mw_str_trim(part);
}

static int read_point(mw_str text, uint64_t seed, plan *all, bool *changed, mw_err *err) {
  mw_str name = cut(&text, '=');
  int index = find_point(name);
  if (index < 0)
    return mw_err_set(err, MW_EINVALID, "there is no fault point \"%.*s\"; core/base/fault.h has the list", (int)name.len, name.ptr);
  plan *p = &all[index];
  *p = (plan){.armed = true, .probability = 1, .random = seed_of(points[index].name, seed)};
  while (text.len) {
    mw_str word = cut(&text, ',');
    if (!read_word(word, points[index].code, p))
      return mw_err_set(err, MW_EINVALID,
                        "fault point %s: \"%.*s\" is none of error, error:CODE, delay:50ms, crash, p0.5, after=N, times=N, off",
                        points[index].name, (int)word.len, word.ptr);
  }
  if (!p->code && !p->delay_us && !p->crash) p->code = points[index].code;
  changed[index] = true;
  return 0;
}

int mw_fault_arm(const char *text, uint64_t seed, mw_err *err) {
  plan all[MW_FAULT_POINTS];
  bool changed[MW_FAULT_POINTS] = {false};
  mw_str rest = mw_str_from(text);
  while (rest.len) {
    mw_str one = cut(&rest, ';');
    int rc = one.len ? read_point(one, seed, all, changed, err) : 0;
    if (rc) return rc;
  }
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MW_FAULT_POINTS; i++) {
    if (!changed[i]) continue;
    plans[i] = all[i];
    atomic_store(&mw_fault_is_armed[i], all[i].armed);
  }
  pthread_mutex_unlock(&lock);
  return 0;
}

void mw_fault_disarm(void) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MW_FAULT_POINTS; i++) {
    plans[i].armed = false;
    atomic_store(&mw_fault_is_armed[i], false);
  }
  pthread_mutex_unlock(&lock);
}

int64_t mw_fault_fired(const char *name) {
  int index = find_point(mw_str_from(name));
  if (index < 0) return -1;
  pthread_mutex_lock(&lock);
  int64_t fired = plans[index].fired;
  pthread_mutex_unlock(&lock);
  return fired;
}

const char *mw_fault_name(int index) { return index >= 0 && index < MW_FAULT_POINTS ? points[index].name : NULL; }

int mw_fault_arm_from_env(mw_err *err) {
  const char *text = getenv("MW_FAULTS"), *seed_text = getenv("MW_FAULT_SEED");
  if (!text || !*text) return 0;
  int64_t seed = (int64_t)(mw_rand_u64() % 1000000);
  if (seed_text && *seed_text && !read_number(mw_str_from(seed_text), &seed))
    return mw_err_set(err, MW_EINVALID, "MW_FAULT_SEED must be a number, not \"%s\"", seed_text);
  int rc = mw_fault_arm(text, (uint64_t)seed, err);
  if (rc) return mw_err_wrap(err, "MW_FAULTS");
  atomic_store(&tells, true);
  mw_log(MW_LOG_WARN, "fault", "fault points are armed", MW_LOG_S("MW_FAULTS", text), MW_LOG_I("MW_FAULT_SEED", seed));
  return 0;
}

#else

typedef int mw_fault_is_not_here;

#endif
