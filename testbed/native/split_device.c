#include "split_device.h"

/* The first fault stays; whoever drives the queue counts and reports it. */
static void latch(struct split_device *q, int fault) {
  if (!q->fault) q->fault = fault;
}

/* How many entries the driver has made available and the device not yet taken. Acquire pairs with the driver's release of
 * avail->idx (§2.7.13.3): ring entries and descriptors written before it are seen. */
static inline uint32_t available(struct split_device *q) {
  if (unlikely(q->fault)) return 0;
  uint16_t ahead = (uint16_t)(q->avail_seen - q->next.position);
  if (ahead) return ahead;
  q->avail_seen = load_acquire(&q->avail->idx);
  ahead = (uint16_t)(q->avail_seen - q->next.position);
  if (unlikely(ahead > q->size)) {
    latch(q, FAULT(avail_jump));
    q->avail_seen = q->next.position;
    return 0;
  }
  return ahead;
}

/* One descriptor, read once: a guest that changes it meanwhile changes nothing for us. */
static inline virtq_desc_t read_desc(const virtq_desc_t *d) {
  const uint64_t *words = (const uint64_t *)d;
  uint64_t image[2] = {load_relaxed(&words[0]), load_relaxed(&words[1])};
  virtq_desc_t copy;
  memcpy(&copy, image, sizeof copy);
  return copy;
}

static int read_indirect(struct split_device *q, const virtq_desc_t *table, uint32_t entries, struct chain *c) {
  uint32_t index = 0;
  for (uint32_t steps = 0;; steps++) {
    if (steps == entries) return FAULT(loop);
    virtq_desc_t d = read_desc(&table[index]);
    if (d.flags & VIRTIO_DESC_F_INDIRECT) return FAULT(nested_indirect);
    int fault = chain_direction(c, d.flags);
    if (!fault) fault = chain_add(c, q->memory, d.addr, d.len);
    if (fault) return fault;
    if (!(d.flags & VIRTIO_DESC_F_NEXT)) return 0;
    index = d.next;
    if (index >= entries) return FAULT(next_range);
  }
}

/* §2.7.5.3: an indirect descriptor stands alone, is not nested, and its table is a multiple of a descriptor long. */
static int open_indirect(struct split_device *q, const virtq_desc_t *d, struct chain *c) {
  if (!q->indirect) return FAULT(indirect_off);
  if (d->flags & VIRTIO_DESC_F_NEXT) return FAULT(indirect_next);
  uint32_t entries = d->len / (uint32_t)sizeof *d;
  if (d->len % sizeof *d || entries == 0 || entries > VIRTIO_QUEUE_SIZE_MAX) return FAULT(indirect_length);
  /* only what is mapped in one piece: a table across regions is not worth a slow path */
  uint8_t *table = regions_resolve(q->memory, d->addr, d->len);
  if (!table) return FAULT(address);
  if ((uintptr_t)table % 8) return FAULT(alignment); /* §2.7.5.3 gives it a descriptor table's alignment */
  return read_indirect(q, (const virtq_desc_t *)table, entries, c);
}

static int read_chain(struct split_device *q, uint32_t head, struct chain *c) {
  if (unlikely(head >= q->size)) return FAULT(head_range);
  c->id = head;
  uint32_t index = head;
  for (uint16_t steps = 1;; steps++) {
    c->descriptors = steps;
    virtq_desc_t d = read_desc(&q->desc[index]);
    if (unlikely(d.flags & VIRTIO_DESC_F_INDIRECT)) return open_indirect(q, &d, c);
    int fault = chain_direction(c, d.flags);
    if (likely(!fault)) fault = chain_add(c, q->memory, d.addr, d.len);
    if (unlikely(fault)) return fault;
    if (likely(!(d.flags & VIRTIO_DESC_F_NEXT))) return 0;
    if (unlikely(steps == q->size)) return FAULT(loop);
    index = d.next;
    if (unlikely(index >= q->size)) return FAULT(next_range);
  }
}

static inline int split_peek(void *queue, struct cursor *at, struct chain *c) {
  struct split_device *q = queue;
  if (unlikely(q->fault)) return -q->fault;
  if (unlikely(at->position == q->avail_seen)) {
    uint16_t ahead = (uint16_t)(at->position - q->next.position);
    uint16_t seen = load_acquire(&q->avail->idx);
    uint16_t all = (uint16_t)(seen - q->next.position);
    if (unlikely(all > q->size)) return latch(q, FAULT(avail_jump)), -q->fault;
    if (all <= ahead) return 0;
    q->avail_seen = seen;
  }
  uint32_t head = load_relaxed(&q->avail_ring[at->position & (q->size - 1)]), before = c->segments_n;
  int fault = read_chain(q, head, c);
  if (unlikely(fault == FAULT(chain_length) && before)) return PEEK_NO_ROOM;
  if (unlikely(fault)) return latch(q, fault), -fault;
  at->position++;
  return 1;
}

/* The descriptor of an entry that is available for sure, where it is a buffer by itself, of this direction, in one region and longer than a
 * header. Everything else, and every fault, is split_peek's. */
static inline int one_buffer(struct split_device *q, uint16_t position, uint16_t flags, struct segment *s, uint32_t *id) {
  uint32_t head = load_relaxed(&q->avail_ring[position & (q->size - 1)]);
  if (unlikely(head >= q->size)) return 0;
  const uint64_t *words = (const uint64_t *)&q->desc[head];
  uint64_t addr = load_relaxed(&words[0]), rest = load_relaxed(&words[1]);
  uint32_t len = (uint32_t)rest;
  uint16_t found = (uint16_t)(rest >> 8 * (offsetof(virtq_desc_t, flags) - offsetof(virtq_desc_t, len)));
  if (unlikely(found != flags || len <= sizeof(virtio_net_hdr_t))) return 0;
  uint8_t *host = regions_resolve(q->memory, addr, len);
  if (unlikely(!host)) return 0;
  *s = (struct segment){host, len, 0};
  *id = head;
  return 1;
}

static inline int split_peek_sent(void *queue, struct cursor *at, struct segment *s, uint32_t *id) {
  struct split_device *q = queue;
  if (unlikely(at->position == q->avail_seen) || !one_buffer(q, at->position, 0, s, id)) return 0;
  at->position++;
  return 1;
}

static inline int split_peek_posted(void *queue, struct cursor *at, struct segment *s, uint32_t *id) {
  struct split_device *q = queue;
  if (unlikely(at->position == q->avail_seen || q->fault) || !one_buffer(q, at->position, VIRTIO_DESC_F_WRITE, s, id)) return 0;
  at->position++;
  return 1;
}

static __attribute__((cold, noinline)) int fetch_traced(struct split_device *q, struct burst *b, uint32_t limit) {
  return transmit_burst(q, peek_none, split_peek, &q->next, b, limit, q->offload);
}

uint32_t split_device_fetch(struct split_device *q, struct burst *b, uint32_t limit) {
  uint32_t n = available(q);
  if (n > limit) n = limit;
  int fault = trace_on() ? fetch_traced(q, b, n) : transmit_burst(q, split_peek_sent, split_peek, &q->next, b, n, q->offload);
  if (unlikely(fault)) latch(q, fault);
  q->looked = q->next;
  return b->frames_n;
}

static inline void split_use(void *queue, uint32_t id, uint32_t len, uint16_t descriptors) {
  struct split_device *q = queue;
  (void)descriptors;
  virtq_used_elem_t *e = &q->used_ring[q->used_next++ & (q->size - 1)];
  /* what stands there already stays in the driver's cache */
  if (e->id != id || e->len != len) *e = (virtq_used_elem_t){id, len};
}

/* Make what was used visible and say whether the driver wants a call (§2.7.7.2, §2.7.8.2, §2.7.10).
 * Order: the used elements, then idx (release: whoever acquires idx sees the elements and the frame's bytes); then a full
 * fence, so that idx is out before used_event or flags is read: the driver writes its event, fences and reads idx again, so at
 * least one of the two sides sees the other's store. */
bool split_device_publish(void *queue) {
  struct split_device *q = queue;
  uint16_t new = q->used_next, old = q->called;
  if (load_relaxed(&q->used->idx) == new) return false;
  trace_event(TRACE_USED_PUBLISHED, 0, new, 0, 0, 0);
  store_release(&q->used->idx, new);
  full_fence();
  q->called = new;
  if (!q->event_idx) return !(load_relaxed(&q->avail->flags) & VIRTIO_AVAIL_F_NO_INTERRUPT);
  uint16_t event = load_relaxed(&q->avail_ring[q->size]);
  return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

bool split_device_complete(struct split_device *q, const struct burst *b) {
  if (q->in_order && b->frames_n) {
    /* §2.7.9: one element, where the batch begins, with the id of its last buffer */
    uint16_t first = q->used_next;
    split_use(q, b->frames[b->frames_n - 1].id, 0, 0);
    q->used_next = (uint16_t)(first + b->frames_n);
  } else {
    for (uint32_t i = 0; i < b->frames_n; i++) split_use(q, b->frames[i].id, 0, 0);
  }
  return split_device_publish(q);
}

static inline void split_foresee(void *queue, struct cursor at) {
  struct split_device *q = queue;
  uint32_t head = load_relaxed(&q->avail_ring[(at.position + FORESEEN) & (q->size - 1)]);
  uint64_t left;
  if (unlikely(head >= q->size)) return;
  const uint8_t *slot = regions_piece(q->memory, load_relaxed(&q->desc[head].addr), &left);
  if (likely(slot)) foresee_write(slot);
}

static __attribute__((cold, noinline)) uint32_t deliver_traced(
    struct receive *r, const struct burst *b, uint32_t first, uint32_t end, int32_t port, uint64_t *bytes_copied) {
  return receive_burst(r, peek_none, split_peek, split_foresee, split_use, b, first, end, port, bytes_copied);
}

uint32_t split_device_deliver(void *queue, const struct burst *b, uint32_t first, uint32_t end, int32_t port, uint64_t *bytes_copied) {
  struct split_device *q = queue;
  struct receive r = {q, &q->next, &q->looked, q->size, q->merge, q->count};
  if (trace_on()) return deliver_traced(&r, b, first, end, port, bytes_copied);
  return receive_burst(&r, split_peek_posted, split_peek, split_foresee, split_use, b, first, end, port, bytes_copied);
}

int split_device_ready(void *queue) {
  struct split_device *q = queue;
  return !q->fault && load_relaxed(&q->avail->idx) != q->looked.position;
}

/* Ask for a kick (§2.7.10.1): the event, a full fence, then look once more; true: there is work, do not sleep. */
int split_device_arm(void *queue) {
  struct split_device *q = queue;
  if (q->fault) return false;
  if (q->event_idx) store_relaxed(q->avail_event, q->looked.position);
  else store_relaxed(&q->used->flags, 0);
  full_fence();
  return split_device_ready(q);
}

void split_device_disarm(void *queue) {
  struct split_device *q = queue;
  if (q->fault || q->event_idx) return; /* an event index that has been passed asks for nothing */
  store_relaxed(&q->used->flags, VIRTIO_USED_F_NO_NOTIFY);
}

bool split_device_take_command(struct split_device *q, struct command *command) {
  int fault = take_command(q, split_peek, &q->next, command);
  if (unlikely(fault > 0)) latch(q, fault);
  q->looked = q->next;
  return fault == 0;
}

bool split_device_answer_command(struct split_device *q, const struct command *command, uint8_t status) {
  *command->status = status;
  split_use(q, command->id, 1, command->descriptors);
  return split_device_publish(q);
}
