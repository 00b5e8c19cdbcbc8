/* A driver's rings of an 82540EM: frames to descriptors and back. 8254x SDM §3.2.6, §3.4, §14.4, §14.5. */
#pragma once
#include "slot_ring.h"

extern const struct slot_tx_kind e1000_tx_kind;
extern const struct slot_rx_kind e1000_rx_kind;
