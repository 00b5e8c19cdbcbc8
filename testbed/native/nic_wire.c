/* See nic_wire.h. Positions are bytes, running freely; only multiples of 16 occur. */
#include "nic_wire.h"
#include "trace.h"

void wire_open(struct nic_wire *w, wire_t *shared, uint64_t ring_bytes, bool sender) {
  memset(w, 0, sizeof *w);
  w->shared = shared, w->ring = (uint8_t *)shared + sizeof *shared, w->size = ring_bytes;
  uint64_t produced = load_acquire(&shared->produced), consumed = load_acquire(&shared->consumed);
  w->here = sender ? produced : consumed, w->seen = sender ? consumed : produced;
}

static inline wire_frame_t *frame_at(const struct nic_wire *w, uint64_t position) {
  return (wire_frame_t *)(w->ring + (position & (w->size - 1)));
}

static inline bool has_room(struct nic_wire *w, uint64_t need) {
  if (likely(w->here + need - w->seen <= w->size)) return true;
  w->seen = load_acquire(&w->shared->consumed);
  return w->here + need - w->seen <= w->size;
}

/* Room for the longest frame wherever it begins; a sender that waits for this never waits in vain. */
int wire_room(void *wire) {
  struct nic_wire *w = wire;
  return w->here + 2 * wire_span(WIRE_FRAME_BYTES_MAX) - load_acquire(&w->shared->consumed) <= w->size;
}

/* When a frame that leaves now arrives; 0: at once. */
static uint64_t due(struct nic_wire *w, uint32_t length, uint64_t now_ns) {
  if (w->bits_per_second) {
    if (w->free_ns < now_ns) w->free_ns = now_ns;
    w->free_ns += (uint64_t)(length + WIRE_OVERHEAD_BYTES) * 8u * 1000000000ull / w->bits_per_second;
    return w->free_ns + w->latency_ns;
  }
  return w->latency_ns ? now_ns + w->latency_ns : 0;
}

/* Put a frame on the wire; false where it must wait. It is seen after wire_publish. */
bool wire_put(struct nic_wire *w, const uint8_t *frame, uint32_t length, uint64_t now_ns) {
  uint32_t span = wire_span(length);
  uint64_t left = w->size - (w->here & (w->size - 1)), skip = span > left ? left : 0;
  if (unlikely(!has_room(w, skip + span))) {
    if (!w->refused) store_relaxed(&w->shared->sender_waits, 1u);
    w->refused = true;
    return false;
  }
  if (unlikely(w->refused)) store_relaxed(&w->shared->sender_waits, 0u);
  w->refused = false;
  uint64_t due_ns = due(w, length, now_ns);
  w->frames++, w->bytes += length;
  if (unlikely(w->loss) && (wire_random(w) >> 32) < w->loss) { w->lost++; return true; }
  if (unlikely(skip)) {
    *frame_at(w, w->here) = (wire_frame_t){.length = WIRE_SKIP};
    w->here += skip;
  }
  wire_frame_t *to = frame_at(w, w->here);
  *to = (wire_frame_t){.length = length, .due_ns = due_ns};
  trace_frame(TRACE_WIRE_OUT, frame, length, 0, 0);
  memcpy(to + 1, frame, length);
  w->here += span;
  return true;
}

/* Let the receiver see what was put; true: there was something, so its bell is to be rung. */
bool wire_publish(struct nic_wire *w) {
  if (load_relaxed(&w->shared->produced) == w->here) return false;
  /* release: who acquires the position sees the frames */
  store_release(&w->shared->produced, w->here);
  return true;
}

/* Take notice of what the sender has published. */
void wire_look(struct nic_wire *w) { w->seen = load_acquire(&w->shared->produced); }

/* Something was published since the receiver looked. */
int wire_incoming(void *wire) {
  struct nic_wire *w = wire;
  return !w->broken && load_acquire(&w->shared->produced) != w->seen;
}

/* Return the next frame where it lies, NULL where none has arrived; `*due_ns`: when it will, 0: there is none. */
const uint8_t *wire_peek(struct nic_wire *w, uint32_t *length, uint64_t now_ns, uint64_t *due_ns) {
  *due_ns = 0;
  for (;;) {
    if (w->here == w->seen) wire_look(w);
    if (w->here == w->seen || w->broken) return NULL;
    const wire_frame_t *frame = frame_at(w, w->here);
    uint64_t left = w->size - (w->here & (w->size - 1));
    uint32_t claimed = load_relaxed(&frame->length);
    /* both are the sender's words: what is left over must be there, and each step is within it, so this ends */
    uint64_t there = w->seen - w->here;
    if (unlikely(claimed == WIRE_SKIP && left <= there && there <= w->size)) { w->here += left; continue; }
    if (unlikely(claimed > WIRE_FRAME_BYTES_MAX || wire_span(claimed) > left || wire_span(claimed) > there || there > w->size)) {
      w->broken = true;
      return NULL;
    }
    uint64_t at_ns = load_relaxed(&frame->due_ns);
    if (at_ns > now_ns) { *due_ns = at_ns; return NULL; }
    *length = claimed;
    return (const uint8_t *)(frame + 1);
  }
}

void wire_take(struct nic_wire *w, uint32_t length) {
  w->here += wire_span(length);
  w->frames++, w->bytes += length;
}

/* Give the room of what was taken back; true: the sender waits for it, so its bell is to be rung. */
bool wire_release(struct nic_wire *w) {
  if (load_relaxed(&w->shared->consumed) == w->here) return false;
  /* release: the sender writes there only after we have read */
  store_release(&w->shared->consumed, w->here);
  /* the sender sets its flag, fences and looks at our position; we set our position, fence and look at its flag */
  full_fence();
  return load_relaxed(&w->shared->sender_waits);
}
