#include "vhost_log.h"
#include <stdlib.h>
#include "packed_ring.h"

void dirty_mark(uint8_t *log, uint64_t log_bytes, uint64_t gpa, uint64_t length) {
  if (length == 0 || gpa + length < gpa) return;
  uint64_t last = (gpa + length - 1) / VHOST_USER_LOG_PAGE_BYTES;
  for (uint64_t page = gpa / VHOST_USER_LOG_PAGE_BYTES; page <= last; page++) {
    if (page / 8 >= log_bytes) return;
    __atomic_fetch_or(&log[page / 8], (uint8_t)(1u << page % 8), __ATOMIC_ACQ_REL);
  }
}

static bool note(struct dirty_ranges *to, uint64_t gpa, uint32_t len, uint32_t slot) {
  if (to->n == to->room) {
    uint32_t room = to->room ? 2 * to->room : 1024;
    struct dirty_range *range = realloc(to->range, room * sizeof *range);
    if (!range) return false;
    to->range = range, to->room = room;
  }
  to->range[to->n++] = (struct dirty_range){gpa, len, slot};
  return true;
}

/* The descriptors of an indirect table, at most as many as it has: their order does not matter here. */
static bool note_table(const struct regions *m, uint64_t gpa, uint32_t bytes, uint32_t slot, struct dirty_ranges *to) {
  const virtq_desc_t *table = (const virtq_desc_t *)regions_resolve(m, gpa, bytes);
  uint32_t entries = bytes / (uint32_t)sizeof *table;
  if (!table || entries > VIRTIO_QUEUE_SIZE_MAX) return true;
  for (uint32_t i = 0; i < entries; i++)
    if (!note(to, load_relaxed(&table[i].addr), load_relaxed(&table[i].len), slot)) return false;
  return true;
}

static bool note_split_chain(const struct split_device *q, uint32_t head, uint32_t slot, struct dirty_ranges *to) {
  for (uint32_t steps = 0, index = head; steps < q->size && index < q->size; steps++) {
    const virtq_desc_t *d = &q->desc[index];
    uint16_t flags = load_relaxed(&d->flags);
    uint64_t gpa = load_relaxed(&d->addr);
    uint32_t len = load_relaxed(&d->len);
    if (flags & VIRTIO_DESC_F_INDIRECT) return note_table(q->memory, gpa, len, slot, to);
    if (!note(to, gpa, len, slot)) return false;
    if (!(flags & VIRTIO_DESC_F_NEXT)) return true;
    index = load_relaxed(&d->next);
  }
  return true;
}

bool dirty_collect_split(const struct split_device *q, struct dirty_ranges *to) {
  to->n = 0, to->from = q->next;
  uint32_t ahead = (uint16_t)(load_acquire(&q->avail->idx) - q->next.position);
  for (uint32_t slot = 0; slot < ahead && slot < q->size; slot++) {
    uint32_t head = load_relaxed(&q->avail_ring[(uint16_t)(q->next.position + slot) & (q->size - 1)]);
    if (!note_split_chain(q, head, slot, to)) return false;
  }
  return true;
}

bool dirty_collect_packed(const struct packed_device *q, struct dirty_ranges *to) {
  struct cursor at = q->next;
  to->n = 0, to->from = q->next;
  for (uint32_t slot = 0; slot < q->size; slot++) {
    const packed_desc_t *d = &q->ring[at.position];
    uint16_t flags = load_acquire(&d->flags);
    if (!packed_is_avail(flags, at.wrap)) return true;
    bool fit = flags & VIRTIO_DESC_F_INDIRECT
      ? note_table(q->memory, load_relaxed(&d->addr), load_relaxed(&d->len), slot, to)
      : note(to, load_relaxed(&d->addr), load_relaxed(&d->len), slot);
    if (!fit) return false;
    packed_step(&at, 1, q->size);
  }
  return true;
}

static void mark_noted(uint8_t *log, uint64_t log_bytes, const struct dirty_ranges *noted, uint32_t slots) {
  for (uint32_t i = 0; i < noted->n; i++)
    if (noted->range[i].slot < slots) dirty_mark(log, log_bytes, noted->range[i].gpa, noted->range[i].len);
}

void dirty_mark_split(uint8_t *log, uint64_t log_bytes, const struct split_device *q, const struct dirty_ranges *noted) {
  mark_noted(log, log_bytes, noted, (uint16_t)(q->next.position - noted->from.position));
}

void dirty_mark_packed(uint8_t *log, uint64_t log_bytes, const struct packed_device *q, const struct dirty_ranges *noted) {
  mark_noted(log, log_bytes, noted, packed_ahead(noted->from, q->next, q->size));
}
