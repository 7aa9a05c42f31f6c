// SPDX-License-Identifier: MIT
// Checks of what the machine allows: descriptors, cores, the kernel's queue of connections.
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "app/doctor.h"
#include "app/listen.h"

#define BACKLOG 1024 // loop/listener.h
#define OTHER_FILES 200

static void check_descriptors(mw_doctor *d) {
  static const char what[] = "open files";
  struct rlimit limit;
  long long listeners = 0;
  for (int tag = 0; tag < MW_LISTENERS; tag++) listeners += mw_listen_is_set(d->conf, tag);
  long long needs = listeners * mw_config_workers(d->conf) * (long long)d->conf->http_max_connections + OTHER_FILES;
  if (getrlimit(RLIMIT_NOFILE, &limit)) return;
  long long has = limit.rlim_max == RLIM_INFINITY ? needs : (long long)limit.rlim_max;
  if (has < 1024) mw_doctor_fail(d, what, "at most %lld: raise it (ulimit -Hn, LimitNOFILE=)", has);
  else if (has < needs)
    mw_doctor_warn(d, what, "at most %lld, and http.max_connections of all workers and listeners needs %lld: connections wait beyond that; raise it "
                   "(LimitNOFILE=) or lower http.max_connections", has, needs);
  else mw_doctor_ok(d, what, "at most %lld, %lld are needed", (long long)limit.rlim_max, needs);
}

static void check_workers(mw_doctor *d) {
  static const char what[] = "workers";
  cpu_set_t set;
  int cores = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set), workers = mw_config_workers(d->conf);
  if (workers > cores) mw_doctor_warn(d, what, "%d workers on %d cores: they take time from each other; leave workers at 0", workers, cores);
  else mw_doctor_ok(d, what, "%d on %d cores", workers, cores);
}

static void check_backlog(mw_doctor *d) {
  static const char what[] = "connection queue";
  FILE *file = fopen("/proc/sys/net/core/somaxconn", "re");
  int most = 0;
  bool known = file && fscanf(file, "%d", &most) == 1;
  if (file) fclose(file);
  if (!known) return;
  if (most < BACKLOG) mw_doctor_warn(d, what, "the kernel lets %d connections wait and the server asks for %d: sysctl net.core.somaxconn=%d", most, BACKLOG, BACKLOG);
  else mw_doctor_ok(d, what, "%d of the kernel's %d", BACKLOG, most);
}

const mw_doctor_check mw_doctor_machine_checks[] = {
    {.name = "open files", .run = check_descriptors, .timeout_ms = 2000},
    {.name = "workers", .run = check_workers, .timeout_ms = 2000},
    {.name = "connection queue", .run = check_backlog, .timeout_ms = 2000},
    {.name = NULL},
};
