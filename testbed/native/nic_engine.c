/* One turn of the data side. See nic_engine.h. */
#include "nic_engine.h"

#include "clock.h"

#define LANE_BYTES (NIC_JOBS * (NIC_JOB_BYTES + NIC_JOB_FRAMES * (uint32_t)sizeof(struct nic_desc)))
#define CACHE_BYTES (NIC_CACHE * (uint32_t)sizeof(struct nic_desc))

/* Device memory that the engine divides up. */
uint64_t nic_memory_bytes(void) { return (NIC_QUEUES + 1) * (uint64_t)LANE_BYTES + NIC_QUEUES * (3ull * CACHE_BYTES + 64); }

static uint32_t place_lane(struct nic_lane *lane, uint32_t at, uint32_t from) {
  lane->from = from;
  for (uint32_t i = 0; i < NIC_JOBS; i++) {
    lane->jobs[i].base = at, at += NIC_JOB_BYTES;
    lane->jobs[i].back = at, at += NIC_JOB_FRAMES * (uint32_t)sizeof(struct nic_desc);
  }
  return at;
}

void nic_engine_init(struct nic_engine *e, uint8_t *sram) {
  e->sram = sram;
  e->tx_awaited = e->rx_awaited = ~0u;
  uint32_t at = place_lane(&e->ingress, 0, NIC_FROM_WIRE);
  for (uint32_t i = 0; i < NIC_QUEUES; i++) {
    at = place_lane(&e->tx[i].lane, at, i % NIC_POOLS);
    e->tx[i].ring.cache = at, at += CACHE_BYTES;
    e->rx[i].ring.cache = at, at += CACHE_BYTES;
    e->rx[i].write_back = at, at += CACHE_BYTES;
    e->tx[i].head_back = at, at += 64;
    e->tx[i].pool = e->rx[i].pool = i % NIC_POOLS;
  }
}

/* A queue that belongs to another function now goes on when nothing of the last one is under way any more. */
static void change_owner(struct nic_engine *e, struct nic_ring *r, bool idle) {
  if (likely(r->owner == r->function && r->dma == e->dma[r->owner])) return;
  if (r->dma && (!idle || !landed(r->dma, r->quiet))) return;
  r->function = r->owner, r->dma = e->dma[r->owner];
  if (r->dma) r->quiet = r->dma->next;
}

/* Everything that can be done now; true: something moved. */
#define EACH(queue, mask) for (uint32_t left_ = (mask), queue; left_ && (queue = (uint32_t)__builtin_ctz(left_), true); left_ &= left_ - 1)

bool nic_turn(struct nic_engine *e, uint64_t now_ns) {
  e->now_ns = now_ns, e->due_ns = 0, e->moved = false;
  for (uint32_t i = 0; i < NIC_FUNCTIONS; i++)
    if (e->dma[i]) dma_completed(e->dma[i]);
  EACH(i, e->rx_used) nic_receive_arrivals(e, &e->rx[i]);
  EACH(i, e->tx_used) nic_transmit_arrivals(e, &e->tx[i]);
  EACH(i, e->rx_used) change_owner(e, &e->rx[i].ring, true);
  EACH(i, e->tx_used) change_owner(e, &e->tx[i].ring, e->tx[i].lane.n == 0);
  EACH(i, e->rx_used) nic_receive_work(e, &e->rx[i]);
  nic_ingress(e);
  /* another queue first each time: who comes first finds the room */
  uint32_t before = (1u << e->turn++ % NIC_QUEUES) - 1;
  EACH(i, e->tx_used & ~before) nic_transmit_work(e, i);
  EACH(i, e->tx_used & before) nic_transmit_work(e, i);
  EACH(i, e->rx_used) if (e->rx[i].first != e->rx[i].filled) nic_receive_flush(e, i);
  return e->moved;
}

/* Has something come that a turn would find, or is something due? A loop's own deadline is coarser than a wire's latency. */
int nic_ready(void *engine) {
  struct nic_engine *e = engine;
  if (unlikely(e->due_ns) && (uint64_t)monotonic_ns() >= e->due_ns) return true;
  for (uint32_t i = 0; i < NIC_FUNCTIONS; i++)
    if (e->dma[i] && load_acquire(&e->dma[i]->head->completed) != e->dma[i]->completed) return true;
  if (!e->wired) return false;
  if (e->ingress.n < NIC_JOBS && wire_incoming(&e->in)) return true;
  return e->out.refused && wire_room(&e->out);
}
