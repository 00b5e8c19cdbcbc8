/* What drivers' rings have in common where a device has head and tail registers and each descriptor, of 16 bytes with the address in
 * the first eight, has a slot of memory for a frame of its own: the 8254x family and its successors. 8254x SDM §3.2.6, §3.4;
 * 82576 datasheet (320961) §7.1.4, §7.2.2. What a descriptor's second word says is the kind's to know. */
#pragma once
#include "burst.h"
#include "layouts.h"
#include "trace.h"

struct slot_desc { uint64_t address, rest; };

struct slot_ring {
  struct slot_desc *desc;
  uint8_t *slots;
  uint64_t slots_address; /* of the same memory as the device knows it */
  uint32_t size, slot_bytes;
};

static inline uint32_t slot_after(const struct slot_ring *r, uint32_t i) { return i + 1 == r->size ? 0 : i + 1; }
static inline uint8_t *slot_memory(const struct slot_ring *r, uint32_t i) { return r->slots + (size_t)i * r->slot_bytes; }
static inline uint64_t slot_address(const struct slot_ring *r, uint32_t i) { return r->slots_address + (uint64_t)i * r->slot_bytes; }

/* The filled slot `i` is about to be described; `event` has its number and the address that the device knows. */
static inline void trace_slot(uint16_t event, const struct slot_ring *r, uint32_t i, uint32_t length) {
  if (trace_on()) trace_put_posted(event, slot_memory(r, i), length, i, slot_address(r, i));
}

/* --- transmit --- */

struct slot_tx {
  struct slot_ring r;
  uint32_t next, clean, used; /* to be filled next, to be reclaimed next, and how many lie between */
};

/* What a kind of device does its own way. `send` returns the new tail, for the device only after what was written before. */
struct slot_tx_kind {
  void (*layout)(struct slot_tx *q);
  uint32_t (*reclaim)(struct slot_tx *q);
  uint32_t (*send)(struct slot_tx *q, const struct burst *b, uint32_t first, uint32_t count);
  int (*ready)(void *queue);
};

/* One descriptor stays unused: a tail that meets the head says that the ring is empty (§3.4; §7.2.2.5). */
static inline uint32_t slot_tx_room(struct slot_tx *q, uint32_t want, uint32_t (*reclaim)(struct slot_tx *)) {
  if (q->r.size - 1 - q->used < want) reclaim(q);
  return q->r.size - 1 - q->used;
}

uint32_t slot_tx_reserve(struct slot_tx *q, struct burst *b, uint32_t want, uint32_t (*reclaim)(struct slot_tx *));

/* --- receive --- */

struct slot_rx {
  struct slot_ring r;
  uint32_t next;  /* next descriptor to look at */
  uint32_t taken; /* descriptors looked at and not yet given back */
  uint32_t tail;
  uint64_t posted; /* descriptors given back since the ring was laid out */
  uint64_t errors;
};

/* What a device wrote back. */
struct slot_received { bool done, last, bad, verified; uint32_t len; };
typedef struct slot_received slot_read(uint64_t rest);

struct slot_rx_kind {
  uint32_t (*collect)(struct slot_rx *q, struct burst *b, uint32_t limit);
  int (*ready)(void *queue);
};

void slot_rx_layout(struct slot_rx *q);
uint32_t slot_rx_post(struct slot_rx *q);

static inline int slot_rx_ready(const struct slot_rx *q, slot_read *read) {
  return q->taken < q->r.size - 1 && read(load_acquire(&q->r.desc[q->next].rest)).done;
}

/* Find the end of the frame at `next`; 0: it is not there yet. Acquire: length, errors and data are as new as the done bit. */
static inline uint32_t slot_rx_frame(const struct slot_rx *q, slot_read *read) {
  for (uint32_t i = q->next, n = 1; n < q->r.size - q->taken; n++, i = slot_after(&q->r, i)) {
    struct slot_received part = read(load_acquire(&q->r.desc[i].rest));
    if (!part.done) return 0;
    if (part.last) return n;
  }
  return 0;
}

static inline void slot_rx_take(struct slot_rx *q, struct burst *b, uint32_t n, slot_read *read) {
  struct frame f = {.first_segment = b->segments_n, .segments = (uint16_t)n};
  bool bad = false, verified = false;
  for (; n; n--) {
    struct slot_received part = read(load_relaxed(&q->r.desc[q->next].rest));
    if (unlikely(part.len > q->r.slot_bytes)) part.len = 0, part.bad = true;
    b->segments[b->segments_n++] = (struct segment){slot_memory(&q->r, q->next), part.len, q->next};
    f.len += part.len, bad |= part.bad, verified = part.verified;
    q->next = slot_after(&q->r, q->next), q->taken++;
  }
  if (unlikely(bad)) {
    q->errors++, b->segments_n = f.first_segment;
    return;
  }
  if (verified) f.flags = VIRTIO_NET_HDR_F_DATA_VALID;
  b->frames[b->frames_n++] = f;
}

/* Take received frames; their buffers stay ours until `slot_rx_post`. Where all that came was bad there is no burst after which anybody would
 * post: its buffers go back at once. For each kind compiled anew around its `read`. */
static inline uint32_t slot_rx_collect(struct slot_rx *q, struct burst *b, uint32_t limit, slot_read *read) {
  bool out = q->taken != 0;
  b->frames_n = b->segments_n = 0;
  if (limit > BURST_FRAMES) limit = BURST_FRAMES;
  while (b->frames_n < limit) {
    uint32_t n = slot_rx_frame(q, read);
    if (n == 0 || b->segments_n + n > BURST_SEGMENTS) break;
    slot_rx_take(q, b, n, read);
  }
  if (unlikely(!b->frames_n && q->taken && !out)) slot_rx_post(q);
  trace_burst(TRACE_FRAME_TAKEN, b);
  return b->frames_n;
}
