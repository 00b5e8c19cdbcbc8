/* Headers of IPv4, IPv6, TCP and UDP as far as checksums and segments need them.
 * 8254x SDM §3.2.9.2 to §3.2.9.5 (what is recognized); RFC 791, RFC 8200, RFC 9293, RFC 768. */
#pragma once
#include "e1000_checksum.h"
#include "e1000_ring.h"

#define TYPE_IPV4 0x0800
#define TYPE_IPV6 0x86dd
#define TYPE_VLAN 0x8100
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17

struct l3 {
  uint8_t version, protocol;
  bool fragment;
  uint32_t start, payload; /* of the IP header, and behind it with its options or extension headers */
  uint32_t end;            /* of the datagram by its own length */
};

/* Find the network header behind Ethernet II, SNAP and one tag; 0: none that is known. */
static inline uint32_t find_l3(const uint8_t *h, uint32_t n, uint16_t *type) {
  uint32_t at = 12;
  if (n < 34) return 0;
  *type = get_be16(h + at);
  if (*type == TYPE_VLAN) at += 4, *type = get_be16(h + at);
  if (*type <= 1500 && h[at + 2] == 0xaa && h[at + 3] == 0xaa && h[at + 4] == 3) at += 8, *type = get_be16(h + at);
  return at + 2;
}

static inline bool parse_ipv4(struct l3 *l, const uint8_t *h, uint32_t n, uint32_t frame) {
  if (l->start + 20 > n) return false;
  const uint8_t *p = h + l->start;
  uint32_t header = (p[0] & 15u) * 4, total = get_be16(p + 2);
  if (p[0] >> 4 != 4 || header < 20 || total < header || l->start + total > frame) return false;
  l->version = 4, l->protocol = p[9], l->fragment = get_be16(p + 6) & 0x3fff;
  l->payload = l->start + header, l->end = l->start + total;
  return true;
}

/* §3.2.9.4: hop-by-hop, destination and routing headers are passed, nothing else. */
static inline bool parse_ipv6(struct l3 *l, const uint8_t *h, uint32_t n, uint32_t frame) {
  if (l->start + 40 > n) return false;
  const uint8_t *p = h + l->start;
  uint32_t at = l->start + 40, total = 40 + get_be16(p + 4);
  if (p[0] >> 4 != 6 || l->start + total > frame) return false;
  uint8_t next = p[6];
  for (uint32_t steps = 0; next == 0 || next == 43 || next == 60; steps++) {
    if (steps == 8 || at + 8 > n || (next == 43 && h[at + 3])) return false; /* a route not yet used up has another last address */
    next = h[at], at += 8 + 8u * h[at + 1];
  }
  l->version = 6, l->protocol = next, l->fragment = next == 44;
  l->payload = at, l->end = l->start + total;
  return at <= l->end;
}

static inline bool parse_l3(struct l3 *l, const uint8_t *h, uint32_t n, uint32_t frame, bool ipv6) {
  uint16_t type = 0;
  *l = (struct l3){.start = find_l3(h, n, &type)};
  if (!l->start) return false;
  if (type == TYPE_IPV4) return parse_ipv4(l, h, n, frame);
  return type == TYPE_IPV6 && ipv6 && parse_ipv6(l, h, n, frame);
}

/* Is there a TCP or UDP checksum to check? A UDP checksum of zero is none (RFC 768). */
static inline bool l4_checksummed(const struct l3 *l, const uint8_t *h, uint32_t n) {
  uint32_t length = l->end - l->payload;
  if (l->protocol == PROTOCOL_TCP) return length >= 20;
  if (l->protocol != PROTOCOL_UDP || length < 8 || l->payload + 8 > n) return false;
  return h[l->payload + 6] | h[l->payload + 7];
}

/* Sum of the pseudo header, in memory order. */
static inline uint64_t pseudo_sum(const struct l3 *l, const uint8_t *h) {
  const uint8_t *p = h + l->start;
  uint64_t sum = l->version == 4 ? sum_bytes(p + 12, 8) : sum_bytes(p + 8, 32);
  return sum + __builtin_bswap16(l->protocol) + __builtin_bswap16((uint16_t)(l->end - l->payload));
}

/* Divides a frame as virtio_net_hdr asks (virtio 1.2 §5.1.6.2): TCP segments, or just the one checksum. */
struct cutter {
  const uint8_t *whole;
  uint32_t len, header, size, pieces, done, index;
  uint16_t csum_start, csum_offset;
  bool cut, checksum;
  struct l3 l;
};

static inline bool cutter_open(struct cutter *c, const uint8_t *whole, uint32_t len, const struct frame *f) {
  *c = (struct cutter){.whole = whole, .len = len, .header = 0, .size = len, .pieces = 1,
                       .csum_start = f->csum_start, .csum_offset = f->csum_offset,
                       .checksum = f->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM};
  if (c->checksum && (uint32_t)f->csum_start + f->csum_offset + 2 > len) return false;
  uint8_t kind = f->gso_type & (uint8_t)~VIRTIO_NET_GSO_ECN;
  if (kind == VIRTIO_NET_GSO_NONE) return true;
  if ((kind != VIRTIO_NET_GSO_TCPV4 && kind != VIRTIO_NET_GSO_TCPV6) || !f->gso_size || !c->checksum) return false;
  uint32_t head = len < 256 ? len : 256;
  if (!parse_l3(&c->l, whole, head, len, true) || c->l.protocol != PROTOCOL_TCP || c->l.payload + 20 > head) return false;
  c->header = c->l.payload + (whole[c->l.payload + 12] >> 4) * 4u;
  if (c->header < c->l.payload + 20 || c->header >= len || c->header > head) return false;
  c->cut = true, c->size = f->gso_size, c->pieces = (len - c->header + f->gso_size - 1) / f->gso_size;
  c->csum_start = (uint16_t)c->l.payload, c->csum_offset = 16;
  return true;
}

static inline void cutter_ip(const struct cutter *c, uint8_t *to, uint32_t len) {
  uint8_t *ip = to + c->l.start;
  if (c->l.version == 6) { put_be16(ip + 4, len - c->l.start - 40); return; }
  put_be16(ip + 2, len - c->l.start);
  put_be16(ip + 4, get_be16(ip + 4) + c->index);
  ip[10] = ip[11] = 0;
  uint16_t sum = (uint16_t)~sum_fold(sum_bytes(ip, c->l.payload - c->l.start));
  memcpy(ip + 10, &sum, 2);
}

/* Write the next piece to `to`; return its length. */
static inline uint32_t cutter_piece(struct cutter *c, uint8_t *to) {
  uint32_t left = c->len - c->header - c->done, n = left < c->size ? left : c->size, len = c->header + n;
  memcpy(to, c->whole, c->header);
  memcpy(to + c->header, c->whole + c->header + c->done, n);
  uint8_t *field = to + c->csum_start + c->csum_offset;
  uint64_t sum = 0;
  if (c->cut) {
    cutter_ip(c, to, len);
    uint8_t *tcp = to + c->l.payload;
    put_be32(tcp + 4, get_be32(tcp + 4) + c->done);
    if (n < left) tcp[13] &= (uint8_t)~0x09;
    field[0] = field[1] = 0;
    struct l3 l = c->l;
    l.end = len;
    sum = pseudo_sum(&l, to);
  }
  if (c->checksum) {
    uint16_t value = (uint16_t)~sum_fold(sum + sum_bytes(to + c->csum_start, len - c->csum_start));
    if (value == 0 && c->csum_offset == 6) value = 0xffff; /* RFC 768 */
    memcpy(field, &value, 2);
  }
  c->done += n, c->index++;
  return len;
}
