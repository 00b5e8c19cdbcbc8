/* Transmit queues: descriptors to packets in device memory, and their write-back. 82576 datasheet §7.2.1 to §7.2.3. */
#include "nic_engine.h"

#define RATE_BURST_NS 10000000u /* what a queue that could not send may make up for */

static inline bool is_advanced(const struct nic_desc *d) { return (uint32_t)d->high & IGB_RING_TX_DEXT; }
static inline uint32_t desc_type(const struct nic_desc *d) { return (uint32_t)d->high >> IGB_RING_DTYP_SHIFT & 15; }
static inline bool is_context(const struct nic_desc *d) { return is_advanced(d) && desc_type(d) == IGB_RING_DTYP_CONTEXT; }

void nic_transmit_reset(struct nic_transmit *q) {
  for (uint32_t i = 0; i < q->lane.n; i++) {
    struct nic_job *job = &q->lane.jobs[(q->lane.first + i) % NIC_JOBS];
    job->dead = true, job->next = job->frames_n;
  }
  q->lane.blocked_ns = 0;
  ring_forget(&q->ring);
  q->ring.fetch = q->at = q->ring.head;
  q->starved = q->ring.here - 1;
  memset(q->contexts, 0, sizeof q->contexts);
}

static void stop_queue(struct nic_engine *e, uint32_t number, enum nic_fault fault) {
  struct nic_transmit *q = &e->tx[number];
  q->ring.fault = fault;
  e->faults |= 1u << number;
  if (fault == NIC_FAULT_DMA) e->count[q->pool].fault_dma++;
  else if (fault == NIC_FAULT_REGISTER) e->count[q->pool].fault_register++;
  else e->count[q->pool].fault_descriptor++;
}

/* What the descriptors from `used` on say, up to the end of a packet. */
struct scan { uint32_t descriptors, rs_n, len; bool end, bad; };

static struct scan scan_packet(const struct nic_transmit *q, uint8_t *sram) {
  struct scan s = {0};
  uint32_t there = q->ring.here - q->ring.used;
  while (s.descriptors < there && !s.end) {
    const struct nic_desc *d = ring_desc(&q->ring, sram, q->ring.used + s.descriptors++);
    uint32_t cmd = (uint32_t)d->high;
    if (unlikely(is_advanced(d) && desc_type(d) != IGB_RING_DTYP_DATA)) { s.bad = true; return s; }
    s.len += cmd & 0xffff;
    s.rs_n += (cmd & IGB_RING_TX_RS) != 0;
    s.end = cmd & IGB_RING_TX_EOP;
    if (unlikely(!s.end && s.descriptors == IGB_RING_PACKET_DESCRIPTORS_MAX)) { s.bad = true; return s; }
  }
  return s;
}

static void open_packet(struct nic_packet *p, const struct nic_transmit *q, uint8_t *sram, uint32_t len) {
  const struct nic_desc *d = ring_desc(&q->ring, sram, q->ring.used);
  p->len = len, p->cmd = (uint32_t)d->high, p->olinfo = (uint32_t)(d->high >> 32);
  p->macip_vlan = p->tucmd = p->mss_l4len = 0;
  if (!is_advanced(d)) return;
  const struct nic_desc *c = &q->contexts[p->olinfo >> IGB_RING_IDX_SHIFT & (IGB_RING_CONTEXTS - 1)];
  p->macip_vlan = (uint32_t)c->low, p->tucmd = (uint32_t)c->high, p->mss_l4len = (uint32_t)(c->high >> 32);
}

/* Hand `n` descriptors on: they belong to the job now, and those with RS go back to the driver when it has been read. */
static void consume(struct nic_transmit *q, struct nic_job *job, uint8_t *sram, uint32_t n) {
  for (uint32_t i = 0; i < n; i++, q->ring.used++) {
    const struct nic_desc *d = ring_desc(&q->ring, sram, q->ring.used);
    if ((uint32_t)d->high & IGB_RING_TX_RS && !is_context(d)) {
      ((struct nic_desc *)(sram + job->back))[job->rs_n] = (struct nic_desc){d->low, d->high | (uint64_t)IGB_RING_TX_DD << 32};
      job->rs[job->rs_n++] = q->at;
    }
    q->at = desc_after(&q->ring, q->at, 1);
  }
}

static void read_packet(struct nic_transmit *q, uint8_t *sram, uint32_t to, uint32_t descriptors) {
  for (uint32_t i = 0; i < descriptors; i++) {
    const struct nic_desc *d = ring_desc(&q->ring, sram, q->ring.used + i);
    uint32_t length = (uint16_t)d->high;
    if (length) dma_post(q->ring.dma, DMA_REQUEST_KIND_READ, d->low, length, to);
    to += length;
  }
}

static void charge_rate(struct nic_engine *e, struct nic_transmit *q, uint32_t len) {
  if (likely(!q->bits_per_second)) return;
  if (q->free_ns + RATE_BURST_NS < e->now_ns) q->free_ns = e->now_ns - RATE_BURST_NS;
  q->free_ns += (uint64_t)len * 8 * 1000000000u / q->bits_per_second;
}

enum taken { TAKEN, TAKEN_NOTHING, TAKEN_FULL, TAKEN_BAD };

/* Take one packet, or one context descriptor, into the job. */
static enum taken take_packet(struct nic_engine *e, struct nic_transmit *q, struct nic_job *job) {
  const struct nic_desc *d = ring_desc(&q->ring, e->sram, q->ring.used);
  if (unlikely(is_context(d))) {
    q->contexts[d->high >> (32 + IGB_RING_IDX_SHIFT) & (IGB_RING_CONTEXTS - 1)] = *d;
    consume(q, job, e->sram, 1);
    return TAKEN;
  }
  struct scan s = scan_packet(q, e->sram);
  if (unlikely(s.bad)) return TAKEN_BAD;
  if (unlikely(!s.end)) { q->starved = q->ring.here; return TAKEN_NOTHING; }
  struct nic_packet *p = &job->packets[job->packets_n]; /* it counts only when packets_n does */
  open_packet(p, q, e->sram, s.len);
  uint32_t extra, frames = nic_frames_of(p, &extra);
  if (unlikely(!frames)) { /* nothing can be sent of it; the descriptors are done all the same */
    if (job->rs_n + s.rs_n > NIC_JOB_FRAMES) return TAKEN_FULL;
    if (s.len < IGB_RING_ETHERNET_HEADER_BYTES) e->count[q->pool].dropped_too_short++;
    else e->count[q->pool].dropped_too_long++;
    consume(q, job, e->sram, s.descriptors);
    return TAKEN;
  }
  uint32_t room = NIC_HEADROOM + align16(s.len < IGB_RING_FRAME_MIN_BYTES ? IGB_RING_FRAME_MIN_BYTES : s.len);
  if (job->used + job->reserved + room + extra > NIC_JOB_BYTES || job->planned + frames > NIC_JOB_FRAMES ||
      job->rs_n + s.rs_n > NIC_JOB_FRAMES || dma_room(q->ring.dma) < s.descriptors)
    return TAKEN_FULL;
  p->at = job->base + job->used + NIC_HEADROOM, job->packets_n++;
  read_packet(q, e->sram, p->at, s.descriptors);
  job->used += room, job->reserved += extra, job->planned += frames;
  charge_rate(e, q, s.len);
  consume(q, job, e->sram, s.descriptors);
  return TAKEN;
}

static bool may_send(struct nic_engine *e, const struct nic_transmit *q) {
  if (!q->bits_per_second || q->free_ns <= e->now_ns) return true;
  nic_due(e, q->free_ns);
  return false;
}

/* Fill one job; false where nothing came of it. */
static bool fill_job(struct nic_engine *e, uint32_t number) {
  struct nic_transmit *q = &e->tx[number];
  struct nic_job *job = lane_open(&q->lane);
  if (!job) return false;
  uint32_t begun = q->ring.used;
  job->first = q->ring.dma->next;
  enum taken got = TAKEN;
  while (got == TAKEN && q->ring.used != q->ring.here && may_send(e, q)) got = take_packet(e, q, job);
  if (unlikely(got == TAKEN_BAD)) stop_queue(e, number, NIC_FAULT_DESCRIPTOR);
  if (q->ring.used == begun) return false;
  job->behind = q->ring.dma->next, job->done = q->at, job->phase = JOB_READING;
  q->lane.n++;
  return true;
}

/* First of all in a turn: what became of requests is lost when their slots are used again. */
void nic_transmit_arrivals(struct nic_engine *e, struct nic_transmit *q) {
  uint32_t number = (uint32_t)(q - e->tx);
  if (!q->ring.dma) return;
  int before = q->ring.fault;
  if (q->ring.fetches.n && ring_arrivals(&q->ring)) e->moved = true;
  if (unlikely(q->ring.fault != before)) stop_queue(e, number, NIC_FAULT_DMA);
  for (uint32_t i = 0; i < q->lane.n; i++) {
    struct nic_job *job = &q->lane.jobs[(q->lane.first + i) % NIC_JOBS];
    if (job->phase != JOB_READING) continue;
    if (!landed(q->ring.dma, job->behind)) break;
    uint32_t refused = 0;
    for (uint32_t at = job->first; at != job->behind; at++) refused |= dma_status(q->ring.dma, at);
    if (unlikely(refused) && !job->dead) {
      job->dead = true;
      stop_queue(e, number, NIC_FAULT_DMA);
    }
    job->phase = JOB_ARRIVED, e->moved = true;
  }
}

/* §7.2.3: what was read belongs to the driver again; false where there is no room for the requests. */
static bool write_back(struct nic_engine *e, uint32_t number, struct nic_job *job) {
  struct nic_transmit *q = &e->tx[number];
  dma_requester_t *dma = q->ring.dma;
  if (dma_room(dma) < job->rs_n + 1) return false;
  if (q->head_address) {
    uint32_t at = q->head_back + 4 * (uint32_t)(job - q->lane.jobs);
    memcpy(e->sram + at, &job->done, 4);
    dma_post(dma, DMA_REQUEST_KIND_WRITE, q->head_address, 4, at);
  } else {
    for (uint32_t i = 0, n; i < job->rs_n; i += n) {
      for (n = 1; i + n < job->rs_n && n < NIC_RUN_MAX && job->rs[i + n] == job->rs[i] + n;) n++;
      dma_post(dma, DMA_REQUEST_KIND_WRITE, q->ring.base + (uint64_t)job->rs[i] * sizeof(struct nic_desc),
               n * (uint32_t)sizeof(struct nic_desc), job->back + i * (uint32_t)sizeof(struct nic_desc));
    }
  }
  job->leaving |= 1u << q->ring.function, job->written[q->ring.function] = dma->next;
  if (job->rs_n) e->tx_events |= 1u << number;
  q->ring.head = job->done;
  return true;
}

/* Make frames of what has been read. */
static void arrived(struct nic_engine *e, uint32_t number, struct nic_job *job) {
  if (!job->dead) {
    if (!write_back(e, number, job)) return;
    for (uint32_t i = 0; i < job->packets_n; i++) nic_make_frames(e, number, job, &job->packets[i]);
  }
  job->phase = JOB_MOVING, e->moved = true;
}

void nic_transmit_work(struct nic_engine *e, uint32_t number) {
  struct nic_transmit *q = &e->tx[number];
  for (uint32_t i = 0; i < q->lane.n; i++) {
    struct nic_job *job = &q->lane.jobs[(q->lane.first + i) % NIC_JOBS];
    if (job->phase == JOB_ARRIVED) arrived(e, number, job);
    if (job->phase == JOB_ARRIVED || job->phase == JOB_READING) break;
  }
  if (q->lane.n) nic_lane_move(e, &q->lane);
  if (!ring_up(&q->ring) || !e->sw.transmit || (e->sw.pooled && !e->sw.pools[q->pool].transmits)) return;
  if (ring_prefetch(&q->ring)) e->moved = true;
  if (unlikely(q->ring.fault)) { stop_queue(e, number, q->ring.fault); return; }
  while (q->ring.used != q->ring.here && q->starved != q->ring.here && fill_job(e, number)) e->moved = true;
}
