#include "tap_io.h"

#include <errno.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#define HEAD_BYTES 256
#define PIECES_MAX (FRAME_SEGMENTS_MAX - 1) /* of a write, beside the header: what writev(2) takes (IOV_MAX) */
#define TCP(member) (uint32_t)offsetof(tcp_t, member)
#define IP4(member) (uint32_t)offsetof(ipv4_t, member)

/* --- from the kernel --- */

/* Read the kernel's next frame; false: there is none, or the device is gone. */
static bool next_whole(struct tap *t, bool nothing_read) {
  for (;;) {
    virtio_net_hdr_t h;
    struct iovec room[2] = {{&h, sizeof h}, {t->whole, sizeof t->whole}};
    ssize_t got = readv(t->fd, room, 2);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EAGAIN && nothing_read) t->error = errno; /* what was read goes first */
    if (got <= 0) return false;
    struct frame f = {.flags = h.flags, .gso_type = h.gso_type, .gso_size = h.gso_size,
                      .csum_start = h.csum_start, .csum_offset = h.csum_offset};
    if (likely((size_t)got > sizeof h && cutter_open(&t->cutter, t->whole, (uint32_t)(got - sizeof h), &f))) break;
    t->too_long++;
  }
  t->left = t->cutter.pieces;
  t->cut += t->left > 1;
  return true;
}

static inline uint32_t next_bytes(const struct cutter *c) {
  uint32_t rest = c->len - c->header - c->done;
  return c->header + (rest < c->size ? rest : c->size);
}

/* Fill reserved frames with what the kernel has sent; return how many were filled. */
uint32_t tap_read(struct tap *t, struct burst *b) {
  uint32_t filled = 0;
  t->error = 0;
  while (filled < b->frames_n && (t->left || next_whole(t, !filled))) {
    struct frame *f = &b->frames[filled];
    const struct segment *slot = &b->segments[f->first_segment];
    if (unlikely(next_bytes(&t->cutter) > slot->len)) { t->too_long += t->left, t->left = 0; continue; }
    f->len = cutter_piece(&t->cutter, slot->host);
    t->left--, filled++;
  }
  t->read += filled;
  return filled;
}

/* Is there a frame, or news that the device is gone? */
int tap_ready(void *tap) {
  struct tap *t = tap;
  struct pollfd p = {.fd = t->fd, .events = POLLIN};
  return t->left || poll(&p, 1, 0) > 0;
}

/* --- to the kernel --- */

/* One frame of TCP data as far as joining needs it. */
struct tcp_data { const uint8_t *h; struct l3 l; uint32_t header, bytes, sequence; bool push; };

/* Segments in a row, not handed over yet. */
struct row {
  struct tcp_data first;
  uint32_t bytes, frames, size, next;
  bool push, full; /* nothing may follow the last one */
  struct iovec data[BURST_FRAMES];
};

/* May this frame be joined with others? Its sums are checked: the kernel does not look at those of a joined frame. */
static bool joinable(const struct burst *b, const struct frame *f, struct tcp_data *d) {
  const struct segment *s = &b->segments[f->first_segment];
  if (f->segments != 1 || f->flags || f->gso_type) return false;
  *d = (struct tcp_data){.h = s->host};
  struct l3 *l = &d->l;
  if (!parse_l3(l, s->host, s->len < HEAD_BYTES ? s->len : HEAD_BYTES, s->len, true)) return false;
  uint32_t ip_bytes = l->version == 4 ? sizeof(ipv4_t) : sizeof(ipv6_t);
  if (l->protocol != PROTOCOL_TCP || l->fragment || l->payload != l->start + ip_bytes || l->end != s->len) return false;
  if (l->payload + sizeof(tcp_t) > l->end) return false;
  const uint8_t *tcp = s->host + l->payload;
  uint32_t tcp_bytes = (tcp[TCP(data_offset)] >> 4) * 4u;
  if (tcp_bytes < sizeof(tcp_t) || l->payload + tcp_bytes >= l->end || l->payload + tcp_bytes > HEAD_BYTES) return false;
  if ((tcp[TCP(flags)] & (uint8_t)~FLOW_TCP_PSH) != FLOW_TCP_ACK) return false;
  if (l->version == 4 && sum_fold(sum_bytes(s->host + l->start, ip_bytes)) != 0xffff) return false;
  if (sum_fold(pseudo_sum(l, s->host) + sum_bytes(tcp, l->end - l->payload)) != 0xffff) return false;
  d->header = l->payload + tcp_bytes, d->bytes = l->end - d->header;
  d->sequence = get_be32(tcp + TCP(sequence)), d->push = tcp[TCP(flags)] & FLOW_TCP_PSH;
  return true;
}

static bool same(const uint8_t *a, const uint8_t *b, uint32_t from, uint32_t to) { return memcmp(a + from, b + from, to - from) == 0; }

/* Is everything equal that is the same in all segments of a row: all but lengths, identification, sums, sequence and PSH? */
static bool alike(const struct tcp_data *a, const struct tcp_data *b) {
  uint32_t ip = a->l.start, tcp = a->l.payload;
  const uint8_t *x = a->h, *y = b->h;
  if (a->header != b->header || ip != b->l.start || tcp != b->l.payload || a->l.version != b->l.version) return false;
  if (a->l.version == 4) {
    if (!same(x, y, 0, ip + IP4(total_length)) || !same(x, y, ip + IP4(fragment), ip + IP4(checksum))) return false;
    if (!same(x, y, ip + IP4(source), tcp)) return false;
  } else if (!same(x, y, 0, ip + (uint32_t)offsetof(ipv6_t, payload_length)) ||
             !same(x, y, ip + (uint32_t)offsetof(ipv6_t, next_header), tcp)) {
    return false;
  }
  return same(x, y, tcp, tcp + TCP(sequence)) && same(x, y, tcp + TCP(acknowledgment), tcp + TCP(flags)) &&
         same(x, y, tcp + TCP(window), tcp + TCP(checksum)) && same(x, y, tcp + TCP(urgent), a->header);
}

static bool follows(const struct row *r, const struct tcp_data *d) {
  uint32_t ip_bytes = r->first.header - r->first.l.start + r->bytes + d->bytes;
  return r->frames && !r->full && d->sequence == r->next && d->bytes <= r->size && ip_bytes <= FLOW_IP_BYTES_MAX && alike(&r->first, d);
}

static void append(struct row *r, const struct tcp_data *d) {
  if (!r->frames) r->first = *d, r->size = d->bytes, r->bytes = 0;
  r->data[r->frames++] = (struct iovec){(void *)(d->h + d->header), d->bytes};
  r->bytes += d->bytes, r->next = d->sequence + d->bytes;
  r->push = d->push, r->full = d->push || d->bytes < r->size;
}

/* Write so many frames of the NIC's, which are one for the kernel; what it does not take is dropped, as a stack drops what it has
 * no room for. */
static void put(struct tap *t, const struct iovec *pieces, uint32_t pieces_n, uint32_t frames) {
  ssize_t done;
  do done = writev(t->fd, pieces, (int)pieces_n);
  while (done < 0 && errno == EINTR);
  if (unlikely(done < 0)) {
    if (errno == EBADFD) t->error = errno;
    t->refused += frames;
    return;
  }
  t->written += frames, t->joined += frames > 1;
}

static void put_frame(struct tap *t, const struct burst *b, const struct frame *f) {
  struct iovec pieces[1 + PIECES_MAX];
  virtio_net_hdr_t none = {0};
  if (unlikely(f->segments > PIECES_MAX)) { t->refused++; return; }
  pieces[0] = (struct iovec){&none, sizeof none};
  for (uint32_t i = 0; i < f->segments; i++) {
    const struct segment *s = &b->segments[f->first_segment + i];
    pieces[1 + i] = (struct iovec){s->host, s->len};
  }
  put(t, pieces, 1u + f->segments, 1);
}

/* The headers of the frame that a row becomes; the TCP checksum is left to whoever cuts it again, as virtio_net_hdr says. */
static void join_headers(const struct row *r, uint8_t *head) {
  struct l3 l = r->first.l;
  uint8_t *ip = head + l.start, *tcp = head + l.payload;
  l.end = r->first.header + r->bytes;
  memcpy(head, r->first.h, r->first.header);
  if (l.version == 4) {
    put_be16(ip + IP4(total_length), l.end - l.start);
    memset(ip + IP4(checksum), 0, 2);
    uint16_t sum = (uint16_t)~sum_fold(sum_bytes(ip, sizeof(ipv4_t)));
    memcpy(ip + IP4(checksum), &sum, sizeof sum);
  } else {
    put_be16(ip + offsetof(ipv6_t, payload_length), l.end - l.payload);
  }
  if (r->push) tcp[TCP(flags)] |= FLOW_TCP_PSH;
  uint16_t partial = sum_fold(pseudo_sum(&l, head));
  memcpy(tcp + TCP(checksum), &partial, sizeof partial);
}

static void put_joined(struct tap *t, const struct row *r) {
  const struct l3 *l = &r->first.l;
  virtio_net_hdr_t h = {
      .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = l->version == 4 ? VIRTIO_NET_GSO_TCPV4 : VIRTIO_NET_GSO_TCPV6,
      .hdr_len = (uint16_t)r->first.header, .gso_size = (uint16_t)r->size,
      .csum_start = (uint16_t)l->payload, .csum_offset = TCP(checksum)};
  uint8_t head[HEAD_BYTES];
  join_headers(r, head);
  struct iovec pieces[2 + BURST_FRAMES] = {{&h, sizeof h}, {head, r->first.header}};
  memcpy(pieces + 2, r->data, r->frames * sizeof *pieces);
  put(t, pieces, 2 + r->frames, r->frames);
}

static void put_row(struct tap *t, struct row *r) {
  virtio_net_hdr_t none = {0};
  struct iovec alone[2] = {{&none, sizeof none}, {(void *)r->first.h, r->first.header + r->bytes}};
  if (r->frames > 1) put_joined(t, r);
  else if (r->frames) put(t, alone, 2, 1);
  r->frames = 0;
}

/* Hand every frame to the kernel, in order. */
void tap_write(struct tap *t, const struct burst *b) {
  struct row row = {.frames = 0};
  struct tcp_data d;
  t->error = 0;
  for (uint32_t i = 0; i < b->frames_n && !t->error; i++) {
    const struct frame *f = &b->frames[i];
    bool may = t->join && joinable(b, f, &d);
    if (!may || !follows(&row, &d)) put_row(t, &row);
    if (may) append(&row, &d);
    else put_frame(t, b, f);
  }
  put_row(t, &row);
}
