/* The device's side of a split virtqueue. virtio 1.2 §2.7. */
#pragma once
#include "command.h"
#include "receive.h"
#include "split_ring.h"
#include "transmit.h"

struct split_device {
  struct regions *memory;
  virtq_desc_t *desc;
  virtq_avail_t *avail;
  uint16_t *avail_ring; /* size entries, then used_event */
  virtq_used_t *used;
  virtq_used_elem_t *used_ring; /* size elements, then avail_event */
  uint16_t *avail_event;
  uint32_t size;
  struct cursor next; /* position: free running index of the next available entry */
  struct cursor looked; /* entries before it are known; beyond `next` where they do not suffice for a frame */
  uint16_t avail_seen; /* the driver's idx as last acquired */
  uint16_t used_next; /* free running, ahead of used->idx until published */
  uint16_t called;    /* used index at the last decision about a call */
  bool event_idx, indirect, merge, in_order, offload;
  int fault; /* latched: a broken queue reads as empty until reset */
  port_counters_t *count;
};

uint32_t split_device_fetch(struct split_device *q, struct burst *b, uint32_t limit);
bool split_device_complete(struct split_device *q, const struct burst *b);
uint32_t split_device_deliver(void *queue, const struct burst *b, uint32_t first, uint32_t end, int32_t port, uint64_t *bytes_copied);
bool split_device_publish(void *queue);
int split_device_ready(void *queue);
int split_device_arm(void *queue);
void split_device_disarm(void *queue);
bool split_device_take_command(struct split_device *q, struct command *command);
bool split_device_answer_command(struct split_device *q, const struct command *command, uint8_t status);
