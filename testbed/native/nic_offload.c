/* What the transmit unit does to a packet that lies in device memory: checksums, segmentation, padding. 82576 datasheet §7.2.4, §7.2.5. */
#include "nic_engine.h"

static inline bool segmented(const struct nic_packet *p) { return p->cmd & IGB_RING_TX_DEXT && p->cmd & IGB_RING_TX_TSE; }
static inline uint32_t mac_len(const struct nic_packet *p) { return p->macip_vlan >> 9 & 0x7f; }
static inline uint32_t ip_len(const struct nic_packet *p) { return p->macip_vlan & 0x1ff; }
static inline uint32_t l4_len(const struct nic_packet *p) { return p->mss_l4len >> 8 & 0xff; }
static inline uint32_t mss(const struct nic_packet *p) { return p->mss_l4len >> 16; }
static inline uint32_t header_len(const struct nic_packet *p) { return mac_len(p) + ip_len(p) + l4_len(p); }
static inline bool is_tcp(const struct nic_packet *p) { return (p->tucmd >> IGB_RING_L4T_SHIFT & 3) == IGB_RING_L4T_TCP; }
static inline uint32_t l4_field(const struct nic_packet *p) { return is_tcp(p) ? 16 : 6; }

uint32_t nic_frames_of(const struct nic_packet *p, uint32_t *bytes) {
  *bytes = 0;
  if (p->len < IGB_RING_ETHERNET_HEADER_BYTES) return 0;
  if (likely(!segmented(p))) return p->len <= IGB_RING_FRAME_MAX_BYTES;
  uint32_t header = header_len(p), size = mss(p);
  if (!size || header < IGB_RING_ETHERNET_HEADER_BYTES || header >= p->len || header + size > IGB_RING_FRAME_MAX_BYTES ||
      header > IGB_RING_SEGMENT_HEADER_MAX_BYTES || ip_len(p) < 20 || l4_len(p) < (is_tcp(p) ? 20u : 8u))
    return 0;
  uint64_t frames = (p->len - header + size - 1) / size;
  uint64_t need = frames * (NIC_HEADROOM + align16(header + size < IGB_RING_FRAME_MIN_BYTES ? IGB_RING_FRAME_MIN_BYTES : header + size));
  if (frames > NIC_JOB_FRAMES || need + p->len + NIC_HEADROOM + 16 > NIC_JOB_BYTES) return 0;
  *bytes = (uint32_t)need;
  return (uint32_t)frames;
}

static void put_sum(uint8_t *field, uint64_t sum, bool udp) {
  uint16_t value = (uint16_t)~sum_fold(sum);
  if (udp && value == 0) value = 0xffff; /* RFC 768 */
  memcpy(field, &value, 2);
}

/* §7.2.5.2, §7.2.5.3: what does not lie in the frame is not inserted. `add`: a length for the pseudo header. */
static void insert_checksums(const struct nic_packet *p, uint8_t *frame, uint32_t len, uint32_t add) {
  uint32_t ip = mac_len(p), l4 = ip + ip_len(p);
  if (p->olinfo & IGB_RING_TX_IXSM && p->tucmd & IGB_RING_TUCMD_IPV4 && ip_len(p) >= 20 && l4 <= len)
    put_sum(frame + ip + 10, sum_bytes(frame + ip, ip_len(p)), false);
  if (p->olinfo & IGB_RING_TX_TXSM && l4 + l4_field(p) + 2 <= len)
    put_sum(frame + l4 + l4_field(p), sum_bytes(frame + l4, len - l4) + __builtin_bswap16((uint16_t)add), !is_tcp(p));
}

/* §7.2.2.1: a legacy descriptor's checksum begins at CSS and goes to CSO. */
static void insert_legacy(const struct nic_packet *p, uint8_t *frame, uint32_t len) {
  uint32_t start = p->olinfo >> 8 & 0xff, at = p->cmd >> 16 & 0xff;
  if (p->cmd & IGB_RING_TX_IC && start < len && at + 2 <= len) put_sum(frame + at, sum_bytes(frame + start, len - start), false);
}

/* The tag that a frame of this packet gets, below 0: none. §7.10.3.5: the pool's policy comes before the descriptor's wish. */
static int32_t tag_of(const struct nic_engine *e, const struct nic_packet *p, uint32_t pool) {
  const struct nic_pool *policy = &e->sw.pools[pool];
  if (e->sw.pooled && policy->vlan_action == IGB_VLANA_ALWAYS) return policy->port_vlan;
  if (!(p->cmd & IGB_RING_TX_VLE) || (e->sw.pooled && policy->vlan_action == IGB_VLANA_NEVER)) return -1;
  return (int32_t)(p->cmd & IGB_RING_TX_DEXT ? p->macip_vlan >> 16 : p->olinfo >> 16);
}

/* Tag and pad a finished frame, and send it on. */
static void finish(struct nic_engine *e, uint32_t queue, struct nic_job *job, uint32_t at, uint32_t len, int32_t tag) {
  if (unlikely(tag >= 0)) {
    at -= IGB_RING_VLAN_TAG_BYTES, len += IGB_RING_VLAN_TAG_BYTES;
    uint8_t *frame = e->sram + at;
    memmove(frame, frame + IGB_RING_VLAN_TAG_BYTES, 12);
    put_be16(frame + 12, e->sw.vet);
    put_be16(frame + 14, (uint32_t)tag);
  }
  if (unlikely(len < IGB_RING_FRAME_MIN_BYTES) && e->sw.pad_short) {
    memset(e->sram + at + len, 0, IGB_RING_FRAME_MIN_BYTES - len);
    len = IGB_RING_FRAME_MIN_BYTES;
  }
  nic_send(e, job, at, len, queue);
}

/* §7.2.4.6: what changes in the header from frame to frame. */
static void update_header(const struct nic_packet *p, uint8_t *h, const uint8_t *first, uint32_t index, uint32_t sent, uint32_t len, bool last) {
  uint32_t ip = mac_len(p), l4 = ip + ip_len(p);
  if (p->tucmd & IGB_RING_TUCMD_IPV4) {
    put_be16(h + ip + 2, len - ip);
    put_be16(h + ip + 4, get_be16(first + ip + 4) + index);
  } else {
    put_be16(h + ip + 4, len - ip - 40);
  }
  if (!is_tcp(p)) { put_be16(h + l4 + 4, len - l4); return; }
  put_be32(h + l4 + 4, get_be32(first + l4 + 4) + sent);
  if (!last) h[l4 + 13] &= (uint8_t)~0x09; /* FIN, PSH */
}

static void cut(struct nic_engine *e, uint32_t queue, struct nic_job *job, const struct nic_packet *p, int32_t tag) {
  uint32_t header = header_len(p), size = mss(p), payload = p->len - header, l4 = mac_len(p) + ip_len(p);
  const uint8_t *whole = e->sram + p->at;
  for (uint32_t sent = 0, index = 0; sent < payload; index++) {
    uint32_t n = payload - sent < size ? payload - sent : size, len = header + n, at = job->base + job->used + NIC_HEADROOM;
    uint8_t *frame = e->sram + at;
    memcpy(frame, whole, header);
    memcpy(frame + header, whole + header + sent, n);
    update_header(p, frame, whole, index, sent, len, sent + n == payload);
    insert_checksums(p, frame, len, len - l4);
    job->used += NIC_HEADROOM + align16(len < IGB_RING_FRAME_MIN_BYTES ? IGB_RING_FRAME_MIN_BYTES : len);
    finish(e, queue, job, at, len, tag);
    sent += n;
  }
  e->stats->tsctc++;
  e->count[e->tx[queue].pool].tx_packets_cut++;
}

void nic_make_frames(struct nic_engine *e, uint32_t queue, struct nic_job *job, const struct nic_packet *p) {
  int32_t tag = tag_of(e, p, e->tx[queue].pool);
  if (unlikely(segmented(p))) { cut(e, queue, job, p, tag); return; }
  if (!(p->cmd & IGB_RING_TX_DEXT)) insert_legacy(p, e->sram + p->at, p->len);
  else if (unlikely(p->olinfo & (IGB_RING_TX_IXSM | IGB_RING_TX_TXSM))) insert_checksums(p, e->sram + p->at, p->len, 0);
  finish(e, queue, job, p->at, p->len, tag);
}
