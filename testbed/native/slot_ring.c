#include "slot_ring.h"

/* Open up to `want` free slots as frames to fill. What is not sent is simply opened again the next time. */
uint32_t slot_tx_reserve(struct slot_tx *q, struct burst *b, uint32_t want, uint32_t (*reclaim)(struct slot_tx *)) {
  if (want > BURST_FRAMES) want = BURST_FRAMES;
  uint32_t n = slot_tx_room(q, want, reclaim);
  if (n > want) n = want;
  for (uint32_t i = 0, slot = q->next; i < n; i++, slot = slot_after(&q->r, slot)) {
    b->segments[i] = (struct segment){slot_memory(&q->r, slot), q->r.slot_bytes, slot};
    b->frames[i] = (struct frame){.first_segment = i, .segments = 1, .id = slot};
  }
  b->frames_n = b->segments_n = n;
  return n;
}

/* The second word of an empty descriptor is reserved, or a header buffer that there is none of; the device's done bit is in it. */
static inline void arm(struct slot_rx *q, uint32_t i) {
  q->r.desc[i].address = slot_address(&q->r, i);
  store_relaxed(&q->r.desc[i].rest, (uint64_t)0);
}

/* All descriptors but one belong to the device; the one in front of the head stays ours (§3.2.6). */
void slot_rx_layout(struct slot_rx *q) {
  for (uint32_t i = 0; i < q->r.size; i++) arm(q, i);
  q->next = q->taken = 0, q->tail = q->r.size - 1, q->posted = 0;
}

/* Give every descriptor that was taken back to the device; return the new tail. */
uint32_t slot_rx_post(struct slot_rx *q) {
  uint32_t first = q->next >= q->taken ? q->next - q->taken : q->r.size + q->next - q->taken;
  for (uint32_t i = first; q->taken; q->taken--, q->posted++) {
    arm(q, i);
    i = slot_after(&q->r, i);
    q->tail = slot_after(&q->r, q->tail);
  }
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return q->tail;
}
