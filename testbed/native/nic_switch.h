/* The embedded switch's decision: where a frame goes. 82576 datasheet §7.10.3. Pure: the state is what the registers say. */
#pragma once
#include <string.h>
#include "layouts.h"
#include "order.h"

#define NIC_POOLS 8
#define NIC_QUEUES 16
#define NIC_WIRE (1u << NIC_POOLS) /* the destination behind the pools */
#define NIC_FROM_WIRE NIC_POOLS    /* the source behind the pools */
#define NIC_ADDRESSES 24
#define NIC_VLANS 32
#define NIC_MIRRORS 4
#define NIC_TABLE_WORDS 128

struct nic_pool {
  bool receives, transmits;                          /* VFRE, VFTE */
  bool untagged, multicast_hash, unicast_hash, broadcast, multicast_all; /* VMOLR.AUPE, ROMPE, ROPE, BAM, MPE */
  bool strip_vlan, hide_vlan, rss;                   /* VMOLR.STRVLAN, DVMOLR.HIDEVLAN, VMOLR.RSSE */
  bool check_mac, check_vlan, to_itself;             /* DTXSWC.MACAS, VLANAS, LLE */
  uint8_t vlan_action;                               /* VMVIR.VLANA */
  uint16_t port_vlan;
  uint32_t frame_max;                                /* with FCS: VMOLR.RLPML */
};
struct nic_address { uint64_t mac; /* six bytes as in memory, the rest zero */ uint8_t pools; bool source; /* RAH.ASEL */ };
struct nic_vlan { uint16_t id; uint8_t pools; bool valid, local; };
struct nic_mirror { bool pool_in, uplink, downlink, vlan; uint8_t to, pools; uint32_t vlans; };

struct nic_switch {
  bool link_up, receive, transmit;                   /* RCTL.EN, TCTL.EN */
  bool pooled;                                       /* MRQC: virtualization is on; else everything is pool 0 */
  bool loopback, replicate;                          /* DTXSWC.LOOPBACK_EN, VT_CTL.RPL_EN */
  bool vlan_filter, unicast_all, multicast_all, broadcast; /* RCTL.VFE, UPE, MPE, BAM */
  bool has_default;                                  /* VT_CTL.DIS_DEF_POOL is clear */
  uint8_t default_pool, hash_shift;                  /* VT_CTL.DEF_PL; RCTL.MO as a shift of bytes 4 and 5 */
  bool replicated_strip_vlan, pad_short;
  uint16_t vet;
  uint32_t frame_max;                                /* with FCS, where there are no pools */
  uint32_t addresses_n;
  struct nic_pool pools[NIC_POOLS];
  struct nic_address addresses[NIC_ADDRESSES];
  struct nic_vlan vlans[NIC_VLANS];
  struct nic_mirror mirrors[NIC_MIRRORS];
  uint32_t mta[NIC_TABLE_WORDS], uta[NIC_TABLE_WORDS], vfta[NIC_TABLE_WORDS];
};

#define NIC_MAC_MASK 0xffffffffffffull

/* What the decision looks at. */
struct nic_header { uint64_t destination, source; bool tagged; uint16_t vlan; };

/* Of at least 18 bytes. Eight are loaded for six: pieces put together in memory would wait for each other. */
static inline struct nic_header nic_header(const struct nic_switch *s, const uint8_t *frame) {
  uint64_t destination, source;
  uint32_t tag;
  memcpy(&destination, frame, 8), memcpy(&source, frame + 6, 8), memcpy(&tag, frame + 12, 4);
  bool tagged = __builtin_bswap16((uint16_t)tag) == s->vet && s->vet;
  return (struct nic_header){.destination = destination & NIC_MAC_MASK, .source = source & NIC_MAC_MASK, .tagged = tagged,
                             .vlan = tagged ? __builtin_bswap16((uint16_t)(tag >> 16)) & 0xfff : 0};
}

/* Return pools (bits 0 to 7) and NIC_WIRE. `from`: a pool, or NIC_FROM_WIRE. */
uint32_t nic_decide(const struct nic_switch *s, const struct nic_header *h, uint32_t from);
/* May this pool send a frame with this header? */
bool nic_permits(const struct nic_switch *s, const struct nic_header *h, uint32_t pool);
