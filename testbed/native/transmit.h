/* Takes frames out of a guest's transmit queue into a burst, without copying. virtio 1.2 §5.1.6.2. */
#pragma once
#include "receive.h"

/* Take the virtio_net_hdr off the front of a transmit chain (§5.1.6.2). */
static inline void take_header(struct burst *b, struct frame *f) {
  virtio_net_hdr_t h;
  struct segment *s = &b->segments[f->first_segment];
  if (likely(s->len > sizeof h)) {
    memcpy(&h, s->host, sizeof h);
    s->host += sizeof h, s->len -= sizeof h;
  } else {
    uint8_t *to = (uint8_t *)&h;
    for (uint32_t need = sizeof h; need;) {
      uint32_t n = s->len < need ? s->len : need;
      memcpy(to, s->host, n);
      to += n, need -= n, s->host += n, s->len -= n;
      if (s->len == 0) s++, f->first_segment++, f->segments--;
    }
  }
  f->flags = h.flags, f->gso_type = h.gso_type, f->hdr_len = h.hdr_len, f->gso_size = h.gso_size;
  f->csum_start = h.csum_start, f->csum_offset = h.csum_offset;
}

static inline void add_frame(struct burst *b, const struct chain *c) {
  uint64_t len = c->len - sizeof(virtio_net_hdr_t);
  b->frames[b->frames_n++] = (struct frame){
      .first_segment = b->segments_n, .segments = (uint16_t)c->segments_n, .id = c->id, .descriptors = c->descriptors,
      .dest = DEST_DROP, .len = len > VIRTIO_NET_FRAME_BYTES_MAX ? UINT32_MAX : (uint32_t)len};
  /* the bytes are in the sender's cache: ask for them while the descriptors behind are read */
  foresee_read(b->segments[b->segments_n].host);
  b->segments_n += c->segments_n;
}

/* Fill a burst from the chains at a cursor; return 0 or the fault that ended it (the frames before it stand). */
static inline __attribute__((always_inline)) int transmit_burst(
    void *queue, peek_fn peek, struct cursor *at, struct burst *b, uint32_t limit) {
  int fault = 0;
  b->frames_n = b->segments_n = 0;
  if (limit > BURST_FRAMES) limit = BURST_FRAMES;
  while (b->frames_n < limit && b->segments_n + FRAME_SEGMENTS_MAX <= BURST_SEGMENTS) {
    struct chain c = {.direction = DEVICE_READS, .segments = &b->segments[b->segments_n], .room = FRAME_SEGMENTS_MAX};
    int got = peek(queue, at, &c);
    if (got > 0 && unlikely(c.len < sizeof(virtio_net_hdr_t))) got = -FAULT(header);
    if (got <= 0) { fault = -got; break; }
    add_frame(b, &c);
  }
  for (uint32_t i = 0; i < b->frames_n; i++) take_header(b, &b->frames[i]);
  return fault;
}
