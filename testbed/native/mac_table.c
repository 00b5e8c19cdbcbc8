#include "mac_table.h"
#include "trace.h"

#include <stdlib.h>

static inline uint64_t mac_load(const uint8_t *p) {
  uint32_t high;
  uint16_t low;
  memcpy(&high, p, 4), memcpy(&low, p + 4, 2);
  return (uint64_t)low << 32 | high;
}

static inline bool is_group(uint64_t mac) { return mac & 1; }

static inline uint32_t slot_of(const struct mac_table *t, uint64_t mac) {
  return (uint32_t)((mac * 0x9E3779B97F4A7C15ull) >> 40) & t->mask;
}

static struct mac_entry *lookup(const struct mac_table *t, uint64_t mac) {
  for (uint32_t i = slot_of(t, mac);; i = (i + 1) & t->mask) {
    struct mac_entry *e = &t->entries[i];
    if (!e->used || e->mac == mac) return e;
  }
}

int32_t mac_table_find(const struct mac_table *t, uint64_t mac) {
  const struct mac_entry *e = lookup(t, mac);
  return e->used ? e->port : -1;
}

/* Learn or fix an address. A port may hold only so many learned ones, and never takes a fixed address from another port. */
bool mac_table_put(struct mac_table *t, uint64_t mac, int16_t port, bool fixed, uint32_t now) {
  struct mac_entry *e = lookup(t, mac);
  if (e->used) {
    if (e->fixed && !fixed) return e->port == port;
    if (!e->fixed && e->port != port) {
      if (!fixed && t->ports[port].learned >= t->learned_max) return false;
      t->ports[e->port].learned--;
      if (!fixed) t->ports[port].learned++;
    } else if (!e->fixed && fixed) t->ports[port].learned--;
  } else {
    if (t->count >= t->mask - t->mask / 4) return false; /* open addressing stays short below three quarters */
    if (!fixed) {
      if (t->ports[port].learned >= t->learned_max) return false;
      t->ports[port].learned++;
    }
    t->count++;
  }
  *e = (struct mac_entry){mac, now, port, fixed, true};
  return true;
}

static void keep_only(struct mac_table *t, int16_t without, bool by_age, uint32_t now) {
  uint32_t size = t->mask + 1;
  struct mac_entry *old = malloc(size * sizeof *old);
  if (!old) return; /* entries then stay until the next time */
  memcpy(old, t->entries, size * sizeof *old);
  memset(t->entries, 0, size * sizeof *old);
  t->count = 0;
  for (uint32_t i = 0; i < PORTS_MAX; i++) t->ports[i].learned = 0;
  for (uint32_t i = 0; i < size; i++) {
    bool aged = by_age && !old[i].fixed && now - old[i].stamp > t->age;
    if (old[i].used && old[i].port != without && !aged) mac_table_put(t, old[i].mac, old[i].port, old[i].fixed, old[i].stamp);
  }
  free(old);
}

void mac_table_drop_port(struct mac_table *t, int16_t port) { keep_only(t, port, false, 0); }
void mac_table_expire(struct mac_table *t, uint32_t now) { keep_only(t, -1, true, now); }

static void add_target(struct mac_table *t, int32_t port) {
  for (uint32_t i = 0; i < t->targets_n; i++)
    if (t->targets[i] == port) return;
  if (t->targets_n == TARGETS_MAX) t->flood = true;
  else t->targets[t->targets_n++] = port;
}

static int32_t decide(struct mac_table *t, uint64_t to, int16_t source, port_counters_t *count) {
  if (is_group(to)) return DEST_FLOOD;
  const struct mac_entry *e = lookup(t, to);
  if (!e->used) return DEST_FLOOD;
  if (e->port == source) { count->dropped_same_port++; return DEST_DROP; }
  if (!t->ports[e->port].open) { count->dropped_no_receiver++; return DEST_DROP; }
  return e->port;
}

/* Say for every frame of a burst where it goes, and learn where it came from. */
void mac_table_classify(struct mac_table *t, struct burst *b, int16_t source, uint32_t now, port_counters_t *count, uint32_t frame_max) {
  uint64_t last_to = 0, last_from = 1, bytes = 0; /* 1 is a group address: no source is learned under it */
  int32_t last = DEST_DROP;
  t->targets_n = 0, t->flood = false;
  for (uint32_t i = 0; i < b->frames_n; i++) {
    struct frame *f = &b->frames[i];
    uint8_t ends[16];
    if (unlikely(f->len > frame_max)) { count->dropped_too_long++, f->dest = DEST_DROP; continue; }
    if (unlikely(f->len < sizeof(ethernet_t))) { count->dropped_too_short++, f->dest = DEST_DROP; continue; }
    bytes += f->len;
    if (unlikely(f->dest == DEST_REMOVED)) continue;
    const struct segment *s = &b->segments[f->first_segment];
    const uint8_t *head = s->host;
    if (unlikely(s->len < 12)) frame_read(b, f, 0, ends, 12), head = ends;
    uint64_t to = mac_load(head), from = mac_load(head + 6);
    if (from != last_from && !is_group(from)) mac_table_put(t, from, source, false, now);
    if (to != last_to || from != last_from || last < 0) {
      last = decide(t, to, source, count);
      if (last >= 0) add_target(t, last);
    }
    if (last == DEST_FLOOD) t->flood = true;
    last_to = to, last_from = from;
    f->dest = last;
  }
  if (trace_on()) trace_put_bridge(b, source);
  count->frames_in += b->frames_n;
  count->bytes_in += bytes;
}
