#include "e1000_receive.h"
#include "e1000_checksum.h"
#include "e1000_parse.h"
#include "trace.h"

#define HEAD_BYTES 256 /* enough for every header that is looked at */

static const uint8_t zeros[64];

void e1000_receive_reset(struct e1000_receive *q) {
  q->ring.head = q->ring.tail = q->ring.size = 0;
  if (q->wanted) q->wanted = 1; /* whoever waits is to hear of this */
  q->ring.enabled = q->over_threshold = false, q->ring.fault = 0;
}

/* Room again for a sender that waits, or a receiver that is off, for which nobody is to wait. */
int e1000_receive_ready(void *queue) {
  struct e1000_receive *q = queue;
  if (!q->wanted) return false;
  if (!q->ring.enabled) return true;
  if (!ring_usable(&q->ring) || q->ring.head >= q->ring.size || q->ring.tail >= q->ring.size) return false;
  return ring_owned(&q->ring, q->ring.head) >= q->wanted;
}

static inline bool over_threshold(const struct e1000_receive *q) {
  return ring_owned(&q->ring, q->ring.head) > q->ring.size >> q->threshold_shift;
}

void e1000_receive_tail(struct e1000_receive *q, uint32_t tail) {
  q->ring.tail = tail, q->ring.fault = 0;
  q->over_threshold = q->ring.head < q->ring.size && tail < q->ring.size && over_threshold(q);
}

/* A frame on its way in. */
struct incoming {
  const struct segment *segments;
  uint32_t segments_n, len; /* as the sender gave it */
  uint8_t head[HEAD_BYTES];
  uint32_t head_n;
  uint32_t padded;          /* with the padding that a MAC adds, without FCS */
  bool tagged, strip, inexact;
  uint8_t status, errors;
  uint16_t special, checksum;
};

static void open_frame(struct incoming *in, const struct burst *b, const struct frame *f) {
  in->segments = &b->segments[f->first_segment], in->segments_n = f->segments, in->len = f->len;
  in->head_n = frame_read(b, f, 0, in->head, HEAD_BYTES);
}

static bool is_pause_address(const struct e1000_receive *q, const struct incoming *in) {
  const struct e1000_address *station = &q->filter.address[0];
  return !memcmp(in->head, q->filter.control_mac, 6) || (station->valid && !memcmp(in->head, station->mac, 6));
}

/* MAC control frames (§13.4.22 DPF and PMCF); true: the frame ends here. */
static bool filter_control(struct e1000_receive *q, const struct incoming *in) {
  if (!is_pause_address(q, in)) return false;
  uint16_t opcode = get_be16(in->head + 14);
  if (opcode != 1) {
    q->stats->fcruc++;
    return !q->filter.pass_control;
  }
  if (get_be16(in->head + 16)) q->stats->xoffrxc++;
  else q->stats->xonrxc++;
  return q->filter.discard_pause;
}

static bool accept_frame(struct e1000_receive *q, struct incoming *in) {
  if (unlikely(in->head_n < E1000_RING_ETHERNET_HEADER_BYTES)) return false;
  enum filtered way = filter_address(&q->filter, in->head);
  if (way == FILTER_REJECT) return false;
  in->inexact = way == FILTER_INEXACT;
  uint16_t type = get_be16(in->head + 12);
  if (unlikely(type == q->filter.control_type && type && in->head_n >= 18 && filter_control(q, in))) return false;
  in->tagged = type == q->filter.vet && q->filter.vet && in->head_n >= 18;
  return !in->tagged || filter_vlan(&q->filter, in->head);
}

/* §13.7.36: too long for the receiver as it is set; the length on the wire counts. */
static bool oversize(struct e1000_receive *q, uint32_t wire) {
  uint32_t most = q->long_frames ? E1000_RING_LONG_FRAME_MAX_BYTES : E1000_RING_FRAME_MAX_BYTES;
  if (likely(wire <= most)) return false;
  q->stats->roc++, q->stats->rlec++, q->stats->tpr++, q->stats->tor += wire;
  q->count->dropped_too_long++;
  return true;
}

static void count_frame(struct e1000_receive *q, const struct incoming *in) {
  e1000_statistics_t *s = q->stats;
  uint32_t wire = in->padded + E1000_RING_FCS_BYTES;
  s->tpr++, s->gprc++, s->tor += wire, s->gorc += wire;
  count_size(&s->prc64, wire);
  if (likely(!(in->head[0] & 1))) return;
  if (is_broadcast(in->head)) s->bprc++;
  else s->mprc++;
}

/* §3.2.9: what the receiver says about the checksums inside the frame. */
static void check_sums(struct e1000_receive *q, struct incoming *in) {
  if (!(q->check_ip | q->check_tu)) { in->status |= E1000_RING_RX_STATUS_IXSM; return; }
  struct l3 l;
  if (!parse_l3(&l, in->head, in->head_n, in->len, q->check_ipv6)) { in->status |= E1000_RING_RX_STATUS_IXSM; return; }
  if (l.version == 4 && q->check_ip) {
    in->status |= E1000_RING_RX_STATUS_IPCS;
    if (sum_frame(in->segments, in->segments_n, l.start, l.payload) != 0xffff) in->errors |= E1000_RING_RX_ERROR_IPE;
  }
  if (q->check_tu && !l.fragment && l4_checksummed(&l, in->head, in->head_n)) {
    in->status |= E1000_RING_RX_STATUS_TCPCS;
    uint64_t sum = sum_frame(in->segments, in->segments_n, l.payload, l.end);
    if (sum_fold(sum + pseudo_sum(&l, in->head)) != 0xffff) in->errors |= E1000_RING_RX_ERROR_TCPE;
  }
}

/* Writes a frame's bytes into the buffers of consecutive descriptors. */
struct filler {
  struct e1000_receive *q;
  struct e1000_desc *ring;
  uint32_t at;     /* descriptor that is being filled */
  uint8_t *to;
  uint32_t room, used;
  uint32_t left;   /* bytes still to be stored when the buffer was opened */
  bool lost;       /* a buffer is not in memory */
};

/* A descriptor without an address takes no data; it is written back with DD and nothing else changed (§3.2.5.2). */
static inline bool pass_null(struct e1000_desc *d) {
  if (likely(load_relaxed(&d->address))) return false;
  store_release(&d->rest, load_relaxed(&d->rest) | (uint64_t)E1000_RING_RX_STATUS_DD << 32);
  return true;
}

/* Open the buffer of the next descriptor that has one; `enough` has seen that there is one. */
static void filler_open(struct filler *f) {
  struct e1000_receive *q = f->q;
  while (unlikely(pass_null(&f->ring[f->at])) && ring_after(&q->ring, f->at) != q->ring.tail) f->at = ring_after(&q->ring, f->at);
  f->used = 0, f->room = q->buffer_bytes;
  f->to = regions_resolve(q->ring.memory, load_relaxed(&f->ring[f->at].address), f->left < f->room ? f->left : f->room);
  if (unlikely(!f->to)) f->lost = true;
  else trace_translated(q->ring.memory, f->at, f->ring[f->at].address, f->to, f->room);
}

static inline uint64_t written_back(const struct incoming *in, uint32_t length, uint8_t status) {
  bool end = status & E1000_RING_RX_STATUS_EOP;
  return (uint64_t)length | (uint64_t)in->checksum << 16 | (uint64_t)(uint8_t)(status | (end ? in->status : 0)) << 32 |
         (uint64_t)(end ? in->errors : 0) << 40 | (uint64_t)(end ? in->special : 0) << 48;
}

/* The descriptor's second half is one aligned store with release: whoever sees DD sees length, errors and the data. */
static void filler_close(struct filler *f, const struct incoming *in, bool end) {
  uint8_t status = E1000_RING_RX_STATUS_DD | (end ? E1000_RING_RX_STATUS_EOP : 0);
  if (f->to) trace_frame(TRACE_FRAME_COPIED, f->to, f->used, (uintptr_t)in->segments->host, (uintptr_t)f->to);
  trace_event(TRACE_WRITTEN_BACK, 0, f->at, (uintptr_t)&f->ring[f->at], 0, 0);
  store_release(&f->ring[f->at].rest, written_back(in, f->used, status));
  f->at = ring_after(&f->q->ring, f->at);
}

static void filler_put(struct filler *f, const struct incoming *in, const uint8_t *from, uint32_t n) {
  while (n) {
    if (f->room == 0) {
      filler_close(f, in, false);
      filler_open(f);
    }
    uint32_t take = f->room < n ? f->room : n;
    if (likely(f->to)) memcpy(f->to + f->used, from, take);
    f->used += take, f->room -= take, f->left -= take, from += take, n -= take;
  }
}

/* Put the frame's bytes from `offset` up to `end`. */
static void filler_frame(struct filler *f, const struct incoming *in, uint32_t offset, uint32_t end) {
  const struct segment *s = in->segments, *last = s + in->segments_n;
  for (uint32_t at = 0; s < last && at < end; at += s->len, s++) {
    if (at + s->len <= offset) continue;
    uint32_t skip = offset > at ? offset - at : 0, stop = at + s->len < end ? s->len : end - at;
    filler_put(f, in, s->host + skip, stop - skip);
  }
}

static uint32_t padded_fcs(const struct incoming *in) {
  uint32_t crc = ~fcs_frame(in->segments, in->segments_n, in->len);
  return ~e1000_fcs(crc, zeros, in->padded - in->len);
}

static uint32_t stored_bytes(const struct e1000_receive *q, const struct incoming *in) {
  return in->padded - (in->strip ? E1000_RING_VLAN_TAG_BYTES : 0) + (q->strip_fcs ? 0 : E1000_RING_FCS_BYTES);
}

/* Are there `need` descriptors with an address? If not, remember what to wait for. */
static bool enough(struct e1000_receive *q, const struct e1000_desc *ring, uint32_t need) {
  uint32_t owned = ring_owned(&q->ring, q->ring.head), nulls = 0;
  for (uint32_t i = 0, at = q->ring.head; i < owned && i < need + nulls; i++, at = ring_after(&q->ring, at))
    nulls += unlikely(load_relaxed(&ring[at].address) == 0);
  if (likely(owned >= need + nulls)) return true;
  q->wanted = need + nulls;
  return false;
}

static void prepare(struct e1000_receive *q, struct incoming *in) {
  in->padded = in->len < E1000_RING_FRAME_MIN_BYTES ? E1000_RING_FRAME_MIN_BYTES : in->len;
  in->strip = in->tagged && q->strip_tag;
  in->status = in->inexact ? E1000_RING_RX_STATUS_PIF : 0;
  in->errors = 0, in->special = 0, in->checksum = 0;
  if (in->strip) in->status |= E1000_RING_RX_STATUS_VP, in->special = get_be16(in->head + 14);
}

/* §3.2.9: from PCSS on, after stripping, with the FCS where it is stored; padding is zeros and adds nothing. */
static uint16_t packet_checksum(const struct e1000_receive *q, const struct incoming *in, uint32_t fcs) {
  uint32_t start = q->packet_checksum_start;
  uint64_t sum = 0;
  if (in->strip) {
    if (start < 12) sum = sum_frame(in->segments, in->segments_n, start, 12);
    start = start < 12 ? 16 : start + E1000_RING_VLAN_TAG_BYTES;
  }
  sum = sum_fold(sum + sum_frame(in->segments, in->segments_n, start, in->len));
  if (!q->strip_fcs && start < in->padded) {
    uint16_t part = sum_fold(fcs);
    sum += (in->padded - start) & 1 ? (uint16_t)(part << 8 | part >> 8) : part;
  }
  return __builtin_bswap16(sum_fold(sum));
}

enum put { PUT_DONE, PUT_WAIT, PUT_DROP };

/* The bytes of a frame in the order in which they are stored. */
static void fill(struct filler *f, const struct incoming *in, uint32_t fcs) {
  if (unlikely(in->strip)) {
    filler_frame(f, in, 0, 12);
    filler_frame(f, in, 12 + E1000_RING_VLAN_TAG_BYTES, in->len);
  } else {
    filler_frame(f, in, 0, in->len);
  }
  if (in->padded > in->len) filler_put(f, in, zeros, in->padded - in->len);
  if (!f->q->strip_fcs) filler_put(f, in, (const uint8_t *)&fcs, sizeof fcs);
}

static enum put put_frame(struct e1000_receive *q, struct e1000_desc *ring, struct incoming *in) {
  uint32_t bytes = stored_bytes(q, in), need = (bytes + q->buffer_bytes - 1) / q->buffer_bytes;
  if (unlikely(need >= q->ring.size)) { q->count->dropped_rx_too_small++; return PUT_DROP; }
  if (unlikely(!enough(q, ring, need))) return PUT_WAIT;
  uint32_t fcs = q->strip_fcs ? 0 : padded_fcs(in);
  check_sums(q, in);
  in->checksum = packet_checksum(q, in, fcs);
  struct filler f = {.q = q, .ring = ring, .at = q->ring.head, .left = bytes};
  filler_open(&f);
  fill(&f, in, fcs);
  if (unlikely(f.lost)) in->errors |= E1000_RING_RX_ERROR_RXE, q->count->fault_address++;
  filler_close(&f, in, true);
  q->ring.head = f.at;
  return PUT_DONE;
}

static void after_frame(struct e1000_receive *q, const struct incoming *in, uint32_t *events) {
  count_frame(q, in);
  uint32_t bytes = stored_bytes(q, in);
  q->count->frames_out++, q->count->bytes_out += in->len, q->copied += bytes;
  *events |= E1000_RX_DELIVERED;
  if (q->small_bytes && bytes <= q->small_bytes) *events |= E1000_RX_SMALL;
  bool over = over_threshold(q);
  if (q->over_threshold && !over) *events |= E1000_RX_THRESHOLD;
  q->over_threshold = over;
}

/* A frame whose sender left checksum or segmentation to the device: done here, in our own memory. */
static enum put put_offloaded(struct e1000_receive *q, struct e1000_desc *ring, const struct burst *b, const struct frame *f,
                              struct incoming *in, uint32_t *events) {
  struct frame copy = *f;
  uint32_t len = frame_read(b, f, 0, q->whole, sizeof q->whole);
  if (len != f->len) { q->count->dropped_too_long++; return PUT_DROP; }
  struct cutter c;
  if (!cutter_open(&c, q->whole, len, &copy)) { q->count->dropped_too_long++; return PUT_DROP; }
  uint32_t each = (c.header + c.size + 8 + q->buffer_bytes) / q->buffer_bytes, need = each * c.pieces;
  if (need >= q->ring.size) { q->count->dropped_rx_too_small++; return PUT_DROP; }
  if (!enough(q, ring, need)) return PUT_WAIT;
  for (uint32_t i = 0; i < c.pieces; i++) {
    struct segment s = {q->piece, cutter_piece(&c, q->piece), 0};
    in->segments = &s, in->segments_n = 1, in->len = s.len;
    in->head_n = s.len < HEAD_BYTES ? s.len : HEAD_BYTES;
    memcpy(in->head, s.host, in->head_n);
    prepare(q, in);
    if (oversize(q, in->padded + E1000_RING_FCS_BYTES)) continue;
    if (put_frame(q, ring, in) == PUT_DONE) after_frame(q, in, events);
  }
  return PUT_DONE;
}

static enum put take_frame(struct e1000_receive *q, struct e1000_desc *ring, const struct burst *b, const struct frame *f,
                           uint32_t *events) {
  struct incoming in;
  if (unlikely(f->len > VIRTIO_NET_FRAME_BYTES_MAX)) { q->count->dropped_too_long++; return PUT_DROP; }
  open_frame(&in, b, f);
  if (!accept_frame(q, &in)) { q->count->frames_rejected++; return PUT_DROP; }
  if (unlikely(f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM || f->gso_type)) return put_offloaded(q, ring, b, f, &in, events);
  prepare(q, &in);
  if (unlikely(oversize(q, in.padded + E1000_RING_FCS_BYTES))) return PUT_DROP;
  enum put done = put_frame(q, ring, &in);
  if (likely(done == PUT_DONE)) after_frame(q, &in, events);
  return done;
}

/* Deliver the frames from `first` on that are for `port`; return the index of the first that must wait, or the burst's length.
 * Waiting for descriptors is back-pressure: the frame stays with its sender, as in a receive FIFO (§13.7.33). */
uint32_t e1000_receive_deliver(struct e1000_receive *q, const struct burst *b, uint32_t first, int32_t port, uint32_t *events) {
  struct e1000_desc *ring = ring_open(&q->ring, q->count);
  uint32_t i = first, waited = q->wanted;
  q->wanted = 0;
  for (; i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    if (f->dest != port && f->dest != DEST_FLOOD) continue;
    if (unlikely(!ring)) { q->count->dropped_device_broken++; continue; }
    if (take_frame(q, ring, b, f, events) != PUT_WAIT) continue;
    if (!waited) q->stats->rnbc++;
    break;
  }
  return i;
}
