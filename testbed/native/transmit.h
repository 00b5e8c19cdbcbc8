/* Takes frames out of a guest's transmit queue into a burst, without copying. virtio 1.2 §5.1.6.2. */
#pragma once
#include "receive.h"

/* What the driver asks for in the header, only where an offload was negotiated: else a device ignores it (§5.1.6.2.2). */
static inline void take_offload(struct frame *f, const virtio_net_hdr_t *h) {
  f->flags = h->flags, f->gso_type = h->gso_type, f->hdr_len = h->hdr_len, f->gso_size = h->gso_size;
  f->csum_start = h->csum_start, f->csum_offset = h->csum_offset;
}

/* Take the virtio_net_hdr off the front of a transmit chain (§5.1.6.2), whatever segments it lies in. */
static inline void take_header(struct burst *b, struct frame *f, bool offload) {
  virtio_net_hdr_t h;
  struct segment *s = &b->segments[f->first_segment];
  uint8_t *to = (uint8_t *)&h;
  for (uint32_t need = sizeof h; need;) {
    uint32_t n = s->len < need ? s->len : need;
    memcpy(to, s->host, n);
    to += n, need -= n, s->host += n, s->len -= n;
    if (s->len == 0 && f->segments > 1) s++, f->first_segment++, f->segments--;
  }
  if (offload) take_offload(f, &h);
}

static inline void add_frame(struct burst *b, const struct chain *c, bool offload) {
  uint64_t len = c->len - sizeof(virtio_net_hdr_t);
  struct frame *f = &b->frames[b->frames_n++];
  *f = (struct frame){
      .first_segment = b->segments_n, .segments = (uint16_t)c->segments_n, .id = c->id, .descriptors = c->descriptors,
      .dest = DEST_DROP, .len = len > VIRTIO_NET_FRAME_BYTES_MAX ? UINT32_MAX : (uint32_t)len};
  b->segments_n += c->segments_n;
  take_header(b, f, offload);
}

static inline void add_plain_frame(struct burst *b, uint32_t id, bool offload) {
  struct segment *s = &b->segments[b->segments_n];
  struct frame *f = &b->frames[b->frames_n++];
  /* the bytes are in the sender's cache: ask for them while the descriptors behind are read */
  foresee_read(s->host);
  *f = (struct frame){
      .first_segment = b->segments_n++, .segments = 1, .id = id, .descriptors = 1, .dest = DEST_DROP, .len = s->len - sizeof(virtio_net_hdr_t)};
  if (unlikely(offload)) take_header(b, f, true);
  else s->host += sizeof(virtio_net_hdr_t), s->len -= sizeof(virtio_net_hdr_t);
}

/* Fill a burst from the chains at a cursor; return 0 or the fault that ended it (the frames before it stand). */
static inline __attribute__((always_inline)) int transmit_burst(
    void *queue, peek_one_fn peek_one, peek_fn peek, struct cursor *at, struct burst *b, uint32_t limit, bool offload) {
  b->frames_n = b->segments_n = 0;
  if (limit > BURST_FRAMES) limit = BURST_FRAMES;
  while (b->frames_n < limit && b->segments_n + FRAME_SEGMENTS_MAX <= BURST_SEGMENTS) {
    uint32_t id;
    if (likely(peek_one(queue, at, &b->segments[b->segments_n], &id))) {
      add_plain_frame(b, id, offload);
      continue;
    }
    struct chain c = {.direction = DEVICE_READS, .segments = &b->segments[b->segments_n], .room = FRAME_SEGMENTS_MAX};
    int got = peek(queue, at, &c);
    if (got > 0 && unlikely(c.len < sizeof(virtio_net_hdr_t))) got = -FAULT(header);
    if (got <= 0) return -got;
    add_frame(b, &c, offload);
  }
  return 0;
}
