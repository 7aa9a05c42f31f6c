// SPDX-License-Identifier: MIT
#include "app/port_holder.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SOCKETS 256
#define TCP_LISTEN 0x0A

typedef struct inodes {
  unsigned long list[MAX_SOCKETS];
  int count;
} inodes;

/** Takes the listening sockets on `port` from /proc/net/tcp or tcp6. */
static void read_table(const char *path, unsigned port, inodes *found) {
  FILE *file = fopen(path, "re");
  char line[512];
  while (file && fgets(line, sizeof line, file)) {
    unsigned local_port, state;
    unsigned long inode;
    if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*d %*d %lu", &local_port, &state, &inode) != 3) continue;
    if (local_port == port && state == TCP_LISTEN && found->count < MAX_SOCKETS) found->list[found->count++] = inode;
  }
  if (file) fclose(file);
}

static bool is_listed(const inodes *found, unsigned long inode) {
  for (int i = 0; i < found->count; i++)
    if (found->list[i] == inode) return true;
  return false;
}

static bool has_socket(pid_t pid, const inodes *found) {
  char path[300], target[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  DIR *dir = opendir(path);
  bool has = false;
  for (struct dirent *entry; dir && !has && (entry = readdir(dir));) {
    snprintf(path, sizeof path, "/proc/%d/fd/%s", (int)pid, entry->d_name);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0) continue;
    target[n] = 0;
    has = strncmp(target, "socket:[", 8) == 0 && is_listed(found, strtoul(target + 8, NULL, 10));
  }
  if (dir) closedir(dir);
  return has;
}

/** Takes the name that the program was started by; the kernel's is that of the last link it went through. */
static void read_name(mw_port_holder *holder) {
  char path[64], line[512] = "";
  snprintf(path, sizeof path, "/proc/%d/cmdline", (int)holder->pid);
  FILE *file = fopen(path, "re");
  if (!file) return;
  if (fread(line, 1, sizeof line - 1, file)) {
    const char *slash = strrchr(line, '/');
    snprintf(holder->name, sizeof holder->name, "%.63s", slash ? slash + 1 : line);
    holder->name[strcspn(holder->name, " :")] = 0;
  }
  fclose(file);
}

bool mw_port_holder_find(const mw_address *address, mw_port_holder *holder) {
  inodes found = {.count = 0};
  unsigned port = (unsigned)mw_address_port(address);
  *holder = (mw_port_holder){0};
  if (!port) return false;
  read_table("/proc/net/tcp", port, &found);
  read_table("/proc/net/tcp6", port, &found);
  DIR *dir = found.count ? opendir("/proc") : NULL;
  for (struct dirent *entry; dir && !holder->pid && (entry = readdir(dir));) {
    if (!isdigit((unsigned char)entry->d_name[0])) continue;
    pid_t pid = (pid_t)atoi(entry->d_name);
    if (pid != getpid() && has_socket(pid, &found)) holder->pid = pid;
  }
  if (dir) closedir(dir);
  if (holder->pid) read_name(holder);
  return holder->pid != 0;
}
