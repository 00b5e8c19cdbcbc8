#include "vlpi.h"
#include "trace.h"

#define POST_TRIES_MAX 100u /* only a guest that plays with `resident` needs more than a few */
#define MOVING_LOADS_MAX 20000u /* in all the tries of one call: a mover moves a few words, and the counts are where the guest writes */

static inline uint64_t bit_of(uint32_t n) { return 1ull << (n & 63); }
static inline uint64_t set_bit(uint64_t *words, uint32_t n) {
  return __atomic_fetch_or(&words[n >> 6], bit_of(n), __ATOMIC_ACQ_REL) & bit_of(n);
}
static inline uint64_t clear_bit(uint64_t *words, uint32_t n) {
  return __atomic_fetch_and(&words[n >> 6], ~bit_of(n), __ATOMIC_ACQ_REL) & bit_of(n);
}

static inline bool here(const vpe_port_t *port) { return load_acquire(&port->page->resident) == port->processor + 1; }

int vpe_post(vpe_port_t *port, uint32_t n) {
  vcpu_page_t *page = port->page;
  for (uint32_t tries = 0; tries < POST_TRIES_MAX; tries++) {
    bool present = here(port);
    trace_event(TRACE_VPE_POSTED, 0, LPI_LPI_FIRST + n, present, 0, 0);
    uint64_t *words = present ? page->vlpi_pending : port->table;
    uint64_t before = set_bit(words, n);
    full_fence();
    if (here(port) == present) {
      if (!present) return VPE_ABSENT;
      /* pending already: whoever has not taken it is awake or has masked it */
      return !before && bell_ring(vpe_bell(port)) ? VPE_WAKE : VPE_DELIVERED;
    }
    if (!clear_bit(words, n)) return VPE_DELIVERED; /* moved, and reported by the mover; or taken */
  }
  set_bit(port->table, n);
  return VPE_ABSENT;
}

static uint32_t begun(const vpe_port_t *port) { return load_acquire(&port->page->vlpi_moves_begun); }

/* Wait until no more than `mine` moves are under way, with at most `loads`, which are used up; return how many were begun. */
static uint32_t settled(const vpe_port_t *port, uint32_t mine, uint32_t *loads) {
  uint32_t done = load_acquire(&port->page->vlpi_moves_done);
  for (; *loads && begun(port) != done + mine; --*loads) done = load_acquire(&port->page->vlpi_moves_done);
  return done + mine;
}

/* Nobody has moved since: what was looked at in both places in between was not in flight. */
static bool undisturbed(const vpe_port_t *port, uint32_t moves) {
  full_fence();
  return begun(port) == moves;
}

bool vpe_take(vpe_port_t *port, uint32_t n) {
  bool taken = false;
  uint32_t loads = MOVING_LOADS_MAX;
  for (uint32_t tries = 0; tries < POST_TRIES_MAX; tries++) {
    uint32_t moves = settled(port, 0, &loads);
    /* in both where the vPE is resident somewhere else than the ITS believes */
    taken |= clear_bit(port->page->vlpi_pending, n) != 0;
    taken |= clear_bit(port->table, n) != 0;
    if (undisturbed(port, moves)) break;
  }
  return taken;
}

bool vpe_is_pending(const vpe_port_t *port, uint32_t n) {
  uint32_t loads = MOVING_LOADS_MAX;
  for (uint32_t tries = 0; tries < POST_TRIES_MAX; tries++) {
    uint32_t moves = settled(port, 0, &loads);
    if ((load_acquire(&port->page->vlpi_pending[n >> 6]) | load_acquire(&port->table[n >> 6])) & bit_of(n)) return true;
    if (undisturbed(port, moves)) return false;
  }
  return false;
}

/* Move every bit; true: any is pending at its end. */
static bool move(uint64_t *from, uint64_t *to) {
  uint64_t any = 0;
  for (uint32_t i = 0; i < LPI_VLPI_WORDS; i++) {
    uint64_t word = load_acquire(&from[i]) ? __atomic_exchange_n(&from[i], 0, __ATOMIC_ACQ_REL) : 0;
    any |= word ? __atomic_fetch_or(&to[i], word, __ATOMIC_ACQ_REL) | word : load_acquire(&to[i]);
  }
  return any != 0;
}

static void begin_move(vpe_port_t *port) {
  __atomic_fetch_add(&port->page->vlpi_moves_begun, 1, __ATOMIC_ACQ_REL);
  full_fence();
}

static void end_move(vpe_port_t *port) { __atomic_fetch_add(&port->page->vlpi_moves_done, 1, __ATOMIC_ACQ_REL); }

bool vpe_enter(vpe_port_t *port, uint32_t processor) {
  begin_move(port);
  store_release(&port->page->resident, processor + 1);
  full_fence();
  bool pending = move(port->table, port->page->vlpi_pending);
  end_move(port);
  return pending && bell_ring(vpe_bell(port));
}

bool vpe_leave(vpe_port_t *port) {
  begin_move(port);
  store_release(&port->page->resident, 0u);
  full_fence();
  move(port->page->vlpi_pending, port->table);
  uint32_t loads = MOVING_LOADS_MAX;
  settled(port, 1, &loads); /* a refresh under way puts back what it has moved */
  bool pending = move(port->page->vlpi_pending, port->table);
  end_move(port);
  return pending;
}

bool vpe_refresh(vpe_port_t *port) {
  begin_move(port);
  bool pending = here(port) && move(port->table, port->page->vlpi_pending);
  full_fence();
  /* scheduled out meanwhile: what it left must not stay behind in the page */
  if (!load_acquire(&port->page->resident)) move(port->page->vlpi_pending, port->table);
  end_move(port);
  return pending && bell_ring(vpe_bell(port));
}

bool vpe_config_changed(vpe_port_t *port) {
  __atomic_fetch_add(&port->page->vlpi_changed, 1, __ATOMIC_RELEASE);
  return bell_ring(vpe_bell(port));
}
