/* From a source to every destination: the switch, the wire, and waiting for who has no room. */
#include "nic_engine.h"
#include "trace.h"

/* Return an empty job behind those under way, NULL where there is none. It counts only when lane->n does. */
struct nic_job *lane_open(struct nic_lane *lane) {
  if (lane->n == NIC_JOBS) return NULL;
  struct nic_job *job = &lane->jobs[(lane->first + lane->n) % NIC_JOBS];
  job->phase = JOB_FREE, job->dead = false;
  job->used = job->packets_n = job->frames_n = job->next = job->planned = job->reserved = job->rs_n = job->leaving = 0;
  return job;
}

static void count_sent(struct nic_engine *e, const uint8_t *frame, uint32_t len, uint32_t pool, uint32_t to) {
  uint32_t octets = len + IGB_RING_FCS_BYTES;
  igb_pool_statistics_t *p = &e->pool_stats[pool];
  p->vfgptc++, p->vfgotc += octets;
  if (to & (NIC_WIRE - 1)) p->vfgptlbc++, p->vfgotlbc += octets;
  e->count[pool].tx_frames++, e->count[pool].tx_bytes += len;
  if (!(to & NIC_WIRE)) return;
  igb_statistics_t *s = e->stats;
  s->tpt++, s->gptc++, s->tot += octets, s->gotc += octets;
  s->hgptc++, s->hgotc += octets;
  count_size(&s->ptc64, octets);
  if (unlikely(frame[0] & 1)) {
    uint64_t mac = 0;
    memcpy(&mac, frame, 6);
    if (mac == 0xffffffffffffull) s->bptc++;
    else s->mptc++;
  }
}

static void add_frame(struct nic_job *job, uint32_t at, uint32_t len, uint32_t to) {
  job->frames[job->frames_n++] = (struct nic_frame){.at = at, .len = (uint16_t)len, .to = (uint16_t)to, .all = (uint16_t)to};
}

#define MEMO_VALID 0x80000000u

/* The switch's decision, made once for all frames alike. */
static const struct nic_memo *decided(struct nic_engine *e, const struct nic_header *h, uint32_t from) {
  uint32_t key = MEMO_VALID | from << 16 | (uint32_t)h->tagged << 15 | h->vlan;
  uint64_t mixed = (h->destination * 31 + h->source + key) * 0x9e3779b97f4a7c15ull;
  struct nic_memo *m = &e->memos[mixed >> 58];
  if (unlikely(m->key != key || m->destination != h->destination || m->source != h->source))
    *m = (struct nic_memo){.destination = h->destination, .source = h->source, .key = key, .to = nic_decide(&e->sw, h, from),
                           .permitted = from == NIC_FROM_WIRE || !e->sw.pooled || nic_permits(&e->sw, h, from)};
  return m;
}

/* A frame that a queue sends: is it allowed, and where does it go? */
void nic_send(struct nic_engine *e, struct nic_job *job, uint32_t at, uint32_t len, uint32_t queue) {
  const uint8_t *frame = e->sram + at;
  uint32_t pool = e->tx[queue].pool;
  if (unlikely(len < IGB_RING_ETHERNET_HEADER_BYTES + IGB_RING_VLAN_TAG_BYTES)) { e->count[pool].dropped_too_short++; return; }
  struct nic_header h = nic_header(&e->sw, frame);
  const struct nic_memo *m = decided(e, &h, pool);
  if (unlikely(!m->permitted)) {
    e->spoofed[queue]++, e->spoofing |= 1u << queue, e->count[pool].dropped_spoof++;
    return;
  }
  uint32_t to = m->to;
  if (unlikely(to & NIC_WIRE && !(e->wired && e->sw.link_up))) {
    to &= ~NIC_WIRE;
    if (!to) { e->count[pool].dropped_link_down++; return; }
  }
  if (unlikely(!to)) { e->count[pool].dropped_no_receiver++; return; }
  trace_frame(TRACE_NIC_DECIDED, frame, len, 1u << pool, to);
  count_sent(e, frame, len, pool, to);
  add_frame(job, at, len, to);
}

/* Give one frame to whoever has not had it; false: somebody has no room. */
static bool deliver(struct nic_engine *e, const struct nic_lane *lane, struct nic_job *job, struct nic_frame *f) {
  for (uint32_t left = f->to; left; left &= left - 1) {
    uint32_t bit = left & -left;
    if (bit == NIC_WIRE) {
      if (e->wired && e->sw.link_up) {
        if (!wire_put(&e->out, e->sram + f->at, f->len, e->now_ns)) continue;
        e->count[lane->from].tx_wire_frames++;
      }
    } else if (nic_receive_put(e, (uint32_t)__builtin_ctz(bit), job, f, lane->from) == NIC_PUT_WAIT) {
      continue;
    }
    f->to &= (uint16_t)~bit, e->moved = true;
  }
  return !f->to;
}

/* A receiver that takes nothing for so long holds nobody back any more. A full wire is waited for: its other end sees to it.
 * The last part of the time begins when it is looked at: after a pause of the whole machine the receiver has its turn first. */
static bool give_up(struct nic_engine *e, struct nic_lane *lane, struct nic_frame *f) {
  uint64_t last_ns = e->stall_ns / 8;
  if (!lane->blocked_ns) lane->blocked_ns = e->now_ns, lane->last_look_ns = 0;
  if (!(f->to & (NIC_WIRE - 1))) return false;
  if (!lane->last_look_ns && e->now_ns - lane->blocked_ns >= e->stall_ns - last_ns) lane->last_look_ns = e->now_ns;
  uint64_t until_ns = lane->last_look_ns ? lane->last_look_ns + last_ns : lane->blocked_ns + e->stall_ns - last_ns;
  if (e->now_ns < until_ns) {
    nic_due(e, until_ns);
    return false;
  }
  for (uint32_t left = f->to & (NIC_WIRE - 1); left; left &= left - 1) nic_receive_stall(e, (uint32_t)__builtin_ctz(left), f);
  f->to &= NIC_WIRE, e->moved = true;
  return !f->to;
}

static bool gone(struct nic_engine *e, const struct nic_job *job) {
  for (uint32_t left = job->leaving; left; left &= left - 1) {
    uint32_t function = (uint32_t)__builtin_ctz(left);
    if (!landed(e->dma[function], job->written[function])) return false;
  }
  return true;
}

static bool move_job(struct nic_engine *e, struct nic_lane *lane, struct nic_job *job) {
  for (; job->next < job->frames_n; job->next++) {
    struct nic_frame *f = &job->frames[job->next];
    if (!deliver(e, lane, job, f) && !give_up(e, lane, f)) return false;
    lane->blocked_ns = 0;
  }
  job->phase = JOB_LEAVING;
  return true;
}

/* Frames leave in order; a job's memory is free when everything that was written from it has landed. */
void nic_lane_move(struct nic_engine *e, struct nic_lane *lane) {
  for (uint32_t i = 0; i < lane->n; i++) {
    struct nic_job *job = &lane->jobs[(lane->first + i) % NIC_JOBS];
    if (job->phase == JOB_READING || job->phase == JOB_ARRIVED) break;
    if (job->phase == JOB_MOVING && !move_job(e, lane, job)) break;
  }
  while (lane->n && lane->jobs[lane->first].phase == JOB_LEAVING && gone(e, &lane->jobs[lane->first])) {
    lane->jobs[lane->first].phase = JOB_FREE;
    lane->first = (lane->first + 1) % NIC_JOBS, lane->n--;
    e->moved = true;
  }
}

static void count_received(struct nic_engine *e, const uint8_t *frame, uint32_t len) {
  uint32_t octets = len + IGB_RING_FCS_BYTES;
  igb_statistics_t *s = e->stats;
  s->tpr++, s->gprc++, s->tor += octets, s->gorc += octets;
  s->hgorc += octets, s->rpthc++;
  count_size(&s->prc64, octets);
  if (likely(!(frame[0] & 1))) return;
  uint64_t mac = 0;
  memcpy(&mac, frame, 6);
  if (mac == 0xffffffffffffull) s->bprc++;
  else s->mprc++;
}

/* The filters look at a frame's header as it comes in; only what passes them is stored. What was judged is what is stored. */
static uint32_t claimed(struct nic_engine *e, const uint8_t *from, uint32_t at, uint32_t length) {
  const uint32_t head = IGB_RING_ETHERNET_HEADER_BYTES + IGB_RING_VLAN_TAG_BYTES;
  if (unlikely(length < head) || !e->sw.link_up || !e->sw.receive) return 0;
  memcpy(e->sram + at, from, head);
  struct nic_header h = nic_header(&e->sw, e->sram + at);
  uint32_t to = decided(e, &h, NIC_FROM_WIRE)->to;
  if (to) memcpy(e->sram + at + head, from + head, length - head);
  return to;
}

static void count_unclaimed(struct nic_engine *e, uint32_t length) {
  if (!e->unclaimed.n++) e->unclaimed.first_ns = e->now_ns;
  e->unclaimed.bytes += length, e->unclaimed.last_ns = e->now_ns;
}

/* Frames from the wire, a job full at a time. */
static bool ingress_job(struct nic_engine *e) {
  struct nic_job *job = lane_open(&e->ingress);
  if (!job) return false;
  uint32_t taken = 0, length;
  uint64_t due_ns = 0;
  const uint8_t *from;
  while (taken < NIC_JOB_FRAMES && job->used + NIC_HEADROOM + WIRE_FRAME_BYTES_MAX < NIC_JOB_BYTES &&
         (from = wire_peek(&e->in, &length, e->now_ns, &due_ns))) {
    trace_frame(TRACE_WIRE_IN, from, length, 0, 0);
    uint32_t at = job->base + job->used, to = claimed(e, from, at, length);
    if (to) {
      trace_frame(TRACE_NIC_DECIDED, e->sram + at, length, NIC_WIRE, to);
      count_received(e, e->sram + at, length);
      add_frame(job, at, length, to);
      job->used += align16(length);
    } else {
      count_unclaimed(e, length);
    }
    wire_take(&e->in, length);
    taken++;
  }
  if (due_ns) nic_due(e, due_ns);
  if (!taken) return false;
  job->phase = JOB_MOVING, e->ingress.n++;
  return true;
}

void nic_ingress(struct nic_engine *e) {
  if (e->wired) wire_look(&e->in);
  do nic_lane_move(e, &e->ingress);
  while (e->wired && ingress_job(e) && (e->moved = true));
}
