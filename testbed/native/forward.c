#include "forward.h"

/* Show every queue of a port what it was given; note whether its owner has something to do. */
static void show(struct forward *f, int32_t port, struct forward_port *to) {
  for (uint32_t i = 0; i < to->n; i++) {
    if (to->to[i]->publish(to->to[i]->queue)) f->called = port, f->call = true;
    if (unlikely(*to->to[i]->fault)) f->called = port;
  }
}

/* Move a burst that was just fetched; false: it goes to several, or to a port of another kind, or waits for buffers. Its frames are addressed
 * and the table has its targets. */
bool forward_burst(struct forward *f, struct burst *b) {
  struct mac_table *t = f->table;
  f->reached = 0;
  mac_table_classify(t, b, f->source, *f->now_seconds, f->count, f->frame_max);
  if (unlikely(t->flood || t->targets_n > 1)) return false;
  if (!t->targets_n) return true;
  struct forward_port *to = &f->ports[t->targets[0]];
  if (!to->n) return false;
  f->reached = deliver_flows(to->to, to->n, b, 0, t->targets[0]);
  show(f, t->targets[0], to);
  return f->reached == b->frames_n;
}
