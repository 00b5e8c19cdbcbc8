/* A bell: the state of a doorbell or interrupt in shared memory, so that a message is sent only to a sleeper.
 *
 * Producer: rings (release), full fence, and only where `armed` was set clears it and sends one message.
 * Consumer: sets `armed`, full fence, looks at everything it waits for once more, then blocks.
 * One of the two fences comes first in the single order of fences, so either the consumer's look sees what was published before the
 * ring, or the producer sees `armed`: no wake-up is lost. The exchange gives each arming to one producer: no message twice. */
#pragma once
#include "layouts.h"
#include "order.h"

static inline bool bell_ring(bell_t *bell) {
  __atomic_fetch_add(&bell->rung, 1, __ATOMIC_RELEASE);
  full_fence();
  if (!load_relaxed(&bell->armed) || !__atomic_exchange_n(&bell->armed, 0, __ATOMIC_ACQ_REL)) return false;
  __atomic_fetch_add(&bell->sent, 1, __ATOMIC_RELAXED);
  return true;
}

static inline void bell_arm(bell_t *bell) { store_relaxed(&bell->armed, 1u); }
static inline void bell_disarm(bell_t *bell) { store_relaxed(&bell->armed, 0u); }
