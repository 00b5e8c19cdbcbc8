/* Classic BPF over the frames of a burst: a program is checked once and cannot loop, read outside a frame or write outside M[]. */
#pragma once
#include "burst.h"
#include "layouts.h"

/* Return the index of the first instruction that may not be run, or `n` where all may. */
uint32_t bpf_check(const bpf_instruction_t *program, uint32_t n);
/* Run a checked program over one frame; 0: no match. A load outside the frame and a division by zero end it with 0. */
uint32_t bpf_run(const bpf_instruction_t *program, const struct burst *b, const struct frame *f);
/* Mark those of a burst's frames that match (or that do not) as removed; return how many. */
uint32_t bpf_remove(const bpf_instruction_t *program, struct burst *b, bool matching);
