/* What the ITS remembers of (DeviceID, EventID): where the interrupt goes, down to the bit and the bell.
 *
 * Set-associative, filled by whoever has walked the tables, emptied by the commands that change them. */
#pragma once
#include "vlpi.h"

#define ITS_WAYS 4
enum { ITS_NONE, ITS_PHYSICAL, ITS_VIRTUAL };
/* Outcomes of its_post; the first three are those of vpe_post. By VPE_ABSENT the doorbell is left to the caller; ITS_RUNG: it was rung, and
 * the processor that it is for sleeps and needs one message. */
enum { ITS_MISS = VPE_ABSENT + 1, ITS_RUNG };

typedef struct {
  uint32_t device, event;
  uint32_t n;        /* LPI or virtual LPI, from 8192 */
  uint32_t doorbell; /* physical INTID, for a vPE that is not resident */
  uint16_t target;   /* ICID or vPEID */
  uint8_t kind;
  uint32_t processor; /* of a physical LPI, or of the doorbell */
  lpi_page_t *lpis;   /* where that is raised; NULL for a doorbell that is not enabled */
  vpe_port_t *vpe;
} its_entry_t;

typedef struct {
  its_entry_t *entries;
  uint32_t sets, next_way;
  uint64_t hits, misses, delivered, wakes, absent;
} its_cache_t;

int its_cache_init(its_cache_t *cache, uint32_t entries);
void its_cache_free(its_cache_t *cache);
/* Return where to fill the entry of a key. */
its_entry_t *its_cache_slot(its_cache_t *cache, uint32_t device, uint32_t event);
/* Say whether an event is cached; nothing is counted. */
bool its_cached(const its_cache_t *cache, uint32_t device, uint32_t event);
/* Signal an event. `*entry` is the entry that was hit. */
int its_post(its_cache_t *cache, uint32_t device, uint32_t event, its_entry_t **entry);
/* Make LPI `n` (from 8192) of a host processor raised; true: it sleeps and needs one message. */
bool lpi_raise(lpi_page_t *page, uint32_t n);
