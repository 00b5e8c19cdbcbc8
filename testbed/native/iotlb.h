/* The IOMMU's translation cache. An entry belongs to one configuration (stream and substream) and carries VMID and ASID for invalidation.
 *
 * Addresses here are 49 bits: input address bits 47 to 0 with bit 55 above them, so that the two halves of a stage-1 address
 * space stay apart. Not thread-safe. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "layouts.h"
#include "page_walk.h"

#define IOTLB_WAYS 4
#define IOTLB_MISS (-1)
#define IOTLB_NONE 0xffffffffu

/* The tables that a context's addresses go through. Stage 1 has a half for the addresses with bit 55 clear and one for the others. */
typedef struct {
  walk_stage_t lower, upper, stage2;
  bool valid, has_stage1, has_lower, has_upper, has_stage2;
  uint8_t address_bits; /* without stage 1: what an address may have */
} iotlb_tables_t;

/* One cached configuration: what a stream (and substream) comes to before any table is walked. */
typedef struct {
  uint32_t stream, substream; /* DMA_REQUEST_NO_SUBSTREAM: none */
  uint32_t generation;        /* tags entries; never used twice while any may be left */
  uint16_t vmid, asid;
  bool valid, bypass; /* bypass: output is input */
  uint8_t sizes;      /* bit n: entries of size class n may exist */
  iotlb_tables_t tables;
} iotlb_context_t;

/* 32 bytes, four to a set. */
typedef struct {
  uint64_t tag;   /* 37 bits of page, 24 of generation, 2 of size class, 1 valid; 0: empty */
  uint64_t frame; /* output address, page aligned */
  uint16_t vmid, asid;
  uint8_t permissions, stage1_shift; /* stage1_shift 0: a stage-2-only entry */
  bool global;
  uint8_t age;
  uint64_t reserved;
} iotlb_entry_t;

typedef struct {
  iotlb_entry_t *entries;
  iotlb_context_t *contexts;
  uint32_t *index; /* open addressing from stream and substream to a context */
  const host_map_t *memory; /* where tables are walked; NULL: every miss is the caller's */
  uint32_t set_mask, context_count, index_mask, next_generation;
  uint64_t hits, misses;
} iotlb_t;

typedef struct {
  bool any_vmid, any_asid, stage1, stage2;
  bool global; /* with any_asid false: global entries match too */
  uint16_t vmid, asid;
  uint64_t first, last; /* 49-bit addresses, inclusive */
} iotlb_match_t;

/* `entries` and `contexts` are powers of two. */
int iotlb_init(iotlb_t *tlb, uint32_t entries, uint32_t contexts);
void iotlb_free(iotlb_t *tlb);

/* The context of a stream, or IOTLB_NONE. */
uint32_t iotlb_find_context(const iotlb_t *tlb, uint32_t stream, uint32_t substream);
/* Cache a configuration, replacing one of the same key; IOTLB_NONE where every context is taken. */
uint32_t iotlb_add_context(iotlb_t *tlb, uint32_t stream, uint32_t substream, uint16_t vmid, uint16_t asid, bool bypass);
/* Forget configurations of a range of streams; `substream` IOTLB_ANY_SUBSTREAM: all of them. Returns how many. */
#define IOTLB_ANY_SUBSTREAM 0xfffffffeu
uint32_t iotlb_drop_contexts(iotlb_t *tlb, uint32_t first_stream, uint32_t last_stream, uint32_t substream);

/* Cache a translation. `shift` is 12, 21 or 30. */
void iotlb_fill(iotlb_t *tlb, uint32_t context, uint64_t address, uint64_t output, uint32_t shift, uint32_t permissions,
                bool global, uint32_t stage1_shift);
/* Output address of `address`, with the number of bytes to the end of the entry in *left; IOTLB_MISS where it is not cached or the
 * entry does not grant all of `needed`. */
int64_t iotlb_lookup(iotlb_t *tlb, uint32_t context, uint64_t address, uint32_t needed, uint64_t *left);
uint32_t iotlb_invalidate(iotlb_t *tlb, const iotlb_match_t *match);
uint32_t iotlb_valid_entries(const iotlb_t *tlb);

/* Have what a context lacks walked natively. What a walk refuses stays a miss: the caller walks again and says why. */
static inline void iotlb_set_tables(iotlb_t *tlb, uint32_t context, const iotlb_tables_t *tables) {
  tlb->contexts[context].tables = *tables;
}

/* Pieces of one request of at most DMA_REQUEST_LENGTH_MAX bytes, room for DMA_REQUEST_PIECES_MAX; -1 where any of it misses. */
int32_t iotlb_resolve(iotlb_t *tlb, uint32_t context, const dma_request_t *request, dma_piece_t *out);

/* Translate requests in order until one misses. Returns how many were translated; their pieces are appended to the *pieces that `out`
 * holds already. A request whose pieces do not fit counts as not reached, with *full set. */
uint32_t iotlb_translate(iotlb_t *tlb, const dma_request_t *requests, uint32_t first, uint32_t count, dma_piece_t *out,
                         uint32_t capacity, uint32_t *pieces, uint32_t *full);
