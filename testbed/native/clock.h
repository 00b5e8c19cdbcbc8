/* CLOCK_MONOTONIC (clock_gettime(2)): one clock for every process of the machine, so their times can be compared. */
#pragma once
#include <stdint.h>
#include <time.h>

#define NS_PER_SECOND 1000000000ll

static inline int64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}
