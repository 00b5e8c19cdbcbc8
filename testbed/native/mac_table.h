/* The learning table of the bridge: MAC address to port. IEEE 802.1Q §8.8 (filtering database), dynamic and static entries. */
#pragma once
#include "burst.h"
#include "layouts.h"

#define PORTS_MAX PORT_COUNTERS_PORTS_MAX
#define TARGETS_MAX 64 /* distinct ports of one burst that are told one by one; more are told as "all" */

struct mac_entry { uint64_t mac; uint32_t stamp; int16_t port; bool fixed, used; };
struct mac_port { bool open; uint32_t learned; };
struct mac_table {
  struct mac_entry *entries;
  uint32_t mask, count, learned_max, age;
  struct mac_port ports[PORTS_MAX];
  int32_t targets[TARGETS_MAX];
  uint32_t targets_n;
  bool flood;
};

bool mac_table_put(struct mac_table *t, uint64_t mac, int16_t port, bool fixed, uint32_t now);
int32_t mac_table_find(const struct mac_table *t, uint64_t mac);
void mac_table_drop_port(struct mac_table *t, int16_t port);
void mac_table_expire(struct mac_table *t, uint32_t now);
void mac_table_classify(struct mac_table *t, struct burst *b, int16_t source, uint32_t now, port_counters_t *count, uint32_t frame_max);
