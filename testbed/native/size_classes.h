/* Frames counted by their length: the same six classes in the 8254x (§13.7.21, §13.7.45) and the 82576 (§8.18). */
#pragma once
#include <stdint.h>

/* Count a frame by its length with FCS in the six classes that begin at `classes`. */
static inline void count_size(uint64_t *classes, uint32_t wire_bytes) {
  classes[wire_bytes <= 64 ? 0 : wire_bytes <= 127 ? 1 : wire_bytes <= 255 ? 2 : wire_bytes <= 511 ? 3 : wire_bytes <= 1023 ? 4 : 5]++;
}
