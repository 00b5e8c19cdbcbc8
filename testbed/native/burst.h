/* A burst: the unit of work between rings, bridge and NIC models. At most 256 frames, each a run of segments in memory
 * that stays mapped and owned by the frame's source until the burst is completed. */
#pragma once
#include <string.h>
#include "order.h"

#define BURST_FRAMES 256
#define BURST_SEGMENTS 2048
#define FRAME_SEGMENTS_MAX 1024 /* one frame may have so many, so a burst always takes at least one */

#define PASS_FRAMES 64 /* of a burst that goes through several native steps at once: its records stay in the first-level cache */
#define FORESEEN 6 /* entries ahead for which the cache is asked */

#define DEST_FLOOD (-1)
#define DEST_DROP (-2)
#define DEST_REMOVED (-3) /* an interposer dropped it: classification and receivers leave it alone */

struct segment { uint8_t *host; uint32_t len; uint32_t id; };
struct frame {
  uint32_t first_segment;
  uint16_t segments;
  uint16_t descriptors; /* ring slots that the chain takes (packed ring, in-order) */
  uint32_t len;         /* bytes from the Ethernet header on, without FCS */
  uint32_t id;          /* head descriptor, buffer id or slot */
  int32_t dest;         /* port, DEST_FLOOD, DEST_DROP or DEST_REMOVED */
  uint8_t flags, gso_type; /* offload request, as in virtio_net_hdr */
  uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
struct burst {
  uint32_t frames_n, segments_n;
  struct frame frames[BURST_FRAMES];
  struct segment segments[BURST_SEGMENTS];
};

/* Copy up to `length` bytes from `offset` of a frame on into one buffer; return how many there were. */
static inline uint32_t frame_read(const struct burst *b, const struct frame *f, uint32_t offset, uint8_t *to, uint32_t length) {
  uint32_t done = 0;
  const struct segment *s = &b->segments[f->first_segment], *end = s + f->segments;
  for (; s < end && done < length; s++) {
    if (offset >= s->len) { offset -= s->len; continue; }
    uint32_t n = s->len - offset < length - done ? s->len - offset : length - done;
    memcpy(to + done, s->host + offset, n);
    done += n, offset = 0;
  }
  return done;
}

/* Ask the cache for the lines that a small frame and its header lie in, to read or to write. */
static inline void foresee_read(const uint8_t *slot) { __builtin_prefetch(slot), __builtin_prefetch(slot + CACHE_LINE); }
static inline void foresee_write(const uint8_t *slot) { prefetch_owned(slot), prefetch_owned(slot + CACHE_LINE); }

/* Copy one frame's bytes in one piece. Small ones are loaded as a whole before anything is stored: source and target may overlap where a
 * hostile guest sends from where it receives, and a call of memmove costs as much as such a frame. */
static inline void frame_copy(uint8_t *to, const uint8_t *from, uint32_t length) {
  typedef struct { uint64_t w[2]; } chunk;
  if (likely(length >= 2 * sizeof(chunk) && length <= 4 * sizeof(chunk))) {
    chunk a, b, c, d;
    memcpy(&a, from, sizeof a), memcpy(&b, from + sizeof a, sizeof b);
    memcpy(&c, from + length - 2 * sizeof c, sizeof c), memcpy(&d, from + length - sizeof d, sizeof d);
    memcpy(to, &a, sizeof a), memcpy(to + sizeof a, &b, sizeof b);
    memcpy(to + length - 2 * sizeof c, &c, sizeof c), memcpy(to + length - sizeof d, &d, sizeof d);
  } else memmove(to, from, length);
}

/* Copies between two lists of segments, any division on either side. */
struct scatter { struct segment *s, *end; uint32_t offset; };

static inline bool scatter_put(struct scatter *to, const uint8_t *from, uint32_t length) {
  while (length) {
    if (unlikely(to->s == to->end)) return false;
    uint32_t room = to->s->len - to->offset, n = room < length ? room : length;
    memmove(to->s->host + to->offset, from, n);
    from += n, length -= n, to->offset += n;
    if (to->offset == to->s->len) to->s++, to->offset = 0;
  }
  return true;
}
