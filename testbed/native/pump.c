/* See pump.h. */
#include "pump.h"

#define PIECE 256 /* requests of one ring before another's turn */

static inline bool pending(const struct serve_ring *r) {
  return *r->active && !r->server->broken && load_acquire(&r->server->head->posted) != r->server->served;
}

bool serve_pump_run(struct serve_pump *p, bool fast, struct pump_time t, const struct pump_others *others, uint64_t wake[SERVERS_MAX / 64]) {
  bool ever = false, stop = false;
  p->telling = -1;
  do {
    bool moved = false;
    for (uint32_t i = 0; i < p->rings_n; i++) {
      struct serve_ring *r = &p->rings[(p->next + i) % p->rings_n];
      if (!pending(r)) continue;
      uint32_t done;
      int reason = dma_serve(r->server, PIECE, fast, &done);
      if (reason == DMA_SERVE_ATTENTION || reason == DMA_SERVE_BROKEN) stop = true;
      if (reason == DMA_SERVE_TELL) p->telling = (int32_t)(r - p->rings), stop = true;
      if (!done) continue;
      moved = true, p->asked[r->device]++;
      if (bell_ring(p->bells[r->device])) wake[r->device / 64] |= 1ull << r->device % 64, stop = true;
      if (p->telling >= 0) break; /* before the ring has another */
    }
    p->next++;
    ever |= moved;
    if (!stop) stop = moved ? !pump_goes_on(&t, others) : !pump_yields(&t, others);
  } while (!stop);
  return ever;
}
