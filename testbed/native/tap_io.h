/* Frames between bursts and the file of a TAP device: none of its reads and writes blocks.
 *
 * Every frame has a virtio_net_hdr in front (IFF_VNET_HDR, as long as virtio 1 has it). With offloads the kernel hands TCP over as
 * frames of up to 64 KiB that are cut into segments here, and takes segments in a row as one; a NIC sees neither. */
#pragma once
#include "e1000_parse.h"

#define TAP_FRAME_BYTES_MAX (1u << 17) /* more than any that the kernel makes */

struct tap {
  int fd;
  bool join;         /* hand TCP segments in a row to the kernel as one frame */
  int error;         /* errno of what ended the last call; 0 where nothing did */
  uint64_t read, written; /* frames of the NIC's */
  uint64_t cut, joined;   /* the kernel's frames that were several of the NIC's, each way */
  uint64_t too_long; /* from the kernel, longer than the buffer that it was for, or not as its header says: dropped */
  uint64_t refused;  /* by the kernel (the interface is down, no memory): dropped */
  uint32_t left;     /* pieces of `whole` that are still to be sent */
  struct cutter cutter;
  uint8_t whole[TAP_FRAME_BYTES_MAX];
};

uint32_t tap_read(struct tap *t, struct burst *reserved);
void tap_write(struct tap *t, const struct burst *b);
int tap_ready(void *tap);
