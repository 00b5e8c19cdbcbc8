#include "e1000_driver.h"

#define PLAIN_COMMAND (E1000_RING_CMD_EOP | E1000_RING_CMD_IFCS | E1000_RING_CMD_RS)
#define DATA_TYPE ((uint64_t)E1000_RING_DTYP_DATA << E1000_RING_DTYP_SHIFT)
#define STATUS_SHIFT 32

static inline bool desc_done(const struct e1000_desc *d) {
  return load_acquire(&d->rest) >> STATUS_SHIFT & E1000_RING_TX_STATUS_DD;
}

/* --- transmit --- */

void e1000_tx_layout(struct e1000_tx_driver *q) {
  memset(q->ring, 0, q->size * sizeof *q->ring);
  memset(q->frees, 0, q->size);
  q->next = q->clean = q->used = q->slot_next = q->slots_used = 0;
  q->context[0] = q->context[1] = 0;
}

/* Take back what the device has written back (§3.4: the DD bit, not the head register). */
uint32_t e1000_tx_reclaim(struct e1000_tx_driver *q) {
  uint32_t frames = 0;
  while (q->used && desc_done(&q->ring[q->clean])) {
    frames += q->frees[q->clean];
    q->clean = q->clean + 1 == q->size ? 0 : q->clean + 1;
    q->used--;
  }
  q->slots_used -= frames;
  return frames;
}

static uint32_t free_frames(const struct e1000_tx_driver *q) {
  uint32_t descriptors = q->size - 1 - q->used, slots = q->size - q->slots_used;
  if (q->offload) descriptors /= 2;
  return descriptors < slots ? descriptors : slots;
}

/* Open up to `want` free slots as frames to fill. What is not sent is simply opened again the next time. */
uint32_t e1000_tx_reserve(struct e1000_tx_driver *q, struct burst *b, uint32_t want) {
  if (want > BURST_FRAMES) want = BURST_FRAMES;
  if (free_frames(q) < want) e1000_tx_reclaim(q);
  uint32_t n = free_frames(q);
  if (n > want) n = want;
  for (uint32_t i = 0, slot = q->slot_next; i < n; i++, slot = slot + 1 == q->size ? 0 : slot + 1) {
    b->segments[i] = (struct segment){q->slots + (size_t)slot * q->slot_bytes, q->slot_bytes, slot};
    b->frames[i] = (struct frame){.first_segment = i, .segments = 1, .id = slot};
  }
  b->frames_n = b->segments_n = n;
  return n;
}

static void put_desc(struct e1000_tx_driver *q, uint64_t address, uint64_t rest, uint8_t frees) {
  q->ring[q->next] = (struct e1000_desc){address, rest};
  q->frees[q->next] = frees;
  q->next = q->next + 1 == q->size ? 0 : q->next + 1;
  q->used++;
}

/* Where the network header begins: behind one VLAN tag at most. */
static uint32_t network_start(const uint8_t *h) { return get_be16(h + 12) == 0x8100 ? 18 : 14; }

/* §3.5.5: what the stack leaves for the device to fill in must be zero, and the pseudo header's sum without the length. */
static void prototype(uint8_t *h, const struct frame *f, bool v4) {
  uint8_t *ip = h + network_start(h), *tcp = h + f->csum_start;
  uint64_t sum = (v4 ? get_be16(ip + 12) + get_be16(ip + 14) + get_be16(ip + 16) + get_be16(ip + 18) : 0) + 6u;
  for (uint32_t i = 8; !v4 && i < 40; i += 2) sum += get_be16(ip + i);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  put_be16(tcp + 16, (uint32_t)sum);
  if (v4) put_be16(ip + 2, 0), put_be16(ip + 10, 0);
  else put_be16(ip + 4, 0);
}

static void put_context(struct e1000_tx_driver *q, const struct frame *f, uint8_t *h, bool segment, bool v4) {
  uint32_t ip = network_start(h);
  uint64_t low = (uint64_t)ip | (uint64_t)(v4 ? ip + 10 : ip) << 8 | (uint64_t)(v4 ? f->csum_start - 1 : 0) << 16 |
                 (uint64_t)f->csum_start << 32 | (uint64_t)(f->csum_start + f->csum_offset) << 40;
  uint32_t command = E1000_RING_CMD_DEXT | E1000_RING_CMD_RS;
  uint64_t high = 0;
  if (segment) {
    uint32_t header = f->csum_start + (h[f->csum_start + 12] >> 4) * 4u;
    command |= E1000_RING_CMD_TSE | E1000_RING_TUCMD_TCP | (v4 ? E1000_RING_TUCMD_IP : 0);
    high = (f->len - header) | (uint64_t)header << 40 | (uint64_t)f->gso_size << 48;
  }
  high |= (uint64_t)command << E1000_RING_CMD_SHIFT;
  if (low == q->context[0] && high == q->context[1]) return; /* §3.3.5: it stays until another is loaded */
  put_desc(q, low, high, 0);
  q->context[0] = low, q->context[1] = high;
}

static void put_offloaded(struct e1000_tx_driver *q, const struct frame *f, uint64_t address, uint8_t *h) {
  bool segment = f->gso_type != VIRTIO_NET_GSO_NONE, v4 = (h[network_start(h)] >> 4) == 4;
  put_context(q, f, h, segment, v4);
  if (segment) prototype(h, f, v4);
  uint64_t options = E1000_RING_POPTS_TXSM | (segment && v4 ? E1000_RING_POPTS_IXSM : 0);
  uint64_t command = PLAIN_COMMAND | E1000_RING_CMD_DEXT | (segment ? E1000_RING_CMD_TSE : 0);
  put_desc(q, address, f->len | DATA_TYPE | command << E1000_RING_CMD_SHIFT | options << 40, 1);
}

/* Describe `count` filled frames from `first` on; return the new tail, for the device only after what was written here. */
uint32_t e1000_tx_send(struct e1000_tx_driver *q, const struct burst *b, uint32_t first, uint32_t count) {
  for (uint32_t i = first; i < first + count && i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    uint64_t offset = (uint64_t)f->id * q->slot_bytes, address = q->slots_gpa + offset;
    if (unlikely(f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && q->offload)) put_offloaded(q, f, address, q->slots + offset);
    else put_desc(q, address, f->len | (uint64_t)PLAIN_COMMAND << E1000_RING_CMD_SHIFT, 1);
    q->slot_next = q->slot_next + 1 == q->size ? 0 : q->slot_next + 1;
    q->slots_used++;
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
  for (uint32_t i = q->next, n = 1; n < q->size - q->taken; n++, i = i + 1 == q->size ? 0 : i + 1) {
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
    q->next = q->next + 1 == q->size ? 0 : q->next + 1;
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
    i = i + 1 == q->size ? 0 : i + 1;
    q->tail = q->tail + 1 == q->size ? 0 : q->tail + 1;
  }
  __atomic_thread_fence(__ATOMIC_RELEASE);
  return q->tail;
}
