/* One's complement sums (RFC 1071) and the Ethernet frame check sequence (IEEE 802.3 §3.2.9) over frames in segments. */
#pragma once
#include "burst.h"

/* One's complement sum of bytes as 16-bit words in memory order, not folded. */
static inline uint64_t sum_bytes(const uint8_t *p, uint32_t n) {
  uint64_t sum = 0;
  for (; n >= 4; n -= 4, p += 4) {
    uint32_t word;
    memcpy(&word, p, 4);
    sum += word;
  }
  if (n >= 2) {
    uint16_t half;
    memcpy(&half, p, 2);
    sum += half, p += 2, n -= 2;
  }
  if (n) sum += *p; /* little-endian: the missing byte is the high one */
  return sum;
}

static inline uint16_t sum_fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* Sum of the bytes [start, end) of a frame, folded; words are counted from `start`. */
static inline uint16_t sum_frame(const struct segment *s, uint32_t segments, uint32_t start, uint32_t end) {
  uint64_t sum = 0;
  bool odd = false;
  uint32_t left = end > start ? end - start : 0;
  for (const struct segment *last = s + segments; s < last && left; s++) {
    if (start >= s->len) { start -= s->len; continue; }
    uint32_t n = s->len - start < left ? s->len - start : left;
    uint16_t part = sum_fold(sum_bytes(s->host + start, n));
    sum += odd ? (uint16_t)(part << 8 | part >> 8) : part;
    odd ^= n & 1, left -= n, start = 0;
  }
  return sum_fold(sum);
}

uint32_t e1000_fcs(uint32_t crc, const uint8_t *p, uint32_t n);

/* The four bytes that follow a frame on the wire, as a little-endian word. */
static inline uint32_t fcs_frame(const struct segment *s, uint32_t segments, uint32_t length) {
  uint32_t crc = 0xffffffffu;
  for (const struct segment *last = s + segments; s < last && length; s++) {
    uint32_t n = s->len < length ? s->len : length;
    crc = e1000_fcs(crc, s->host, n);
    length -= n;
  }
  return ~crc;
}
