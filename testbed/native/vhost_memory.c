#include "vhost_memory.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

static struct shared_file files[SHARED_FILES_MAX];
static struct sigaction before;
static bool handling;

static struct shared_file *file_at(const uint8_t *address) {
  for (struct shared_file *f = files; f < files + SHARED_FILES_MAX; f++)
    if (f->at && address >= f->at && address < f->at + f->bytes) return f;
  return NULL;
}

/* The whole mapping is replaced, as one of huge pages cannot be replaced in smaller pieces. mmap is a bare system call, so it may be
 * made here though POSIX does not list it. */
static void bus_error(int number, siginfo_t *info, void *context) {
  (void)number, (void)context;
  int kept = errno;
  struct shared_file *f = file_at(info->si_addr);
  if (f && mmap(f->at, f->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED)
    f->lost = true;
  else
    sigaction(SIGBUS, &before, NULL); /* not ours: the access is made again and meets the handler from before */
  errno = kept;
}

static bool handle_bus_errors(void) {
  struct sigaction action = {.sa_sigaction = bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, now;
  sigemptyset(&action.sa_mask);
  if (handling && sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction == bus_error) return true;
  handling = sigaction(SIGBUS, &action, &before) == 0;
  return handling;
}

struct shared_file *shared_file_map(int descriptor, uint64_t offset, size_t bytes, bool writable) {
  struct shared_file *f = files;
  while (f < files + SHARED_FILES_MAX && f->at) f++;
  if (f == files + SHARED_FILES_MAX) return errno = ENFILE, NULL;
  if (!handle_bus_errors()) return NULL;
  void *at = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_NORESERVE, descriptor, (off_t)offset);
  if (at == MAP_FAILED) return NULL;
  madvise(at, bytes, MADV_DONTDUMP); /* a peer's memory is no part of our core */
  f->bytes = bytes, f->lost = false, f->at = at;
  return f;
}

void shared_file_unmap(struct shared_file *f) {
  uint8_t *at = f->at;
  f->at = NULL;
  munmap(at, f->bytes);
}
