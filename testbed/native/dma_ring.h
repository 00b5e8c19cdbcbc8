/* The requester's side of a DMA ring: one function of a device posts reads, writes and MSIs, in the order in which they must take effect.
 *
 * Slots are filled, then published at once (dma_submit: release). The other side deals with them strictly in order and counts `completed`
 * (release): what a request did is visible to whoever acquired a count beyond it. So within one ring a posted write is never overtaken by
 * a later write or MSI. Indexes run free modulo 2^32; slot = index & mask. Not thread-safe. */
#pragma once
#include "layouts.h"
#include "order.h"
#include "trace.h"

typedef struct {
  dma_ring_head_t *head;
  dma_request_t *slots;
  uint32_t mask, stream;
  uint32_t next;      /* index of the next request to post */
  uint32_t completed; /* as last seen, never beyond what was submitted */
  uint32_t submitted;
} dma_requester_t;

/* Requests that can be posted now. */
static inline uint32_t dma_room(const dma_requester_t *r) { return r->mask + 1 - (r->next - r->completed); }

/* Post one request; false where the ring is full. `buffer` is an offset in device memory, or an MSI's data. */
static inline bool dma_post_flagged(dma_requester_t *r, uint16_t kind, uint16_t flags, uint64_t iova, uint32_t length, uint32_t substream,
                                    uint32_t buffer) {
  if (unlikely(!dma_room(r))) return false;
  trace_event(TRACE_DMA_POSTED, length, r->stream, kind, iova, buffer);
  r->slots[r->next++ & r->mask] = (dma_request_t){.iova = iova, .length = length, .stream = r->stream, .substream = substream, .kind = kind,
                                                  .flags = flags, .buffer = buffer, .status = DMA_REQUEST_STATUS_DONE};
  return true;
}

static inline bool dma_post(dma_requester_t *r, uint16_t kind, uint64_t iova, uint32_t length, uint32_t buffer) {
  return dma_post_flagged(r, kind, 0, iova, length, DMA_REQUEST_NO_SUBSTREAM, buffer);
}

/* Publish what was posted; true: there was something. Whoever does this rings the other side's bell. */
static inline bool dma_submit(dma_requester_t *r) {
  bool news = r->submitted != r->next;
  r->submitted = r->next;
  store_release(&r->head->posted, r->next);
  return news;
}

/* Index behind the last request dealt with. A count that cannot be is not believed. */
static inline uint32_t dma_completed(dma_requester_t *r) {
  uint32_t seen = load_acquire(&r->head->completed);
  if (seen != r->completed) trace_event(TRACE_DMA_COMPLETED, 0, r->stream, seen, 0, 0);
  if (seen - r->completed <= r->submitted - r->completed) r->completed = seen;
  return r->completed;
}

/* What became of a request that is completed and whose slot was not used again: DMA_REQUEST_STATUS_*. */
static inline uint32_t dma_status(const dma_requester_t *r, uint32_t index) { return load_relaxed(&r->slots[index & r->mask].status); }
