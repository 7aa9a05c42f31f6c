// SPDX-License-Identifier: MIT
#include "loop/dns.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/str.h"
#include "loop/loop_impl.h"
#include "loop/work.h"

#define MAX_ADDRESSES 8
#define MAX_HOST 253
#define CACHE_ENTRIES 128
#define KEEP_MS 10000
#define KEEP_FAILURE_MS 1000

// What a loop knows of one host. All who ask for it while the look-up runs wait for the same one.
typedef struct entry {
  char host[MAX_HOST + 1];
  mw_list waiters;
  int64_t expires_ms;
  bool pending;
  int status;
  size_t count;
  mw_address addresses[MAX_ADDRESSES];
} entry;

typedef struct dns_cache {
  mw_loop *loop;
  entry *entries[CACHE_ENTRIES];
} dns_cache;

// What the pool's thread sees.
typedef struct lookup {
  dns_cache *cache;
  entry *entry;
  char host[MAX_HOST + 1];
  int status;
  size_t count;
  mw_address addresses[MAX_ADDRESSES];
} lookup;

struct mw_dns {
  mw_list node; // in an entry's waiters
  mw_timer later;
  mw_loop *loop;
  mw_dns_cb cb;
  void *arg;
  int port, status;
  size_t count;
  mw_address addresses[MAX_ADDRESSES];
};

static void set_port(mw_address *address, int port) {
  if (address->storage.ss_family == AF_INET6)
    ((struct sockaddr_in6 *)&address->storage)->sin6_port = htons((uint16_t)port);
  else
    ((struct sockaddr_in *)&address->storage)->sin_port = htons((uint16_t)port);
}

static void answer(mw_dns *dns) {
  for (size_t i = 0; i < dns->count; i++) set_port(&dns->addresses[i], dns->port);
  dns->cb(dns->status, dns->addresses, dns->count, dns->arg);
  mw_free(dns);
}

static void on_later(mw_timer *timer, void *arg) { answer(arg); }

static void copy_answer(mw_dns *dns, int status, const mw_address *addresses, size_t count) {
  dns->status = status;
  dns->count = count;
  if (count) memcpy(dns->addresses, addresses, count * sizeof *addresses);
}

// On the pool's thread.

static void add_family(lookup *l, const struct addrinfo *list, int family) {
  for (const struct addrinfo *ai = list; ai && l->count < MAX_ADDRESSES; ai = ai->ai_next) {
    if (ai->ai_family != family || ai->ai_addrlen > sizeof(struct sockaddr_storage)) continue;
    mw_address *a = &l->addresses[l->count++];
    memcpy(&a->storage, ai->ai_addr, ai->ai_addrlen);
    a->len = ai->ai_addrlen;
  }
}

static void look_up(void *arg) {
  lookup *l = arg;
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
  struct addrinfo *list = NULL;
  l->status = MW_FAULT(dns_lookup);
  if (l->status) return;
  if (getaddrinfo(l->host, NULL, &hints, &list) == 0) {
    add_family(l, list, AF_INET);
    add_family(l, list, AF_INET6);
    freeaddrinfo(list);
  }
  l->status = l->count ? 0 : MW_EDNS;
}

// Back on the loop.

static void on_looked_up(void *arg, int status) {
  lookup *l = arg;
  entry *e = l->entry;
  mw_loop *loop = l->cache->loop;
  e->pending = false;
  e->status = status ? status : l->status;
  e->count = e->status ? 0 : l->count;
  memcpy(e->addresses, l->addresses, sizeof e->addresses);
  e->expires_ms = mw_loop_now_ms(loop) + (e->status ? KEEP_FAILURE_MS : KEEP_MS);
  mw_free(l);
  mw_list waiters; // every answer is copied first: a callback may ask again and replace the entry
  mw_list_init(&waiters);
  mw_list_splice(&waiters, &e->waiters);
  MW_LIST_EACH(&waiters, node) copy_answer(MW_CONTAINER(node, mw_dns, node), e->status, e->addresses, e->count);
  for (mw_dns *dns; (dns = MW_LIST_POP(&waiters, mw_dns, node));) answer(dns);
}

static void free_cache(void *arg) {
  dns_cache *cache = arg;
  for (int i = 0; i < CACHE_ENTRIES; i++) mw_free(cache->entries[i]);
  mw_free(cache);
}

static dns_cache *cache_of(mw_loop *loop) {
  if (!loop->dns_cache) {
    dns_cache *cache = MW_NEW(dns_cache);
    cache->loop = loop;
    loop->dns_cache = cache;
    loop->free_dns_cache = free_cache;
  }
  return loop->dns_cache;
}

// Returns the host's entry, or the one to use for it (made, or the one that expires first); NULL when all are pending.
static entry *find_entry(dns_cache *cache, const char *host) {
  entry **slot = NULL;
  for (int i = 0; i < CACHE_ENTRIES; i++) {
    entry *e = cache->entries[i];
    if (!e) {
      if (!slot || *slot) slot = &cache->entries[i];
    } else if (strcmp(e->host, host) == 0) {
      return e;
    } else if (!e->pending && (!slot || (*slot && e->expires_ms < (*slot)->expires_ms))) {
      slot = &cache->entries[i];
    }
  }
  if (!slot) return NULL;
  if (!*slot) *slot = MW_NEW(entry);
  entry *e = *slot;
  strcpy(e->host, host);
  e->expires_ms = 0;
  mw_list_init(&e->waiters);
  return e;
}

static int start_lookup(dns_cache *cache, entry *e) {
  lookup *l = MW_NEW(lookup);
  l->cache = cache;
  l->entry = e;
  strcpy(l->host, e->host);
  int rc = mw_work_submit(mw_work_dns(), cache->loop, look_up, on_looked_up, l);
  if (rc) mw_free(l);
  else e->pending = true;
  return rc;
}

// Answers that need no look-up: numbers, and localhost (RFC 6761 section 6.3).
static size_t known(const char *host, mw_address addresses[2]) {
  if (mw_address_from_host(host, 0, &addresses[0])) return 1;
  if (!mw_str_eq_nocase(mw_str_from(host), MW_STR("localhost"))) return 0;
  mw_address_from_host("127.0.0.1", 0, &addresses[0]);
  mw_address_from_host("::1", 0, &addresses[1]);
  return 2;
}

static void answer_later(mw_loop *loop, mw_dns *dns, int status, const mw_address *addresses, size_t count) {
  copy_answer(dns, status, addresses, count);
  mw_timer_start(loop, &dns->later, 0);
}

int mw_dns_resolve(mw_loop *loop, const char *host, int port, mw_dns_cb cb, void *arg, mw_dns **out) {
  MW_ASSERT_LOOP(loop);
  size_t len = strlen(host);
  if (len == 0 || len > MAX_HOST) return MW_EDNS;
  mw_address direct[2];
  size_t count = known(host, direct);
  entry *e = count ? NULL : find_entry(cache_of(loop), host);
  if (!count && !e) return MW_EBUSY;
  bool fresh = e && !e->pending && e->expires_ms > mw_loop_now_ms(loop);
  if (e && !fresh && !e->pending) {
    int rc = start_lookup(cache_of(loop), e);
    if (rc) return rc;
  }
  mw_dns *dns = MW_NEW(mw_dns);
  mw_list_init(&dns->node);
  mw_timer_init(&dns->later, on_later, dns);
  dns->loop = loop;
  dns->cb = cb;
  dns->arg = arg;
  dns->port = port;
  if (count) answer_later(loop, dns, 0, direct, count);
  else if (fresh) answer_later(loop, dns, e->status, e->addresses, e->count);
  else mw_list_push(&e->waiters, &dns->node);
  *out = dns;
  return 0;
}

void mw_dns_cancel(mw_dns *dns) {
  mw_list_remove(&dns->node);
  answer_later(dns->loop, dns, MW_ECANCELED, NULL, 0);
}
