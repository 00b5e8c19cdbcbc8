/* A descriptor chain as a device reads it: every descriptor fetched once, every address checked, faults by name.
 *
 * Shared by the split and the packed ring. Reference: virtio 1.2 §2.7.4, §2.7.5.3 (indirect), §2.8.7 and the driver's rules in
 * the same sections; each FAULT is one of those rules broken. */
#pragma once
#include "burst.h"
#include "layouts.h"
#include "regions.h"
#include "trace.h"

#define FAULT(name) ((int)(offsetof(port_counters_t, fault_##name) / 8))

enum direction { DEVICE_READS, DEVICE_WRITES, DEVICE_BOTH };

struct chain {
  enum direction direction;
  struct segment *segments; /* where the reader puts them; room for `room` */
  uint32_t room, segments_n;
  bool writing;           /* DEVICE_BOTH: the part that the device writes has begun, */
  uint32_t writable_from; /* with this segment */
  uint64_t len;
  uint32_t id;
  uint16_t descriptors;
};

/* Where the device stands in the available entries; `wrap` only in a packed ring. */
struct cursor { uint16_t position; bool wrap; };

/* Add one buffer to the chain, in pieces where it crosses regions. Return 0 or the fault. */
static inline int chain_add(struct chain *c, const struct regions *m, uint64_t gpa, uint32_t length) {
  if (unlikely(length == 0)) return FAULT(zero_length);
  if (unlikely(gpa + length < gpa)) return FAULT(length);
  c->len += length;
  while (length) {
    uint64_t left;
    uint8_t *host = regions_piece(m, gpa, &left);
    if (unlikely(!host)) return FAULT(address);
    if (unlikely(c->segments_n == c->room)) return FAULT(chain_length);
    uint32_t n = left < length ? (uint32_t)left : length;
    trace_translated(m, c->id, gpa, host, n);
    c->segments[c->segments_n++] = (struct segment){host, n, 0};
    gpa += n, length -= n;
  }
  return 0;
}

/* Check the direction of the next buffer: a transmit chain is read only, a receive chain written only (§5.1.6.2, §5.1.6.3), a
 * command has what is read before what is written (§2.7.4.2). Call it before chain_add. */
static inline int chain_direction(struct chain *c, uint16_t flags) {
  bool write = flags & VIRTIO_DESC_F_WRITE;
  if (likely(c->direction != DEVICE_BOTH)) {
    if (likely(write == (c->direction == DEVICE_WRITES))) return 0;
    return write ? FAULT(writable) : FAULT(readable);
  }
  if (!write) return c->writing ? FAULT(order) : 0;
  if (!c->writing) c->writing = true, c->writable_from = c->segments_n;
  return 0;
}
