#include "e1000_driver.h"

#define COMMAND (E1000_RING_CMD_EOP | E1000_RING_CMD_IFCS | E1000_RING_CMD_RS)
#define STATUS_SHIFT 32

static inline bool desc_done(const struct e1000_desc *d) {
  return load_acquire(&d->rest) >> STATUS_SHIFT & E1000_RING_TX_STATUS_DD;
}

/* --- transmit --- */

void e1000_tx_layout(struct e1000_tx_driver *q) {
  memset(q->ring, 0, q->size * sizeof *q->ring);
  q->next = q->clean = q->used = 0;
}

static inline uint32_t after(uint32_t i, uint32_t size) { return i + 1 == size ? 0 : i + 1; }

/* Take back what the device has written back (§3.4: the DD bit, not the head register). */
uint32_t e1000_tx_reclaim(struct e1000_tx_driver *q) {
  uint32_t frames = 0;
  for (; q->used && desc_done(&q->ring[q->clean]); frames++, q->used--) q->clean = after(q->clean, q->size);
  return frames;
}

/* Open up to `want` free slots as frames to fill. What is not sent is simply opened again the next time. One descriptor stays
 * unused: a tail that meets the head says that the ring is empty (§3.4). */
uint32_t e1000_tx_reserve(struct e1000_tx_driver *q, struct burst *b, uint32_t want) {
  if (want > BURST_FRAMES) want = BURST_FRAMES;
  if (q->size - 1 - q->used < want) e1000_tx_reclaim(q);
  uint32_t n = q->size - 1 - q->used < want ? q->size - 1 - q->used : want;
  for (uint32_t i = 0, slot = q->next; i < n; i++, slot = after(slot, q->size)) {
    b->segments[i] = (struct segment){q->slots + (size_t)slot * q->slot_bytes, q->slot_bytes, slot};
    b->frames[i] = (struct frame){.first_segment = i, .segments = 1, .id = slot};
  }
  b->frames_n = b->segments_n = n;
  return n;
}

/* Describe `count` filled frames from `first` on; return the new tail, for the device only after what was written here. */
uint32_t e1000_tx_send(struct e1000_tx_driver *q, const struct burst *b, uint32_t first, uint32_t count) {
  for (uint32_t i = first; i < first + count && i < b->frames_n; i++) {
    uint64_t address = q->slots_gpa + (uint64_t)q->next * q->slot_bytes;
    q->ring[q->next] = (struct e1000_desc){address, b->frames[i].len | (uint64_t)COMMAND << E1000_RING_CMD_SHIFT};
    q->next = after(q->next, q->size);
    q->used++;
  }
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return q->next;
}

int e1000_tx_ready(void *queue) {
  struct e1000_tx_driver *q = queue;
  return q->used && desc_done(&q->ring[q->clean]);
}

/* --- receive --- */

static inline void arm_desc(struct e1000_rx_driver *q, uint32_t i) {
  q->ring[i].address = q->slots_gpa + (uint64_t)i * q->slot_bytes;
  store_relaxed(&q->ring[i].rest, (uint64_t)0);
}

/* All descriptors but one belong to the device; the one in front of the head stays ours (§3.2.6). */
void e1000_rx_layout(struct e1000_rx_driver *q) {
  for (uint32_t i = 0; i < q->size; i++) arm_desc(q, i);
  q->next = q->taken = 0, q->tail = q->size - 1;
}

int e1000_rx_ready(void *queue) {
  struct e1000_rx_driver *q = queue;
  return q->taken < q->size - 1 && desc_done(&q->ring[q->next]);
}

/* Find the end of the frame at `next`; 0: it is not there yet. Acquire: length, errors and data are as new as DD. */
static uint32_t frame_descriptors(const struct e1000_rx_driver *q) {
  for (uint32_t i = q->next, n = 1; n < q->size - q->taken; n++, i = after(i, q->size)) {
    uint64_t rest = load_acquire(&q->ring[i].rest);
    if (!(rest >> STATUS_SHIFT & E1000_RING_RX_STATUS_DD)) return 0;
    if (rest >> STATUS_SHIFT & E1000_RING_RX_STATUS_EOP) return n;
  }
  return 0;
}

static void collect_frame(struct e1000_rx_driver *q, struct burst *b, uint32_t n) {
  struct frame f = {.first_segment = b->segments_n, .segments = (uint16_t)n};
  uint8_t errors = 0, status = 0;
  for (; n; n--) {
    uint64_t rest = load_relaxed(&q->ring[q->next].rest);
    uint32_t len = (uint16_t)rest;
    status = (uint8_t)(rest >> STATUS_SHIFT), errors = (uint8_t)(rest >> 40);
    if (unlikely(len > q->slot_bytes)) len = 0, errors = E1000_RING_RX_ERROR_RXE;
    b->segments[b->segments_n++] = (struct segment){q->slots + (size_t)q->next * q->slot_bytes, len, q->next};
    f.len += len;
    q->next = after(q->next, q->size);
    q->taken++;
  }
  if (unlikely(errors & (uint8_t)~(E1000_RING_RX_ERROR_IPE | E1000_RING_RX_ERROR_TCPE))) {
    q->errors++, b->segments_n = f.first_segment;
    return;
  }
  if (status & E1000_RING_RX_STATUS_TCPCS && !errors) f.flags = VIRTIO_NET_HDR_F_DATA_VALID;
  b->frames[b->frames_n++] = f;
}

/* Take received frames; their buffers stay ours until `e1000_rx_post`. */
uint32_t e1000_rx_collect(struct e1000_rx_driver *q, struct burst *b, uint32_t limit) {
  b->frames_n = b->segments_n = 0;
  if (limit > BURST_FRAMES) limit = BURST_FRAMES;
  while (b->frames_n < limit) {
    uint32_t n = frame_descriptors(q);
    if (n == 0 || b->segments_n + n > BURST_SEGMENTS) break;
    collect_frame(q, b, n);
  }
  return b->frames_n;
}

/* Give every descriptor that was taken back to the device; return the new tail. */
uint32_t e1000_rx_post(struct e1000_rx_driver *q) {
  uint32_t first = q->next >= q->taken ? q->next - q->taken : q->size + q->next - q->taken;
  for (uint32_t i = first; q->taken; q->taken--) {
    arm_desc(q, i);
    i = after(i, q->size);
    q->tail = after(q->tail, q->size);
  }
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return q->tail;
}
