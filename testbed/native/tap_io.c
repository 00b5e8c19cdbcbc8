#include "tap_io.h"

#include <errno.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

static uint8_t surplus[1 << 16]; /* what a frame has more than its buffer holds; its content is never looked at */

/* Fill reserved frames with what the kernel has sent; return how many were filled. The kernel cuts a frame that is longer than
 * the buffers of the read: those behind the slot tell that, and the slot is filled again. */
uint32_t tap_read(struct tap *t, struct burst *b) {
  uint32_t filled = 0;
  t->error = 0;
  while (filled < b->frames_n) {
    const struct segment *slot = &b->segments[b->frames[filled].first_segment];
    struct iovec room[2] = {{slot->host, slot->len}, {surplus, sizeof surplus}};
    ssize_t got = readv(t->fd, room, 2);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && !filled) t->error = errno; /* what was filled goes first */
      break;
    }
    if (unlikely((size_t)got > slot->len)) { t->too_long++; continue; }
    b->frames[filled++].len = (uint32_t)got;
  }
  t->read += filled;
  return filled;
}

/* Hand every frame to the kernel; one that it does not take is dropped, as a stack drops what it has no room for. */
void tap_write(struct tap *t, const struct burst *b) {
  struct iovec pieces[IOV_PIECES];
  t->error = 0;
  for (uint32_t i = 0; i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    const struct segment *s = &b->segments[f->first_segment];
    ssize_t put;
    if (unlikely(f->segments > IOV_PIECES)) { t->refused++; continue; }
    for (uint32_t n = 0; n < f->segments; n++) pieces[n] = (struct iovec){s[n].host, s[n].len};
    do put = writev(t->fd, pieces, f->segments);
    while (put < 0 && errno == EINTR);
    if (likely(put >= 0)) { t->written++; continue; }
    t->refused++;
    if (errno == EBADFD) { t->error = errno; return; }
  }
}

/* Is there a frame, or news that the device is gone? */
int tap_ready(void *tap) {
  struct pollfd p = {.fd = ((struct tap *)tap)->fd, .events = POLLIN};
  return poll(&p, 1, 0) > 0;
}
