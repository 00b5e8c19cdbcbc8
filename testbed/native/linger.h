/* A short look for more in the middle of native work. What is under way comes within a microsecond or two, and going back to Python and around
 * its loop costs more than that; whoever has nothing for longer yields the processor there. */
#pragma once
#include "clock.h"
#include "order.h"

#define LINGER_NS 2000
#define LOOKS_PER_CLOCK 16

static inline void cpu_relax(void) {
#ifdef __x86_64__
  __asm__ volatile("pause");
#endif
}

/* Say whether something came before the time was over. */
static inline bool linger(int (*ready)(void *), void *what) {
  for (int64_t end = monotonic_ns() + LINGER_NS;;) {
    for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
      if (ready(what)) return true;
      cpu_relax();
    }
    if (monotonic_ns() >= end) return false;
  }
}
