#include "bare_ring.h"
#include <sched.h>
#include <stdlib.h>
#include "burst.h"
#include "split_ring.h"

#define LINE 64
#define PAGE 4096
#define BATCH 256
#define RINGS 2

/* In front of the rings; each word that one process writes has a cache line of its own. */
struct control { _Alignas(LINE) uint64_t frames; _Alignas(LINE) uint32_t stop; };

struct bare_ring {
  virtq_desc_t *desc;
  virtq_avail_t *avail;
  uint16_t *avail_ring;
  virtq_used_t *used;
  virtq_used_elem_t *used_ring;
  uint8_t *slots;
  uint32_t mask, slot_bytes;
  uint16_t avail_next, avail_seen, used_next, used_seen; /* each side has its own copy of this struct */
};

/* One process's state. */
struct bare {
  struct control *control;
  struct bare_ring ring[RINGS];
  uint32_t frame_bytes, in_flight, flying;
  uint8_t *own; /* the template of a sender, the store of a sink */
  size_t own_bytes;   /* of a frame in it, whole cache lines */
  uint64_t looked_at; /* so that the receiver's look at a frame is one */
};

static uint64_t up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

/* An odd number of cache lines, so that slots spread over all sets of a cache. */
static uint32_t slot_bytes(uint32_t frame_bytes) { return (uint32_t)(up(sizeof(virtio_net_hdr_t) + frame_bytes, LINE) / LINE | 1) * LINE; }

static uint64_t ring_bytes(uint32_t size, uint32_t frame_bytes) {
  return up(split_desc_bytes(size), PAGE) + up(split_avail_bytes(size), PAGE) + up(split_used_bytes(size), PAGE) +
         up((uint64_t)size * slot_bytes(frame_bytes), PAGE);
}

uint64_t bare_bytes(uint32_t size, uint32_t frame_bytes) { return PAGE + RINGS * ring_bytes(size, frame_bytes); }

static struct bare_ring ring_at(uint8_t *at, uint32_t size, uint32_t frame_bytes) {
  struct bare_ring r = {.desc = (virtq_desc_t *)at, .mask = size - 1, .slot_bytes = slot_bytes(frame_bytes)};
  at += up(split_desc_bytes(size), PAGE);
  r.avail = (virtq_avail_t *)at, r.avail_ring = split_avail_ring(at);
  at += up(split_avail_bytes(size), PAGE);
  r.used = (virtq_used_t *)at, r.used_ring = split_used_ring(at);
  r.slots = at + up(split_used_bytes(size), PAGE);
  return r;
}

static struct bare attach(uint8_t *shared, uint32_t size, uint32_t frame_bytes) {
  struct bare b = {.control = (struct control *)shared, .frame_bytes = frame_bytes};
  for (uint32_t i = 0; i < RINGS; i++) b.ring[i] = ring_at(shared + PAGE + i * ring_bytes(size, frame_bytes), size, frame_bytes);
  return b;
}

/* Lay out every descriptor for life; ring 1's buffers are all posted. */
void bare_prepare(uint8_t *shared, uint32_t size, uint32_t frame_bytes) {
  struct bare b = attach(shared, size, frame_bytes);
  for (uint32_t r = 0; r < RINGS; r++) {
    struct bare_ring *q = &b.ring[r];
    for (uint32_t i = 0; i < size; i++) {
      q->desc[i] = (virtq_desc_t){(uint64_t)i * q->slot_bytes, q->slot_bytes, r ? VIRTIO_DESC_F_WRITE : 0, 0};
      q->avail_ring[i] = (uint16_t)i;
    }
  }
  store_release(&b.ring[1].avail->idx, (uint16_t)size);
}

static void show_frames(struct bare *b, uint32_t n) { store_relaxed(&b->control->frames, b->control->frames + n); }

/* Take back what was used, fill as many buffers again, show them at once. A buffer is free again in the order in which it went. */
static uint32_t send_step(struct bare *b) {
  struct bare_ring *q = &b->ring[0];
  uint32_t size = q->mask + 1;
  q->used_seen = load_acquire(&q->used->idx);
  uint32_t n = size - (uint16_t)(q->avail_next - q->used_seen);
  if (n > BATCH) n = BATCH;
  if (b->in_flight && n > b->in_flight - b->flying) n = b->in_flight - b->flying;
  for (uint32_t i = 0; i < n; i++) {
    uint16_t id = q->avail_next++ & q->mask;
    uint8_t *slot = q->slots + (size_t)id * q->slot_bytes;
    virtio_net_hdr_t header = {0};
    memcpy(slot, &header, sizeof header);
    memcpy(slot + sizeof header, b->own, b->frame_bytes);
    q->desc[id].len = (uint32_t)sizeof header + b->frame_bytes;
    q->avail_ring[id] = id;
  }
  b->flying += n;
  if (n) store_release(&q->avail->idx, q->avail_next);
  return n;
}

static uint32_t available(struct bare_ring *q) {
  if (q->avail_seen == q->used_next) q->avail_seen = load_acquire(&q->avail->idx);
  uint32_t n = (uint16_t)(q->avail_seen - q->used_next);
  return n > BATCH ? BATCH : n;
}

/* The next available buffer goes into the used ring; return its descriptor. */
static virtq_desc_t *take(struct bare_ring *q, uint32_t len) {
  uint16_t at = q->used_next++ & q->mask, id = q->avail_ring[at];
  q->used_ring[at] = (virtq_used_elem_t){id, len};
  return &q->desc[id];
}

static uint32_t sink_step(struct bare *b) {
  struct bare_ring *q = &b->ring[0];
  uint32_t n = available(q), skip = sizeof(virtio_net_hdr_t);
  for (uint32_t i = 0; i < n; i++) {
    const virtq_desc_t *d = take(q, 0);
    memcpy(b->own + i * b->own_bytes, q->slots + d->addr + skip, d->len - skip);
  }
  if (n) store_release(&q->used->idx, q->used_next), show_frames(b, n);
  return n;
}

static uint32_t forward_step(struct bare *b) {
  struct bare_ring *from = &b->ring[0], *to = &b->ring[1];
  uint32_t n = available(from), room = available(to);
  if (n > room) n = room;
  for (uint32_t i = 0; i < n; i++) {
    const virtq_desc_t *d = take(from, 0);
    memcpy(to->slots + take(to, d->len)->addr, from->slots + d->addr, d->len);
  }
  if (n) store_release(&to->used->idx, to->used_next), store_release(&from->used->idx, from->used_next);
  return n;
}

static uint32_t receive_step(struct bare *b) {
  struct bare_ring *q = &b->ring[1];
  q->used_seen = load_acquire(&q->used->idx);
  uint32_t n = (uint16_t)(q->used_seen - q->used_next);
  for (uint32_t i = 0; i < n; i++) {
    uint16_t id = (uint16_t)q->used_ring[q->used_next & q->mask].id;
    uint64_t word;
    memcpy(&word, q->slots + q->desc[id].addr + sizeof(virtio_net_hdr_t) + FLOW_TAG_OFFSET, sizeof word);
    b->looked_at += word;
    q->avail_ring[q->used_next++ & q->mask] = id;
  }
  b->flying -= n < b->flying ? n : b->flying;
  if (n) store_release(&q->avail->idx, (uint16_t)(q->used_next + q->mask + 1)), show_frames(b, n);
  return n;
}

/* Play the roles in turn until somebody says stop. */
void bare_run(uint8_t *shared, uint32_t size, uint32_t frame_bytes, uint32_t roles, uint32_t in_flight) {
  struct bare b = attach(shared, size, frame_bytes);
  b.in_flight = in_flight;
  b.own_bytes = up(frame_bytes, LINE);
  b.own = calloc(BATCH, b.own_bytes);
  if (!b.own) return;
  for (uint32_t i = 0; i < frame_bytes; i++) b.own[i] = (uint8_t)(i * 167);
  while (!load_relaxed(&b.control->stop)) {
    uint32_t n = 0;
    if (roles & BARE_SEND) n += send_step(&b);
    if (roles & BARE_SINK) n += sink_step(&b);
    if (roles & BARE_FORWARD) n += forward_step(&b);
    if (roles & BARE_RECEIVE) n += receive_step(&b);
    if (!n) sched_yield();
  }
  free(b.own);
}

uint64_t bare_frames(const uint8_t *shared) { return load_relaxed(&((const struct control *)shared)->frames); }
void bare_stop(uint8_t *shared) { store_relaxed(&((struct control *)shared)->stop, 1u); }
