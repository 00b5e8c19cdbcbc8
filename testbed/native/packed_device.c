#include "packed_device.h"
#include "packed_ring.h"

static void latch(struct packed_device *q, int fault) {
  if (!q->fault) q->fault = fault;
}

struct packed_copy { uint64_t addr; uint32_t len; uint16_t id, flags; };

/* One descriptor, its two words read once each; its flags were acquired before. */
static inline struct packed_copy read_desc(const packed_desc_t *d) {
  const uint64_t *words = (const uint64_t *)d;
  uint64_t image[2] = {load_relaxed(&words[0]), load_relaxed(&words[1])};
  packed_desc_t copy;
  memcpy(&copy, image, sizeof copy);
  return (struct packed_copy){copy.addr, copy.len, copy.id, copy.flags};
}

/* §2.8.7: an indirect table's descriptors follow one another; of their flags only WRITE counts, the others are ignored. */
static int read_indirect(struct packed_device *q, const struct packed_copy *d, struct chain *c) {
  if (!q->indirect) return FAULT(indirect_off);
  if (d->flags & VIRTIO_DESC_F_NEXT) return FAULT(indirect_next);
  uint32_t entries = d->len / (uint32_t)sizeof(packed_desc_t);
  if (d->len % sizeof(packed_desc_t) || entries == 0 || entries > VIRTIO_QUEUE_SIZE_MAX) return FAULT(indirect_length);
  const packed_desc_t *table = (const packed_desc_t *)regions_resolve(q->memory, d->addr, d->len);
  if (!table) return FAULT(address);
  if ((uintptr_t)table % 8) return FAULT(alignment);
  for (uint32_t i = 0; i < entries; i++) {
    struct packed_copy e = read_desc(&table[i]);
    int fault = chain_direction(c, e.flags);
    if (!fault) fault = chain_add(c, q->memory, e.addr, e.len);
    if (fault) return fault;
  }
  return 0;
}

/* Read the chain that begins at `at`; its descriptors follow one another in the ring, the id is in the last (§2.8.6). */
static int read_chain(struct packed_device *q, struct cursor at, struct chain *c) {
  for (c->descriptors = 1;; c->descriptors++) {
    struct packed_copy d = read_desc(&q->ring[at.position]);
    c->id = d.id;
    if (unlikely(d.flags & VIRTIO_DESC_F_INDIRECT)) {
      return c->descriptors == 1 ? read_indirect(q, &d, c) : FAULT(indirect_next);
    }
    int fault = chain_direction(c, d.flags);
    if (likely(!fault)) fault = chain_add(c, q->memory, d.addr, d.len);
    if (unlikely(fault)) return fault;
    if (likely(!(d.flags & VIRTIO_DESC_F_NEXT))) return 0;
    if (unlikely(c->descriptors == q->size)) return FAULT(loop);
    packed_step(&at, 1, q->size);
  }
}

/* Acquire of the head's flags pairs with the driver's release of them, written after the rest of the chain (§2.8.14.1). A driver that
 * makes descriptors available which were not used yet would have us hold more than the ring has (§2.8.17). */
static inline int packed_peek(void *queue, struct cursor *at, struct chain *c) {
  struct packed_device *q = queue;
  if (unlikely(q->fault)) return -q->fault;
  if (!packed_is_avail(load_acquire(&q->ring[at->position].flags), at->wrap)) return 0;
  uint32_t before = c->segments_n;
  int fault = read_chain(q, *at, c);
  if (unlikely(fault == FAULT(chain_length) && before)) return PEEK_NO_ROOM;
  if (unlikely(!fault && packed_ahead(q->used, *at, q->size) + c->descriptors > q->size)) fault = FAULT(avail_jump);
  if (unlikely(fault)) return latch(q, fault), -fault;
  packed_step(at, c->descriptors, q->size);
  return 1;
}

/* The descriptor at `at`, where it is available and a buffer by itself, of this direction, in one region and longer than a header. The
 * flags say whether the rest stands, so they are acquired first. Everything else, and every fault, is packed_peek's. */
static inline int one_buffer(struct packed_device *q, struct cursor *at, uint16_t flags, struct segment *s, uint32_t *id) {
  const packed_desc_t *d = &q->ring[at->position];
  if (load_acquire(&d->flags) != (packed_avail_flags(at->wrap) | flags)) return 0;
  const uint64_t *words = (const uint64_t *)d;
  uint64_t addr = load_relaxed(&words[0]), rest = load_relaxed(&words[1]);
  uint32_t len = (uint32_t)rest;
  if (unlikely(len <= sizeof(virtio_net_hdr_t) || packed_ahead(q->used, *at, q->size) == q->size)) return 0;
  uint8_t *host = regions_resolve(q->memory, addr, len);
  if (unlikely(!host)) return 0;
  *s = (struct segment){host, len, 0};
  *id = (uint16_t)(rest >> 8 * (offsetof(packed_desc_t, id) - offsetof(packed_desc_t, len)));
  packed_step(at, 1, q->size);
  return 1;
}

static inline int packed_peek_sent(void *queue, struct cursor *at, struct segment *s, uint32_t *id) { return one_buffer(queue, at, 0, s, id); }

static inline int packed_peek_posted(void *queue, struct cursor *at, struct segment *s, uint32_t *id) {
  return likely(!((struct packed_device *)queue)->fault) && one_buffer(queue, at, VIRTIO_DESC_F_WRITE, s, id);
}

static __attribute__((cold, noinline)) int fetch_traced(struct packed_device *q, struct burst *b, uint32_t limit) {
  return transmit_burst(q, peek_none, packed_peek, &q->next, b, limit, q->offload);
}

uint32_t packed_device_fetch(struct packed_device *q, struct burst *b, uint32_t limit) {
  if (unlikely(q->fault)) limit = 0;
  int fault = trace_on() ? fetch_traced(q, b, limit) : transmit_burst(q, packed_peek_sent, packed_peek, &q->next, b, limit, q->offload);
  if (unlikely(fault)) latch(q, fault);
  q->looked = q->next;
  return b->frames_n;
}

/* Write a used descriptor. The flags of the first one since the last publication are held back: the driver looks there first, so it
 * sees all of them at once and does not pull the line away while we write (§2.8.6: length counts only with WRITE). */
static inline void packed_use(void *queue, uint32_t id, uint32_t len, uint16_t descriptors) {
  struct packed_device *q = queue;
  packed_desc_t *d = &q->ring[q->used.position];
  uint16_t flags = packed_used_flags(q->used.wrap) | (len ? VIRTIO_DESC_F_WRITE : 0);
  d->id = (uint16_t)id;
  d->len = len;
  if (q->staged) store_release(&d->flags, flags);
  else q->staged = true, q->staged_at = q->used.position, q->staged_flags = flags;
  packed_step(&q->used, descriptors, q->size);
  q->since_call += descriptors;
}

/* Order: every used descriptor and the frames' bytes, then the first one's flags (release), a full fence, then the driver's event. */
bool packed_device_publish(void *queue) {
  struct packed_device *q = queue;
  if (!q->staged) return false;
  trace_event(TRACE_USED_PUBLISHED, 0, q->used.position, 0, 0, 0);
  store_release(&q->ring[q->staged_at].flags, q->staged_flags);
  q->staged = false;
  full_fence();
  uint32_t slots = q->since_call;
  q->since_call = 0;
  return packed_wants(q->driver_event, q->used, slots, q->size);
}

bool packed_device_complete(struct packed_device *q, const struct burst *b) {
  if (q->in_order && b->frames_n) {
    /* §2.8.8: one used descriptor, where the batch begins, with the id of its last buffer */
    uint32_t slots = 0;
    for (uint32_t i = 0; i < b->frames_n; i++) slots += b->frames[i].descriptors;
    packed_use(q, b->frames[b->frames_n - 1].id, 0, (uint16_t)slots);
  } else {
    for (uint32_t i = 0; i < b->frames_n; i++) packed_use(q, b->frames[i].id, 0, b->frames[i].descriptors);
  }
  return packed_device_publish(q);
}

static inline void packed_foresee(void *queue, struct cursor at) {
  struct packed_device *q = queue;
  uint64_t left;
  packed_step(&at, FORESEEN < q->size ? FORESEEN : 0, q->size);
  const uint8_t *slot = regions_piece(q->memory, load_relaxed(&q->ring[at.position].addr), &left);
  if (likely(slot)) foresee_write(slot);
}

static __attribute__((cold, noinline)) uint32_t deliver_traced(
    struct receive *r, const struct burst *b, uint32_t first, uint32_t end, int32_t port, uint64_t *bytes_copied) {
  return receive_burst(r, peek_none, packed_peek, packed_foresee, packed_use, b, first, end, port, bytes_copied);
}

uint32_t packed_device_deliver(void *queue, const struct burst *b, uint32_t first, uint32_t end, int32_t port, uint64_t *bytes_copied) {
  struct packed_device *q = queue;
  struct receive r = {q, &q->next, &q->looked, q->size, q->merge, q->count};
  if (trace_on()) return deliver_traced(&r, b, first, end, port, bytes_copied);
  return receive_burst(&r, packed_peek_posted, packed_peek, packed_foresee, packed_use, b, first, end, port, bytes_copied);
}

int packed_device_ready(void *queue) {
  struct packed_device *q = queue;
  return !q->fault && packed_is_avail(load_relaxed(&q->ring[q->looked.position].flags), q->looked.wrap);
}

int packed_device_arm(void *queue) {
  struct packed_device *q = queue;
  if (q->fault) return false;
  packed_ask(q->device_event, q->looked, q->event_idx);
  full_fence();
  return packed_device_ready(q);
}

void packed_device_disarm(void *queue) {
  struct packed_device *q = queue;
  if (!q->fault) packed_hush(q->device_event);
}

bool packed_device_take_command(struct packed_device *q, struct command *command) {
  int fault = take_command(q, packed_peek, &q->next, command);
  if (unlikely(fault > 0)) latch(q, fault);
  q->looked = q->next;
  return fault == 0;
}

bool packed_device_answer_command(struct packed_device *q, const struct command *command, uint8_t status) {
  *command->status = status;
  packed_use(q, command->id, 1, command->descriptors);
  return packed_device_publish(q);
}
