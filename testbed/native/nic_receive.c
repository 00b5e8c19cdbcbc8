/* Receive queues: frames in device memory into the buffers of free descriptors. 82576 datasheet §7.1.3 to §7.1.7. */
#include "nic_engine.h"
#include "trace.h"

#define HEAD_BYTES 256

void nic_receive_reset(struct nic_receive *q) {
  ring_forget(&q->ring);
  q->ring.fetch = q->first_index = q->ring.head;
  q->first = q->filled = q->back = 0;
  q->writes.first = q->writes.n = 0;
  q->stalled = false;
}

static void stop_queue(struct nic_engine *e, struct nic_receive *q) {
  if (q->ring.fault == NIC_FAULT_DMA) e->count[q->pool].fault_dma++;
  else e->count[q->pool].fault_register++;
  e->faults |= 1u << (NIC_QUEUES + (uint32_t)(q - e->rx));
}

void nic_receive_arrivals(struct nic_engine *e, struct nic_receive *q) {
  if (!q->ring.dma) return;
  int before = q->ring.fault;
  if (q->ring.fetches.n && ring_arrivals(&q->ring)) e->moved = true;
  if (unlikely(q->ring.fault != before)) stop_queue(e, q);
  for (; q->writes.n && landed(q->ring.dma, q->writes.f[q->writes.first].behind); flights_drop(&q->writes)) {
    q->back += q->writes.f[q->writes.first].count;
    e->moved = true;
  }
}

void nic_receive_work(struct nic_engine *e, struct nic_receive *q) {
  if (!ring_up(&q->ring)) return;
  if (ring_prefetch(&q->ring)) e->moved = true;
  if (unlikely(q->ring.fault)) stop_queue(e, q);
}

/* What a frame's headers say, looked at once for each pool that gets it. */
struct view {
  const uint8_t *frame;
  uint32_t len, head_n;
  bool tagged, ip;
  struct l3 l;
  uint32_t hash, rss_type;
};

static struct view look(const struct nic_engine *e, const struct nic_frame *f) {
  struct view v = {.frame = e->sram + f->at, .len = f->len};
  v.head_n = v.len < HEAD_BYTES ? v.len : HEAD_BYTES;
  v.tagged = get_be16(v.frame + 12) == e->sw.vet && e->sw.vet;
  v.ip = parse_l3(&v.l, v.frame, v.head_n, v.len, true);
  if (v.ip && (e->rss.on || e->rss.pools)) v.rss_type = rss_hash(&e->rss, &v.l, v.frame, v.head_n, &v.hash);
  return v;
}

static uint32_t queue_of(const struct nic_engine *e, uint32_t pool, const struct view *v) {
  uint32_t entry = v->rss_type ? e->rss.table[v->hash & (RSS_TABLE - 1)] : 0;
  if (e->sw.pooled) return e->rss.pools && e->sw.pools[pool].rss && entry & 1 ? pool + NIC_POOLS : pool;
  return e->rss.on ? entry & (NIC_QUEUES - 1) : e->rss.default_queue;
}

static bool too_long(const struct nic_engine *e, uint32_t pool, const struct view *v) {
  uint32_t most = e->sw.pooled ? e->sw.pools[pool].frame_max : e->sw.frame_max;
  return v->len + IGB_RING_FCS_BYTES > most + (v->tagged ? IGB_RING_VLAN_TAG_BYTES : 0);
}

static uint32_t packet_type(const struct view *v) {
  if (!v->ip) return 0;
  uint32_t type = v->l.version == 4 ? IGB_RING_RX_TYPE_IPV4 : IGB_RING_RX_TYPE_IPV6;
  uint32_t fixed = v->l.version == 4 ? 20 : 40;
  if (v->l.payload - v->l.start > fixed) type |= v->l.version == 4 ? IGB_RING_RX_TYPE_IPV4_OPTIONS : IGB_RING_RX_TYPE_IPV6_EXTENSIONS;
  if (!v->l.fragment && v->l.protocol == PROTOCOL_TCP) type |= IGB_RING_RX_TYPE_TCP;
  if (!v->l.fragment && v->l.protocol == PROTOCOL_UDP) type |= IGB_RING_RX_TYPE_UDP;
  return type;
}

/* §7.1.11: status and error bits of the checksums in the frame. */
static uint32_t checksum_status(const struct nic_engine *e, const struct view *v) {
  uint32_t status = 0;
  if (!v->ip) return 0;
  if (v->l.version == 4 && e->offloads.check_ip) {
    status |= IGB_RING_RX_STATUS_IPCS;
    if (sum_fold(sum_bytes(v->frame + v->l.start, v->l.payload - v->l.start)) != 0xffff) status |= IGB_RING_RX_ERROR_IPE;
  }
  if (!e->offloads.check_l4 || v->l.fragment || !l4_checksummed(&v->l, v->frame, v->head_n)) return status;
  status |= IGB_RING_RX_STATUS_L4CS | (v->l.protocol == PROTOCOL_UDP ? IGB_RING_RX_STATUS_UDPCS : 0);
  uint64_t sum = sum_bytes(v->frame + v->l.payload, v->l.end - v->l.payload) + pseudo_sum(&v->l, v->frame);
  return sum_fold(sum) == 0xffff ? status : status | IGB_RING_RX_ERROR_L4E;
}

/* What is the same in every descriptor of a frame. */
struct image { uint64_t low; uint32_t status; uint16_t vlan; bool strip; };

static struct image describe(const struct nic_engine *e, uint32_t pool, const struct view *v, const struct nic_frame *f, uint32_t from) {
  struct image m = {.low = v->rss_type | packet_type(v) | (e->offloads.packet_checksum_off ? (uint64_t)v->hash << 32 : 0),
                    .status = checksum_status(e, v) | (from != NIC_FROM_WIRE ? IGB_RING_RX_STATUS_LB : 0)};
  if (unlikely(v->tagged)) {
    uint32_t pools = f->all & (NIC_WIRE - 1);
    m.strip = pools & (pools - 1) ? e->sw.replicated_strip_vlan : e->sw.pools[pool].strip_vlan;
    if (m.strip && !e->sw.pools[pool].hide_vlan) m.status |= IGB_RING_RX_STATUS_VP, m.vlan = get_be16(v->frame + 14);
  }
  return m;
}

static void fill(struct nic_engine *e, struct nic_receive *q, const struct image *m, uint32_t length, bool end) {
  uint32_t number = q->filled++, status = IGB_RING_RX_STATUS_DD | (end ? IGB_RING_RX_STATUS_EOP | m->status : 0);
  struct nic_desc *to = (struct nic_desc *)(e->sram + q->write_back) + (number & NIC_CACHE_MASK);
  if (likely(!q->legacy)) {
    *to = (struct nic_desc){m->low, (uint64_t)m->vlan << 48 | (uint64_t)length << 32 | status};
    return;
  }
  uint8_t errors = (uint8_t)((m->status & IGB_RING_RX_ERROR_IPE ? IGB_RING_RX_LEGACY_ERROR_IPE : 0) |
                             (m->status & IGB_RING_RX_ERROR_L4E ? IGB_RING_RX_LEGACY_ERROR_L4E : 0));
  uint64_t address = ring_desc(&q->ring, e->sram, q->ring.used - 1)->low;
  *to = (struct nic_desc){address, length | (uint64_t)(status & 0xff) << 32 | (uint64_t)(end ? errors : 0) << 40 | (uint64_t)m->vlan << 48};
}

/* Writes a frame's bytes into the buffers of consecutive descriptors. */
struct filler { struct nic_receive *q; uint64_t to; uint32_t room, used; };

static void filler_put(struct nic_engine *e, struct filler *w, const struct image *m, uint32_t at, uint32_t n) {
  while (n) {
    if (w->room == 0) {
      if (w->used) fill(e, w->q, m, w->used, false);
      w->to = ring_desc(&w->q->ring, e->sram, w->q->ring.used++)->low;
      w->room = w->q->buffer_bytes, w->used = 0;
    }
    uint32_t take = w->room < n ? w->room : n;
    dma_post(w->q->ring.dma, DMA_REQUEST_KIND_WRITE, w->to, take, at);
    w->to += take, w->room -= take, w->used += take, at += take, n -= take;
  }
}

static void store(struct nic_engine *e, struct nic_receive *q, const struct nic_frame *f, const struct image *m) {
  struct filler w = {.q = q};
  if (unlikely(m->strip)) {
    filler_put(e, &w, m, f->at, 12);
    filler_put(e, &w, m, f->at + 12 + IGB_RING_VLAN_TAG_BYTES, f->len - 12u - IGB_RING_VLAN_TAG_BYTES);
  } else {
    filler_put(e, &w, m, f->at, f->len);
  }
  fill(e, q, m, w.used, true);
}

static void count_delivered(struct nic_engine *e, uint32_t pool, const struct nic_frame *f, uint32_t from) {
  uint32_t octets = f->len + IGB_RING_FCS_BYTES;
  igb_pool_statistics_t *s = &e->pool_stats[pool];
  s->vfgprc++, s->vfgorc += octets;
  if (unlikely(e->sram[f->at] & 1)) s->vfmprc++;
  if (from != NIC_FROM_WIRE) s->vfgprlbc++, s->vfgorlbc += octets;
  else e->count[pool].rx_wire_frames++;
  e->count[pool].rx_frames++, e->count[pool].rx_bytes += f->len;
}

static enum nic_put no_descriptor(struct nic_engine *e, struct nic_receive *q, uint32_t pool) {
  if (!q->drop && !q->stalled) return NIC_PUT_WAIT;
  q->dropped++, e->dropping |= 1u << (q - e->rx);
  if (q->stalled) e->count[pool].dropped_stalled++;
  else e->count[pool].dropped_no_descriptor++;
  return NIC_PUT_DONE;
}

/* A queue that stalled gives senders reason to wait again: its driver is alive, and there is room. Without new descriptors it is only
 * that shorter frames fit, and each that does not would hold everybody back once more. */
static bool recovered(const struct nic_receive *q) {
  return load_relaxed(&q->ring.tail->value) != q->stalled_tail && (q->ring.here - q->ring.used) * 4 >= q->ring.size;
}

/* Put a frame into a pool's queue. NIC_PUT_WAIT: there is no room, and it must not be dropped. */
enum nic_put nic_receive_put(struct nic_engine *e, uint32_t pool, struct nic_job *job, const struct nic_frame *f, uint32_t from) {
  struct view v = look(e, f);
  struct nic_receive *q = &e->rx[queue_of(e, pool, &v)];
  if (unlikely(!ring_up(&q->ring) || !q->buffer_bytes)) { e->count[pool].dropped_queue_off++; return NIC_PUT_DONE; }
  uint32_t need = (f->len + q->buffer_bytes - 1) / q->buffer_bytes;
  if (unlikely(too_long(e, pool, &v) || need >= q->ring.size || need > NIC_CACHE / 2)) {
    e->count[pool].dropped_too_long++, e->stats->roc++;
    return NIC_PUT_DONE;
  }
  if (unlikely(q->ring.here - q->ring.used < need)) return no_descriptor(e, q, pool);
  if (unlikely(q->filled + need - q->back > NIC_CACHE)) nic_receive_flush(e, (uint32_t)(q - e->rx));
  if (unlikely(q->filled + need - q->back > NIC_CACHE || dma_room(q->ring.dma) < 2 * need + 2)) return NIC_PUT_WAIT;
  trace_frame(TRACE_NIC_QUEUED, v.frame, v.len, pool, (uint64_t)(q - e->rx));
  struct image m = describe(e, pool, &v, f, from);
  store(e, q, f, &m);
  if (unlikely(q->stalled)) q->stalled = !recovered(q);
  job->leaving |= 1u << q->ring.function, job->written[q->ring.function] = q->ring.dma->next;
  count_delivered(e, pool, f, from);
  return NIC_PUT_DONE;
}

/* A frame waited too long for this pool. */
void nic_receive_stall(struct nic_engine *e, uint32_t pool, const struct nic_frame *f) {
  struct view v = look(e, f);
  struct nic_receive *q = &e->rx[queue_of(e, pool, &v)];
  if (q->ring.tail) q->stalled_tail = load_relaxed(&q->ring.tail->value); /* none: another queue than when it began to wait */
  q->stalled = true, q->dropped++, e->dropping |= 1u << (q - e->rx);
  e->count[pool].dropped_stalled++;
}

/* Write filled descriptors back: behind the data, in runs that are ordered word by word, the status in the last word of each. */
void nic_receive_flush(struct nic_engine *e, uint32_t number) {
  struct nic_receive *q = &e->rx[number];
  while (q->first != q->filled && flights_room(&q->writes)) {
    uint32_t n = q->filled - q->first, to_end = NIC_CACHE - (q->first & NIC_CACHE_MASK);
    if (n > to_end) n = to_end;
    if (n > q->ring.size - q->first_index) n = q->ring.size - q->first_index;
    if (n > NIC_RUN_MAX) n = NIC_RUN_MAX;
    uint32_t at = q->write_back + (q->first & NIC_CACHE_MASK) * (uint32_t)sizeof(struct nic_desc);
    if (!dma_post(q->ring.dma, DMA_REQUEST_KIND_WRITE, q->ring.base + (uint64_t)q->first_index * sizeof(struct nic_desc),
                  n * (uint32_t)sizeof(struct nic_desc), at)) break;
    flights_add(&q->writes, q->ring.dma->next, n);
    q->first += n, q->first_index = desc_after(&q->ring, q->first_index, n);
    e->rx_events |= 1u << number, e->moved = true;
  }
  q->ring.head = q->first_index;
}
