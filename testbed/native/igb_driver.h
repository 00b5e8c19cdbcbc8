/* A driver's rings of an 82576 or one of its virtual functions: frames to advanced descriptors and back.
 * 82576 datasheet (320961) §7.1.5, §7.2.2.4, §4.6.9, §4.6.10. */
#pragma once
#include "slot_ring.h"

struct igb_tx_driver {
  struct slot_tx tx;     /* first: a kind's functions are given this */
  uint32_t since_report; /* descriptors since the last one with RS */
  uint32_t *reports;     /* descriptors with RS that were not written back yet, a ring of `size` */
  uint32_t reports_first, reports_n;
};

/* How many descriptors may go without RS: fewer reports are fewer writes to host memory, but buffers come back later. */
#define IGB_REPORT_EVERY 32

extern const struct slot_tx_kind igb_tx_kind;
extern const struct slot_rx_kind igb_rx_kind;

/* What became of frames that were copied into the ring. */
struct igb_tx_taken { uint64_t frames, bytes, too_long; };
uint32_t igb_tx_deliver(struct igb_tx_driver *q, const struct burst *b, uint32_t first, int32_t port, uint8_t *whole,
                        uint32_t whole_bytes, struct igb_tx_taken *taken);
