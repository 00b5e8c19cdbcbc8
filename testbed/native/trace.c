/* See trace.h.
 *
 * Threads of a process share its ring: each takes a number, then the place of that number. A place is written between two stores of its
 * sequence word: BUSY, with which it also belongs to one writer, and the number (release). A reader that finds the same number before and
 * after its copy has a whole record. Nobody waits: who finds a place busy, or newer than itself, lets its event go and counts it. */
#include "trace.h"

#include "clock.h"

static const uint32_t never;
const uint32_t *trace_flag = &never;
static struct { trace_header_t *header; trace_record_t *records; uint64_t mask; } here;
static __thread uint16_t lane_here;

void trace_attach(uint8_t *ring, uint32_t records) {
  here.header = (trace_header_t *)ring;
  here.records = (trace_record_t *)(ring + TRACE_RECORDS_OFFSET);
  here.mask = records - 1;
  __atomic_store_n(&trace_flag, &here.header->enabled, __ATOMIC_RELEASE);
}

void trace_detach(void) { __atomic_store_n(&trace_flag, &never, __ATOMIC_RELEASE); }

void trace_lane(uint16_t lane) { lane_here = lane; }

__attribute__((cold, noinline)) void trace_put(uint16_t event, uint32_t length, uint64_t frame, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  uint64_t number = __atomic_add_fetch(&here.header->head, 1, __ATOMIC_RELAXED);
  trace_record_t *to = &here.records[(number - 1) & here.mask];
  uint64_t before = load_relaxed(&to->sequence);
  if (before >= number || !__atomic_compare_exchange_n(&to->sequence, &before, TRACE_BUSY, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    __atomic_add_fetch(&here.header->lost, 1, __ATOMIC_RELAXED); /* BUSY is above every number */
    return;
  }
  /* release: no reader sees a word of this record under the number of the last one */
  __atomic_thread_fence(__ATOMIC_RELEASE);
  store_relaxed(&to->at_ns, (uint64_t)monotonic_ns());
  store_relaxed(&to->event, event);
  store_relaxed(&to->lane, lane_here);
  store_relaxed(&to->length, length);
  store_relaxed(&to->frame, frame);
  store_relaxed(&to->arguments[0], a);
  store_relaxed(&to->arguments[1], b);
  store_relaxed(&to->arguments[2], c);
  store_relaxed(&to->arguments[3], d);
  store_release(&to->sequence, number);
}

bool trace_read(const uint8_t *ring, uint32_t records, uint64_t number, trace_record_t *to) {
  const trace_record_t *from = (const trace_record_t *)(ring + TRACE_RECORDS_OFFSET) + ((number - 1) & (records - 1));
  if (load_acquire(&from->sequence) != number) return false;
  const uint64_t *words = (const uint64_t *)from;
  uint64_t copy[sizeof *to / 8];
  for (size_t i = 0; i < sizeof *to / 8; i++) copy[i] = load_relaxed(&words[i]);
  /* acquire: the look behind comes after the copy */
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  memcpy(to, copy, sizeof *to);
  return load_relaxed(&from->sequence) == number;
}

static uint64_t be(const uint8_t *p, int n) {
  uint64_t v = 0;
  while (n--) v = v << 8 | *p++;
  return v;
}

static uint64_t le(const uint8_t *p, int n) {
  uint64_t v = 0;
  while (n--) v = v << 8 | p[n];
  return v;
}

uint64_t trace_frame_of(const uint8_t *bytes, uint32_t length) {
  if (length < FLOW_FRAME_BYTES_MIN || be(bytes + offsetof(ethernet_t, type), 2) != FLOW_ETHERTYPE_IPV4) return 0;
  const uint8_t *tag = bytes + FLOW_TAG_OFFSET;
  uint64_t magic = le(tag + offsetof(flow_tag_t, magic), 2);
  if (magic != FLOW_MAGIC_DATA && magic != FLOW_MAGIC_REQUEST && magic != FLOW_MAGIC_REPLY) return 0;
  uint64_t flow = le(tag + offsetof(flow_tag_t, flow), 4), place = le(tag + offsetof(flow_tag_t, sequence), 8);
  return (flow << TRACE_FRAME_FLOW_LSB | (place & ((1ull << TRACE_FRAME_FLOW_LSB) - 1))) + 1;
}

static const uint8_t *start_of(const struct burst *b, const struct frame *f, uint8_t *room, uint32_t *length) {
  const struct segment *s = &b->segments[f->first_segment];
  *length = f->len;
  if (f->segments == 1 || s->len >= FLOW_FRAME_BYTES_MIN) return s->host;
  return frame_read(b, f, 0, room, FLOW_FRAME_BYTES_MIN) == FLOW_FRAME_BYTES_MIN ? room : (*length = 0, room);
}

/* An event for each frame of a burst: the number of its first buffer, and where it begins. */
__attribute__((cold, noinline)) void trace_put_frames(uint16_t event, const struct burst *b) {
  uint8_t room[FLOW_FRAME_BYTES_MIN];
  for (uint32_t i = 0; i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    uint32_t length;
    const uint8_t *bytes = start_of(b, f, room, &length);
    const struct segment *s = &b->segments[f->first_segment];
    trace_put(event, f->len, trace_frame_of(bytes, length), s->id, (uintptr_t)s->host, 0, 0);
  }
}

__attribute__((cold, noinline)) void trace_put_bridge(const struct burst *b, int32_t source) {
  uint8_t room[FLOW_FRAME_BYTES_MIN];
  for (uint32_t i = 0; i < b->frames_n; i++) {
    const struct frame *f = &b->frames[i];
    uint32_t length;
    const uint8_t *bytes = start_of(b, f, room, &length);
    trace_put(TRACE_BRIDGE_DECIDED, f->len, trace_frame_of(bytes, length), (uint64_t)(int64_t)source, (uint64_t)(int64_t)f->dest, 0, 0);
  }
}

__attribute__((cold, noinline)) void trace_put_translated(const struct regions *m, uint32_t index, uint64_t gpa, const uint8_t *host, uint32_t length) {
  uint64_t hpa = 0;
  for (uint32_t i = 0; i < m->n; i++)
    if (gpa - m->r[i].gpa < m->r[i].size && m->r[i].hpa) hpa = m->r[i].hpa + (gpa - m->r[i].gpa);
  trace_put(TRACE_DESCRIPTOR_READ, length, 0, index, gpa, hpa, (uintptr_t)host);
}

__attribute__((cold, noinline)) void trace_put_posted(uint16_t event, const uint8_t *bytes, uint32_t length, uint32_t index, uint64_t address) {
  trace_put(event, length, trace_frame_of(bytes, length), index, address, 0, 0);
}
