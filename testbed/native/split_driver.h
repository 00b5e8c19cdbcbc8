/* The driver's side of a split virtqueue, with the buffers it owns. virtio 1.2 §2.7.13, §2.7.14.
 *
 * Every buffer has its descriptors for life: they are laid out once, and sending or posting a buffer again writes lengths and one
 * ring entry. */
#pragma once
#include "collect.h"
#include "split_ring.h"

struct split_driver {
  struct driver_buffers buffers;
  virtq_desc_t *desc;
  virtq_avail_t *avail;
  uint16_t *avail_ring; /* size entries, then used_event */
  virtq_used_t *used;
  virtq_used_elem_t *used_ring; /* size elements, then avail_event */
  uint16_t *avail_event;
  uint32_t size;
  uint16_t avail_next, used_next, used_seen, kicked;
  virtq_desc_t *indirect; /* tables of the buffers, or NULL */
  bool event_idx;
  bool broken; /* the device gave back something it never had */
};

void split_driver_layout(struct split_driver *q, bool device_writes, uint64_t indirect_gpa);
void split_driver_reclaim(struct split_driver *q);
uint32_t split_driver_reserve(struct split_driver *q, struct burst *b, uint32_t want);
void split_driver_send(struct split_driver *q, struct burst *b);
uint32_t split_driver_collect(struct split_driver *q, struct burst *b, uint32_t limit);
void split_driver_post(struct split_driver *q, const struct burst *b);
void split_driver_post_all(struct split_driver *q);
bool split_driver_publish(struct split_driver *q);
int split_driver_ready(void *queue);
int split_driver_arm(void *queue);
void split_driver_disarm(void *queue);
