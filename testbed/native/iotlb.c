/* See iotlb.h. Set associative, four ways, least recently filled way replaced; three size classes probed by what a context holds. */
#include "iotlb.h"
#include "trace.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BITS 37
#define GENERATION_BITS 24
#define GENERATION_MASK ((1u << GENERATION_BITS) - 1)
#define TAG_VALID (1ull << 63)
#define CLASS_SHIFT 61
#define ADDRESS_TOP (1ull << 48)

static const uint8_t CLASS_SHIFTS[3] = {12, 21, 30};

int iotlb_init(iotlb_t *tlb, uint32_t entries, uint32_t contexts) {
  *tlb = (iotlb_t){.set_mask = entries / IOTLB_WAYS - 1, .context_count = contexts, .index_mask = 4 * contexts - 1};
  tlb->entries = aligned_alloc(64, entries * sizeof(iotlb_entry_t));
  tlb->contexts = calloc(contexts, sizeof(iotlb_context_t));
  tlb->index = calloc(4 * (size_t)contexts, sizeof(uint32_t));
  if (!tlb->entries || !tlb->contexts || !tlb->index) {
    iotlb_free(tlb);
    return -1;
  }
  memset(tlb->entries, 0, entries * sizeof(iotlb_entry_t));
  return 0;
}

void iotlb_free(iotlb_t *tlb) {
  free(tlb->entries);
  free(tlb->contexts);
  free(tlb->index);
  *tlb = (iotlb_t){0};
}

static inline uint64_t mix(uint64_t value) {
  value *= 0x9e3779b97f4a7c15ull;
  return value ^ (value >> 29);
}

static inline uint32_t index_slot(const iotlb_t *tlb, uint32_t stream, uint32_t substream) {
  return (uint32_t)mix((uint64_t)substream << 32 | stream) & tlb->index_mask;
}

/* The index holds context number + 1; 0 ends a probe. It is rebuilt when a context goes, so it never holds a tombstone. */
uint32_t iotlb_find_context(const iotlb_t *tlb, uint32_t stream, uint32_t substream) {
  for (uint32_t slot = index_slot(tlb, stream, substream); tlb->index[slot]; slot = (slot + 1) & tlb->index_mask) {
    uint32_t at = tlb->index[slot] - 1;
    if (tlb->contexts[at].stream == stream && tlb->contexts[at].substream == substream) return at;
  }
  return IOTLB_NONE;
}

static void index_insert(iotlb_t *tlb, uint32_t at) {
  uint32_t slot = index_slot(tlb, tlb->contexts[at].stream, tlb->contexts[at].substream);
  while (tlb->index[slot]) slot = (slot + 1) & tlb->index_mask;
  tlb->index[slot] = at + 1;
}

static void index_rebuild(iotlb_t *tlb) {
  memset(tlb->index, 0, ((size_t)tlb->index_mask + 1) * sizeof(uint32_t));
  for (uint32_t at = 0; at < tlb->context_count; at++)
    if (tlb->contexts[at].valid) index_insert(tlb, at);
}

/* A generation is never used again before every entry that carries it is gone. */
static uint32_t new_generation(iotlb_t *tlb) {
  if (tlb->next_generation < GENERATION_MASK) return tlb->next_generation++;
  memset(tlb->entries, 0, ((size_t)tlb->set_mask + 1) * IOTLB_WAYS * sizeof(iotlb_entry_t));
  tlb->next_generation = 0;
  for (uint32_t at = 0; at < tlb->context_count; at++) tlb->contexts[at].generation = tlb->next_generation++;
  return tlb->next_generation++;
}

uint32_t iotlb_add_context(iotlb_t *tlb, uint32_t stream, uint32_t substream, uint16_t vmid, uint16_t asid, bool bypass) {
  uint32_t at = iotlb_find_context(tlb, stream, substream);
  bool known = at != IOTLB_NONE;
  if (!known)
    for (at = 0; at < tlb->context_count && tlb->contexts[at].valid; at++) {
    }
  if (at == tlb->context_count) return IOTLB_NONE;
  uint32_t generation = new_generation(tlb);
  tlb->contexts[at] = (iotlb_context_t){
      .stream = stream, .substream = substream, .generation = generation, .vmid = vmid, .asid = asid, .valid = true, .bypass = bypass};
  if (!known) index_insert(tlb, at);
  return at;
}

uint32_t iotlb_drop_contexts(iotlb_t *tlb, uint32_t first_stream, uint32_t last_stream, uint32_t substream) {
  uint32_t dropped = 0;
  for (uint32_t at = 0; at < tlb->context_count; at++) {
    iotlb_context_t *context = &tlb->contexts[at];
    if (!context->valid || context->stream < first_stream || context->stream > last_stream) continue;
    if (substream != IOTLB_ANY_SUBSTREAM && context->substream != substream) continue;
    context->valid = false;
    dropped++;
  }
  if (dropped) index_rebuild(tlb);
  return dropped;
}

/* 49 bits of a 64-bit input address, or false where bits 63 to 48 are not all alike. */
static inline bool fold(uint64_t address, uint64_t *folded) {
  uint64_t high = address >> 48;
  *folded = (address & (ADDRESS_TOP - 1)) | (high ? ADDRESS_TOP : 0);
  return high == 0 || high == 0xffff;
}

static inline uint64_t tag_of(uint64_t folded, uint32_t generation, uint32_t class) {
  uint64_t page = folded >> CLASS_SHIFTS[class];
  return page | (uint64_t)generation << PAGE_BITS | (uint64_t)class << CLASS_SHIFT | TAG_VALID;
}

static inline iotlb_entry_t *set_of(const iotlb_t *tlb, uint64_t tag) {
  return &tlb->entries[((uint32_t)mix(tag) & tlb->set_mask) * IOTLB_WAYS];
}

void iotlb_fill(iotlb_t *tlb, uint32_t context, uint64_t address, uint64_t output, uint32_t shift, uint32_t permissions,
                bool global, uint32_t stage1_shift) {
  iotlb_context_t *owner = &tlb->contexts[context];
  uint64_t folded;
  uint32_t class = shift >= 30 ? 2 : shift >= 21 ? 1 : 0;
  if (!fold(address, &folded)) return;
  uint64_t tag = tag_of(folded, owner->generation, class);
  iotlb_entry_t *set = set_of(tlb, tag), *victim = set;
  for (int way = 0; way < IOTLB_WAYS; way++) {
    if (set[way].tag == tag || !set[way].tag) {
      victim = &set[way];
      break;
    }
    if (set[way].age > victim->age) victim = &set[way];
  }
  for (int way = 0; way < IOTLB_WAYS; way++)
    if (set[way].age < 255) set[way].age++;
  *victim = (iotlb_entry_t){.tag = tag, .frame = output & -(1ull << CLASS_SHIFTS[class]), .vmid = owner->vmid, .asid = owner->asid,
                            .permissions = (uint8_t)permissions, .stage1_shift = (uint8_t)stage1_shift, .global = global};
  owner->sizes |= (uint8_t)(1u << class);
}

static inline const iotlb_entry_t *probe(const iotlb_t *tlb, const iotlb_context_t *context, uint64_t folded, uint32_t *shift) {
  for (uint32_t class = 0; class < 3; class++) {
    if (!(context->sizes >> class & 1)) continue;
    uint64_t tag = tag_of(folded, context->generation, class);
    const iotlb_entry_t *set = set_of(tlb, tag);
    for (int way = 0; way < IOTLB_WAYS; way++)
      if (set[way].tag == tag) {
        *shift = CLASS_SHIFTS[class];
        return &set[way];
      }
  }
  return NULL;
}

static inline int64_t lookup(const iotlb_t *tlb, const iotlb_context_t *context, uint64_t address, uint32_t needed, uint64_t *left) {
  uint64_t folded;
  uint32_t shift;
  if (!fold(address, &folded)) return IOTLB_MISS;
  if (context->bypass) {
    *left = ADDRESS_TOP - (folded & (ADDRESS_TOP - 1));
    return folded < ADDRESS_TOP ? (int64_t)folded : IOTLB_MISS;
  }
  const iotlb_entry_t *entry = probe(tlb, context, folded, &shift);
  if (!entry || (entry->permissions & needed) != needed) return IOTLB_MISS;
  uint64_t offset = folded & ((1ull << shift) - 1);
  *left = (1ull << shift) - offset;
  return (int64_t)(entry->frame | offset);
}

int64_t iotlb_lookup(iotlb_t *tlb, uint32_t context, uint64_t address, uint32_t needed, uint64_t *left) {
  int64_t output = lookup(tlb, &tlb->contexts[context], address, needed, left);
  if (output == IOTLB_MISS) tlb->misses++;
  else {
    trace_event(TRACE_IOTLB_HIT, 0, tlb->contexts[context].stream, address, (uint64_t)output, 0);
    tlb->hits++;
  }
  return output;
}

/* The first stage of a walk and the address in it; false where there is no such translation (IHI 0070 3.4, 5.4.1.1). */
static bool first_stage(const iotlb_tables_t *tables, uint64_t *address, const walk_stage_t **stage) {
  *stage = NULL;
  if (!tables->has_stage1) return *address >> tables->address_bits == 0;
  bool upper = *address >> 55 & 1;
  *stage = upper ? &tables->upper : &tables->lower;
  if (!(upper ? tables->has_upper : tables->has_lower)) return false;
  if ((upper ? ~*address : *address) >> (*stage)->input_bits) return false;
  *address &= (1ull << (*stage)->input_bits) - 1;
  return true;
}

/* Translate what is not cached, and cache it. Not inlined: a burst of hits is to be a short loop. */
static __attribute__((noinline)) int64_t walk_and_fill(iotlb_t *tlb, uint32_t context, uint64_t address, uint32_t needed, uint64_t *left) {
  const iotlb_tables_t *tables = &tlb->contexts[context].tables;
  const walk_stage_t *stage1;
  uint64_t folded, input = address;
  walk_result_t found;
  tlb->misses++;
  if (!tlb->memory || !tables->valid || !fold(address, &folded) || !first_stage(tables, &input, &stage1)) return IOTLB_MISS;
  if (nested_walk(tlb->memory, stage1, tables->has_stage2 ? &tables->stage2 : NULL, input, needed, &found)) return IOTLB_MISS;
  uint32_t stage1_shift = found.stage1_shift ? found.stage1_shift : stage1 ? found.block_shift : 0;
  iotlb_fill(tlb, context, address, found.output, found.block_shift, found.permissions, found.global, stage1_shift);
  *left = (1ull << found.block_shift) - (found.output & ((1ull << found.block_shift) - 1));
  return (int64_t)found.output;
}

static inline bool matches(const iotlb_entry_t *entry, const iotlb_match_t *match) {
  if (!entry->tag || !(entry->stage1_shift ? match->stage1 : match->stage2)) return false;
  if (!match->any_vmid && entry->vmid != match->vmid) return false;
  if (!match->any_asid && entry->asid != match->asid && !(match->global && entry->global)) return false;
  if (!match->any_asid && !match->global && entry->global) return false;
  uint32_t class = entry->tag >> CLASS_SHIFT & 3, shift = CLASS_SHIFTS[class];
  uint64_t first = (entry->tag & ((1ull << PAGE_BITS) - 1)) << shift;
  /* What is cached may be a fragment of stage 1's leaf, and any address of the leaf names the whole of it. */
  uint32_t span = entry->stage1_shift > shift ? entry->stage1_shift : shift;
  first &= -(1ull << span);
  return first <= match->last && first + (1ull << span) - 1 >= match->first;
}

uint32_t iotlb_invalidate(iotlb_t *tlb, const iotlb_match_t *match) {
  uint32_t gone = 0, count = (tlb->set_mask + 1) * IOTLB_WAYS;
  for (uint32_t i = 0; i < count; i++) {
    if (!matches(&tlb->entries[i], match)) continue;
    tlb->entries[i] = (iotlb_entry_t){0};
    gone++;
  }
  return gone;
}

uint32_t iotlb_valid_entries(const iotlb_t *tlb) {
  uint32_t valid = 0, count = (tlb->set_mask + 1) * IOTLB_WAYS;
  for (uint32_t i = 0; i < count; i++) valid += tlb->entries[i].tag != 0;
  return valid;
}

static inline uint32_t needed_by(const dma_request_t *request) {
  uint32_t needed = request->kind != DMA_REQUEST_KIND_READ ? PAGE_TABLE_PERMISSION_WRITE : PAGE_TABLE_PERMISSION_READ;
  return request->flags & DMA_REQUEST_FLAG_PRIVILEGED ? needed << 2 : needed;
}

int32_t iotlb_resolve(iotlb_t *tlb, uint32_t context, const dma_request_t *request, dma_piece_t *out) {
  const iotlb_context_t *owner = &tlb->contexts[context];
  uint32_t needed = needed_by(request), used = 0, walked = 0;
  uint64_t address = request->iova, left = 0;
  for (uint32_t length = request->length; length;) {
    if (used == DMA_REQUEST_PIECES_MAX) return -1;
    int64_t output = lookup(tlb, owner, address, needed, &left);
    if (output == IOTLB_MISS) {
      trace_event(TRACE_IOTLB_MISS, length, owner->stream, address, 0, 0);
      if ((output = walk_and_fill(tlb, context, address, needed, &left)) == IOTLB_MISS) return -1;
      walked++;
    }
    uint32_t piece = left < length ? (uint32_t)left : length;
    trace_event(TRACE_IOTLB_HIT, piece, owner->stream, address, (uint64_t)output, 0); /* also of what a walk has just put there */
    out[used++] = (dma_piece_t){.hpa = (uint64_t)output, .length = piece};
    address += piece;
    length -= piece;
  }
  tlb->hits += used - walked;
  return (int32_t)used;
}

uint32_t iotlb_translate(iotlb_t *tlb, const dma_request_t *requests, uint32_t first, uint32_t count, dma_piece_t *out,
                         uint32_t capacity, uint32_t *pieces, uint32_t *full) {
  const iotlb_context_t *context = NULL;
  uint32_t i = first, used = *pieces, hits = 0, at = IOTLB_NONE;
  *full = 0;
  for (; i < count; i++) {
    const dma_request_t copy = requests[i], *request = &copy; /* a master may change its request while it is read */
    uint32_t begun = used, needed = needed_by(request);
    if (!context || context->stream != request->stream || context->substream != request->substream) {
      at = iotlb_find_context(tlb, request->stream, request->substream);
      context = at == IOTLB_NONE ? NULL : &tlb->contexts[at];
    }
    uint64_t address = request->iova, left = 0;
    uint32_t length = request->length;
    while (length) {
      bool sane = context && request->length <= DMA_REQUEST_LENGTH_MAX;
      int64_t output = sane ? lookup(tlb, context, address, needed, &left) : IOTLB_MISS;
      if (output != IOTLB_MISS) hits++;
      else if (sane) output = walk_and_fill(tlb, at, address, needed, &left);
      if (output == IOTLB_MISS || used == capacity) {
        *full = output != IOTLB_MISS;
        *pieces = begun;
        tlb->hits += hits;
        return i - first;
      }
      uint32_t piece = left < length ? (uint32_t)left : length;
      out[used++] = (dma_piece_t){.hpa = (uint64_t)output, .length = piece, .request = i};
      address += piece;
      length -= piece;
    }
  }
  *pieces = used;
  tlb->hits += hits;
  return i - first;
}
