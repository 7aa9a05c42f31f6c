// SPDX-License-Identifier: MIT
#include "app/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void send_text(const char *path, const char *text, size_t len) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  size_t path_len = strlen(path);
  if ((*path != '/' && *path != '@') || path_len >= sizeof to.sun_path) return;
  memcpy(to.sun_path, path, path_len);
  if (*path == '@') to.sun_path[0] = 0; // an abstract name
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  ssize_t sent = sendto(fd, text, len, MSG_NOSIGNAL, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_len));
  (void)sent; // who does not listen misses it
  close(fd);
}

void mw_notify(const char *format, ...) {
  const char *path = getenv("NOTIFY_SOCKET");
  char text[512];
  va_list args;
  if (!path || !*path) return;
  va_start(args, format);
  int len = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (len > 0 && (size_t)len < sizeof text) send_text(path, text, (size_t)len);
}

int64_t mw_notify_watchdog_ms(void) {
  const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID"), *path = getenv("NOTIFY_SOCKET");
  if (!path || !usec || (pid && *pid && atol(pid) != (long)getpid())) return 0;
  int64_t ms = atoll(usec) / 1000;
  return ms > 0 ? ms : 0;
}

void mw_notify_forget(void) {
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  unsetenv("WATCHDOG_PID");
}
