/* The least that moves frames through split virtqueues between processes: what the testbed's rings are measured against.
 *
 * Layout and order of accesses as virtio 1.2 §2.7 has them, one descriptor a frame, header and frame in one buffer. Nothing is checked,
 * nobody is woken, whoever finds nothing yields the processor. Both sides trust each other: never for a guest. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum bare_role {
  BARE_SEND = 1,    /* writes whole frames into ring 0 */
  BARE_SINK = 2,    /* copies the frames of ring 0 into memory of its own */
  BARE_FORWARD = 4, /* copies the frames of ring 0 into the buffers of ring 1 */
  BARE_RECEIVE = 8, /* takes the frames of ring 1, looks at each, gives the buffers back */
};

uint64_t bare_bytes(uint32_t size, uint32_t frame_bytes);
void bare_prepare(uint8_t *shared, uint32_t size, uint32_t frame_bytes);
void bare_run(uint8_t *shared, uint32_t size, uint32_t frame_bytes, uint32_t roles, uint32_t in_flight);
uint64_t bare_frames(const uint8_t *shared);
void bare_stop(uint8_t *shared);
