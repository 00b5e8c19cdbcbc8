/* What a back end that is no bridge does with frames: copies them into memory of its own, or sends them back.
 *
 * Lengths are the guest's to choose, so each is checked here as the bridge checks it. */
#pragma once
#include "burst.h"
#include "layouts.h"

/* Memory that takes one part of a burst after another; what it held before is overwritten. */
struct sink_store { uint8_t *bytes; uint32_t size_bytes; };

uint32_t sink_take(const struct sink_store *store, const struct burst *from, uint32_t first, uint32_t frame_max, port_counters_t *count,
                   struct burst *kept);
void echo_address(struct burst *b, int32_t port, uint32_t frame_max, port_counters_t *count);
