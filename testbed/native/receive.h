/* Puts frames of a burst into a guest's receive queue: one copy, from the sender's buffers into the receiver's.
 *
 * Written once for every ring format: `peek` reads the chain at a cursor and moves it, `use` writes a used element that is not
 * yet visible, `publish` makes all of them visible. virtio 1.2 §5.1.6.3, §5.1.6.4 (VIRTIO_NET_F_MRG_RXBUF). */
#pragma once
#include "chain.h"

#define MERGED_MAX 1024 /* receive buffers that one frame may take */

/* 1: a chain was read; 0: none is available; PEEK_NO_ROOM: its pieces do not fit beside those of chains before it; below 0: minus
 * the fault. */
#define PEEK_NO_ROOM 2
typedef int (*peek_fn)(void *queue, struct cursor *at, struct chain *chain);
/* Ask the cache for the buffer that will be taken a few entries later; what it reads may be anything. */
typedef void (*foresee_fn)(void *queue, struct cursor at);
typedef void (*use_fn)(void *queue, uint32_t id, uint32_t len, uint16_t descriptors);
/* A chain of one plain descriptor, which is what drivers mostly post and send: 1 where it was read and the cursor moved, 0 where only `peek`
 * can tell what stands there. */
typedef int (*peek_one_fn)(void *queue, struct cursor *at, struct segment *segment, uint32_t *id);
/* Leaves every chain to `peek`, which has the tracepoints: a burst goes that way where events are wanted, and where none are no frame asks. */
static inline int peek_none(void *queue, struct cursor *at, struct segment *segment, uint32_t *id) {
  (void)queue, (void)at, (void)segment, (void)id;
  return 0;
}

struct taken { uint32_t id, room; uint16_t descriptors; };
enum take { TAKE_OK, TAKE_WAIT, TAKE_TOO_SMALL, TAKE_FAULT };

struct receive {
  void *queue;
  struct cursor *cursor;
  struct cursor *looked; /* how far buffers were looked at: behind `cursor` where they do not suffice yet */
  uint32_t queue_size;
  bool merge;
  port_counters_t *count;
};

/* Collect buffers for `need` bytes without giving the device's place away. */
static inline __attribute__((always_inline)) enum take take_buffers(
    struct receive *r, peek_fn peek, uint32_t need, struct chain *c, struct taken *taken, uint32_t *taken_n, struct cursor *at) {
  uint32_t slots = 0;
  *taken_n = 0, c->segments_n = 0, c->len = 0, *at = *r->cursor;
  do {
    if (unlikely(*taken_n == MERGED_MAX || slots >= r->queue_size)) return TAKE_TOO_SMALL;
    uint64_t before = c->len;
    int got = peek(r->queue, at, c);
    if (got == 0) return TAKE_WAIT;
    if (unlikely(got == PEEK_NO_ROOM)) return TAKE_TOO_SMALL;
    if (unlikely(got < 0)) return TAKE_FAULT;
    uint64_t room = c->len - before;
    taken[(*taken_n)++] = (struct taken){c->id, room < UINT32_MAX ? (uint32_t)room : UINT32_MAX, c->descriptors};
    slots += c->descriptors;
  } while (c->len < need && r->merge);
  return c->len >= need ? TAKE_OK : TAKE_TOO_SMALL;
}

static inline __attribute__((always_inline)) void use_buffers(
    struct receive *r, use_fn use, const struct taken *taken, uint32_t n, uint32_t need) {
  for (uint32_t i = 0; i < n; i++) {
    uint32_t len = taken[i].room < need ? taken[i].room : need;
    use(r->queue, taken[i].id, len, taken[i].descriptors);
    need -= len;
  }
}

/* Without offloads negotiated flags and gso_type are zero whatever the sender asked for (§5.1.6.4.1). A hostile guest may send from where
 * it receives: the two may overlap. */
static inline void write_frame(const struct burst *b, const struct frame *f, struct chain *c, uint16_t buffers) {
  virtio_net_hdr_t header = {.num_buffers = buffers};
  const struct segment *s = &b->segments[f->first_segment];
  const struct segment *into = &c->segments[c->segments_n > 1 && c->segments[0].len <= sizeof header];
  uint8_t *to_frame = into->host + (into == c->segments ? sizeof header : 0);
  trace_frame(TRACE_FRAME_COPIED, s->host, f->segments == 1 ? f->len : s->len, (uintptr_t)s->host, (uintptr_t)to_frame);
  if (likely(f->segments == 1 && c->segments[0].len >= sizeof header + f->len)) {
    memcpy(c->segments[0].host, &header, sizeof header);
    memmove(c->segments[0].host + sizeof header, s->host, f->len);
    return;
  }
  struct scatter to = {c->segments, c->segments + c->segments_n, 0};
  scatter_put(&to, (const uint8_t *)&header, sizeof header);
  for (uint32_t left = f->len; left; s++) {
    uint32_t n = s->len < left ? s->len : left;
    scatter_put(&to, s->host, n);
    left -= n;
  }
}

/* One frame into one plain buffer that holds it, the common case; false: nothing was done. */
static inline __attribute__((always_inline)) bool receive_one(
    struct receive *r, peek_one_fn peek_one, use_fn use, const struct burst *b, const struct frame *f) {
  static const virtio_net_hdr_t header = {.num_buffers = 1};
  struct cursor at = *r->cursor;
  struct segment room;
  uint32_t id, need = f->len + (uint32_t)sizeof header;
  if (unlikely(f->segments != 1 || !peek_one(r->queue, &at, &room, &id) || room.len < need)) return false;
  memcpy(room.host, &header, sizeof header);
  const uint8_t *from = b->segments[f->first_segment].host;
  frame_copy(room.host + sizeof header, from, f->len);
  use(r->queue, id, need, 1);
  *r->cursor = *r->looked = at;
  return true;
}

/* Deliver those of the frames from `first` up to `end` that are for `port`; return the index of the first that must wait, or `end`. */
static inline __attribute__((always_inline)) uint32_t receive_burst(
    struct receive *r, peek_one_fn peek_one, peek_fn peek, foresee_fn foresee, use_fn use, const struct burst *b, uint32_t first,
    uint32_t end, int32_t port, uint64_t *bytes_copied) {
  struct segment room[FRAME_SEGMENTS_MAX];
  struct taken taken[MERGED_MAX];
  uint64_t frames = 0, bytes = 0;
  uint32_t i = first;
  for (; i < end; i++) {
    const struct frame *f = &b->frames[i];
    if (f->dest != port && f->dest != DEST_FLOOD) continue;
    if (unlikely(f->len > VIRTIO_NET_FRAME_BYTES_MAX)) { r->count->dropped_too_long++; continue; }
    foresee(r->queue, *r->cursor);
    if (likely(receive_one(r, peek_one, use, b, f))) {
      frames++, bytes += f->len;
      continue;
    }
    struct chain c = {.direction = DEVICE_WRITES, .segments = room, .room = FRAME_SEGMENTS_MAX};
    struct cursor at;
    uint32_t need = f->len + (uint32_t)sizeof(virtio_net_hdr_t), n;
    enum take got = take_buffers(r, peek, need, &c, taken, &n, &at);
    if (unlikely(got != TAKE_OK)) {
      if (got == TAKE_TOO_SMALL) { r->count->dropped_rx_too_small++; continue; }
      if (got == TAKE_WAIT) { *r->looked = at; break; }
      r->count->dropped_device_broken++;
      continue; /* the queue is broken: the rest of its frames go the same way */
    }
    write_frame(b, f, &c, (uint16_t)n);
    use_buffers(r, use, taken, n, need);
    *r->cursor = *r->looked = at;
    frames++, bytes += f->len;
  }
  r->count->frames_out += frames;
  r->count->bytes_out += bytes;
  *bytes_copied += bytes;
  return i;
}
