/* Preloaded into a process, has its fdatasync take longer, by a number of milliseconds that may change at any time.
 *
 * The number is the text of the file $SLOW_DISKS/FOLDER, where FOLDER is the name of the folder of the file that is
 * synced. Without such a file, or with 0 in it, the disk is as fast as it is; one that waits looks again all the time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long wanted_ms(int fd) {
  const char *folder = getenv("SLOW_DISKS");
  char link[64], path[4096], file[8192], text[32] = {0};
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (folder == NULL || size <= 0) return 0;
  path[size] = 0;
  char *end = strrchr(path, '/');
  if (end == NULL) return 0;
  *end = 0;
  char *name = strrchr(path, '/');
  if (name == NULL || snprintf(file, sizeof file, "%s%s", folder, name) >= (int)sizeof file) return 0;
  int found = open(file, O_RDONLY);
  if (found < 0) return 0;
  if (read(found, text, sizeof text - 1) < 0) text[0] = 0;
  close(found);
  return atol(text);
}

int fdatasync(int fd) {
  const struct timespec step = {0, 10 * 1000 * 1000};
  for (long waited_ms = 0; waited_ms < wanted_ms(fd); waited_ms += 10) nanosleep(&step, NULL);
  return (int)syscall(SYS_fdatasync, fd);
}
