#include "its_cache.h"
#include "trace.h"
#include <stdlib.h>

int its_cache_init(its_cache_t *cache, uint32_t entries) {
  cache->sets = entries / ITS_WAYS;
  cache->entries = calloc(entries, sizeof *cache->entries);
  return cache->entries ? 0 : -1;
}

void its_cache_free(its_cache_t *cache) { free(cache->entries); }

static its_entry_t *set_of(const its_cache_t *cache, uint32_t device, uint32_t event) {
  uint64_t key = (uint64_t)device << 32 | event;
  return cache->entries + (key * 0x9e3779b97f4a7c15ull >> 32) % cache->sets * ITS_WAYS;
}

static its_entry_t *find(const its_cache_t *cache, uint32_t device, uint32_t event) {
  its_entry_t *set = set_of(cache, device, event);
  for (uint32_t i = 0; i < ITS_WAYS; i++)
    if (set[i].kind && set[i].device == device && set[i].event == event) return &set[i];
  return NULL;
}

bool its_cached(const its_cache_t *cache, uint32_t device, uint32_t event) { return find(cache, device, event); }

its_entry_t *its_cache_slot(its_cache_t *cache, uint32_t device, uint32_t event) {
  its_entry_t *found = find(cache, device, event);
  if (found) return found;
  its_entry_t *set = set_of(cache, device, event);
  for (uint32_t i = 0; i < ITS_WAYS; i++)
    if (!set[i].kind) return &set[i];
  return &set[cache->next_way++ % ITS_WAYS];
}

bool lpi_raise(lpi_page_t *page, uint32_t n) {
  uint64_t bit = 1ull << (n & 63);
  /* raised already: whoever takes LPIs has been told and has not looked yet */
  if (__atomic_fetch_or(&page->raised[n >> 6], bit, __ATOMIC_ACQ_REL) & bit) return false;
  return bell_ring((bell_t *)&page->rung);
}

/* A vPE that is not resident has something pending. */
static int ring_doorbell(const its_entry_t *entry) {
  if (entry->doorbell == LPI_INTID_NONE) return VPE_DELIVERED;
  if (!entry->lpis) return VPE_ABSENT;
  return lpi_raise(entry->lpis, entry->doorbell - LPI_LPI_FIRST) ? ITS_RUNG : VPE_DELIVERED;
}

int its_post(its_cache_t *cache, uint32_t device, uint32_t event, its_entry_t **entry) {
  its_entry_t *found = *entry = find(cache, device, event);
  if (unlikely(!found)) {
    cache->misses++;
    return ITS_MISS;
  }
  cache->hits++;
  if (found->kind == ITS_VIRTUAL) trace_event(TRACE_ITS_VIRTUAL, 0, device, event, LPI_LPI_FIRST + found->n, found->target);
  else trace_event(TRACE_ITS_PHYSICAL, 0, device, event, LPI_LPI_FIRST + found->n, 0);
  int outcome = found->kind == ITS_VIRTUAL ? vpe_post(found->vpe, found->n) : lpi_raise(found->lpis, found->n) ? VPE_WAKE : VPE_DELIVERED;
  cache->delivered += outcome != VPE_ABSENT;
  cache->wakes += outcome == VPE_WAKE;
  cache->absent += outcome == VPE_ABSENT;
  return outcome == VPE_ABSENT ? ring_doorbell(found) : outcome;
}
