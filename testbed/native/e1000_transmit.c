#include "e1000_transmit.h"
#include "e1000_checksum.h"
#include "trace.h"

#define NO_TAIL UINT32_MAX

static const uint8_t zeros[64];

static inline bool desc_extended(const struct e1000_desc *d) { return d->rest >> E1000_RING_CMD_SHIFT & E1000_RING_CMD_DEXT; }
static inline uint8_t desc_cmd(const struct e1000_desc *d) { return (uint8_t)(d->rest >> E1000_RING_CMD_SHIFT); }
static inline uint16_t desc_special(const struct e1000_desc *d) { return (uint16_t)(d->rest >> 48); }
static inline bool desc_context(const struct e1000_desc *d) {
  return desc_extended(d) && bits(d->rest, E1000_RING_DTYP_SHIFT, 4) != E1000_RING_DTYP_DATA;
}
static inline uint32_t desc_length(const struct e1000_desc *d) {
  return d->address == 0 ? 0 : desc_extended(d) ? (uint32_t)d->rest & E1000_RING_LENGTH_MASK : (uint16_t)d->rest;
}

void e1000_transmit_reset(struct e1000_transmit *q) {
  q->next = q->ring.head = q->ring.tail = 0;
  q->ring.enabled = q->skipping = q->tso.active = false;
  q->ring.fault = 0, q->ring.size = 0, q->starved = NO_TAIL, q->low_threshold = 0;
  memset(&q->plain, 0, sizeof q->plain);
  memset(&q->cut, 0, sizeof q->cut);
}

int e1000_transmit_ready(void *queue) {
  struct e1000_transmit *q = queue;
  return ring_usable(&q->ring) && q->next != q->ring.tail && q->starved != q->ring.tail;
}

/* §3.3.6. TSE says which of the two contexts is loaded. */
static void load_context(struct e1000_transmit *q, const struct e1000_desc *d) {
  struct e1000_context c = {
      .ipcss = (uint8_t)d->address, .ipcso = (uint8_t)(d->address >> 8), .ipcse = (uint16_t)(d->address >> 16),
      .tucss = (uint8_t)(d->address >> 32), .tucso = (uint8_t)(d->address >> 40), .tucse = (uint16_t)(d->address >> 48),
      .paylen = (uint32_t)d->rest & E1000_RING_LENGTH_MASK, .tucmd = desc_cmd(d), .hdrlen = (uint8_t)(d->rest >> 40),
      .mss = desc_special(d)};
  *(c.tucmd & E1000_RING_CMD_TSE ? &q->cut : &q->plain) = c;
}

/* A packet as it grows in the burst behind the frames that are there already. */
struct packet {
  uint32_t first, n; /* segments */
  uint32_t len;
};

static inline struct packet packet_open(const struct burst *b) {
  return (struct packet){b->segments_n + E1000_FRONT_SEGMENTS, 0, 0};
}

/* Add a range of guest memory; 0 or the fault. */
static inline int packet_add(struct e1000_transmit *q, struct burst *b, struct packet *p, uint64_t gpa, uint32_t length) {
  p->len += length;
  while (length) {
    uint64_t left;
    uint8_t *host = regions_piece(q->ring.memory, gpa, &left);
    if (unlikely(!host)) return E1000_FAULT(address);
    if (unlikely(p->n == E1000_PACKET_SEGMENTS)) return E1000_FAULT(chain_length);
    uint32_t n = left < length ? (uint32_t)left : length;
    trace_translated(q->ring.memory, q->next, gpa, host, n);
    b->segments[p->first + p->n++] = (struct segment){host, n, 0};
    gpa += n, length -= n;
  }
  return 0;
}

/* Copy the first `n` bytes of the packet into this frame's own header and let it begin there. */
static uint8_t *packet_own_header(struct e1000_transmit *q, struct burst *b, struct packet *p, uint32_t n) {
  uint8_t *header = q->headers[b->frames_n];
  uint32_t done = 0;
  while (done < n) {
    struct segment *s = &b->segments[p->first];
    uint32_t take = s->len < n - done ? s->len : n - done;
    memcpy(header + done, s->host, take);
    done += take, s->host += take, s->len -= take;
    if (s->len == 0) p->first++, p->n--;
  }
  b->segments[--p->first] = (struct segment){header, n, 0};
  p->n++;
  return header;
}

/* One checksum to insert: over [start, end], `end` 0 for the end of the packet, into the two bytes `at` (§3.6). */
struct checksum { uint32_t start, end, at; };

/* §3.3.3.1, §3.3.6: one that does not lie in the packet is not inserted. */
static inline bool checksum_fits(const struct packet *p, const struct checksum *c) { return c->start < p->len && c->at + 2 <= p->len; }

/* `add`: a length that belongs to the pseudo header. */
static void insert_checksum(struct burst *b, const struct packet *p, uint8_t *header, const struct checksum *c, uint32_t add) {
  uint32_t end = c->end && c->end < p->len ? c->end + 1 : p->len;
  uint64_t sum = sum_frame(&b->segments[p->first], p->n, c->start, end);
  sum += __builtin_bswap16((uint16_t)add);
  uint16_t value = (uint16_t)~sum_fold(sum);
  /* RFC 768: a UDP checksum of zero would say that there is none; its field is the one six bytes behind the header's start */
  if (value == 0 && c->at == c->start + 6) value = 0xffff;
  memcpy(header + c->at, &value, 2);
}

/* The checksums that a packet asks for, in the order in which they are inserted. */
static uint32_t wanted_checksums(const struct e1000_transmit *q, const struct packet *p, const struct e1000_desc *first,
                                 const struct e1000_desc *last, struct checksum wanted[3]) {
  uint8_t popts = desc_extended(first) ? (uint8_t)(first->rest >> 40) : 0;
  uint32_t n = 0;
  if (!desc_extended(last) && desc_cmd(last) & E1000_RING_CMD_IC) /* CSS from the first descriptor, the rest from the last */
    wanted[n++] = (struct checksum){(uint8_t)(first->rest >> 40), 0, (uint8_t)(last->rest >> 16)};
  if (popts & E1000_RING_POPTS_IXSM) wanted[n++] = (struct checksum){q->plain.ipcss, q->plain.ipcse, q->plain.ipcso};
  if (popts & E1000_RING_POPTS_TXSM) wanted[n++] = (struct checksum){q->plain.tucss, q->plain.tucse, q->plain.tucso};
  uint32_t kept = 0;
  for (uint32_t i = 0; i < n; i++)
    if (checksum_fits(p, &wanted[i])) wanted[kept++] = wanted[i];
  return kept;
}

/* §9.2.1: the tag goes behind the two addresses. */
static void insert_tag(struct e1000_transmit *q, struct burst *b, struct packet *p, uint8_t *header, uint16_t tci) {
  struct segment *s = &b->segments[p->first];
  memmove(header + 12 + E1000_RING_VLAN_TAG_BYTES, header + 12, s->len - 12);
  put_be16(header + 12, q->vet);
  put_be16(header + 14, tci);
  s->len += E1000_RING_VLAN_TAG_BYTES, p->len += E1000_RING_VLAN_TAG_BYTES;
}

static void emit(struct e1000_transmit *q, struct burst *b, struct packet *p) {
  if (unlikely(p->len < E1000_RING_FRAME_MIN_BYTES) && q->pad) {
    uint32_t n = E1000_RING_FRAME_MIN_BYTES - p->len;
    b->segments[p->first + p->n++] = (struct segment){(uint8_t *)zeros, n, 0};
    p->len += n;
  }
  struct frame f = {.first_segment = p->first, .segments = (uint16_t)p->n, .len = p->len, .dest = DEST_DROP};
  b->frames[b->frames_n++] = f;
  b->segments_n = p->first + p->n;
  uint32_t wire = p->len + E1000_RING_FCS_BYTES;
  e1000_statistics_t *s = q->stats;
  s->tpt++, s->tot += wire, s->gotc += wire;
  if (likely(wire >= 64)) s->gptc++;
  count_size(&s->ptc64, wire);
  uint8_t destination[6];
  if (likely(frame_read(b, &b->frames[b->frames_n - 1], 0, destination, 6) == 6) && unlikely(destination[0] & 1)) {
    if (is_broadcast(destination)) s->bptc++;
    else s->mptc++;
  }
}

/* Without IFCS the last four bytes are the FCS already (§3.3.3.1); a frame whose FCS is wrong does not arrive anywhere. */
static bool strip_fcs(struct burst *b, struct packet *p) {
  if (p->len <= E1000_RING_FCS_BYTES) return false;
  uint8_t given[E1000_RING_FCS_BYTES];
  struct frame f = {.first_segment = p->first, .segments = (uint16_t)p->n, .len = p->len};
  uint32_t length = p->len - E1000_RING_FCS_BYTES;
  frame_read(b, &f, length, given, sizeof given);
  uint32_t fcs = fcs_frame(&b->segments[p->first], p->n, length);
  if (memcmp(given, &fcs, sizeof given)) return false;
  for (uint32_t cut = E1000_RING_FCS_BYTES; cut;) {
    struct segment *s = &b->segments[p->first + p->n - 1];
    uint32_t n = s->len < cut ? s->len : cut;
    s->len -= n, cut -= n;
    if (s->len == 0) p->n--;
  }
  p->len = length;
  return true;
}

/* Make a frame of a whole packet: first and last are its first and last data descriptors. */
static void send_packet(struct e1000_transmit *q, struct burst *b, struct packet *p, const struct e1000_desc *first,
                        const struct e1000_desc *last) {
  uint8_t cmd = desc_cmd(last);
  bool tag = (cmd & E1000_RING_CMD_VLE) && q->vlan && p->len >= 12;
  if (unlikely(!(cmd & E1000_RING_CMD_IFCS) && !tag && !strip_fcs(b, p))) { q->count->dropped_bad_fcs++; return; }
  struct checksum wanted[3];
  uint32_t checksums = wanted_checksums(q, p, first, last, wanted), own = tag ? 12 : 0;
  for (uint32_t i = 0; i < checksums; i++)
    if (wanted[i].at + 2 > own) own = wanted[i].at + 2;
  if (unlikely(own)) {
    uint8_t *header = packet_own_header(q, b, p, own);
    for (uint32_t i = 0; i < checksums; i++) insert_checksum(b, p, header, &wanted[i], 0);
    if (tag) insert_tag(q, b, p, header, desc_special(last));
  }
  emit(q, b, p);
}

/* Give up the packet that begins at the cursor: its descriptors are done, nothing of it is sent. */
static void skip_packet(struct e1000_transmit *q) { q->skipping = true, q->tso.active = false; }

static bool skip_step(struct e1000_transmit *q, const struct e1000_desc *ring) {
  struct e1000_desc d = desc_read(&ring[q->next]);
  q->next = ring_after(&q->ring, q->next);
  if (!desc_context(&d) && desc_cmd(&d) & E1000_RING_CMD_EOP) q->skipping = false;
  return true;
}

/* Take one packet, or nothing where its last descriptor is not there yet. */
static bool packet_step(struct e1000_transmit *q, const struct e1000_desc *ring, struct burst *b, struct e1000_desc d) {
  struct packet p = packet_open(b);
  struct e1000_desc first = d;
  uint32_t at = q->next;
  for (uint32_t n = 0;; n++) {
    int fault = 0;
    if (likely(!desc_context(&d))) fault = packet_add(q, b, &p, d.address, desc_length(&d));
    if (unlikely(fault || n == E1000_PACKET_SEGMENTS || p.len > E1000_RING_TRANSMIT_MAX_BYTES)) {
      if (fault) count_fault(q->count, fault);
      else q->count->dropped_too_long++;
      skip_packet(q);
      return true;
    }
    at = ring_after(&q->ring, at);
    if (likely(!desc_context(&d) && desc_cmd(&d) & E1000_RING_CMD_EOP)) break;
    if (at == q->ring.tail) { q->starved = at; return false; }
    d = desc_read(&ring[at]);
  }
  q->next = at;
  if (likely(p.len)) send_packet(q, b, &p, &first, &d);
  return true;
}

/* --- TCP segmentation (§3.5) --- */

static bool segmentation_sound(const struct e1000_context *c) {
  return c->mss && c->paylen && c->hdrlen <= E1000_RING_SEGMENT_HEADER_MAX_BYTES &&
         c->hdrlen + c->mss <= E1000_RING_TRANSMIT_MAX_BYTES;
}

static bool segmentation_open(struct e1000_transmit *q, const struct e1000_desc *d) {
  if (!segmentation_sound(&q->cut)) {
    q->stats->tsctfc++;
    skip_packet(q);
    return true;
  }
  struct e1000_segmentation *t = &q->tso;
  *t = (struct e1000_segmentation){.active = true, .popts = (uint8_t)(d->rest >> 40), .cmd = desc_cmd(d),
                                   .special = desc_special(d), .remaining = q->cut.paylen};
  return true;
}

/* The place in the ring up to which a packet that is being cut has been used. */
struct place { uint32_t desc, offset; bool end; /* the packet's last descriptor is used up */ };

/* Take up to `want` bytes from `at` on. Where `p` is given they become segments, else they are copied to `to`.
 * Return the number of bytes; fewer only at the packet's end, at the tail (then `starved`), or with a fault. */
static uint32_t segmentation_take(struct e1000_transmit *q, const struct e1000_desc *ring, struct burst *b, struct place *at,
                                  uint32_t want, struct packet *p, uint8_t *to, int *fault, bool *starved) {
  uint32_t done = 0;
  for (uint32_t steps = 0; done < want && !at->end; steps++) {
    if (at->desc == q->ring.tail) { *starved = true; return done; }
    if (steps > 2 * E1000_PACKET_SEGMENTS) { *fault = E1000_FAULT(chain_length); return done; }
    struct e1000_desc d = desc_read(&ring[at->desc]);
    uint32_t length = desc_context(&d) ? 0 : desc_length(&d);
    uint32_t left = length > at->offset ? length - at->offset : 0, n = left < want - done ? left : want - done;
    if (p) *fault = packet_add(q, b, p, d.address + at->offset, n);
    else if (n) {
      uint8_t *host = regions_resolve(q->ring.memory, d.address + at->offset, n);
      if (host) memcpy(to + done, host, n);
      else *fault = E1000_FAULT(address);
    }
    if (unlikely(*fault)) return done;
    done += n, at->offset += n;
    if (at->offset >= length) {
      at->end = !desc_context(&d) && desc_cmd(&d) & E1000_RING_CMD_EOP;
      at->desc = ring_after(&q->ring, at->desc), at->offset = 0;
    }
  }
  return done;
}

/* §3.5.9: what changes in the header from frame to frame. */
static void update_header(struct e1000_transmit *q, uint8_t *h, uint32_t payload, bool last) {
  const struct e1000_context *c = &q->cut;
  const struct e1000_segmentation *t = &q->tso;
  uint32_t total = c->hdrlen + payload;
  if (c->tucmd & E1000_RING_TUCMD_IP) {
    if (c->ipcss + 6u <= c->hdrlen) {
      put_be16(h + c->ipcss + 2, total - c->ipcss);
      put_be16(h + c->ipcss + 4, get_be16(t->header + c->ipcss + 4) + t->frames);
    }
  } else if (c->ipcss + 40u <= c->hdrlen) {
    put_be16(h + c->ipcss + 4, total - c->ipcss - 40); /* RFC 8200 §3: without the fixed header, which the manual's formula counts */
  }
  if (c->tucmd & E1000_RING_TUCMD_TCP) {
    if (c->tucss + 14u <= c->hdrlen) {
      put_be32(h + c->tucss + 4, get_be32(t->header + c->tucss + 4) + t->sent);
      if (!last) h[c->tucss + 13] &= (uint8_t)~0x09; /* FIN, PSH */
    }
  } else if (c->tucss + 6u <= c->hdrlen) {
    put_be16(h + c->tucss + 4, total - c->tucss);
  }
}

static void segment_checksums(struct e1000_transmit *q, struct burst *b, struct packet *p, uint8_t *h) {
  const struct e1000_context *c = &q->cut;
  struct checksum ip = {c->ipcss, c->ipcse, c->ipcso}, tu = {c->tucss, c->tucse, c->tucso};
  if (q->tso.popts & E1000_RING_POPTS_IXSM && ip.start < p->len && ip.at + 2 <= c->hdrlen) insert_checksum(b, p, h, &ip, 0);
  if (q->tso.popts & E1000_RING_POPTS_TXSM && tu.start < p->len && tu.at + 2 <= c->hdrlen)
    insert_checksum(b, p, h, &tu, p->len - tu.start); /* the pseudo header's length, §3.5.7 */
}

static void segmentation_end(struct e1000_transmit *q, const struct place *at, bool whole) {
  q->tso.active = false;
  if (whole) q->stats->tsctc++;
  else q->stats->tsctfc++;
  q->next = at->desc;
  q->skipping = !at->end;
}

static bool segmentation_fail(struct e1000_transmit *q, int fault) {
  if (fault) count_fault(q->count, fault);
  q->stats->tsctfc++;
  skip_packet(q);
  return true;
}

/* Collect the prototype header; it stays with us, so its descriptors are done. */
static bool segmentation_header(struct e1000_transmit *q, const struct e1000_desc *ring, struct burst *b) {
  struct e1000_segmentation *t = &q->tso;
  struct place at = {q->next, t->offset, false};
  int fault = 0;
  bool starved = false;
  uint8_t *to = t->header + t->header_n;
  t->header_n += segmentation_take(q, ring, b, &at, q->cut.hdrlen - t->header_n, NULL, to, &fault, &starved);
  if (unlikely(fault)) return segmentation_fail(q, fault);
  q->next = at.desc, t->offset = at.offset;
  if (at.end) { segmentation_end(q, &at, false); return true; }
  if (starved) q->starved = at.desc;
  return !starved;
}

static bool segmentation_step(struct e1000_transmit *q, const struct e1000_desc *ring, struct burst *b) {
  struct e1000_segmentation *t = &q->tso;
  if (t->header_n < q->cut.hdrlen) return segmentation_header(q, ring, b);
  struct packet p = packet_open(b);
  struct place at = {q->next, t->offset, false};
  uint8_t *h = q->headers[b->frames_n];
  b->segments[p.first] = (struct segment){h, q->cut.hdrlen, 0};
  p.n = q->cut.hdrlen ? 1 : 0, p.len = q->cut.hdrlen;
  int fault = 0;
  bool starved = false;
  uint32_t want = t->remaining < q->cut.mss ? t->remaining : q->cut.mss;
  uint32_t got = segmentation_take(q, ring, b, &at, want, &p, NULL, &fault, &starved);
  if (unlikely(fault)) return segmentation_fail(q, fault);
  if (starved) { q->starved = q->ring.tail; return false; }
  bool last = got == t->remaining || at.end;
  memcpy(h, t->header, q->cut.hdrlen);
  update_header(q, h, got, last);
  segment_checksums(q, b, &p, h);
  if (t->cmd & E1000_RING_CMD_VLE && q->vlan && q->cut.hdrlen >= 12) insert_tag(q, b, &p, h, t->special);
  emit(q, b, &p);
  t->remaining -= got, t->sent += got, t->frames++;
  q->next = at.desc, t->offset = at.offset;
  if (last) segmentation_end(q, &at, t->remaining == 0 && t->offset == 0);
  return true;
}

static bool step(struct e1000_transmit *q, const struct e1000_desc *ring, struct burst *b) {
  if (unlikely(q->skipping)) return skip_step(q, ring);
  if (unlikely(q->tso.active)) return segmentation_step(q, ring, b);
  struct e1000_desc d = desc_read(&ring[q->next]);
  if (unlikely(desc_context(&d))) {
    load_context(q, &d);
    q->next = ring_after(&q->ring, q->next);
    return true;
  }
  if (unlikely(desc_extended(&d) && desc_cmd(&d) & E1000_RING_CMD_TSE)) return segmentation_open(q, &d);
  return packet_step(q, ring, b, d);
}

uint32_t e1000_transmit_fetch(struct e1000_transmit *q, struct burst *b, uint32_t limit) {
  b->frames_n = b->segments_n = 0;
  if (limit > BURST_FRAMES) limit = BURST_FRAMES;
  struct e1000_desc *ring = ring_open(&q->ring, q->count);
  if (unlikely(!ring)) return 0;
  if (unlikely(q->next >= q->ring.size)) q->next = q->ring.head;
  uint32_t room = BURST_SEGMENTS - E1000_PACKET_SEGMENTS - E1000_FRONT_SEGMENTS - 2;
  while (b->frames_n < limit && b->segments_n < room && q->next != q->ring.tail)
    if (!step(q, ring, b)) break;
  return b->frames_n;
}

/* A write of TDH: nothing is in flight any more. */
void e1000_transmit_head(struct e1000_transmit *q, uint32_t head) {
  q->ring.head = q->next = head;
  q->ring.fault = 0, q->starved = NO_TAIL, q->skipping = q->tso.active = false;
}

/* Write back what was fetched (§3.4.2). Only the status byte changes, with release: whoever sees DD may use the buffer again.
 * What was sent is done even where the unit has been turned off or the link has gone down meanwhile. */
uint32_t e1000_transmit_complete(struct e1000_transmit *q) {
  if (q->ring.head == q->next) return 0;
  struct e1000_desc *ring = ring_memory(&q->ring);
  if (unlikely(!ring || q->ring.head >= q->ring.size || q->next >= q->ring.size)) { q->ring.head = q->next; return 0; }
  uint32_t events = 0, before = ring_owned(&q->ring, q->ring.head);
  for (uint32_t i = q->ring.head; i != q->next; i = ring_after(&q->ring, i)) {
    uint8_t *bytes = (uint8_t *)&ring[i], cmd = load_relaxed(&bytes[offsetof(e1000_tx_legacy_t, cmd)]);
    if (!(cmd & E1000_RING_CMD_RS)) continue;
    trace_event(TRACE_WRITTEN_BACK, 0, i, (uintptr_t)bytes, 0, 0);
    store_release(&bytes[offsetof(e1000_tx_legacy_t, status)], (uint8_t)E1000_RING_TX_STATUS_DD);
    events |= cmd & E1000_RING_CMD_IDE ? E1000_TX_DELAYED : E1000_TX_DONE;
  }
  q->ring.head = q->next;
  uint32_t after = ring_owned(&q->ring, q->ring.head);
  if (after == 0) events |= E1000_TX_EMPTY;
  if (before > q->low_threshold && after <= q->low_threshold && q->low_threshold) events |= E1000_TX_LOW;
  return events;
}
