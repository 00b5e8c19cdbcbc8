/* One direction of a wire between two NICs: a ring of frames in shared memory, one sender, one receiver. See testbed/spec/wire.py.
 * A frame lies in one piece behind a header; a frame that would cross the ring's end begins at its beginning. Full: the sender waits. */
#pragma once
#include <string.h>
#include "layouts.h"
#include "order.h"

struct nic_wire {
  wire_t *shared;
  uint8_t *ring;
  uint64_t size;     /* bytes, a power of two */
  uint64_t here;     /* position of this end */
  uint64_t seen;     /* position of the other end, as last looked at */
  bool refused;      /* the sender found no room */
  bool broken;       /* the receiver found what no sender writes */
  /* the sender's: what the wire does to frames */
  uint64_t latency_ns, bits_per_second, loss; /* loss: of 2^32 */
  uint64_t free_ns;  /* when the last frame has left */
  uint64_t random;
  uint64_t frames, bytes, lost;
};

static inline uint32_t wire_span(uint32_t length) { return ((uint32_t)sizeof(wire_frame_t) + length + 15u) & ~15u; }

/* SplitMix64 (Steele, Lea, Flood 2014): the same seed loses the same frames. */
static inline uint64_t wire_random(struct nic_wire *w) {
  uint64_t z = w->random += 0x9e3779b97f4a7c15ull;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

void wire_open(struct nic_wire *w, wire_t *shared, uint64_t ring_bytes, bool sender);
bool wire_put(struct nic_wire *w, const uint8_t *frame, uint32_t length, uint64_t now_ns);
bool wire_publish(struct nic_wire *w);
const uint8_t *wire_peek(struct nic_wire *w, uint32_t *length, uint64_t now_ns, uint64_t *due_ns);
void wire_take(struct nic_wire *w, uint32_t length);
bool wire_release(struct nic_wire *w);
void wire_look(struct nic_wire *w);
int wire_incoming(void *wire);
int wire_room(void *wire);
