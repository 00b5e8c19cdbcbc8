/* A burst's way through the bridge where nothing is special about it: addressed, delivered to the one port that all of it goes to, done. */
#pragma once
#include "delivery.h"
#include "mac_table.h"

/* Where frames for a port are delivered natively; `n` is 0 where only its owner can: it is down, interposed, or no virtqueue. */
struct forward_port { struct delivery *to[LANES_MAX]; uint32_t n; };

struct forward {
  struct mac_table *table;
  struct forward_port *ports;
  const uint32_t *now_seconds;
  int16_t source;
  uint32_t frame_max;
  port_counters_t *count;
  int32_t called;   /* port whose driver wants a call or whose queue broke, or -1 */
  bool call;
  uint32_t reached; /* of a burst that stays: where its only receiver stopped */
};

bool forward_burst(struct forward *f, struct burst *b);
