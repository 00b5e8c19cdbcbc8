#include "bpf.h"
#include "interpose.h"

#define CLASS(code) ((code) & 0x07u)
#define SIZE(code) ((code) & 0x18u)
#define MODE(code) ((code) & 0xe0u)
#define OPERATION(code) ((code) & 0xf0u)

static bool check_load(const bpf_instruction_t *i) {
  bool is_x = CLASS(i->code) == BPF_LDX;
  uint32_t size = SIZE(i->code);
  if (i->code & 0xff00u) return false;
  switch (MODE(i->code)) {
    case BPF_IMM:
    case BPF_LEN: return size == BPF_W;
    case BPF_MEM: return size == BPF_W && i->k < BPF_MEMORY_WORDS;
    case BPF_ABS:
    case BPF_IND: return !is_x && size <= BPF_B;
    case BPF_MSH: return is_x && size == BPF_B;
    default: return false;
  }
}

static bool check_alu(const bpf_instruction_t *i) {
  bool by_constant = !(i->code & BPF_X);
  if (i->code & 0xff00u) return false;
  switch (OPERATION(i->code)) {
    case BPF_ADD: case BPF_SUB: case BPF_MUL: case BPF_OR: case BPF_AND: case BPF_XOR: return true;
    case BPF_NEG: return by_constant;
    case BPF_LSH: case BPF_RSH: return !by_constant || i->k < 32;
    case BPF_DIV: case BPF_MOD: return !by_constant || i->k;
    default: return false;
  }
}

/* Jumps go forward only and stay inside: so a program ends. */
static bool check_jump(const bpf_instruction_t *i, uint32_t left) {
  switch (i->code) {
    case BPF_JMP | BPF_JA: return i->k < left;
    case BPF_JMP | BPF_JEQ | BPF_K: case BPF_JMP | BPF_JEQ | BPF_X:
    case BPF_JMP | BPF_JGT | BPF_K: case BPF_JMP | BPF_JGT | BPF_X:
    case BPF_JMP | BPF_JGE | BPF_K: case BPF_JMP | BPF_JGE | BPF_X:
    case BPF_JMP | BPF_JSET | BPF_K: case BPF_JMP | BPF_JSET | BPF_X: return i->jt < left && i->jf < left;
    default: return false;
  }
}

static bool check_one(const bpf_instruction_t *i, uint32_t left) {
  switch (CLASS(i->code)) {
    case BPF_LD: case BPF_LDX: return check_load(i);
    case BPF_ST: case BPF_STX: return i->code == CLASS(i->code) && i->k < BPF_MEMORY_WORDS;
    case BPF_ALU: return check_alu(i);
    case BPF_JMP: return check_jump(i, left);
    case BPF_RET: return i->code == (BPF_RET | BPF_K) || i->code == (BPF_RET | BPF_A);
    default: return i->code == (BPF_MISC | BPF_TAX) || i->code == (BPF_MISC | BPF_TXA);
  }
}

uint32_t bpf_check(const bpf_instruction_t *program, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (!check_one(&program[i], n - i - 1)) return i;
  if (n && CLASS(program[n - 1].code) != BPF_RET) return n - 1;
  return n;
}

/* A big-endian number of `size` bytes at `offset`; false outside the frame. */
static inline bool load(const struct burst *b, const struct frame *f, uint64_t offset, uint32_t size, uint32_t *value) {
  uint8_t copy[4];
  if (unlikely(offset + size > f->len)) return false;
  const struct segment *s = &b->segments[f->first_segment];
  const uint8_t *p = copy;
  if (likely(offset + size <= s->len)) p = s->host + offset;
  else if (frame_read(b, f, (uint32_t)offset, copy, size) < size) return false;
  uint32_t n = 0;
  for (uint32_t i = 0; i < size; i++) n = n << 8 | p[i];
  *value = n;
  return true;
}

static inline uint32_t bytes_of(uint16_t code) { return SIZE(code) == BPF_W ? 4 : SIZE(code) == BPF_H ? 2 : 1; }

/* False: the program divides by zero. */
static inline bool compute(uint16_t code, uint32_t *a, uint32_t by) {
  switch (OPERATION(code)) {
    case BPF_ADD: *a += by; return true;
    case BPF_SUB: *a -= by; return true;
    case BPF_MUL: *a *= by; return true;
    case BPF_OR: *a |= by; return true;
    case BPF_AND: *a &= by; return true;
    case BPF_XOR: *a ^= by; return true;
    case BPF_LSH: *a = by < 32 ? *a << by : 0; return true;
    case BPF_RSH: *a = by < 32 ? *a >> by : 0; return true;
    case BPF_NEG: *a = 0u - *a; return true;
    case BPF_DIV: if (!by) return false; *a /= by; return true;
    default: if (!by) return false; *a %= by; return true;
  }
}

static inline bool holds(uint16_t code, uint32_t a, uint32_t with) {
  switch (OPERATION(code)) {
    case BPF_JEQ: return a == with;
    case BPF_JGT: return a > with;
    case BPF_JGE: return a >= with;
    default: return (a & with) != 0;
  }
}

uint32_t bpf_run(const bpf_instruction_t *i, const struct burst *b, const struct frame *f) {
  uint32_t a = 0, x = 0, memory[BPF_MEMORY_WORDS] = {0}, value;
  for (;; i++) {
    switch (CLASS(i->code)) {
      case BPF_LD:
      case BPF_LDX:
        switch (MODE(i->code)) {
          case BPF_IMM: value = i->k; break;
          case BPF_LEN: value = f->len; break;
          case BPF_MEM: value = memory[i->k]; break;
          case BPF_ABS: if (!load(b, f, i->k, bytes_of(i->code), &value)) return 0; break;
          case BPF_IND: if (!load(b, f, (uint64_t)x + i->k, bytes_of(i->code), &value)) return 0; break;
          default: if (!load(b, f, i->k, 1, &value)) return 0; value = 4 * (value & 0xf);
        }
        if (CLASS(i->code) == BPF_LD) a = value;
        else x = value;
        break;
      case BPF_ST: memory[i->k] = a; break;
      case BPF_STX: memory[i->k] = x; break;
      case BPF_ALU: if (!compute(i->code, &a, i->code & BPF_X ? x : i->k)) return 0; break;
      case BPF_JMP:
        if (OPERATION(i->code) == BPF_JA) i += i->k;
        else i += holds(i->code, a, i->code & BPF_X ? x : i->k) ? i->jt : i->jf;
        break;
      case BPF_RET: return i->code & BPF_A ? a : i->k;
      default: if (OPERATION(i->code) == BPF_TAX) x = a; else a = x;
    }
  }
}

uint32_t bpf_remove(const bpf_instruction_t *program, struct burst *b, bool matching) {
  uint32_t removed = 0;
  for (uint32_t i = 0; i < b->frames_n; i++) {
    struct frame *f = &b->frames[i];
    if (!is_present(f) || (bpf_run(program, b, f) != 0) != matching) continue;
    f->dest = DEST_REMOVED;
    removed++;
  }
  return removed;
}
