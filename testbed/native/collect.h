/* Takes received frames out of a driver's queue, whatever the ring's format. virtio 1.2 §5.1.6.4. */
#pragma once
#include "driver_buffers.h"

enum { TAKE_NONE = -1, TAKE_BROKEN = -2 };
/* Return the next buffer that the device gave back and how many bytes it wrote, or TAKE_NONE or TAKE_BROKEN. */
typedef int32_t (*take_fn)(void *queue, uint32_t *len);

/* Gather the buffers of one frame; num_buffers of the header says how many. Return 0, or why there is none. */
static inline __attribute__((always_inline)) int32_t collect_frame(
    void *queue, take_fn take, const struct driver_buffers *buffers, struct burst *b) {
  uint32_t header = sizeof(virtio_net_hdr_t), len;
  struct frame *f = &b->frames[b->frames_n];
  *f = (struct frame){.first_segment = b->segments_n};
  uint32_t wanted = 1;
  for (uint32_t n = 0; n < wanted; n++) {
    if (unlikely(b->segments_n == BURST_SEGMENTS)) return TAKE_BROKEN;
    int32_t id = take(queue, &len);
    /* a frame's buffers are given back together: one that is missing never comes */
    if (unlikely(id < 0)) return n ? TAKE_BROKEN : id;
    uint8_t *slot = buffers_slot(buffers, (uint32_t)id);
    buffers_foresee(buffers, (uint32_t)id + FORESEEN);
    if (unlikely(len > buffers->slot_bytes || (n == 0 && len < header))) return TAKE_BROKEN;
    if (n == 0) {
      /* no offload is negotiated, so only the number of buffers says anything (§5.1.6.4) */
      uint16_t merged = load_relaxed((const uint16_t *)(slot + offsetof(virtio_net_hdr_t, num_buffers)));
      if (unlikely(buffers->merge && merged > 1)) wanted = merged;
      slot += header, len -= header;
    }
    b->segments[b->segments_n++] = (struct segment){slot, len, (uint32_t)id};
    f->segments++, f->len += len;
  }
  b->frames_n++;
  return 0;
}

/* Fill a burst with received frames; return false where the device broke the ring. */
static inline __attribute__((always_inline)) bool collect_burst(
    void *queue, take_fn take, const struct driver_buffers *buffers, struct burst *b, uint32_t limit) {
  b->frames_n = b->segments_n = 0;
  if (limit > BURST_FRAMES) limit = BURST_FRAMES;
  while (b->frames_n < limit && b->segments_n + FRAME_SEGMENTS_MAX <= BURST_SEGMENTS) {
    int32_t got = collect_frame(queue, take, buffers, b);
    if (got) return got == TAKE_NONE;
  }
  return true;
}
