/* A NIC's engine with everything that it is connected to, going round natively: doorbells in, turns, DMA requests out, wire. */
#pragma once
#include "nic_engine.h"
#include "pump.h"

#define NIC_WAKE_RECEIVER (1u << 30) /* of what the wire brings */
#define NIC_WAKE_SENDER (1u << 31)   /* who waits for room on it */

/* One function's way into memory: to the IOMMU, whose bell it is, or served here by cached translations. */
struct nic_port {
  bell_t *bell;
  dma_server_t *server;
  bool open; /* the server's requests need no decision that was not made */
  uint64_t asked;
};

struct nic_pump {
  struct nic_engine *e;
  struct nic_port ports[NIC_FUNCTIONS];
  struct bar_completer *windows[NIC_FUNCTIONS + 1];
  uint32_t windows_n;
  bell_t *to_receiver, *to_sender;
  uint64_t receiver_asked, sender_asked;
  uint32_t wake;      /* functions whose IOMMU sleeps, and NIC_WAKE_*: messages to be sent */
  uint32_t attention; /* functions whose server waits for a decision */
};

bool nic_pump_run(struct nic_pump *p, struct pump_time t, const struct pump_others *others);
