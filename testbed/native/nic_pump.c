/* See nic_pump.h. */
#include "nic_pump.h"

#define SERVE_PIECE 4096

/* Take tail registers' new values; true: an access waits that is none. */
static bool take_doorbells(struct nic_pump *p) {
  bool others = false;
  for (uint32_t i = 0; i < p->windows_n; i++)
    if (bar_pending(p->windows[i])) others |= bar_take_doorbells(p->windows[i]);
  return others;
}

/* Requests that the engine posted: served here, or shown to the IOMMU. */
static void submit(struct nic_pump *p, uint32_t function) {
  struct nic_port *port = &p->ports[function];
  dma_requester_t *dma = p->e->dma[function];
  uint32_t done;
  if (port->server) {
    if (!port->open) return;
    dma_submit(dma);
    if (dma_serve(port->server, SERVE_PIECE, true, &done) >= DMA_SERVE_ATTENTION) p->attention |= 1u << function, port->open = false;
    return;
  }
  dma_submit(dma);
  port->asked++;
  if (bell_ring(port->bell)) p->wake |= 1u << function;
}

static void submit_all(struct nic_pump *p) {
  for (uint32_t i = 0; i < NIC_FUNCTIONS; i++)
    if (p->e->dma[i] && p->e->dma[i]->next != p->e->dma[i]->submitted) submit(p, i);
}

static void exchange(struct nic_pump *p) {
  struct nic_engine *e = p->e;
  if (!e->wired) return;
  if (wire_publish(&e->out)) {
    p->receiver_asked++;
    if (bell_ring(p->to_receiver)) p->wake |= NIC_WAKE_RECEIVER;
  }
  if (wire_release(&e->in)) {
    p->sender_asked++;
    if (bell_ring(p->to_sender)) p->wake |= NIC_WAKE_SENDER;
  }
}

static inline bool has_news(const struct nic_engine *e) {
  return (e->tx_events & e->tx_awaited) | (e->rx_events & e->rx_awaited) | e->spoofing | e->dropping | e->faults;
}

/* Go round until there is something for Python; true: anything moved. */
bool nic_pump_run(struct nic_pump *p, struct pump_time t, const struct pump_others *others) {
  bool ever = false;
  for (;;) {
    bool access = take_doorbells(p);
    bool moved = nic_turn(p->e, (uint64_t)monotonic_ns());
    submit_all(p);
    exchange(p);
    ever |= moved;
    if (access || p->wake || p->attention || has_news(p->e)) break;
    if (moved ? !pump_goes_on(&t, others) : !pump_yields(&t, others)) break;
  }
  return ever;
}
