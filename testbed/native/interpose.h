/* What interposers do to a burst: they mark frames as removed and leave everything else where it is.
 *
 * A frame is present while its destination is a port or everyone. */
#pragma once
#include "burst.h"
#include "layouts.h"

#define REMOVED_BYTES (BURST_FRAMES / 8)

static inline bool is_present(const struct frame *f) { return f->dest >= DEST_FLOOD; }

/* Before classification: every frame of a length that the bridge carries is present; the others are for it to count. */
void interpose_begin(struct burst *b, uint32_t frame_max);
/* Make `view` the part of a burst that goes to one port: the same frames, the others dropped, and those of `removed` removed. */
void interpose_view(struct burst *view, const struct burst *b, int32_t port, const uint8_t *removed);
/* Write the bitmap of removed frames; say whether there is any. */
bool interpose_removed(const struct burst *b, uint8_t *removed);
/* Take from a token bucket what the present frames cost, 1 each or their bits; what it does not cover is removed, unless `debt` lets it
 * go below zero. Returns how many were removed. */
uint32_t interpose_police(struct burst *b, double *tokens, bool bits, bool debt);

/* A pcapng block for each present frame that matches (`program` may be NULL), until `limit` are written or there is no more room.
 * `next` is the frame to go on with; returns the bytes written. */
struct pcapng_run { uint32_t next, frames; uint64_t limit; };
#define PCAPNG_BLOCK_BYTES(len) (sizeof(pcapng_epb_t) + (((len) + 3u) & ~3u) + sizeof(pcapng_epb_tail_t))
uint32_t pcapng_write(const struct burst *b, const bpf_instruction_t *program, uint8_t *to, uint32_t room, uint64_t time_ns, uint32_t flags,
                      struct pcapng_run *run);
