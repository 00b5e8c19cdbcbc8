/* Frames between bursts and the file of a TAP device: one read or write a frame, none of them blocks. */
#pragma once
#include "burst.h"

struct tap {
  int fd;
  int error;         /* errno of what ended the last call; 0 where nothing did */
  uint64_t read, written;
  uint64_t too_long; /* from the kernel, longer than the buffer it was read into: dropped */
  uint64_t refused;  /* by the kernel (the interface is down, no memory): dropped */
};

#define IOV_PIECES FRAME_SEGMENTS_MAX /* what writev(2) takes at most (IOV_MAX) */

uint32_t tap_read(struct tap *t, struct burst *reserved);
void tap_write(struct tap *t, const struct burst *b);
int tap_ready(void *tap);
