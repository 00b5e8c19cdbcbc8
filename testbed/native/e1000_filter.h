/* Which frames the receive unit of an 82540EM takes. 8254x SDM §3.2.1, §9.3, §13.4.22, §13.5. */
#pragma once
#include "e1000_ring.h"

#define E1000_ADDRESSES 16
#define E1000_TABLE_WORDS 128

struct e1000_address { uint8_t mac[6]; bool valid, source; };

struct e1000_filter {
  bool unicast_all, multicast_all, broadcast; /* RCTL.UPE, MPE, BAM */
  bool vlan, cfi_check, cfi;                  /* RCTL.VFE, CFIEN, CFI */
  bool discard_pause, pass_control;           /* RCTL.DPF, PMCF */
  uint8_t multicast_offset;                   /* RCTL.MO */
  uint16_t vet, control_type;                 /* VET, FCT */
  uint8_t control_mac[6];                     /* FCAH, FCAL */
  struct e1000_address address[E1000_ADDRESSES];
  uint32_t mta[E1000_TABLE_WORDS], vfta[E1000_TABLE_WORDS];
};

enum filtered { FILTER_REJECT, FILTER_ACCEPT, FILTER_INEXACT /* the multicast table alone let it in: PIF */ };

/* §13.5.1: twelve bits of the address, chosen by RCTL.MO; the last byte on the wire is the highest. */
static inline bool multicast_hit(const struct e1000_filter *f, const uint8_t *mac) {
  static const uint8_t shift[4] = {4, 3, 2, 0};
  uint32_t bit = (((uint32_t)mac[5] << 8 | mac[4]) >> shift[f->multicast_offset]) & 0xfff;
  return f->mta[bit >> 5] >> (bit & 31) & 1;
}

static inline bool address_hit(const struct e1000_filter *f, const uint8_t *frame) {
  for (uint32_t i = 0; i < E1000_ADDRESSES; i++) {
    const struct e1000_address *a = &f->address[i];
    if (a->valid && !memcmp(a->mac, a->source ? frame + 6 : frame, 6)) return true;
  }
  return false;
}

static inline enum filtered filter_address(const struct e1000_filter *f, const uint8_t *frame) {
  if (!(frame[0] & 1)) return f->unicast_all || address_hit(f, frame) ? FILTER_ACCEPT : FILTER_REJECT;
  if (f->multicast_all || (f->broadcast && is_broadcast(frame)) || address_hit(f, frame)) return FILTER_ACCEPT;
  return multicast_hit(f, frame) ? FILTER_INEXACT : FILTER_REJECT;
}

/* §9.3, Table 9-3: only frames with a tag are asked. */
static inline bool filter_vlan(const struct e1000_filter *f, const uint8_t *frame) {
  uint16_t tci = get_be16(frame + 14), id = tci & 0xfff;
  if (f->vlan && !(f->vfta[id >> 5] >> (id & 31) & 1)) return false;
  return !f->cfi_check || (tci >> 12 & 1) == f->cfi;
}
