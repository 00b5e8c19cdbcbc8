/* Host physical memory as one process has it mapped, and the walks of VMSAv8-64 tables in it (DDI 0487 D8). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "layouts.h"

typedef struct {
  uint64_t hpa, size;
  uint8_t *host;
  bool writable;
} host_region_t;

/* Sorted by hpa, disjoint. */
typedef struct {
  host_region_t *regions;
  uint32_t count, capacity;
} host_map_t;

/* One stage of translation; `stage` is 1 or 2. */
typedef struct {
  uint64_t root;
  uint8_t input_bits, start_level, output_bits, stage;
  bool access_flag_faults, hierarchical;
} walk_stage_t;

typedef struct {
  uint64_t output;
  uint64_t ipa;   /* stage-2 fault: the address that stage 2 refused */
  uint64_t fetch; /* abort on a descriptor: where it should have been */
  uint8_t permissions, block_shift;
  uint8_t stage1_shift; /* both stages: shift of stage 1's own leaf, else 0 */
  bool global;
} walk_result_t;

/* 0, or -1 where the range overlaps another, wraps, is empty or no memory is left. */
int host_map_add(host_map_t *map, uint64_t hpa, uint64_t size, uint8_t *host, bool writable);
void host_map_free(host_map_t *map);

/* The region that holds the whole range, or NULL. `hint` may be NULL. */
const host_region_t *host_map_find(const host_map_t *map, uint64_t hpa, uint64_t length, const host_region_t *hint);

/* Host pointer of a range by HPA, or NULL. */
static inline uint8_t *host_map_pointer(const host_map_t *map, uint64_t hpa, uint64_t length, bool write) {
  const host_region_t *region = host_map_find(map, hpa, length, NULL);
  return region && (region->writable || !write) ? region->host + (hpa - region->hpa) : NULL;
}

/* Translate by one or both stages (either may be NULL, not both). Returns 0 or minus a fault word; `needed` is a PERMISSION mask. */
int32_t nested_walk(const host_map_t *map, const walk_stage_t *stage1, const walk_stage_t *stage2, uint64_t address,
                    uint32_t needed, walk_result_t *result);
int32_t stage2_walk(const host_map_t *map, const walk_stage_t *stage2, uint64_t ipa, uint32_t needed, walk_result_t *result);

/* Host pointer of a guest physical range that is one piece of host memory; NULL with *fault set otherwise. */
uint8_t *stage2_resolve(const host_map_t *map, const walk_stage_t *stage2, uint64_t ipa, uint64_t length, uint32_t needed,
                        int32_t *fault);
/* Copy out of (write false) or into (write true) guest memory. Nothing moves unless the whole range may be accessed, and nothing
 * moves at all where `local` is NULL. */
int32_t stage2_copy(const host_map_t *map, const walk_stage_t *stage2, uint64_t ipa, uint8_t *local, uint64_t length, bool write);

/* Single accesses of 1, 2, 4 or 8 bytes; whole where aligned, loads acquire and stores release. */
static inline uint64_t host_load(const uint8_t *host, uint32_t size) {
  uint64_t value = 0;
  if (((uintptr_t)host & (size - 1)) != 0) {
    memcpy(&value, host, size);
    return value;
  }
  switch (size) {
    case 1: return __atomic_load_n(host, __ATOMIC_ACQUIRE);
    case 2: return __atomic_load_n((const uint16_t *)host, __ATOMIC_ACQUIRE);
    case 4: return __atomic_load_n((const uint32_t *)host, __ATOMIC_ACQUIRE);
    default: return __atomic_load_n((const uint64_t *)host, __ATOMIC_ACQUIRE);
  }
}

static inline void host_store(uint8_t *host, uint32_t size, uint64_t value) {
  if (((uintptr_t)host & (size - 1)) != 0) {
    memcpy(host, &value, size);
    return;
  }
  switch (size) {
    case 1: __atomic_store_n(host, (uint8_t)value, __ATOMIC_RELEASE); break;
    case 2: __atomic_store_n((uint16_t *)host, (uint16_t)value, __ATOMIC_RELEASE); break;
    case 4: __atomic_store_n((uint32_t *)host, (uint32_t)value, __ATOMIC_RELEASE); break;
    default: __atomic_store_n((uint64_t *)host, value, __ATOMIC_RELEASE); break;
  }
}
