#include "split_driver.h"

static virtq_desc_t *parts_of(struct split_driver *q, uint32_t id) {
  return (q->indirect ? q->indirect : q->desc) + (size_t)id * q->buffers.parts;
}

static uint32_t head_of(const struct split_driver *q, uint32_t id) { return q->indirect ? id : id * q->buffers.parts; }

/* Write address and length of every part for `len` bytes of frame. */
static void lay_out(struct split_driver *q, virtq_desc_t *parts, uint32_t id, uint32_t len) {
  for (uint32_t p = 0; p < q->buffers.parts; p++) {
    uint32_t offset, bytes = buffers_part(&q->buffers, p, len, &offset);
    parts[p].addr = q->buffers.gpa + (uint64_t)id * q->buffers.slot_bytes + offset;
    parts[p].len = bytes;
  }
}

void split_driver_layout(struct split_driver *q, bool device_writes, uint64_t indirect_gpa) {
  uint32_t parts_n = q->buffers.parts;
  uint16_t direction = device_writes ? VIRTIO_DESC_F_WRITE : 0;
  for (uint32_t id = 0; id < q->buffers.count; id++) {
    virtq_desc_t *parts = parts_of(q, id);
    for (uint32_t p = 0; p < parts_n; p++) {
      bool last = p + 1 == parts_n;
      uint32_t self = q->indirect ? p : id * parts_n + p;
      parts[p].flags = direction | (last ? 0 : VIRTIO_DESC_F_NEXT);
      parts[p].next = (uint16_t)(last ? 0 : self + 1);
    }
    lay_out(q, parts, id, q->buffers.slot_bytes - (uint32_t)sizeof(virtio_net_hdr_t));
    if (q->indirect) {
      uint32_t bytes = parts_n * (uint32_t)sizeof *parts;
      q->desc[id] = (virtq_desc_t){indirect_gpa + (uint64_t)id * bytes, bytes, VIRTIO_DESC_F_INDIRECT, 0};
    }
  }
}

/* The id of a used element names the head descriptor; a buffer's descriptors follow one another. No buffer: UINT32_MAX. */
static inline uint32_t buffer_of(const struct split_driver *q, uint32_t head) {
  if (q->indirect || q->buffers.parts == 1) return head;
  return head % q->buffers.parts ? UINT32_MAX : head / q->buffers.parts;
}

/* Acquire pairs with the device's release of used->idx: the element and the frame's bytes are seen. */
static inline int32_t split_take(void *queue, uint32_t *len) {
  struct split_driver *q = queue;
  if (unlikely(q->broken)) return TAKE_NONE;
  if (q->used_next == q->used_seen) {
    q->used_seen = load_acquire(&q->used->idx);
    if (unlikely((uint16_t)(q->used_seen - q->used_next) > q->size)) q->broken = true;
    if (q->used_seen == q->used_next || q->broken) return TAKE_NONE;
  }
  if (!q->buffers.batch_left) {
    const virtq_used_elem_t *e = &q->used_ring[q->used_next & (q->size - 1)];
    uint32_t id = buffer_of(q, load_relaxed(&e->id)), written = load_relaxed(&e->len);
    if (!q->buffers.in_order) {
      if (unlikely(!buffers_returned(&q->buffers, id))) return q->broken = true, TAKE_BROKEN;
      return q->used_next++, *len = written, (int32_t)id;
    }
    if (unlikely(!buffers_open_batch(&q->buffers, id, written))) return q->broken = true, TAKE_BROKEN;
  }
  q->used_next++;
  return (int32_t)buffers_next_of_batch(&q->buffers, len);
}

/* IN_ORDER: one used element gives a whole batch back. */
static void reclaim_batches(struct split_driver *q) {
  uint32_t len;
  for (int32_t id; (id = split_take(q, &len)) >= 0;) {
    buffers_give(&q->buffers, (uint32_t)id);
    q->used_next = (uint16_t)(q->used_next + buffers_give_batch(&q->buffers));
  }
}

void split_driver_reclaim(struct split_driver *q) {
  uint32_t len;
  if (q->buffers.in_order) { reclaim_batches(q); return; }
  for (int32_t id; (id = split_take(q, &len)) >= 0;) buffers_give(&q->buffers, (uint32_t)id);
}

uint32_t split_driver_reserve(struct split_driver *q, struct burst *b, uint32_t want) {
  b->frames_n = b->segments_n = 0;
  if (want > BURST_FRAMES) want = BURST_FRAMES;
  if (q->buffers.free_n < want) split_driver_reclaim(q);
  if (want > q->buffers.free_n) want = q->buffers.free_n;
  while (b->frames_n < want) buffers_open(&q->buffers, b, buffers_take(&q->buffers));
  return want;
}

static inline void make_available(struct split_driver *q, uint32_t id) {
  buffers_sent(&q->buffers, id);
  uint16_t *entry = &q->avail_ring[q->avail_next++ & (q->size - 1)], head = (uint16_t)head_of(q, id);
  /* buffers come back in the order in which they left, so what is written here mostly stands here: leave it in the device's cache */
  if (*entry != head) store_relaxed(entry, head);
}

void split_driver_send(struct split_driver *q, struct burst *b) {
  if (trace_on()) for (uint32_t i = 0; i < b->frames_n; i++) trace_posted(&q->buffers, head_of(q, b->frames[i].id), &b->frames[i]);
  for (uint32_t i = 0; i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    buffers_clear_header(&q->buffers, f->id);
    uint32_t len = f->len + (uint32_t)sizeof(virtio_net_hdr_t);
    if (likely(q->buffers.parts == 1 && !q->indirect)) {
      if (q->desc[f->id].len != len) q->desc[f->id].len = len;
    }
    else lay_out(q, parts_of(q, f->id), f->id, f->len);
    make_available(q, f->id);
  }
}

uint32_t split_driver_collect(struct split_driver *q, struct burst *b, uint32_t limit) {
  if (unlikely(!collect_burst(q, split_take, &q->buffers, b, limit))) q->broken = true;
  trace_burst(TRACE_FRAME_TAKEN, b);
  return b->frames_n;
}

void split_driver_post(struct split_driver *q, const struct burst *b) {
  for (uint32_t i = 0; i < b->segments_n; i++) make_available(q, b->segments[i].id);
}

void split_driver_post_all(struct split_driver *q) {
  while (q->buffers.free_n) make_available(q, buffers_take(&q->buffers));
}

/* Show the device what was made available and say whether it wants a kick (§2.7.13.3, §2.7.13.4.1, §2.7.10).
 * Order: descriptors and ring entries, then idx (release); a full fence; then avail_event or flags: either the device's last
 * look before it sleeps sees idx, or we see its wish. */
bool split_driver_publish(struct split_driver *q) {
  uint16_t new = q->avail_next, old = q->kicked;
  if (load_relaxed(&q->avail->idx) == new) return false;
  trace_event(TRACE_RING_PUBLISHED, 0, new, 0, 0, 0);
  store_release(&q->avail->idx, new);
  full_fence();
  q->kicked = new;
  if (!q->event_idx) return !(load_relaxed(&q->used->flags) & VIRTIO_USED_F_NO_NOTIFY);
  return (uint16_t)(new - load_relaxed(q->avail_event) - 1) < (uint16_t)(new - old);
}

int split_driver_ready(void *queue) {
  struct split_driver *q = queue;
  return !q->broken && load_relaxed(&q->used->idx) != q->used_next;
}

/* Ask for a call (§2.7.7.1): the event, a full fence, one more look; true: there is work, do not sleep. */
int split_driver_arm(void *queue) {
  struct split_driver *q = queue;
  if (q->event_idx) store_relaxed(&q->avail_ring[q->size], q->used_next);
  else store_relaxed(&q->avail->flags, 0);
  full_fence();
  return split_driver_ready(q);
}

void split_driver_disarm(void *queue) {
  struct split_driver *q = queue;
  if (!q->event_idx) store_relaxed(&q->avail->flags, VIRTIO_AVAIL_F_NO_INTERRUPT);
}
