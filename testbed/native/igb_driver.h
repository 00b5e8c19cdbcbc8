/* A driver's rings of an 82576 or one of its virtual functions: frames to advanced descriptors and back.
 * 82576 datasheet (320961) §7.1.5, §7.2.2.4, §4.6.9, §4.6.10. */
#pragma once
#include "burst.h"
#include "layouts.h"

struct igb_desc { uint64_t address, rest; };

/* Each descriptor has a slot of memory for a frame of its own. */
struct igb_tx_driver {
  struct igb_desc *ring;
  uint8_t *slots;
  uint64_t slots_iova;
  uint32_t size, slot_bytes;
  uint32_t next, used;        /* to be filled next; filled and not yet reclaimed */
  uint32_t clean;             /* to be reclaimed next */
  uint32_t since_report;      /* descriptors since the last one with RS */
  uint32_t *reports;          /* descriptors with RS that were not written back yet, a ring of `size` */
  uint32_t reports_first, reports_n;
};

struct igb_rx_driver {
  struct igb_desc *ring;
  uint8_t *slots;
  uint64_t slots_iova;
  uint32_t size, slot_bytes;
  uint32_t next;  /* next descriptor to look at */
  uint32_t taken; /* descriptors looked at and not yet given back */
  uint32_t tail;
  uint64_t errors;
};

/* How many descriptors may go without RS: fewer reports are fewer writes to host memory, but buffers come back later. */
#define IGB_REPORT_EVERY 32

void igb_tx_layout(struct igb_tx_driver *q);
uint32_t igb_tx_reclaim(struct igb_tx_driver *q);
uint32_t igb_tx_reserve(struct igb_tx_driver *q, struct burst *b, uint32_t want);
uint32_t igb_tx_send(struct igb_tx_driver *q, const struct burst *b, uint32_t first, uint32_t count);
int igb_tx_ready(void *queue);

/* What became of frames that were copied into the ring. */
struct igb_tx_taken { uint64_t frames, bytes, too_long; };
uint32_t igb_tx_deliver(struct igb_tx_driver *q, const struct burst *b, uint32_t first, int32_t port, uint8_t *whole,
                        uint32_t whole_bytes, struct igb_tx_taken *taken);

void igb_rx_layout(struct igb_rx_driver *q);
uint32_t igb_rx_collect(struct igb_rx_driver *q, struct burst *b, uint32_t limit);
uint32_t igb_rx_post(struct igb_rx_driver *q);
int igb_rx_ready(void *queue);
