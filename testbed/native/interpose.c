#include "interpose.h"
#include "bpf.h"

void interpose_begin(struct burst *b, uint32_t frame_max) {
  for (uint32_t i = 0; i < b->frames_n; i++) {
    struct frame *f = &b->frames[i];
    f->dest = f->len <= frame_max && f->len >= sizeof(ethernet_t) ? DEST_FLOOD : DEST_DROP;
  }
}

void interpose_view(struct burst *view, const struct burst *b, int32_t port, const uint8_t *removed) {
  view->frames_n = b->frames_n, view->segments_n = b->segments_n;
  memcpy(view->frames, b->frames, b->frames_n * sizeof *b->frames);
  memcpy(view->segments, b->segments, b->segments_n * sizeof *b->segments);
  for (uint32_t i = 0; i < view->frames_n; i++) {
    int32_t *dest = &view->frames[i].dest;
    *dest = *dest == port || *dest == DEST_FLOOD ? port : DEST_DROP;
    if (removed && *dest == port && removed[i / 8] >> i % 8 & 1) *dest = DEST_REMOVED;
  }
}

bool interpose_removed(const struct burst *b, uint8_t *removed) {
  bool any = false;
  memset(removed, 0, REMOVED_BYTES);
  for (uint32_t i = 0; i < b->frames_n; i++) {
    if (b->frames[i].dest != DEST_REMOVED) continue;
    removed[i / 8] |= (uint8_t)(1u << i % 8);
    any = true;
  }
  return any;
}

uint32_t interpose_police(struct burst *b, double *tokens, bool bits, bool debt) {
  uint32_t removed = 0;
  for (uint32_t i = 0; i < b->frames_n; i++) {
    struct frame *f = &b->frames[i];
    if (!is_present(f)) continue;
    double cost = bits ? 8.0 * f->len : 1.0;
    if (debt || cost <= *tokens) { *tokens -= cost; continue; }
    f->dest = DEST_REMOVED;
    removed++;
  }
  return removed;
}

static uint32_t write_block(const struct burst *b, const struct frame *f, uint8_t *to, uint64_t time_ns, uint32_t flags) {
  uint32_t length = (uint32_t)PCAPNG_BLOCK_BYTES(f->len), padded = length - (uint32_t)(sizeof(pcapng_epb_t) + sizeof(pcapng_epb_tail_t));
  pcapng_epb_t head = {PCAPNG_TYPE_EPB, length, 0, (uint32_t)(time_ns >> 32), (uint32_t)time_ns, f->len, f->len};
  pcapng_epb_tail_t tail = {PCAPNG_EPB_FLAGS, sizeof tail.flags, flags, PCAPNG_OPT_END, length};
  memcpy(to, &head, sizeof head);
  to += sizeof head;
  uint32_t got = frame_read(b, f, 0, to, f->len);
  memset(to + got, 0, padded - got);
  memcpy(to + padded, &tail, sizeof tail);
  return length;
}

uint32_t pcapng_write(const struct burst *b, const bpf_instruction_t *program, uint8_t *to, uint32_t room, uint64_t time_ns, uint32_t flags,
                      struct pcapng_run *run) {
  uint32_t used = 0;
  for (; run->next < b->frames_n && run->frames < run->limit; run->next++) {
    const struct frame *f = &b->frames[run->next];
    if (!is_present(f) || (program && !bpf_run(program, b, f))) continue;
    if (PCAPNG_BLOCK_BYTES(f->len) > room - used) break;
    used += write_block(b, f, to + used, time_ns, flags);
    run->frames++;
  }
  return used;
}
