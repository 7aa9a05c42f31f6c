// SPDX-License-Identifier: MIT
#include "loop/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define FORMS "write 127.0.0.1:9400, [::1]:9400, :9400 (all interfaces), 9400 (loopback) or unix:/path"

static bool set_ip(mw_address *a, int family, const void *bytes, int port) {
  memset(a, 0, sizeof *a);
  if (family == AF_INET) {
    struct sockaddr_in *in = (struct sockaddr_in *)&a->storage;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    memcpy(&in->sin_addr, bytes, 4);
    a->len = sizeof *in;
  } else {
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)&a->storage;
    in->sin6_family = AF_INET6;
    in->sin6_port = htons((uint16_t)port);
    memcpy(&in->sin6_addr, bytes, 16);
    a->len = sizeof *in;
  }
  return true;
}

bool mw_address_from_host(const char *host, int port, mw_address *address) {
  unsigned char bytes[16];
  if (inet_pton(AF_INET, host, bytes) == 1) return set_ip(address, AF_INET, bytes, port);
  char plain[INET6_ADDRSTRLEN];
  size_t len = strlen(host);
  if (len > 2 && len < sizeof plain && host[0] == '[' && host[len - 1] == ']') {
    memcpy(plain, host + 1, len - 2);
    plain[len - 2] = 0;
    host = plain;
  }
  if (inet_pton(AF_INET6, host, bytes) == 1) return set_ip(address, AF_INET6, bytes, port);
  return false;
}

static int parse_unix(mw_str path, mw_address *address, mw_err *err) {
  struct sockaddr_un *un = (struct sockaddr_un *)&address->storage;
  memset(address, 0, sizeof *address);
  if (path.len == 0) return mw_err_set(err, MW_EINVALID, "unix: needs a path: " FORMS);
  if (path.len >= sizeof un->sun_path || memchr(path.ptr, 0, path.len))
    return mw_err_set(err, MW_EINVALID, "the socket's path is too long (%zu bytes, at most %zu): choose a shorter one",
                      path.len, sizeof un->sun_path - 1);
  un->sun_family = AF_UNIX;
  memcpy(un->sun_path, path.ptr, path.len);
  address->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
  return 0;
}

int mw_address_parse(mw_str text, mw_address *address, mw_err *err) {
  text = mw_str_trim(text);
  mw_str prefix = MW_STR("unix:");
  if (mw_str_starts_with(text, prefix))
    return parse_unix(mw_str_of(text.ptr + prefix.len, text.len - prefix.len), address, err);

  size_t colon = text.len; // the last one
  while (colon && text.ptr[colon - 1] != ':') colon--;
  mw_str host = mw_str_of(text.ptr, colon ? colon - 1 : 0), digits = mw_str_of(text.ptr + colon, text.len - colon);
  uint64_t port;
  if (!mw_str_parse_u64(digits, &port) || port > 65535)
    return mw_err_set(err, MW_EINVALID, "\"%.*s\" has no port (0 to 65535): " FORMS, MW_STR_FMT(text));

  char name[64];
  if (!colon || mw_str_eq_nocase(host, MW_STR("localhost"))) host = MW_STR("127.0.0.1");
  else if (host.len == 0 || mw_str_eq(host, MW_STR("*"))) host = MW_STR("0.0.0.0");
  bool bare_v6 = host.len && host.ptr[0] != '[' && mw_str_find_byte(host, ':') >= 0;
  if (host.len < sizeof name && !bare_v6) {
    memcpy(name, host.ptr, host.len);
    name[host.len] = 0;
    if (mw_address_from_host(name, (int)port, address)) return 0;
  }
  return mw_err_set(err, MW_EINVALID, "\"%.*s\" is not a numeric address: " FORMS, MW_STR_FMT(text));
}

int mw_address_format_host(const mw_address *address, char text[MW_ADDRESS_TEXT]) {
  const struct sockaddr_storage *s = &address->storage;
  text[0] = 0;
  if (s->ss_family == AF_INET)
    inet_ntop(AF_INET, &((const struct sockaddr_in *)s)->sin_addr, text, MW_ADDRESS_TEXT);
  else if (s->ss_family == AF_INET6)
    inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)s)->sin6_addr, text, MW_ADDRESS_TEXT);
  else
    strcpy(text, "unix");
  return (int)strlen(text);
}

int mw_address_format(const mw_address *address, char text[MW_ADDRESS_TEXT]) {
  if (address->storage.ss_family == AF_UNIX) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;
    size_t room = address->len > offsetof(struct sockaddr_un, sun_path)
                      ? address->len - offsetof(struct sockaddr_un, sun_path)
                      : 0;
    return snprintf(text, MW_ADDRESS_TEXT, "unix:%.*s", (int)strnlen(un->sun_path, room), un->sun_path);
  }
  char host[MW_ADDRESS_TEXT];
  mw_address_format_host(address, host);
  bool v6 = address->storage.ss_family == AF_INET6;
  return snprintf(text, MW_ADDRESS_TEXT, v6 ? "[%.64s]:%d" : "%.64s:%d", host, mw_address_port(address));
}

bool mw_address_is_loopback(const mw_address *address) {
  const struct sockaddr_storage *s = &address->storage;
  if (s->ss_family == AF_UNIX) return true;
  if (s->ss_family == AF_INET) return (ntohl(((const struct sockaddr_in *)s)->sin_addr.s_addr) >> 24) == 127;
  if (s->ss_family != AF_INET6) return false;
  const struct in6_addr *v6 = &((const struct sockaddr_in6 *)s)->sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

int mw_address_port(const mw_address *address) {
  const struct sockaddr_storage *s = &address->storage;
  if (s->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)s)->sin_port);
  if (s->ss_family == AF_INET6) return ntohs(((const struct sockaddr_in6 *)s)->sin6_port);
  return 0;
}
