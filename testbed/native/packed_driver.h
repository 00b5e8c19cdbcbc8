/* The driver's side of a packed virtqueue, with the buffers it owns. virtio 1.2 §2.8.14, §2.8.15. */
#pragma once
#include "driver_buffers.h"
#include "packed_ring.h"

struct packed_driver {
  struct driver_buffers buffers;
  packed_desc_t *ring;
  packed_event_t *driver_event, *device_event;
  uint32_t size;
  struct cursor avail, used;
  uint32_t slots_free;
  uint32_t since_kick;
  bool staged;
  uint16_t staged_at, staged_flags;
  packed_desc_t *indirect; /* tables of the buffers, or NULL */
  uint64_t indirect_gpa;
  uint16_t direction;
  bool event_idx;
  bool broken;
};

void packed_driver_layout(struct packed_driver *q, bool device_writes, uint64_t indirect_gpa);
void packed_driver_reclaim(struct packed_driver *q);
uint32_t packed_driver_reserve(struct packed_driver *q, struct burst *b, uint32_t want);
void packed_driver_send(struct packed_driver *q, struct burst *b);
uint32_t packed_driver_collect(struct packed_driver *q, struct burst *b, uint32_t limit);
void packed_driver_post(struct packed_driver *q, const struct burst *b);
void packed_driver_post_all(struct packed_driver *q);
bool packed_driver_publish(struct packed_driver *q);
int packed_driver_ready(void *queue);
int packed_driver_arm(void *queue);
void packed_driver_disarm(void *queue);
