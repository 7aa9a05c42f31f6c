// SPDX-License-Identifier: MIT
// Runs a target over each file of the folders it is given: what libFuzzer's own main does with files, without libFuzzer.
#include <dirent.h>

#include "fuzz.h"

static int replay(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return perror(path), 1;
  static uint8_t bytes[1 << 20];
  size_t size = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  LLVMFuzzerTestOneInput(bytes, size);
  return 0;
}

int main(int argc, char **argv) {
  int files = 0, failed = 0;
  for (int i = 1; i < argc; i++) {
    DIR *dir = opendir(argv[i]);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
      char path[4096];
      if (entry->d_name[0] == '.') continue;
      snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
      failed += replay(path);
      files++;
    }
    if (dir) closedir(dir);
  }
  printf("%d inputs\n", files);
  return failed || files == 0;
}
