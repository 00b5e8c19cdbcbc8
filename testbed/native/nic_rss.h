/* Receive side scaling: the hash of a frame and the queue that it chooses. 82576 datasheet §7.1.1.7; Microsoft, "RSS Hashing Functions". */
#pragma once
#include "e1000_parse.h"

#define RSS_KEY_BYTES 40
#define RSS_TABLE 128

struct nic_rss {
  bool on;                                        /* MRQC: all queues by hash */
  bool pools;                                     /* MRQC: the queues of a pool by hash */
  bool ipv4, tcp_ipv4, udp_ipv4, ipv6, tcp_ipv6, udp_ipv6;
  uint8_t default_queue;
  uint8_t key[RSS_KEY_BYTES], table[RSS_TABLE];
};

/* The Toeplitz hash: for every bit set in the input the 32 bits of the key that begin there. */
static inline uint32_t toeplitz(const uint8_t key[RSS_KEY_BYTES], const uint8_t *input, uint32_t n) {
  uint32_t hash = 0;
  uint64_t window = (uint64_t)get_be32(key) << 32 | get_be32(key + 4);
  for (uint32_t i = 0; i < n; i++) {
    for (uint32_t bit = 0; bit < 8; bit++)
      if (input[i] << bit & 0x80) hash ^= (uint32_t)(window << bit >> 32);
    window = window << 8 | (i + 8 < RSS_KEY_BYTES ? key[i + 8] : 0);
  }
  return hash;
}

/* Hash a frame whose headers lie in `h`; return the type (0: none). */
static inline uint32_t rss_hash(const struct nic_rss *r, const struct l3 *l, const uint8_t *h, uint32_t n, uint32_t *hash) {
  uint8_t input[36];
  bool four = l->version == 4, ports = !l->fragment && l->payload + 4 <= n;
  uint32_t addresses = four ? 8 : 32, at = l->start + (four ? 12 : 8), type = 0;
  *hash = 0;
  if (at + addresses > n) return 0;
  if (ports && l->protocol == PROTOCOL_TCP) type = four ? (r->tcp_ipv4 ? IGB_RING_RSS_TCP_IPV4 : 0) : (r->tcp_ipv6 ? IGB_RING_RSS_TCP_IPV6 : 0);
  if (ports && l->protocol == PROTOCOL_UDP) type = four ? (r->udp_ipv4 ? IGB_RING_RSS_UDP_IPV4 : 0) : (r->udp_ipv6 ? IGB_RING_RSS_UDP_IPV6 : 0);
  memcpy(input, h + at, addresses);
  if (type) {
    memcpy(input + addresses, h + l->payload, 4);
    addresses += 4;
  } else {
    type = four ? (r->ipv4 ? IGB_RING_RSS_IPV4 : 0) : (r->ipv6 ? IGB_RING_RSS_IPV6 : 0);
  }
  if (type) *hash = toeplitz(r->key, input, addresses);
  return type;
}
