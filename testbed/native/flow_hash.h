/* A number that is the same for every frame of a flow, so that flows can be spread over queues and each keep its order: addresses,
 * protocol and, of unfragmented TCP and UDP, ports. RFC 791, RFC 8200, RFC 768; our own mixing. */
#pragma once
#include "burst.h"
#include "layouts.h"

static inline uint32_t hash_bytes(uint64_t key, const uint8_t *bytes, uint32_t length) {
  for (uint32_t i = 0; i < length; i += 4) {
    uint32_t part;
    memcpy(&part, bytes + i, 4);
    key = (key ^ part) * 0x9E3779B97F4A7C15ull;
    key ^= key >> 29;
  }
  return (uint32_t)(key >> 32) ^ (uint32_t)key;
}

static inline bool has_ports(uint8_t protocol) { return protocol == FLOW_PROTOCOL_TCP || protocol == FLOW_PROTOCOL_UDP; }

static inline uint32_t hash_ipv4(const uint8_t *ip) {
  bool whole = !((ip[offsetof(ipv4_t, fragment)] & 0x3F) | ip[offsetof(ipv4_t, fragment) + 1]); /* offset and MF, RFC 791 §3.1 */
  bool ports = whole && ip[offsetof(ipv4_t, version_ihl)] == FLOW_IPV4_NO_OPTIONS && has_ports(ip[offsetof(ipv4_t, protocol)]);
  return hash_bytes(ip[offsetof(ipv4_t, protocol)], ip + offsetof(ipv4_t, source), ports ? 12 : 8);
}

static inline uint32_t hash_ipv6(const uint8_t *ip) {
  uint8_t next = ip[offsetof(ipv6_t, next_header)];
  return hash_bytes(next, ip + offsetof(ipv6_t, source), has_ports(next) ? 36 : 32);
}

static inline uint32_t flow_hash(const struct burst *b, const struct frame *f) {
  uint8_t head[sizeof(ethernet_t) + sizeof(ipv6_t) + 4] = {0};
  frame_read(b, f, 0, head, sizeof head);
  const uint8_t *type = head + offsetof(ethernet_t, type);
  uint16_t ethertype = (uint16_t)(type[0] << 8 | type[1]);
  if (ethertype == FLOW_ETHERTYPE_IPV4) return hash_ipv4(head + sizeof(ethernet_t));
  if (ethertype == FLOW_ETHERTYPE_IPV6) return hash_ipv6(head + sizeof(ethernet_t));
  return hash_bytes(ethertype, head, offsetof(ethernet_t, type));
}

/* The end of the run of frames from `first` on that go to the same of `queues` queues, which is returned in `queue`. */
static inline uint32_t flow_run(const struct burst *b, uint32_t first, uint32_t queues, uint32_t *queue) {
  *queue = flow_hash(b, &b->frames[first]) % queues;
  uint32_t end = first + 1;
  while (end < b->frames_n && flow_hash(b, &b->frames[end]) % queues == *queue) end++;
  return end;
}
