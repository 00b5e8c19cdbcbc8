#include "igb_driver.h"
#include "e1000_parse.h"

#define COMMAND (IGB_RING_TX_EOP | IGB_RING_TX_IFCS | IGB_RING_TX_DEXT | (IGB_RING_DTYP_DATA << IGB_RING_DTYP_SHIFT))
#define LENGTH_SHIFT 32 /* of a written-back receive descriptor, in its second quadword */

/* --- transmit --- */

static inline struct igb_tx_driver *igb(struct slot_tx *q) { return (struct igb_tx_driver *)q; }

static void layout(struct slot_tx *q) {
  memset(q->r.desc, 0, q->r.size * sizeof *q->r.desc);
  q->next = q->used = q->clean = igb(q)->since_report = igb(q)->reports_first = igb(q)->reports_n = 0;
}

static inline bool reported(const struct slot_tx *q, uint32_t slot) {
  return load_acquire(&q->r.desc[slot].rest) >> 32 & IGB_RING_TX_DD;
}

static int tx_ready(void *queue) {
  struct igb_tx_driver *q = queue;
  return q->reports_n && reported(&q->tx, q->reports[q->reports_first]);
}

/* Take back what the device has written back (§7.2.3): only descriptors with RS are, in order; those before one went with it. */
static uint32_t reclaim(struct slot_tx *q) {
  struct igb_tx_driver *of = igb(q);
  uint32_t frames = 0;
  while (tx_ready(of)) {
    uint32_t end = slot_after(&q->r, of->reports[of->reports_first]);
    uint32_t n = end > q->clean ? end - q->clean : q->r.size + end - q->clean;
    frames += n, q->used -= n, q->clean = end;
    of->reports_first = slot_after(&q->r, of->reports_first), of->reports_n--;
  }
  return frames;
}

static inline void remember_report(struct igb_tx_driver *q, uint32_t slot) {
  uint32_t at = q->reports_first + q->reports_n++;
  q->reports[at >= q->tx.r.size ? at - q->tx.r.size : at] = slot;
  q->since_report = 0;
}

/* Describe the filled slot at `next`; `last`: nothing follows for now, so it must be reported. */
static inline void describe(struct igb_tx_driver *of, uint32_t len, bool last) {
  struct slot_tx *q = &of->tx;
  uint64_t command = COMMAND | len;
  if (last || ++of->since_report == IGB_REPORT_EVERY) command |= IGB_RING_TX_RS, remember_report(of, q->next);
  trace_slot(TRACE_DMA_DESCRIPTOR_POSTED, &q->r, q->next, len);
  q->r.desc[q->next] =
      (struct slot_desc){slot_address(&q->r, q->next), command | (uint64_t)len << (32 + IGB_RING_PAYLEN_SHIFT)};
  q->next = slot_after(&q->r, q->next), q->used++;
}

/* Describe `count` filled frames from `first` on; return the new tail, for the device only after what was written here. */
static uint32_t send_frames(struct slot_tx *q, const struct burst *b, uint32_t first, uint32_t count) {
  uint32_t end = first + count < b->frames_n ? first + count : b->frames_n;
  for (uint32_t i = first; i < end; i++) describe(igb(q), b->frames[i].len, i + 1 == end);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return q->next;
}

const struct slot_tx_kind igb_tx_kind = {layout, reclaim, send_frames, tx_ready};

enum put { PUT_DONE, PUT_WAIT, PUT_DROP };

static inline uint8_t *slot_at_next(struct igb_tx_driver *q) { return slot_memory(&q->tx.r, q->tx.next); }

static inline void put_done(struct igb_tx_driver *q, uint32_t len, struct igb_tx_taken *taken) {
  describe(q, len, false);
  taken->frames++, taken->bytes += len;
}

/* A frame whose sender left checksum or segmentation to the device: done here, in our own memory. */
static enum put put_offloaded(struct igb_tx_driver *q, const struct burst *b, const struct frame *f, uint8_t *whole,
                              uint32_t whole_bytes, struct igb_tx_taken *taken) {
  struct cutter c;
  if (f->len > whole_bytes || frame_read(b, f, 0, whole, whole_bytes) != f->len) return PUT_DROP;
  if (!cutter_open(&c, whole, f->len, f) || c.header + c.size > q->tx.r.slot_bytes || c.pieces >= q->tx.r.size) return PUT_DROP;
  if (slot_tx_room(&q->tx, c.pieces, reclaim) < c.pieces) return PUT_WAIT;
  for (uint32_t i = 0; i < c.pieces; i++) put_done(q, cutter_piece(&c, slot_at_next(q)), taken);
  return PUT_DONE;
}

static enum put put_frame(struct igb_tx_driver *q, const struct burst *b, const struct frame *f, uint8_t *whole, uint32_t whole_bytes,
                          struct igb_tx_taken *taken) {
  if (unlikely(f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM || f->gso_type)) return put_offloaded(q, b, f, whole, whole_bytes, taken);
  if (unlikely(f->len > q->tx.r.slot_bytes || f->len == 0)) return PUT_DROP;
  if (unlikely(slot_tx_room(&q->tx, 1, reclaim) == 0)) return PUT_WAIT;
  put_done(q, frame_read(b, f, 0, slot_at_next(q), f->len), taken);
  return PUT_DONE;
}

/* Have the last descriptor reported, although more were expected when it was written. */
static void report_last(struct igb_tx_driver *q) {
  if (!q->since_report) return;
  uint32_t slot = q->tx.next ? q->tx.next - 1 : q->tx.r.size - 1;
  q->tx.r.desc[slot].rest |= IGB_RING_TX_RS;
  remember_report(q, slot);
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

static inline struct slot_received read_back(uint64_t rest) {
  return (struct slot_received){
      .done = rest & IGB_RING_RX_STATUS_DD,
      .last = rest & IGB_RING_RX_STATUS_EOP,
      .verified = rest & IGB_RING_RX_STATUS_L4CS && !(rest & IGB_RING_RX_ERROR_L4E),
      .len = (uint16_t)(rest >> LENGTH_SHIFT),
  };
}

static uint32_t collect(struct slot_rx *q, struct burst *b, uint32_t limit) { return slot_rx_collect(q, b, limit, read_back); }
static int rx_ready(void *queue) { return slot_rx_ready(queue, read_back); }

const struct slot_rx_kind igb_rx_kind = {collect, rx_ready};
