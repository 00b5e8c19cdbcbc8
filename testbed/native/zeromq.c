/* Waiting on ZeroMQ sockets and files together, and the messages that say nothing but "wake up". */
#define _GNU_SOURCE
#include "zeromq.h"
#include <errno.h>
#include "clock.h"

enum { ZMQ_DONTWAIT = 1, ZMQ_FD = 14, ZMQ_EVENTS = 15, ZMQ_POLLIN = 1, ZMQ_POLLOUT = 2 };

int zeromq_drain(const zeromq *z, void *socket, int most) {
  int taken = 0;
  uint8_t nothing;
  while (taken < most && z->recv(socket, &nothing, 0, ZMQ_DONTWAIT) >= 0) taken++;
  return taken == most || z->error() == EAGAIN ? taken : -z->error();
}

static int int_option(const zeromq *z, void *socket, int option) {
  int value;
  size_t size = sizeof(value);
  return z->getsockopt(socket, option, &value, &size) < 0 ? -z->error() : value;
}

/* A send looks at most once in some milliseconds whether the other side has taken anything, and says "full" meanwhile, though all may be
 * taken: a message lost then is one that nobody is woken by. Asking for ZMQ_EVENTS makes it look. */
int zeromq_send(const zeromq *z, void *socket) {
  for (int tries = 0; tries < 2; tries++) {
    if (z->send(socket, NULL, 0, ZMQ_DONTWAIT) >= 0) return 1;
    if (z->error() != EAGAIN) return -z->error();
    int events = int_option(z, socket, ZMQ_EVENTS);
    if (events < 0) return events;
    if (!(events & ZMQ_POLLOUT)) return 0;
  }
  return 0;
}

int zeromq_readable(const zeromq *z, void *socket) {
  int events = int_option(z, socket, ZMQ_EVENTS);
  return events < 0 ? events : (events & ZMQ_POLLIN) != 0;
}

int zeromq_descriptor(const zeromq *z, void *socket) { return int_option(z, socket, ZMQ_FD); }

/* Count what can be read among the files; a socket counts by its messages, whatever its descriptor says. */
static int count_ready(const zeromq *z, void *const *sockets, int sockets_n, struct pollfd *files, int files_n) {
  int found = 0;
  for (int i = 0; i < files_n; i++) {
    if (i < sockets_n) {
      int readable = zeromq_readable(z, sockets[i]);
      if (readable < 0) return readable;
      files[i].revents = readable ? POLLIN : 0;
    }
    found += files[i].revents != 0;
  }
  return found;
}

static int wait_until(struct pollfd *files, int files_n, int64_t end_ns) {
  if (end_ns < 0) return ppoll(files, files_n, NULL, NULL);
  int64_t left_ns = end_ns - monotonic_ns();
  if (left_ns < 0) left_ns = 0;
  struct timespec left = {.tv_sec = left_ns / NS_PER_SECOND, .tv_nsec = left_ns % NS_PER_SECOND};
  return ppoll(files, files_n, &left, NULL);
}

int zeromq_wait(const zeromq *z, void *const *sockets, int sockets_n, struct pollfd *files, int files_n, int64_t timeout_ns) {
  int64_t end_ns = timeout_ns < 0 ? -1 : monotonic_ns() + timeout_ns;
  for (int i = 0; i < files_n; i++) files[i].revents = 0;
  for (;;) {
    int found = count_ready(z, sockets, sockets_n, files, files_n);
    if (found) return found;
    int woken = wait_until(files, files_n, end_ns);
    if (woken < 0) return -errno;
    if (woken == 0) return 0;
  }
}
