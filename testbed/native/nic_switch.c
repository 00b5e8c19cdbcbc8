/* See nic_switch.h. */
#include "nic_switch.h"

#define BROADCAST 0xffffffffffffull

static inline bool is_multicast(uint64_t mac) { return mac & 1; }

static inline bool table_hit(const struct nic_switch *s, const uint32_t *table, uint64_t mac) {
  uint32_t bit = ((uint32_t)(mac >> 32) >> s->hash_shift) & 0xfff;
  return table[bit >> 5] >> (bit & 31) & 1;
}

/* Pools of the exact addresses that match; `*hit`: one did, whoever it is of. */
static inline uint32_t exact_pools(const struct nic_switch *s, const struct nic_header *h, bool *hit) {
  uint32_t pools = 0;
  *hit = false;
  for (uint32_t i = 0; i < s->addresses_n; i++) {
    const struct nic_address *a = &s->addresses[i];
    if (a->mac == (a->source ? h->source : h->destination)) *hit = true, pools |= a->pools;
  }
  return pools;
}

static inline bool owns(const struct nic_switch *s, uint64_t mac, uint32_t pool) {
  for (uint32_t i = 0; i < s->addresses_n; i++)
    if (s->addresses[i].mac == mac && !s->addresses[i].source && s->addresses[i].pools >> pool & 1) return true;
  return false;
}

#define POOLS_WITH(s, member) ({ uint32_t mask_ = 0; for (uint32_t p_ = 0; p_ < NIC_POOLS; p_++) mask_ |= (uint32_t)(s)->pools[p_].member << p_; mask_; })

/* §7.10.3.3: the pools that want this address. */
static inline uint32_t address_pools(const struct nic_switch *s, uint64_t mac, uint32_t exact) {
  if (mac == BROADCAST) return exact | POOLS_WITH(s, broadcast);
  if (is_multicast(mac)) {
    uint32_t pools = exact | POOLS_WITH(s, multicast_all);
    return table_hit(s, s->mta, mac) ? pools | POOLS_WITH(s, multicast_hash) : pools;
  }
  if (exact) return exact;
  return table_hit(s, s->uta, mac) ? POOLS_WITH(s, unicast_hash) : 0;
}

/* The VLVF entries of the frame's VLAN, a bit each. */
static inline uint32_t vlan_entries(const struct nic_switch *s, const struct nic_header *h) {
  uint32_t entries = 0;
  if (!h->tagged) return 0;
  for (uint32_t i = 0; i < NIC_VLANS; i++) entries |= (uint32_t)(s->vlans[i].valid && s->vlans[i].id == h->vlan) << i;
  return entries;
}

static inline uint32_t vlan_pools(const struct nic_switch *s, const struct nic_header *h, uint32_t entries) {
  uint32_t pools = 0;
  if (!s->vlan_filter) return (1u << NIC_POOLS) - 1;
  if (!h->tagged) return POOLS_WITH(s, untagged);
  for (; entries; entries &= entries - 1) pools |= s->vlans[__builtin_ctz(entries)].pools;
  return pools;
}

/* §7.1.1: the filters of the MAC, in front of everything that comes from the wire. */
static inline bool mac_filter(const struct nic_switch *s, const struct nic_header *h, bool exact) {
  if (s->vlan_filter && h->tagged && !(s->vfta[h->vlan >> 5] >> (h->vlan & 31) & 1)) return false;
  if (exact) return true;
  if (h->destination == BROADCAST) return s->broadcast || s->multicast_all;
  if (is_multicast(h->destination)) return s->multicast_all || table_hit(s, s->mta, h->destination);
  return s->unicast_all || table_hit(s, s->uta, h->destination);
}

/* §7.10.3.8: copies that mirror rules ask for. */
static inline uint32_t mirrored(const struct nic_switch *s, uint32_t to, uint32_t from, uint32_t entries) {
  uint32_t copies = 0;
  for (uint32_t i = 0; i < NIC_MIRRORS; i++) {
    const struct nic_mirror *m = &s->mirrors[i];
    if ((m->pool_in && to & m->pools) || (m->uplink && from == NIC_FROM_WIRE) || (m->downlink && to & NIC_WIRE) ||
        (m->vlan && entries & m->vlans))
      copies |= 1u << m->to;
  }
  return copies;
}

static inline uint32_t local_vlan(const struct nic_switch *s, uint32_t entries) {
  for (; entries; entries &= entries - 1)
    if (s->vlans[__builtin_ctz(entries)].local) return true;
  return false;
}

uint32_t nic_decide(const struct nic_switch *s, const struct nic_header *h, uint32_t from) {
  bool hit, inward = from == NIC_FROM_WIRE;
  uint32_t exact = exact_pools(s, h, &hit), entries = vlan_entries(s, h), to;
  if (inward && !mac_filter(s, h, hit)) return 0;
  if (!s->pooled) return inward ? 1 : NIC_WIRE;
  if (inward) {
    to = address_pools(s, h->destination, exact) & vlan_pools(s, h, entries);
    if (!to && s->has_default && !is_multicast(h->destination)) to = 1u << s->default_pool;
  } else if (!s->loopback) {
    to = NIC_WIRE;
  } else {
    to = address_pools(s, h->destination, exact) & vlan_pools(s, h, entries);
    if (!s->pools[from].to_itself) to &= ~(1u << from);
    bool stays = !is_multicast(h->destination) && exact & to; /* §7.10.3.4: an exact unicast match stays inside */
    if (!stays && !local_vlan(s, entries)) to |= NIC_WIRE;
  }
  if (!s->replicate && to & (NIC_WIRE - 1) & ((to & (NIC_WIRE - 1)) - 1)) /* VT_CTL.RPL_EN is clear: one copy inside */
    to = (to & NIC_WIRE) | (to & -to);
  uint32_t copies = mirrored(s, to, from, entries);
  if (!inward) copies &= ~(1u << from);
  return (to | copies) & (NIC_WIRE | POOLS_WITH(s, receives));
}

bool nic_permits(const struct nic_switch *s, const struct nic_header *h, uint32_t pool) {
  const struct nic_pool *p = &s->pools[pool];
  if (p->check_mac && !owns(s, h->source, pool)) return false;
  if (!p->check_vlan || !h->tagged) return true;
  for (uint32_t entries = vlan_entries(s, h); entries; entries &= entries - 1)
    if (s->vlans[__builtin_ctz(entries)].pools >> pool & 1) return true;
  return false;
}
