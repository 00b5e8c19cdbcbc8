/* One descriptor ring of an 82540EM as its device sees it. 8254x SDM §3.2.6, §3.4. */
#pragma once
#include "burst.h"
#include "layouts.h"
#include "regions.h"
#include "size_classes.h"

struct e1000_ring {
  const struct regions *memory;
  uint64_t base;
  uint32_t size; /* descriptors; 0: not set up */
  uint32_t head, tail;
  bool enabled;  /* the unit's EN bit, and the link is up */
  int fault;     /* latched, a word of port_counters: the ring cannot be used until a register of it is written */
};

struct e1000_desc { uint64_t address, rest; };

static inline uint32_t ring_after(const struct e1000_ring *r, uint32_t i) { return i + 1 == r->size ? 0 : i + 1; }

/* How many descriptors the device owns: those from head to tail. */
static inline uint32_t ring_owned(const struct e1000_ring *r, uint32_t from) {
  return r->tail >= from ? r->tail - from : r->size - from + r->tail;
}

static inline bool ring_usable(const struct e1000_ring *r) { return r->enabled && !r->fault && r->size; }

#define E1000_FAULT(name) ((int)(offsetof(port_counters_t, fault_##name) / 8))
static inline void count_fault(port_counters_t *count, int fault) { ((uint64_t *)count)[fault]++; }

/* Return where the descriptors are, or NULL where they are not all in memory. */
static inline struct e1000_desc *ring_memory(const struct e1000_ring *r) {
  uint8_t *host = regions_resolve(r->memory, r->base, (uint64_t)r->size * sizeof(struct e1000_desc));
  return host && (uintptr_t)host % sizeof(struct e1000_desc) == 0 ? (struct e1000_desc *)host : NULL;
}

/* Return the descriptors, or NULL where the ring cannot be used; what the guest did wrong is counted once. */
static inline struct e1000_desc *ring_open(struct e1000_ring *r, port_counters_t *count) {
  if (unlikely(!ring_usable(r))) return NULL;
  if (unlikely(r->head >= r->size || r->tail >= r->size)) {
    count_fault(count, r->fault = E1000_FAULT(register));
    return NULL;
  }
  struct e1000_desc *host = ring_memory(r);
  if (unlikely(!host)) count_fault(count, r->fault = E1000_FAULT(address));
  return host;
}

/* Read a descriptor once: a guest that changes it meanwhile changes nothing for us. */
static inline struct e1000_desc desc_read(const struct e1000_desc *d) {
  return (struct e1000_desc){load_relaxed(&d->address), load_relaxed(&d->rest)};
}

static inline uint32_t bits(uint64_t word, unsigned lsb, unsigned width) { return (uint32_t)(word >> lsb) & ((1u << width) - 1); }

static inline bool is_broadcast(const uint8_t *mac) { return (mac[0] & mac[1] & mac[2] & mac[3] & mac[4] & mac[5]) == 0xff; }

static inline uint16_t get_be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline void put_be16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v; }
static inline uint32_t get_be32(const uint8_t *p) { return (uint32_t)get_be16(p) << 16 | get_be16(p + 2); }
static inline void put_be32(uint8_t *p, uint32_t v) { put_be16(p, v >> 16), put_be16(p + 2, v & 0xffff); }
