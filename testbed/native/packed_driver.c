#include "packed_driver.h"

#include "collect.h"

static void lay_out_table(struct packed_driver *q, uint32_t id, uint32_t len) {
  packed_desc_t *table = q->indirect + (size_t)id * q->buffers.parts;
  for (uint32_t p = 0; p < q->buffers.parts; p++) {
    uint32_t offset, bytes = buffers_part(&q->buffers, p, len, &offset);
    table[p] = (packed_desc_t){q->buffers.gpa + (uint64_t)id * q->buffers.slot_bytes + offset, bytes, 0, q->direction};
  }
}

void packed_driver_layout(struct packed_driver *q, bool device_writes, uint64_t indirect_gpa) {
  q->direction = device_writes ? VIRTIO_DESC_F_WRITE : 0;
  q->indirect_gpa = indirect_gpa;
  q->avail = q->used = (struct cursor){0, true};
  q->slots_free = q->size;
  if (!q->indirect) return;
  for (uint32_t id = 0; id < q->buffers.count; id++) lay_out_table(q, id, q->buffers.slot_bytes - (uint32_t)sizeof(virtio_net_hdr_t));
}

static inline uint32_t slots_of_buffer(const struct packed_driver *q) { return q->indirect ? 1 : q->buffers.parts; }

/* Acquire of the flags pairs with the device's release: id, length and the frame's bytes are seen. */
static inline int32_t packed_take(void *queue, uint32_t *len) {
  struct packed_driver *q = queue;
  uint32_t id;
  if (unlikely(q->broken)) return TAKE_NONE;
  if (q->buffers.batch_left) {
    id = buffers_next_of_batch(&q->buffers, len);
  } else {
    const packed_desc_t *d = &q->ring[q->used.position];
    uint16_t flags = load_acquire(&d->flags);
    if (!packed_is_used(flags, q->used.wrap)) return TAKE_NONE;
    id = load_relaxed(&d->id);
    *len = flags & VIRTIO_DESC_F_WRITE ? load_relaxed(&d->len) : 0;
    if (q->buffers.in_order) {
      if (unlikely(!buffers_open_batch(&q->buffers, id, *len))) return q->broken = true, TAKE_BROKEN;
      id = buffers_next_of_batch(&q->buffers, len);
    } else if (unlikely(!buffers_returned(&q->buffers, id))) return q->broken = true, TAKE_BROKEN;
  }
  packed_step(&q->used, slots_of_buffer(q), q->size);
  q->slots_free += slots_of_buffer(q);
  return (int32_t)id;
}

/* IN_ORDER: one used descriptor gives a whole batch back. */
static void reclaim_batches(struct packed_driver *q) {
  uint32_t len;
  for (int32_t id; (id = packed_take(q, &len)) >= 0;) {
    buffers_give(&q->buffers, (uint32_t)id);
    uint32_t slots = slots_of_buffer(q) * buffers_give_batch(&q->buffers);
    packed_step(&q->used, slots, q->size);
    q->slots_free += slots;
  }
}

void packed_driver_reclaim(struct packed_driver *q) {
  uint32_t len;
  if (q->buffers.in_order) { reclaim_batches(q); return; }
  for (int32_t id; (id = packed_take(q, &len)) >= 0;) buffers_give(&q->buffers, (uint32_t)id);
}

uint32_t packed_driver_reserve(struct packed_driver *q, struct burst *b, uint32_t want) {
  b->frames_n = b->segments_n = 0;
  if (want > BURST_FRAMES) want = BURST_FRAMES;
  if (q->buffers.free_n < want) packed_driver_reclaim(q);
  if (want > q->buffers.free_n) want = q->buffers.free_n;
  while (b->frames_n < want) buffers_open(&q->buffers, b, buffers_take(&q->buffers));
  return want;
}

/* Write one descriptor; the flags of the first one since the last publication are held back, so that the device sees the
 * whole batch at once, and never a chain whose rest is not written (§2.8.14.1). */
static inline void put(struct packed_driver *q, uint64_t addr, uint32_t len, uint32_t id, uint16_t flags) {
  packed_desc_t *d = &q->ring[q->avail.position];
  flags |= packed_avail_flags(q->avail.wrap) | q->direction;
  d->addr = addr, d->len = len, d->id = (uint16_t)id;
  if (q->staged) store_release(&d->flags, flags);
  else q->staged = true, q->staged_at = q->avail.position, q->staged_flags = flags;
  packed_step(&q->avail, 1, q->size);
  q->slots_free--, q->since_kick++;
}

static inline void make_available(struct packed_driver *q, uint32_t id, uint32_t len) {
  buffers_sent(&q->buffers, id);
  uint64_t gpa = q->buffers.gpa + (uint64_t)id * q->buffers.slot_bytes;
  uint32_t parts = q->buffers.parts;
  if (likely(parts == 1 && !q->indirect)) {
    put(q, gpa, len + (uint32_t)sizeof(virtio_net_hdr_t), id, 0);
  } else if (q->indirect) {
    uint32_t bytes = parts * (uint32_t)sizeof(packed_desc_t);
    if (!q->direction) lay_out_table(q, id, len);
    uint16_t direction = q->direction;
    q->direction = 0; /* WRITE is reserved in a descriptor that refers to a table (§2.8.7) */
    put(q, q->indirect_gpa + (uint64_t)id * bytes, bytes, id, VIRTIO_DESC_F_INDIRECT);
    q->direction = direction;
  } else {
    for (uint32_t p = 0; p < parts; p++) {
      uint32_t offset, bytes = buffers_part(&q->buffers, p, len, &offset);
      put(q, gpa + offset, bytes, id, p + 1 < parts ? VIRTIO_DESC_F_NEXT : 0);
    }
  }
}

void packed_driver_send(struct packed_driver *q, struct burst *b) {
  if (trace_on()) for (uint32_t i = 0; i < b->frames_n; i++) trace_posted(&q->buffers, b->frames[i].id, &b->frames[i]);
  for (uint32_t i = 0; i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    buffers_clear_header(&q->buffers, f->id);
    make_available(q, f->id, f->len);
  }
}

uint32_t packed_driver_collect(struct packed_driver *q, struct burst *b, uint32_t limit) {
  if (unlikely(!collect_burst(q, packed_take, &q->buffers, b, limit))) q->broken = true;
  trace_burst(TRACE_FRAME_TAKEN, b);
  return b->frames_n;
}

static uint32_t room(const struct packed_driver *q) { return q->buffers.slot_bytes - (uint32_t)sizeof(virtio_net_hdr_t); }

void packed_driver_post(struct packed_driver *q, const struct burst *b) {
  for (uint32_t i = 0; i < b->segments_n; i++) make_available(q, b->segments[i].id, room(q));
}

void packed_driver_post_all(struct packed_driver *q) {
  while (q->buffers.free_n) make_available(q, buffers_take(&q->buffers), room(q));
}

/* Order: every descriptor, then the first one's flags (release), a full fence, then the device's event. */
bool packed_driver_publish(struct packed_driver *q) {
  if (!q->staged) return false;
  trace_event(TRACE_RING_PUBLISHED, 0, q->avail.position, 0, 0, 0);
  store_release(&q->ring[q->staged_at].flags, q->staged_flags);
  q->staged = false;
  full_fence();
  uint32_t slots = q->since_kick;
  q->since_kick = 0;
  return packed_wants(q->device_event, q->avail, slots, q->size);
}

int packed_driver_ready(void *queue) {
  struct packed_driver *q = queue;
  return !q->broken && (q->buffers.batch_left || packed_is_used(load_relaxed(&q->ring[q->used.position].flags), q->used.wrap));
}

int packed_driver_arm(void *queue) {
  struct packed_driver *q = queue;
  packed_ask(q->driver_event, q->used, q->event_idx);
  full_fence();
  return packed_driver_ready(q);
}

void packed_driver_disarm(void *queue) {
  struct packed_driver *q = queue;
  packed_hush(q->driver_event);
}
