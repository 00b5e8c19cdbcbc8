/* Native work that goes on for a while: what one process does and the next one waits for goes round without Python, as long as nothing
 * has to be decided.
 *
 * A pump works until there is something for Python (an access to registers, an interrupt, a decision, a sleeper to be woken), until
 * something else that its process watches is ready, or until its time is over. Whoever finds nothing yields the processor at once. */
#pragma once
#include <sched.h>
#include "bar_window.h"
#include "bell.h"
#include "dma_serve.h"
#include "linger.h"

/* Whether something is ready that is no business of the pump's. */
struct pump_others { int (*ready)(void *what); void *what; };

struct pump_time {
  int64_t end_ns;        /* of the whole */
  int64_t idle_ns;       /* how long to look on when nothing moves */
  int64_t idle_since_ns; /* 0: something moved */
};

static inline struct pump_time pump_begin(int64_t budget_ns, int64_t idle_ns) {
  return (struct pump_time){.end_ns = monotonic_ns() + budget_ns, .idle_ns = idle_ns};
}

/* Something moved; false: there is something else, or the time is over. */
static inline bool pump_goes_on(struct pump_time *t, const struct pump_others *others) {
  t->idle_since_ns = 0;
  return !others->ready(others->what) && monotonic_ns() < t->end_ns;
}

/* Nothing moved: yield; false: enough of that. */
static inline bool pump_yields(struct pump_time *t, const struct pump_others *others) {
  int64_t now_ns = monotonic_ns();
  if (!t->idle_since_ns) t->idle_since_ns = now_ns;
  if (now_ns - t->idle_since_ns >= t->idle_ns || now_ns >= t->end_ns || others->ready(others->what)) return false;
  sched_yield();
  return true;
}

#define SERVERS_MAX 128

/* The IOMMU's: every DMA ring of every device, by turns. */
struct serve_ring { dma_server_t *server; const int *active; uint32_t device; };
struct serve_pump {
  struct serve_ring rings[SERVERS_MAX];
  uint32_t rings_n;
  bell_t *bells[SERVERS_MAX]; /* of devices */
  uint64_t asked[SERVERS_MAX];
  uint32_t next;
  int32_t telling; /* ring whose last message asks for one to be sent (DMA_SERVE_TELL), or -1 */
};
/* Returns whether anything moved; sets a bit of `wake` for each device that sleeps and is to be told. */
bool serve_pump_run(struct serve_pump *p, bool fast, struct pump_time t, const struct pump_others *others, uint64_t wake[SERVERS_MAX / 64]);
