/* The transmit unit of an 82540EM: descriptors to frames, and back. 8254x SDM §3.3 to §3.6, §9.2.1. */
#pragma once
#include "e1000_ring.h"

#define E1000_HEADER_ROOM 272      /* the farthest checksum field is at 255, then two bytes, and a VLAN tag */
#define E1000_PACKET_SEGMENTS 1000 /* data descriptors (or pieces of them) that one packet may have */
#define E1000_FRONT_SEGMENTS 1     /* kept free in front of a packet for a header of our own */

enum { E1000_TX_DONE = 1, E1000_TX_DELAYED = 2, E1000_TX_EMPTY = 4, E1000_TX_LOW = 8 };

/* What a context descriptor loads (§3.3.5). */
struct e1000_context {
  uint8_t ipcss, ipcso, tucss, tucso, hdrlen, tucmd;
  uint16_t ipcse, tucse, mss;
  uint32_t paylen;
};

/* A packet that is being cut into segments; it may take several bursts (§3.5). */
struct e1000_segmentation {
  bool active;
  uint8_t popts, cmd;
  uint16_t special;
  uint32_t header_n;  /* bytes of the prototype header that are here */
  uint32_t offset;    /* bytes of the descriptor at `next` that are used up */
  uint32_t remaining; /* payload bytes still to be sent */
  uint32_t sent, frames;
  uint8_t header[256];
};

struct e1000_transmit {
  struct e1000_ring ring;
  uint32_t next;     /* first descriptor not yet taken; those from head to next are in flight */
  uint32_t starved;  /* the tail at which a packet without its end was found; none: a number that is no tail */
  bool skipping;     /* the rest of a packet that is not sent, up to its end */
  bool pad, vlan;
  uint16_t vet;
  uint32_t low_threshold; /* descriptors; 0: no such cause */
  struct e1000_context plain, cut;
  struct e1000_segmentation tso;
  port_counters_t *count;
  e1000_statistics_t *stats;
  uint8_t headers[BURST_FRAMES][E1000_HEADER_ROOM];
};

void e1000_transmit_reset(struct e1000_transmit *q);
void e1000_transmit_head(struct e1000_transmit *q, uint32_t head);
uint32_t e1000_transmit_fetch(struct e1000_transmit *q, struct burst *b, uint32_t limit);
uint32_t e1000_transmit_complete(struct e1000_transmit *q);
int e1000_transmit_ready(void *queue);
