/* What both sides of a packed virtqueue agree on: wrap counters and event suppression. virtio 1.2 §2.8.1, §2.8.10. */
#pragma once
#include "chain.h"

#define PACKED_WRAP (1u << VIRTIO_PACKED_EVENT_WRAP_SHIFT)

static inline uint16_t packed_avail_flags(bool wrap) { return wrap ? VIRTIO_DESC_F_AVAIL : VIRTIO_DESC_F_USED; }
static inline uint16_t packed_used_flags(bool wrap) { return wrap ? VIRTIO_DESC_F_AVAIL | VIRTIO_DESC_F_USED : 0; }

/* The avail bit is as the wrap counter, the used bit is not. */
static inline bool packed_is_avail(uint16_t flags, bool wrap) {
  return (flags & (VIRTIO_DESC_F_AVAIL | VIRTIO_DESC_F_USED)) == packed_avail_flags(wrap);
}
static inline bool packed_is_used(uint16_t flags, bool wrap) {
  return (flags & (VIRTIO_DESC_F_AVAIL | VIRTIO_DESC_F_USED)) == packed_used_flags(wrap);
}

static inline void packed_step(struct cursor *at, uint32_t slots, uint32_t size) {
  uint32_t position = at->position + slots;
  if (position >= size) position -= size, at->wrap = !at->wrap;
  at->position = (uint16_t)position;
}

/* Ring slots from one cursor to another that is at most a lap ahead. */
static inline uint32_t packed_ahead(struct cursor from, struct cursor to, uint32_t size) {
  return (uint32_t)to.position - from.position + (to.wrap != from.wrap ? size : 0);
}

/* Does the other side, which left `event`, want to hear that `slots` slots up to `now` were filled? (§2.8.10.1) */
static inline bool packed_wants(const packed_event_t *event, struct cursor now, uint32_t slots, uint32_t size) {
  /* one load: offset and flags belong together */
  uint32_t word = load_relaxed((const uint32_t *)event);
  uint16_t flags = (uint16_t)(word >> 16), position = (uint16_t)word;
  if (flags != VIRTIO_RING_EVENT_FLAGS_DESC) return flags != VIRTIO_RING_EVENT_FLAGS_DISABLE;
  uint16_t offset = position & (PACKED_WRAP - 1);
  if (!!(position & PACKED_WRAP) != now.wrap) offset = (uint16_t)(offset - size);
  return (uint16_t)(now.position - offset - 1) < (uint16_t)slots;
}

/* Ask to hear about the descriptor at `at` (with EVENT_IDX) or about any. */
static inline void packed_ask(packed_event_t *event, struct cursor at, bool event_idx) {
  uint32_t position = at.position | (at.wrap ? PACKED_WRAP : 0);
  uint32_t flags = event_idx ? VIRTIO_RING_EVENT_FLAGS_DESC : VIRTIO_RING_EVENT_FLAGS_ENABLE;
  store_relaxed((uint32_t *)event, position | flags << 16);
}

static inline void packed_hush(packed_event_t *event) {
  store_relaxed((uint32_t *)event, (uint32_t)VIRTIO_RING_EVENT_FLAGS_DISABLE << 16);
}
