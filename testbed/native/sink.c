#include "sink.h"

#define SLOT_ALIGN 64 /* frames begin on cache lines of their own */

/* Say whether a frame is of a length that Ethernet and our buffers can hold; count why not. */
static inline bool sound(const struct frame *f, uint32_t frame_max, port_counters_t *count) {
  if (unlikely(f->len > frame_max)) return count->dropped_too_long++, false;
  if (unlikely(f->len < sizeof(ethernet_t))) return count->dropped_too_short++, false;
  return true;
}

static inline void copy_frame(const struct burst *b, const struct frame *f, uint8_t *to) {
  if (likely(f->segments == 1)) frame_copy(to, b->segments[f->first_segment].host, f->len);
  else frame_read(b, f, 0, to, f->len);
}

static inline void keep_frame(struct burst *kept, uint8_t *bytes, uint32_t len) {
  uint32_t i = kept->frames_n++;
  kept->segments[i] = (struct segment){bytes, len, i};
  kept->frames[i] = (struct frame){.first_segment = i, .segments = 1, .len = len, .id = i, .dest = DEST_DROP};
  kept->segments_n = kept->frames_n;
}

/* Copy the frames from `first` on into the store until it is full; return the index of the first that was not taken. `kept`, where
 * there is one, describes the copies. */
uint32_t sink_take(const struct sink_store *store, const struct burst *from, uint32_t first, uint32_t frame_max, port_counters_t *count,
                   struct burst *kept) {
  uint64_t bytes = 0;
  uint32_t used = 0, i = first;
  if (kept) kept->frames_n = kept->segments_n = 0;
  for (; i < from->frames_n; i++) {
    const struct frame *f = &from->frames[i];
    if (unlikely(!sound(f, frame_max, count))) continue;
    if (unlikely(f->len > store->size_bytes - used)) break;
    copy_frame(from, f, store->bytes + used);
    if (kept) keep_frame(kept, store->bytes + used, f->len);
    bytes += f->len;
    uint32_t slot = (f->len + SLOT_ALIGN - 1) & ~(uint32_t)(SLOT_ALIGN - 1), left = store->size_bytes - used;
    used += slot < left ? slot : left;
  }
  count->frames_in += i - first;
  count->bytes_in += bytes;
  return i;
}

/* Give every sound frame of a burst the same destination. */
void echo_address(struct burst *b, int32_t port, uint32_t frame_max, port_counters_t *count) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < b->frames_n; i++) {
    struct frame *f = &b->frames[i];
    bool good = sound(f, frame_max, count);
    f->dest = good ? port : DEST_DROP;
    if (good) bytes += f->len;
  }
  count->frames_in += b->frames_n;
  count->bytes_in += bytes;
}
