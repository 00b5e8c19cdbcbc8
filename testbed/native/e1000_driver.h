/* A driver's rings of an 82540EM: frames to descriptors and back. 8254x SDM §3.2.6, §3.4, §14.4, §14.5. */
#pragma once
#include "e1000_ring.h"

/* Each descriptor has a slot of guest memory for a frame of its own. */
struct e1000_tx_driver {
  struct e1000_desc *ring;
  uint8_t *slots;
  uint64_t slots_gpa;
  uint32_t size, slot_bytes;
  uint32_t next, clean, used; /* to be filled next, to be reclaimed next, and how many lie between */
};

struct e1000_rx_driver {
  struct e1000_desc *ring;
  uint8_t *slots;
  uint64_t slots_gpa;
  uint32_t size, slot_bytes;
  uint32_t next;  /* next descriptor to look at */
  uint32_t taken; /* descriptors looked at and not yet given back */
  uint32_t tail;
  uint64_t errors;
};

void e1000_tx_layout(struct e1000_tx_driver *q);
uint32_t e1000_tx_reclaim(struct e1000_tx_driver *q);
uint32_t e1000_tx_reserve(struct e1000_tx_driver *q, struct burst *b, uint32_t want);
uint32_t e1000_tx_send(struct e1000_tx_driver *q, const struct burst *b, uint32_t first, uint32_t count);
int e1000_tx_ready(void *queue);

void e1000_rx_layout(struct e1000_rx_driver *q);
uint32_t e1000_rx_collect(struct e1000_rx_driver *q, struct burst *b, uint32_t limit);
uint32_t e1000_rx_post(struct e1000_rx_driver *q);
int e1000_rx_ready(void *queue);
