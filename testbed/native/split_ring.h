/* Where the parts of a split virtqueue are. virtio 1.2 §2.7: each ring is a header, its entries, and one event index. */
#pragma once
#include "layouts.h"
#include "order.h"

static inline uint64_t split_desc_bytes(uint32_t size) { return (uint64_t)size * sizeof(virtq_desc_t); }
static inline uint64_t split_avail_bytes(uint32_t size) { return sizeof(virtq_avail_t) + ((uint64_t)size + 1) * sizeof(uint16_t); }
static inline uint64_t split_used_bytes(uint32_t size) {
  return sizeof(virtq_used_t) + (uint64_t)size * sizeof(virtq_used_elem_t) + sizeof(uint16_t);
}
static inline uint16_t *split_avail_ring(uint8_t *avail) { return (uint16_t *)(avail + sizeof(virtq_avail_t)); }
static inline virtq_used_elem_t *split_used_ring(uint8_t *used) { return (virtq_used_elem_t *)(used + sizeof(virtq_used_t)); }
static inline uint16_t *split_avail_event(uint8_t *used, uint32_t size) { return (uint16_t *)(split_used_ring(used) + size); }
