/* Where frames are delivered: the receiving side of a device's queue, whatever its format; several queues share a port's flows. */
#pragma once
#include "flow_hash.h"

#define LANES_MAX 16

struct delivery {
  void *queue;
  uint32_t (*deliver)(void *queue, const struct burst *b, uint32_t first, uint32_t end, int32_t port, uint64_t *copied);
  bool (*publish)(void *queue);
  const int *fault;
  uint64_t copied;
};

static inline uint32_t deliver_burst(struct delivery *to, const struct burst *b, uint32_t first, uint32_t end, int32_t port) {
  return to->deliver(to->queue, b, first, end, port, &to->copied);
}

/* Each flow to one of several queues, in order; a queue without room holds the frames behind it back. */
static inline uint32_t deliver_flows(struct delivery **to, uint32_t n, const struct burst *b, uint32_t first, int32_t port) {
  if (n == 1) return deliver_burst(to[0], b, first, b->frames_n, port);
  while (first < b->frames_n) {
    uint32_t which, end = flow_run(b, first, n, &which), stopped = deliver_burst(to[which], b, first, end, port);
    if (stopped < end) return stopped;
    first = end;
  }
  return first;
}
