/* The receive unit of an 82540EM: frames into descriptors. 8254x SDM §3.2, §9.2.2. */
#pragma once
#include "e1000_filter.h"

enum { E1000_RX_DELIVERED = 1, E1000_RX_THRESHOLD = 2, E1000_RX_SMALL = 4 };

#define E1000_SCRATCH_BYTES (VIRTIO_NET_FRAME_BYTES_MAX + 64)

struct e1000_receive {
  struct e1000_ring ring;
  struct e1000_filter filter;
  uint32_t buffer_bytes;   /* RCTL.BSIZE, BSEX */
  bool long_frames, strip_fcs, strip_tag; /* RCTL.LPE, SECRC; CTRL.VME */
  bool check_ip, check_tu, check_ipv6;                /* RXCSUM.IPOFLD, TUOFLD, IPV6OFL */
  uint8_t packet_checksum_start;                      /* RXCSUM.PCSS */
  uint32_t threshold_shift;                           /* RCTL.RDMTS: free <= size >> shift */
  uint32_t small_bytes;                               /* RSRPD.SIZE; 0: off */
  uint32_t wanted;       /* descriptors that the frame in front needs; 0: nothing waits */
  bool over_threshold;   /* more descriptors were free than RDMTS says */
  uint64_t copied;
  port_counters_t *count;
  e1000_statistics_t *stats;
  uint8_t whole[E1000_SCRATCH_BYTES]; /* a frame with an offload request, in one piece */
  uint8_t piece[E1000_SCRATCH_BYTES]; /* a segment of it */
};

void e1000_receive_reset(struct e1000_receive *q);
uint32_t e1000_receive_deliver(struct e1000_receive *q, const struct burst *b, uint32_t first, int32_t port, uint32_t *events);
int e1000_receive_ready(void *queue);
void e1000_receive_tail(struct e1000_receive *q, uint32_t tail);
