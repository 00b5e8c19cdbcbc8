/* The other side of a DMA ring: takes requests in order, translates them and copies between host memory and device memory.
 *
 * The ring is shared with the device's process, which may write anything into it at any time: each request is copied once and judged by
 * the copy; progress is kept here and never read back. What needs a decision (a miss, a refusal, ATS) is handed to the caller,
 * who finishes it before the next one is taken, so order is kept. So is an MSI, unless both its address and its event are cached. */
#pragma once
#include "dma_ring.h"
#include "iotlb.h"
#include "its_cache.h"
#include "page_walk.h"

typedef struct {
  dma_ring_head_t *head;
  dma_request_t *slots;
  uint32_t mask, stream; /* the ring's identity, not the request, says who asks */
  uint8_t *buffer;       /* device memory */
  uint64_t buffer_size;
  const host_map_t *memory;
  iotlb_t *tlb;
  uint32_t served;       /* index behind the last request dealt with */
  bool broken;           /* the requester's index was impossible: nothing is taken any more */
  dma_request_t current; /* the request that waits for a decision */
  uint64_t reads, writes, bytes_read, bytes_written;
  uint64_t translater;   /* where devices write events; 0: messages wait for decisions */
  its_cache_t *its;
  its_entry_t *told;     /* by DMA_SERVE_TELL: whose message was delivered, */
  int outcome;           /* and what its_post said of it */
  uint64_t messages;
} dma_server_t;

/* TELL: as LIMIT, and the last message that was delivered asks for one to be sent to whom it concerns. */
enum { DMA_SERVE_IDLE, DMA_SERVE_LIMIT, DMA_SERVE_ATTENTION, DMA_SERVE_BROKEN, DMA_SERVE_TELL };

/* Deal with up to `limit` requests by the translation cache; `fast` false: every request waits for a decision. Returns why it stopped. */
int dma_serve(dma_server_t *server, uint32_t limit, bool fast, uint32_t *done);
/* Copy between device memory and pieces of host memory for `current`, whole or not at all. */
bool dma_move(dma_server_t *server, const dma_piece_t *pieces, uint32_t count);
/* The request that waited is dealt with. */
void dma_finish(dma_server_t *server, uint32_t status);

/* Put the answer to a translation request into its slot, before it is finished. */
static inline void dma_answer(dma_server_t *server, uint64_t hpa, uint32_t size_log2, uint16_t flags) {
  dma_request_t *slot = &server->slots[server->served & server->mask];
  store_relaxed(&slot->iova, hpa);
  store_relaxed(&slot->length, size_log2);
  store_relaxed(&slot->flags, flags);
}

static inline bool dma_in_buffer(const dma_server_t *server, uint32_t offset, uint32_t length) {
  return offset <= server->buffer_size && length <= server->buffer_size - offset;
}
