/* Tracepoints: events of this process, written into its ring in shared memory where they are wanted. See testbed/spec/trace.py.
 *
 * Off, a tracepoint is a load of a flag that never changes and a branch that is never taken; on the ways where a frame takes some ten
 * nanoseconds (virtio's rings) it stands once in a burst. The flag is in the ring's first page, which
 * the launcher writes at any time; without a ring it is a word of ours that stays 0. VIRTBED_NO_TRACE compiles every tracepoint out: only
 * to measure what they cost. */
#pragma once
#include "burst.h"
#include "layouts.h"
#include "regions.h"

/* hidden: read where it stands, not by way of a table of addresses */
extern const uint32_t *trace_flag __attribute__((visibility("hidden")));

void trace_attach(uint8_t *ring, uint32_t records);
void trace_detach(void);
void trace_lane(uint16_t lane);
void trace_put(uint16_t event, uint32_t length, uint64_t frame, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
/* Copy the record numbered `number` (from 1) out of a ring that its owner goes on writing; false: it is not there (any more). */
bool trace_read(const uint8_t *ring, uint32_t records, uint64_t number, trace_record_t *to);

/* The frame whose bytes begin at `bytes`, where it is one of a workload's; else 0. */
uint64_t trace_frame_of(const uint8_t *bytes, uint32_t length);
void trace_put_frames(uint16_t event, const struct burst *b);
void trace_put_posted(uint16_t event, const uint8_t *bytes, uint32_t length, uint32_t index, uint64_t address);
void trace_put_translated(const struct regions *m, uint32_t index, uint64_t gpa, const uint8_t *host, uint32_t length);
void trace_put_bridge(const struct burst *b, int32_t source);

static inline bool trace_on(void) {
#ifdef VIRTBED_NO_TRACE
  return false;
#else
  return unlikely(load_relaxed(trace_flag));
#endif
}

/* One event; `a` to `d` as its declaration has them. */
static inline __attribute__((always_inline)) void trace_event(uint16_t event, uint32_t length, uint64_t a, uint64_t b, uint64_t c,
                                                              uint64_t d) {
  if (trace_on()) trace_put(event, length, 0, a, b, c, d);
}
/* One event about the frame at `bytes`. */
static inline __attribute__((always_inline)) void trace_frame(uint16_t event, const uint8_t *bytes, uint32_t length, uint64_t a, uint64_t b) {
  if (trace_on()) trace_put(event, length, trace_frame_of(bytes, length), a, b, 0, 0);
}
/* One event for each frame of a burst. */
static inline void trace_burst(uint16_t event, const struct burst *b) {
  if (trace_on()) trace_put_frames(event, b);
}
/* A device has read a descriptor and found its buffer. */
static inline void trace_translated(const struct regions *m, uint32_t index, uint64_t gpa, const uint8_t *host, uint32_t length) {
  if (trace_on()) trace_put_translated(m, index, gpa, host, length);
}
