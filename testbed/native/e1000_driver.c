#include "e1000_driver.h"

#define COMMAND (E1000_RING_CMD_EOP | E1000_RING_CMD_IFCS | E1000_RING_CMD_RS)
#define STATUS_SHIFT 32
#define ERRORS_SHIFT 40
#define CHECKSUM_ERRORS (E1000_RING_RX_ERROR_IPE | E1000_RING_RX_ERROR_TCPE)

/* --- transmit --- */

static inline bool sent(const struct slot_tx *q) {
  return load_acquire(&q->r.desc[q->clean].rest) >> STATUS_SHIFT & E1000_RING_TX_STATUS_DD;
}

static void layout(struct slot_tx *q) {
  memset(q->r.desc, 0, q->r.size * sizeof *q->r.desc);
  q->next = q->clean = q->used = 0;
}

/* Take back what the device has written back (§3.4: the DD bit, not the head register). */
static uint32_t reclaim(struct slot_tx *q) {
  uint32_t frames = 0;
  for (; q->used && sent(q); frames++, q->used--) q->clean = slot_after(&q->r, q->clean);
  return frames;
}

/* Describe `count` filled frames from `first` on; return the new tail, for the device only after what was written here. */
static uint32_t send_frames(struct slot_tx *q, const struct burst *b, uint32_t first, uint32_t count) {
  for (uint32_t i = first; i < first + count && i < b->frames_n; i++) {
    trace_slot(TRACE_DESCRIPTOR_POSTED, &q->r, q->next, b->frames[i].len);
    q->r.desc[q->next] =
        (struct slot_desc){slot_address(&q->r, q->next), b->frames[i].len | (uint64_t)COMMAND << E1000_RING_CMD_SHIFT};
    q->next = slot_after(&q->r, q->next), q->used++;
  }
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return q->next;
}

static int tx_ready(void *queue) {
  struct slot_tx *q = queue;
  return q->used && sent(q);
}

const struct slot_tx_kind e1000_tx_kind = {layout, reclaim, send_frames, tx_ready};

/* --- receive --- */

static inline struct slot_received read_back(uint64_t rest) {
  uint8_t status = (uint8_t)(rest >> STATUS_SHIFT), errors = (uint8_t)(rest >> ERRORS_SHIFT);
  return (struct slot_received){
      .done = status & E1000_RING_RX_STATUS_DD,
      .last = status & E1000_RING_RX_STATUS_EOP,
      .bad = errors & (uint8_t)~CHECKSUM_ERRORS,
      .verified = status & E1000_RING_RX_STATUS_TCPCS && !errors,
      .len = (uint16_t)rest,
  };
}

static uint32_t collect(struct slot_rx *q, struct burst *b, uint32_t limit) { return slot_rx_collect(q, b, limit, read_back); }
static int rx_ready(void *queue) { return slot_rx_ready(queue, read_back); }

const struct slot_rx_kind e1000_rx_kind = {collect, rx_ready};
