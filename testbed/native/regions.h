/* A guest's memory as a device sees it: ranges of guest physical addresses and where they are mapped here. */
#pragma once
#include "order.h"

#define REGIONS_MAX 64
struct region { uint64_t gpa, size; uint8_t *host; uint64_t hpa; /* 0: not told */ };
struct regions { uint32_t n; struct region r[REGIONS_MAX]; };

/* Return where `gpa` is mapped and how many bytes follow it in its region, or NULL. */
static inline uint8_t *regions_piece(const struct regions *m, uint64_t gpa, uint64_t *left) {
  for (uint32_t i = 0; i < m->n; i++) {
    uint64_t offset = gpa - m->r[i].gpa; /* wraps to something large where gpa is below the region */
    if (offset < m->r[i].size) {
      *left = m->r[i].size - offset;
      return m->r[i].host + offset;
    }
  }
  return NULL;
}

/* Return where the whole range is mapped in one piece, or NULL. */
static inline uint8_t *regions_resolve(const struct regions *m, uint64_t gpa, uint64_t length) {
  uint64_t left;
  uint8_t *host = regions_piece(m, gpa, &left);
  return host && length <= left ? host : NULL;
}
