/* Walks of VMSAv8-64 tables. The Python model in testbed/memory/walk.py says the same slowly; tests hold the two together. */
#include "page_walk.h"
#include "trace.h"

#include <stdlib.h>

#define FAULT_AT(code, level) (-(int32_t)(PAGE_TABLE_FAULT_MASK | (code) | (uint32_t)(level)))
#define PERMISSIONS_READ (PAGE_TABLE_PERMISSION_READ | PAGE_TABLE_PERMISSION_PRIVILEGED_READ)
#define PERMISSIONS_WRITE (PAGE_TABLE_PERMISSION_WRITE | PAGE_TABLE_PERMISSION_PRIVILEGED_WRITE)
#define PERMISSIONS_UNPRIVILEGED (PAGE_TABLE_PERMISSION_READ | PAGE_TABLE_PERMISSION_WRITE)
#define PERMISSIONS_ALL (PERMISSIONS_READ | PERMISSIONS_WRITE)

static uint32_t first_above(const host_map_t *map, uint64_t hpa) {
  uint32_t low = 0, high = map->count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (map->regions[middle].hpa <= hpa) low = middle + 1;
    else high = middle;
  }
  return low;
}

int host_map_add(host_map_t *map, uint64_t hpa, uint64_t size, uint8_t *host, bool writable) {
  uint32_t at = first_above(map, hpa);
  if (size == 0 || hpa + size < hpa) return -1;
  if (at > 0 && hpa - map->regions[at - 1].hpa < map->regions[at - 1].size) return -1;
  if (at < map->count && map->regions[at].hpa - hpa < size) return -1;
  if (map->count == map->capacity) {
    uint32_t capacity = map->capacity ? 2 * map->capacity : 16;
    host_region_t *grown = realloc(map->regions, capacity * sizeof(*grown));
    if (!grown) return -1;
    map->regions = grown;
    map->capacity = capacity;
  }
  memmove(&map->regions[at + 1], &map->regions[at], (map->count - at) * sizeof(*map->regions));
  map->regions[at] = (host_region_t){.hpa = hpa, .size = size, .host = host, .writable = writable};
  map->count++;
  return 0;
}

void host_map_free(host_map_t *map) {
  free(map->regions);
  *map = (host_map_t){0};
}

static inline bool region_holds(const host_region_t *region, uint64_t hpa, uint64_t length) {
  uint64_t offset = hpa - region->hpa;
  return hpa >= region->hpa && offset < region->size && length <= region->size - offset;
}

const host_region_t *host_map_find(const host_map_t *map, uint64_t hpa, uint64_t length, const host_region_t *hint) {
  if (hint && region_holds(hint, hpa, length)) return hint;
  uint32_t at = first_above(map, hpa);
  return at > 0 && region_holds(&map->regions[at - 1], hpa, length) ? &map->regions[at - 1] : NULL;
}

static inline uint32_t level_shift(uint32_t level) {
  return PAGE_TABLE_GRANULE_SHIFT + PAGE_TABLE_INDEX_BITS * (PAGE_TABLE_LAST_LEVEL - level);
}

static inline uint64_t root_of(const walk_stage_t *stage) {
  uint64_t table_bytes = (uint64_t)PAGE_TABLE_DESCRIPTOR_BYTES << (stage->input_bits - level_shift(stage->start_level));
  if (table_bytes < PAGE_TABLE_ROOT_ALIGN_BYTES_MIN) table_bytes = PAGE_TABLE_ROOT_ALIGN_BYTES_MIN;
  return stage->root & -table_bytes;
}

static inline uint32_t leaf_permissions(const walk_stage_t *stage, uint64_t descriptor, uint32_t inherited) {
  uint32_t permissions = inherited;
  if (stage->stage == 2) {
    if (!(descriptor & PAGE_TABLE_S2AP_READ_MASK)) permissions &= ~PERMISSIONS_READ;
    if (!(descriptor & PAGE_TABLE_S2AP_WRITE_MASK)) permissions &= ~PERMISSIONS_WRITE;
    return permissions;
  }
  if (!(descriptor & PAGE_TABLE_AP_UNPRIVILEGED_MASK)) permissions &= ~PERMISSIONS_UNPRIVILEGED;
  if (descriptor & PAGE_TABLE_AP_READ_ONLY_MASK) permissions &= ~PERMISSIONS_WRITE;
  return permissions;
}

static inline uint32_t table_permissions(const walk_stage_t *stage, uint64_t descriptor, uint32_t inherited) {
  if (stage->stage == 2 || !stage->hierarchical) return inherited;
  if (descriptor & PAGE_TABLE_AP_TABLE_NO_UNPRIVILEGED_MASK) inherited &= ~PERMISSIONS_UNPRIVILEGED;
  if (descriptor & PAGE_TABLE_AP_TABLE_READ_ONLY_MASK) inherited &= ~PERMISSIONS_WRITE;
  return inherited;
}

/* Read a descriptor whole: another process may be writing the table. */
static inline bool fetch(const host_map_t *map, uint64_t hpa, const host_region_t **hint, uint64_t *descriptor) {
  const host_region_t *region = host_map_find(map, hpa, PAGE_TABLE_DESCRIPTOR_BYTES, *hint);
  if (!region) return false;
  *hint = region;
  *descriptor = __atomic_load_n((const uint64_t *)(region->host + (hpa - region->hpa)), __ATOMIC_ACQUIRE);
  return true;
}

static inline int32_t leaf(const walk_stage_t *stage, uint32_t level, uint64_t descriptor, uint64_t address, uint32_t inherited,
                           uint32_t needed, walk_result_t *result) {
  uint64_t offset_mask = (1ull << level_shift(level)) - 1;
  uint64_t output = descriptor & PAGE_TABLE_ADDRESS_MASK & ~offset_mask;
  if (output >> stage->output_bits) return FAULT_AT(PAGE_TABLE_DFSC_ADDRESS_SIZE_L0, level);
  if (stage->access_flag_faults && !(descriptor & PAGE_TABLE_AF_MASK)) return FAULT_AT(PAGE_TABLE_DFSC_ACCESS_FLAG_L0, level);
  result->permissions = (uint8_t)leaf_permissions(stage, descriptor, inherited);
  result->output = output | (address & offset_mask);
  result->block_shift = (uint8_t)level_shift(level);
  result->global = stage->stage == 2 || !(descriptor & PAGE_TABLE_NG_MASK);
  return (result->permissions & needed) == needed ? 0 : FAULT_AT(PAGE_TABLE_DFSC_PERMISSION_L0, level);
}

/* The levels of one stage; `under` translates the addresses of its descriptors, or is NULL. */
static inline __attribute__((always_inline)) int32_t walk_levels(const host_map_t *map, const walk_stage_t *stage,
                                                                 const walk_stage_t *under, uint64_t address,
                                                                 uint32_t needed, walk_result_t *result) {
  const host_region_t *hint = NULL;
  uint32_t inherited = PERMISSIONS_ALL;
  uint64_t base = root_of(stage), descriptor;
  if (address >> stage->input_bits) return FAULT_AT(PAGE_TABLE_DFSC_TRANSLATION_L0, 0);
  if (base >> stage->output_bits) return FAULT_AT(PAGE_TABLE_DFSC_ADDRESS_SIZE_L0, 0);
  uint64_t index = address >> level_shift(stage->start_level);
  for (uint32_t level = stage->start_level;; level++) {
    uint64_t at = base + index * PAGE_TABLE_DESCRIPTOR_BYTES;
    if (under) {
      walk_result_t table;
      int32_t fault = stage2_walk(map, under, at, PAGE_TABLE_PERMISSION_READ, &table);
      result->ipa = at;
      result->fetch = table.fetch;
      if (fault) return -(-fault | (int32_t)PAGE_TABLE_FAULT_S1PTW_MASK);
      at = table.output;
    }
    if (!fetch(map, at, &hint, &descriptor)) {
      result->fetch = at;
      return FAULT_AT(PAGE_TABLE_DFSC_EXTERNAL_WALK_L0, level);
    }
    bool bit1 = descriptor & PAGE_TABLE_TABLE_OR_PAGE_MASK;
    bool last = level == PAGE_TABLE_LAST_LEVEL;
    if (!(descriptor & PAGE_TABLE_VALID_MASK) || (last && !bit1) || (!bit1 && level < PAGE_TABLE_BLOCK_LEVEL_FIRST))
      return FAULT_AT(PAGE_TABLE_DFSC_TRANSLATION_L0, level);
    if (last || !bit1) return leaf(stage, level, descriptor, address, inherited, needed, result);
    base = descriptor & PAGE_TABLE_ADDRESS_MASK;
    if (base >> stage->output_bits) return FAULT_AT(PAGE_TABLE_DFSC_ADDRESS_SIZE_L0, level);
    inherited = table_permissions(stage, descriptor, inherited);
    index = (address >> level_shift(level + 1)) & (PAGE_TABLE_ENTRIES - 1);
  }
}

int32_t stage2_walk(const host_map_t *map, const walk_stage_t *stage2, uint64_t ipa, uint32_t needed, walk_result_t *result) {
  result->ipa = ipa;
  result->fetch = 0;
  result->stage1_shift = 0;
  int32_t fault = walk_levels(map, stage2, NULL, ipa, needed, result);
  return fault ? -(-fault | (int32_t)PAGE_TABLE_FAULT_STAGE2_MASK) : 0;
}

int32_t nested_walk(const host_map_t *map, const walk_stage_t *stage1, const walk_stage_t *stage2, uint64_t address,
                    uint32_t needed, walk_result_t *result) {
  if (!stage1) {
    int32_t missed = stage2_walk(map, stage2, address, needed, result);
    if (!missed) trace_event(TRACE_STAGE2, 0, address, result->output, 0, 0);
    return missed;
  }
  result->ipa = 0;
  result->fetch = 0;
  result->stage1_shift = 0;
  int32_t fault = walk_levels(map, stage1, stage2, address, needed, result);
  if (!fault || !(-fault & (int32_t)PAGE_TABLE_FAULT_STAGE2_MASK)) result->ipa = 0;
  if (!fault) trace_event(TRACE_STAGE1, 0, address, result->output, 0, 0);
  if (fault || !stage2) return fault;
  walk_result_t outer;
  fault = stage2_walk(map, stage2, result->output, needed, &outer);
  result->ipa = result->output;
  result->fetch = outer.fetch;
  result->output = outer.output;
  result->stage1_shift = result->block_shift;
  if (fault) return fault;
  trace_event(TRACE_STAGE2, 0, result->ipa, outer.output, 0, 0);
  result->permissions &= outer.permissions;
  if (outer.block_shift < result->block_shift) result->block_shift = outer.block_shift;
  return 0;
}

uint8_t *stage2_resolve(const host_map_t *map, const walk_stage_t *stage2, uint64_t ipa, uint64_t length, uint32_t needed,
                        int32_t *fault) {
  walk_result_t walk;
  uint64_t hpa = 0, done = 0;
  bool write = needed & PERMISSIONS_WRITE;
  do {
    if (ipa + done < ipa) *fault = FAULT_AT(PAGE_TABLE_DFSC_TRANSLATION_L0, 0);
    else *fault = stage2_walk(map, stage2, ipa + done, needed, &walk);
    if (*fault) return NULL;
    if (done == 0) hpa = walk.output;
    if (walk.output != hpa + done) {
      *fault = FAULT_AT(PAGE_TABLE_FAULT_SPLIT_MASK, 0);
      return NULL;
    }
    done += (1ull << walk.block_shift) - (walk.output & ((1ull << walk.block_shift) - 1));
  } while (done < length);
  uint8_t *host = host_map_pointer(map, hpa, length ? length : 1, write);
  if (!host) *fault = FAULT_AT(PAGE_TABLE_DFSC_EXTERNAL, 0);
  return host;
}

int32_t stage2_copy(const host_map_t *map, const walk_stage_t *stage2, uint64_t ipa, uint8_t *local, uint64_t length, bool write) {
  uint32_t needed = write ? PAGE_TABLE_PERMISSION_WRITE : PAGE_TABLE_PERMISSION_READ;
  for (int pass = 0; pass < (local ? 2 : 1); pass++) {
    for (uint64_t done = 0, piece; done < length; done += piece) {
      int32_t fault;
      uint64_t address = ipa + done;
      if (address < ipa) return FAULT_AT(PAGE_TABLE_DFSC_TRANSLATION_L0, 0);
      piece = 4096 - (address & 4095);
      if (piece > length - done) piece = length - done;
      uint8_t *host = stage2_resolve(map, stage2, address, piece, needed, &fault);
      if (!host) return fault;
      if (pass == 0) continue;
      if (write) memcpy(host, local + done, piece);
      else memcpy(local + done, host, piece);
    }
  }
  return 0;
}
