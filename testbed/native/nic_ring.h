/* One descriptor ring of an 82576 as its device sees it: descriptors are fetched into device memory ahead of their use.
 * 82576 datasheet §7.1.7, §7.2.2. What the device keeps in its own memory no driver can change any more. */
#pragma once
#include "bar_window.h"
#include "dma_ring.h"
#include "layouts.h"

#define NIC_CACHE 512 /* descriptors that a queue holds in device memory; a power of two */
#define NIC_CACHE_MASK (NIC_CACHE - 1)
#define NIC_FETCH_MAX 256
#define NIC_FLIGHTS 64

struct nic_desc { uint64_t low, high; };

/* What was asked of memory and has not come yet, oldest first. */
struct nic_flights {
  uint32_t first, n;
  struct { uint32_t behind, count; } f[NIC_FLIGHTS];
};

static inline bool flights_room(const struct nic_flights *f) { return f->n < NIC_FLIGHTS; }

static inline void flights_add(struct nic_flights *f, uint32_t behind, uint32_t count) {
  uint32_t at = (f->first + f->n++) % NIC_FLIGHTS;
  f->f[at].behind = behind, f->f[at].count = count;
}

static inline void flights_drop(struct nic_flights *f) { f->first = (f->first + 1) % NIC_FLIGHTS, f->n--; }

/* Everything posted before index `behind` is done; `completed` is as last looked at. */
static inline bool landed(const dma_requester_t *dma, uint32_t behind) { return (int32_t)(dma->completed - behind) >= 0; }

enum nic_fault { NIC_FAULT_NONE, NIC_FAULT_REGISTER, NIC_FAULT_DMA, NIC_FAULT_DESCRIPTOR };

struct nic_ring {
  dma_requester_t *dma; /* of the function that owns the queue; NULL: none */
  uint32_t function, owner; /* whose requests it posts; who it will belong to once those of the last owner are done */
  const doorbell_word_t *tail;
  uint64_t base;
  uint32_t size;  /* descriptors; 0: not set up */
  uint32_t head;  /* what RDH or TDH shows */
  bool enabled;
  int fault;      /* latched: the queue is off until it is set up again */
  uint32_t quiet; /* nothing new before the requests of the time before the last reset are done */
  uint32_t fetch; /* next descriptor to ask for */
  uint32_t cache; /* where in device memory */
  uint32_t asked, here, used; /* descriptors, running freely */
  struct nic_flights fetches;
};

static inline bool ring_up(const struct nic_ring *r) {
  return r->enabled && !r->fault && r->size && r->owner == r->function && r->dma && landed(r->dma, r->quiet);
}

static inline struct nic_desc *ring_desc(const struct nic_ring *r, uint8_t *sram, uint32_t number) {
  return (struct nic_desc *)(sram + r->cache) + (number & NIC_CACHE_MASK);
}

static inline uint32_t desc_after(const struct nic_ring *r, uint32_t at, uint32_t n) { return at + n >= r->size ? at + n - r->size : at + n; }

/* Descriptors that the driver gave and that were not asked for. */
static inline uint32_t ring_offered(struct nic_ring *r) {
  uint32_t tail = load_relaxed(&r->tail->value);
  if (unlikely(tail >= r->size)) { r->fault = NIC_FAULT_REGISTER; return 0; }
  return tail >= r->fetch ? tail - r->fetch : r->size - r->fetch + tail;
}

static inline void ring_forget(struct nic_ring *r) {
  r->asked = r->here = r->used = 0, r->fetches.first = r->fetches.n = 0, r->fault = NIC_FAULT_NONE;
  if (r->dma) r->quiet = r->dma->next;
}

/* Take notice of descriptors that have come; true: there were some. */
static inline bool ring_arrivals(struct nic_ring *r) {
  uint32_t before = r->here;
  while (r->fetches.n && landed(r->dma, r->fetches.f[r->fetches.first].behind)) {
    if (unlikely(dma_status(r->dma, r->fetches.f[r->fetches.first].behind - 1) != DMA_REQUEST_STATUS_DONE)) r->fault = NIC_FAULT_DMA;
    r->here += r->fetches.f[r->fetches.first].count;
    flights_drop(&r->fetches);
  }
  return r->here != before;
}

/* Ask for what the driver has offered, as far as there is room for it. */
static inline bool ring_prefetch(struct nic_ring *r) {
  bool any = false;
  for (uint32_t offered = ring_offered(r); offered && flights_room(&r->fetches);) {
    uint32_t n = NIC_CACHE - (r->asked - r->used), to_end = NIC_CACHE - (r->asked & NIC_CACHE_MASK);
    if (n > offered) n = offered;
    if (n > to_end) n = to_end;
    if (n > r->size - r->fetch) n = r->size - r->fetch;
    if (n > NIC_FETCH_MAX) n = NIC_FETCH_MAX;
    uint32_t at = r->cache + (r->asked & NIC_CACHE_MASK) * (uint32_t)sizeof(struct nic_desc);
    if (!n || !dma_post(r->dma, DMA_REQUEST_KIND_READ, r->base + (uint64_t)r->fetch * sizeof(struct nic_desc),
                        n * (uint32_t)sizeof(struct nic_desc), at)) break;
    flights_add(&r->fetches, r->dma->next, n);
    r->asked += n, r->fetch = desc_after(r, r->fetch, n), offered -= n, any = true;
  }
  return any;
}
