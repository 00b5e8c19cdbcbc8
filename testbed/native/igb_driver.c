#include "igb_driver.h"
#include "e1000_parse.h"

#define COMMAND (IGB_RING_TX_EOP | IGB_RING_TX_IFCS | IGB_RING_TX_DEXT | (IGB_RING_DTYP_DATA << IGB_RING_DTYP_SHIFT))
#define LENGTH_SHIFT 32 /* of a written-back receive descriptor, in its second quadword */

static inline uint32_t after(uint32_t i, uint32_t size) { return i + 1 == size ? 0 : i + 1; }

/* --- transmit --- */

void igb_tx_layout(struct igb_tx_driver *q) {
  memset(q->ring, 0, q->size * sizeof *q->ring);
  q->next = q->used = q->clean = q->since_report = q->reports_first = q->reports_n = 0;
}

static inline bool reported(const struct igb_tx_driver *q, uint32_t slot) {
  return load_acquire(&q->ring[slot].rest) >> 32 & IGB_RING_TX_DD;
}

int igb_tx_ready(void *queue) {
  struct igb_tx_driver *q = queue;
  return q->reports_n && reported(q, q->reports[q->reports_first]);
}

/* Take back what the device has written back (§7.2.3): only descriptors with RS are, in order; those before one went with it. */
uint32_t igb_tx_reclaim(struct igb_tx_driver *q) {
  uint32_t frames = 0;
  while (igb_tx_ready(q)) {
    uint32_t end = after(q->reports[q->reports_first], q->size);
    uint32_t n = end > q->clean ? end - q->clean : q->size + end - q->clean;
    frames += n, q->used -= n, q->clean = end;
    q->reports_first = after(q->reports_first, q->size), q->reports_n--;
  }
  return frames;
}

/* One descriptor stays unused: a tail that meets the head says that the ring is empty (§7.2.2.5). */
static inline uint32_t room(struct igb_tx_driver *q, uint32_t want) {
  if (q->size - 1 - q->used < want) igb_tx_reclaim(q);
  return q->size - 1 - q->used;
}

/* Open up to `want` free slots as frames to fill. What is not sent is simply opened again the next time. */
uint32_t igb_tx_reserve(struct igb_tx_driver *q, struct burst *b, uint32_t want) {
  if (want > BURST_FRAMES) want = BURST_FRAMES;
  uint32_t n = room(q, want);
  if (n > want) n = want;
  for (uint32_t i = 0, slot = q->next; i < n; i++, slot = after(slot, q->size)) {
    b->segments[i] = (struct segment){q->slots + (size_t)slot * q->slot_bytes, q->slot_bytes, slot};
    b->frames[i] = (struct frame){.first_segment = i, .segments = 1, .id = slot};
  }
  b->frames_n = b->segments_n = n;
  return n;
}

/* Describe the filled slot at `next`; `last`: nothing follows for now, so it must be reported. */
static inline void describe(struct igb_tx_driver *q, uint32_t len, bool last) {
  uint64_t address = q->slots_iova + (uint64_t)q->next * q->slot_bytes, command = COMMAND | len;
  if (last || ++q->since_report == IGB_REPORT_EVERY) {
    command |= IGB_RING_TX_RS, q->since_report = 0;
    uint32_t at = q->reports_first + q->reports_n++;
    q->reports[at >= q->size ? at - q->size : at] = q->next;
  }
  q->ring[q->next] = (struct igb_desc){address, command | (uint64_t)len << (32 + IGB_RING_PAYLEN_SHIFT)};
  q->next = after(q->next, q->size), q->used++;
}

/* Describe `count` filled frames from `first` on; return the new tail, for the device only after what was written here. */
uint32_t igb_tx_send(struct igb_tx_driver *q, const struct burst *b, uint32_t first, uint32_t count) {
  uint32_t end = first + count < b->frames_n ? first + count : b->frames_n;
  for (uint32_t i = first; i < end; i++) describe(q, b->frames[i].len, i + 1 == end);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return q->next;
}

enum put { PUT_DONE, PUT_WAIT, PUT_DROP };

static inline uint8_t *slot_at_next(struct igb_tx_driver *q) { return q->slots + (size_t)q->next * q->slot_bytes; }

static inline void put_done(struct igb_tx_driver *q, uint32_t len, struct igb_tx_taken *taken) {
  describe(q, len, false);
  taken->frames++, taken->bytes += len;
}

/* A frame whose sender left checksum or segmentation to the device: done here, in our own memory. */
static enum put put_offloaded(struct igb_tx_driver *q, const struct burst *b, const struct frame *f, uint8_t *whole,
                              uint32_t whole_bytes, struct igb_tx_taken *taken) {
  struct cutter c;
  if (f->len > whole_bytes || frame_read(b, f, 0, whole, whole_bytes) != f->len) return PUT_DROP;
  if (!cutter_open(&c, whole, f->len, f) || c.header + c.size > q->slot_bytes || c.pieces >= q->size) return PUT_DROP;
  if (room(q, c.pieces) < c.pieces) return PUT_WAIT;
  for (uint32_t i = 0; i < c.pieces; i++) put_done(q, cutter_piece(&c, slot_at_next(q)), taken);
  return PUT_DONE;
}

static enum put put_frame(struct igb_tx_driver *q, const struct burst *b, const struct frame *f, uint8_t *whole, uint32_t whole_bytes,
                          struct igb_tx_taken *taken) {
  if (unlikely(f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM || f->gso_type)) return put_offloaded(q, b, f, whole, whole_bytes, taken);
  if (unlikely(f->len > q->slot_bytes || f->len == 0)) return PUT_DROP;
  if (unlikely(room(q, 1) == 0)) return PUT_WAIT;
  put_done(q, frame_read(b, f, 0, slot_at_next(q), f->len), taken);
  return PUT_DONE;
}

/* Have the last descriptor reported, although more were expected when it was written. */
static void report_last(struct igb_tx_driver *q) {
  if (!q->since_report) return;
  uint32_t slot = q->next ? q->next - 1 : q->size - 1, at = q->reports_first + q->reports_n++;
  q->ring[slot].rest |= IGB_RING_TX_RS;
  q->reports[at >= q->size ? at - q->size : at] = slot;
  q->since_report = 0;
}

/* Copy the frames from `first` on that are for `port` into the ring; return the index of the first that must wait, or the burst's
 * length. The tail is the caller's to write. */
uint32_t igb_tx_deliver(struct igb_tx_driver *q, const struct burst *b, uint32_t first, int32_t port, uint8_t *whole,
                        uint32_t whole_bytes, struct igb_tx_taken *taken) {
  uint32_t i = first;
  for (; i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    if (f->dest != port && f->dest != DEST_FLOOD) continue;
    enum put done = put_frame(q, b, f, whole, whole_bytes, taken);
    if (done == PUT_WAIT) break;
    taken->too_long += done == PUT_DROP;
  }
  report_last(q);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return i;
}

/* --- receive --- */

/* In the read format the second quadword is a header buffer, of which there is none; its bit 0 becomes DD. */
static inline void arm_desc(struct igb_rx_driver *q, uint32_t i) {
  q->ring[i].address = q->slots_iova + (uint64_t)i * q->slot_bytes;
  store_relaxed(&q->ring[i].rest, (uint64_t)0);
}

/* All descriptors but one belong to the device; the one in front of the head stays ours. */
void igb_rx_layout(struct igb_rx_driver *q) {
  for (uint32_t i = 0; i < q->size; i++) arm_desc(q, i);
  q->next = q->taken = 0, q->tail = q->size - 1;
}

int igb_rx_ready(void *queue) {
  struct igb_rx_driver *q = queue;
  return q->taken < q->size - 1 && load_acquire(&q->ring[q->next].rest) & IGB_RING_RX_STATUS_DD;
}

/* Find the end of the frame at `next`; 0: it is not there yet. Acquire: length, errors and data are as new as DD. */
static uint32_t frame_descriptors(const struct igb_rx_driver *q) {
  for (uint32_t i = q->next, n = 1; n < q->size - q->taken; n++, i = after(i, q->size)) {
    uint64_t rest = load_acquire(&q->ring[i].rest);
    if (!(rest & IGB_RING_RX_STATUS_DD)) return 0;
    if (rest & IGB_RING_RX_STATUS_EOP) return n;
  }
  return 0;
}

static void collect_frame(struct igb_rx_driver *q, struct burst *b, uint32_t n) {
  struct frame f = {.first_segment = b->segments_n, .segments = (uint16_t)n};
  uint32_t status = 0;
  bool bad = false;
  for (; n; n--) {
    uint64_t rest = load_relaxed(&q->ring[q->next].rest);
    uint32_t len = (uint16_t)(rest >> LENGTH_SHIFT);
    status = (uint32_t)rest;
    if (unlikely(len > q->slot_bytes)) len = 0, bad = true;
    b->segments[b->segments_n++] = (struct segment){q->slots + (size_t)q->next * q->slot_bytes, len, q->next};
    f.len += len;
    q->next = after(q->next, q->size);
    q->taken++;
  }
  if (unlikely(bad)) {
    q->errors++, b->segments_n = f.first_segment;
    return;
  }
  if (status & IGB_RING_RX_STATUS_L4CS && !(status & IGB_RING_RX_ERROR_L4E)) f.flags = VIRTIO_NET_HDR_F_DATA_VALID;
  b->frames[b->frames_n++] = f;
}

/* Take received frames; their buffers stay ours until `igb_rx_post`. */
uint32_t igb_rx_collect(struct igb_rx_driver *q, struct burst *b, uint32_t limit) {
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
uint32_t igb_rx_post(struct igb_rx_driver *q) {
  uint32_t first = q->next >= q->taken ? q->next - q->taken : q->size + q->next - q->taken;
  for (uint32_t i = first; q->taken; q->taken--) {
    arm_desc(q, i);
    i = after(i, q->size);
    q->tail = after(q->tail, q->size);
  }
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return q->tail;
}
