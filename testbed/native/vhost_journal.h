/* What a back end leaves behind of a ring when it is killed, in memory that outlives it.
 *
 * A burst is recorded before any frame of it is passed on, and forgotten once its chains are used. So whoever comes after knows which
 * chains may have been passed on although the ring says that they were not used; it uses them and passes nothing on again: a frame may
 * be lost, none is doubled. */
#pragma once
#include "burst.h"
#include "layouts.h"

static inline void journal_take(ring_journal_t *j, const struct burst *b, uint32_t before, uint32_t after) {
  for (uint32_t i = 0; i < b->frames_n; i++) j->chain[i] = (uint32_t)(uint16_t)b->frames[i].id | (uint32_t)b->frames[i].descriptors << 16;
  j->before = before, j->after = after;
  store_release(&j->chains, b->frames_n); /* last: what counts is complete */
}

static inline void journal_done(ring_journal_t *j, uint32_t position) {
  store_release(&j->chains, 0u);
  j->before = j->after = position;
}

/* The burst that was under way, as far as giving it back goes. What stands in the record may be anything: chains that take more slots than
 * the ring has are none. */
static inline void journal_unfinished(const ring_journal_t *j, struct burst *b, uint32_t size) {
  uint32_t n = load_acquire(&j->chains), slots = 0;
  b->segments_n = b->frames_n = 0;
  if (n > VHOST_USER_JOURNAL_CHAINS || n > size) return;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t chain = load_relaxed(&j->chain[i]);
    b->frames[i] = (struct frame){.id = chain & 0xffff, .descriptors = (uint16_t)(chain >> 16), .dest = DEST_DROP};
    slots += chain >> 16;
  }
  if (slots <= size) b->frames_n = n;
}
