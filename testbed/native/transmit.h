/* Takes frames out of a guest's transmit queue into a burst, without copying. virtio 1.2 §5.1.6.2. */
#pragma once
#include "receive.h"

/* Take the virtio_net_hdr off the front of a transmit chain (§5.1.6.2). */
static inline int take_header(struct chain *c, struct frame *f) {
  virtio_net_hdr_t h;
  if (unlikely(c->len < sizeof h)) return FAULT(header);
  uint32_t need = sizeof h;
  struct segment *s = c->segments;
  uint8_t *to = (uint8_t *)&h;
  while (need) {
    uint32_t n = s->len < need ? s->len : need;
    memcpy(to, s->host, n);
    to += n, need -= n, s->host += n, s->len -= n;
    if (s->len == 0) s++, f->first_segment++, f->segments--;
  }
  f->flags = h.flags, f->gso_type = h.gso_type, f->hdr_len = h.hdr_len, f->gso_size = h.gso_size;
  f->csum_start = h.csum_start, f->csum_offset = h.csum_offset;
  return 0;
}

static inline int add_frame(struct burst *b, struct chain *c) {
  struct frame *f = &b->frames[b->frames_n];
  *f = (struct frame){.first_segment = b->segments_n, .segments = (uint16_t)c->segments_n, .id = c->id,
                      .descriptors = c->descriptors, .dest = DEST_DROP};
  int fault = take_header(c, f);
  if (unlikely(fault)) return fault;
  uint64_t len = c->len - sizeof(virtio_net_hdr_t);
  f->len = len > VIRTIO_NET_FRAME_BYTES_MAX ? UINT32_MAX : (uint32_t)len;
  b->segments_n += c->segments_n;
  b->frames_n++;
  return 0;
}

/* Fill a burst from the chains at a cursor; return 0 or the fault that ended it (the frames before it stand). */
static inline __attribute__((always_inline)) int transmit_burst(
    void *queue, peek_fn peek, struct cursor *at, struct burst *b, uint32_t limit) {
  b->frames_n = b->segments_n = 0;
  if (limit > BURST_FRAMES) limit = BURST_FRAMES;
  while (b->frames_n < limit && b->segments_n + FRAME_SEGMENTS_MAX <= BURST_SEGMENTS) {
    struct chain c = {.direction = DEVICE_READS, .segments = &b->segments[b->segments_n], .room = FRAME_SEGMENTS_MAX};
    int got = peek(queue, at, &c);
    if (got <= 0) return -got;
    int fault = add_frame(b, &c);
    if (unlikely(fault)) return fault;
  }
  return 0;
}
