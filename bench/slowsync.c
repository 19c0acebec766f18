/* For LD_PRELOAD: a disk that takes 2 ms longer for each flush. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int slow(const char *name, int fd)
{
    int (*flush)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    nanosleep(&(struct timespec){0, 2000000}, 0);
    return flush(fd);
}

int fsync(int fd) { return slow("fsync", fd); }
int fdatasync(int fd) { return slow("fdatasync", fd); }
int syncfs(int fd) { return slow("syncfs", fd); }
