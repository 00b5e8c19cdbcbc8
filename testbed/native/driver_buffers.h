/* The buffers of a driver's queue: equal slots in guest RAM, each a virtio_net_hdr and room for a frame behind it. */
#pragma once
#include <stdlib.h>
#include "burst.h"
#include "layouts.h"
#include "trace.h"

struct driver_buffers {
  uint8_t *host;
  uint64_t gpa;
  uint32_t slot_bytes, count;
  uint32_t parts;      /* descriptors of a buffer */
  uint16_t *free;      /* ring of free buffers, oldest first */
  uint32_t free_head, free_n;
  uint8_t *in_flight;  /* one a buffer: the device has it */
  uint32_t oldest, in_flight_n;         /* IN_ORDER: buffers go out and come back round and round */
  uint32_t batch_left, batch_len;       /* IN_ORDER: what one used element gave back and was not taken yet */
  bool merge, in_order;
};

static inline bool buffers_init(struct driver_buffers *b) {
  b->free = malloc(b->count * sizeof *b->free);
  b->in_flight = calloc(b->count, 1);
  if (!b->free || !b->in_flight) return false;
  for (uint32_t i = 0; i < b->count; i++) b->free[i] = (uint16_t)i;
  b->free_head = 0, b->free_n = b->count;
  return true;
}

static inline void buffers_destroy(struct driver_buffers *b) { free(b->free), free(b->in_flight), b->free = NULL, b->in_flight = NULL; }

/* Buffers mostly come back in their order, so the ones behind this one are worth asking the cache for. */
static inline void buffers_foresee(const struct driver_buffers *b, uint32_t id) {
  if (likely(id < b->count)) foresee_read(b->host + (size_t)id * b->slot_bytes);
}

static inline uint32_t buffers_take(struct driver_buffers *b) {
  uint32_t id = b->free[b->free_head];
  b->free_head = b->free_head + 1 == b->count ? 0 : b->free_head + 1;
  b->free_n--;
  return id;
}

static inline void buffers_give(struct driver_buffers *b, uint32_t id) {
  uint32_t at = b->free_head + b->free_n;
  b->free[at >= b->count ? at - b->count : at] = (uint16_t)id;
  b->free_n++;
}

/* Take the youngest `n` reservations back, as if they had never been made: the free ring still holds them. */
static inline void buffers_untake(struct driver_buffers *b, uint32_t n) {
  b->free_head = b->free_head >= n ? b->free_head - n : b->free_head + b->count - n;
  b->free_n += n;
}

/* IN_ORDER: which ones the device has follows from `oldest` and their number. */
static inline void buffers_sent(struct driver_buffers *b, uint32_t id) {
  if (!b->in_order) b->in_flight[id] = 1;
  b->in_flight_n++;
}

/* The device gave back `id`; false where it never had it. */
static inline bool buffers_returned(struct driver_buffers *b, uint32_t id) {
  if (unlikely(id >= b->count || !b->in_flight[id])) return false;
  b->in_flight[id] = 0, b->in_flight_n--;
  return true;
}

/* IN_ORDER: the element gave back every buffer up to `last`; false where that cannot be. */
static inline bool buffers_open_batch(struct driver_buffers *b, uint32_t last, uint32_t len) {
  if (unlikely(last >= b->count)) return false;
  uint32_t batch = (last >= b->oldest ? last - b->oldest : last + b->count - b->oldest) + 1;
  if (unlikely(batch > b->in_flight_n)) return false;
  b->batch_left = batch, b->batch_len = len;
  return true;
}

/* The next buffer of an open batch; those before its last were used completely (§2.7.9). */
static inline uint32_t buffers_next_of_batch(struct driver_buffers *b, uint32_t *len) {
  uint32_t id = b->oldest;
  b->oldest = id + 1 == b->count ? 0 : id + 1;
  *len = --b->batch_left ? b->slot_bytes : b->batch_len;
  b->in_flight_n--;
  return id;
}

/* Everything of an open batch at once; return how many that were. The free ring holds the buffers in the order in which they went and come, so
 * it says what it should already. */
static inline uint32_t buffers_give_batch(struct driver_buffers *b) {
  uint32_t n = b->batch_left;
  b->oldest = b->oldest + n >= b->count ? b->oldest + n - b->count : b->oldest + n;
  b->in_flight_n -= n, b->free_n += n, b->batch_left = 0;
  return n;
}

static inline uint8_t *buffers_slot(const struct driver_buffers *b, uint32_t id) { return b->host + (size_t)id * b->slot_bytes; }

/* The room behind the header as the only segment of a frame to fill. */
static inline void buffers_open(const struct driver_buffers *b, struct burst *burst, uint32_t id) {
  uint32_t i = burst->frames_n++;
  foresee_write(buffers_slot(b, id));
  burst->segments[i] = (struct segment){buffers_slot(b, id) + sizeof(virtio_net_hdr_t), b->slot_bytes - (uint32_t)sizeof(virtio_net_hdr_t), id};
  burst->frames[i] = (struct frame){.first_segment = i, .segments = 1, .id = id};
  burst->segments_n = burst->frames_n;
}

/* A filled buffer of descriptor `index` is about to be made available. */
static inline void trace_posted(const struct driver_buffers *b, uint32_t index, const struct frame *f) {
  if (trace_on()) trace_put_posted(TRACE_DESCRIPTOR_POSTED, buffers_slot(b, f->id) + sizeof(virtio_net_hdr_t), f->len, index,
                                   b->gpa + (uint64_t)f->id * b->slot_bytes + sizeof(virtio_net_hdr_t));
}

/* No offload is negotiated, so the header in front of a frame says nothing (§5.1.6.2.1). */
static inline void buffers_clear_header(const struct driver_buffers *b, uint32_t id) {
  memset(b->host + (size_t)id * b->slot_bytes, 0, sizeof(virtio_net_hdr_t));
}

/* Bytes of part `part` of a buffer that carries `len` bytes behind its header: the header alone, then the rest in equal pieces. */
static inline uint32_t buffers_part(const struct driver_buffers *b, uint32_t part, uint32_t len, uint32_t *offset) {
  uint32_t header = sizeof(virtio_net_hdr_t), pieces = b->parts - 1, piece;
  if (b->parts == 1) { *offset = 0; return header + len; }
  if (part == 0) { *offset = 0; return header; }
  piece = len / pieces;
  *offset = header + (part - 1) * piece;
  return part == pieces ? len - (pieces - 1) * piece : piece;
}
