/* The device's side of a packed virtqueue. virtio 1.2 §2.8. */
#pragma once
#include "command.h"
#include "receive.h"
#include "transmit.h"

struct packed_device {
  struct regions *memory;
  packed_desc_t *ring;
  packed_event_t *driver_event; /* what the driver wants to hear */
  packed_event_t *device_event; /* what we want to hear */
  uint32_t size;
  struct cursor next; /* the next descriptor to become available */
  struct cursor looked; /* descriptors before it are known; beyond `next` where they do not suffice for a frame */
  struct cursor used; /* where the next used descriptor goes */
  uint32_t since_call; /* ring slots used since the last decision about a call */
  bool staged;         /* used descriptors wait behind the first one's flags */
  uint16_t staged_at, staged_flags;
  bool event_idx, indirect, merge, in_order, offload;
  int fault;
  port_counters_t *count;
};

uint32_t packed_device_fetch(struct packed_device *q, struct burst *b, uint32_t limit);
bool packed_device_complete(struct packed_device *q, const struct burst *b);
uint32_t packed_device_deliver(void *queue, const struct burst *b, uint32_t first, uint32_t end, int32_t port, uint64_t *bytes_copied);
bool packed_device_publish(void *queue);
int packed_device_ready(void *queue);
int packed_device_arm(void *queue);
void packed_device_disarm(void *queue);
bool packed_device_take_command(struct packed_device *q, struct command *command);
bool packed_device_answer_command(struct packed_device *q, const struct command *command, uint8_t status);
