#include "cpu_interface.h"

#define NONE (-2)
#define VLPI (-1)
#define FIELD(word, name) (((word) & name##_MASK) >> name##_LSB)
#define SET(word, name, value) (((word) & ~name##_MASK) | ((uint64_t)(value) << name##_LSB & name##_MASK))

/* The highest priority pending virtual interrupt: of equal priority, the lowest INTID. */
typedef struct {
  uint32_t intid, priority, group;
  int slot; /* its list register, VLPI or NONE */
} highest_t;

static inline uint64_t lr_load(const vcpu_page_t *page, int slot) { return load_relaxed(&page->ich_lr[slot]); }
static inline void lr_store(vcpu_page_t *page, int slot, uint64_t lr) { store_relaxed(&page->ich_lr[slot], lr); }

static inline bool group_enabled(uint32_t vmcr, uint32_t group) {
  return vmcr & (group ? GIC_VMCR_VENG1_MASK : GIC_VMCR_VENG0_MASK);
}

static void consider(highest_t *best, uint32_t intid, uint32_t priority, uint32_t group, int slot) {
  if (best->slot != NONE && (priority > best->priority || (priority == best->priority && intid >= best->intid))) return;
  *best = (highest_t){intid, priority, group, slot};
}

static void consider_vlpis(const cpu_interface_t *cpu, highest_t *best) {
  for (uint32_t word = 0; word < LPI_VLPI_WORDS; word++) {
    uint64_t pending = load_acquire(&cpu->page->vlpi_pending[word]);
    for (; pending; pending &= pending - 1) {
      uint32_t lpi = 64 * word + (uint32_t)__builtin_ctzll(pending);
      if (lpi >= cpu->lpi_configs) return;
      uint8_t config = load_relaxed(cpu->lpi_config + lpi);
      if (config & LPI_LPI_ENABLE_MASK)
        consider(best, LPI_LPI_FIRST + lpi, config & LPI_LPI_PRIORITY_MASK & GIC_PRIORITY_MASK, 1, VLPI);
    }
  }
}

static highest_t highest(const cpu_interface_t *cpu) {
  highest_t best = {GIC_SPURIOUS, GIC_PRIORITY_IDLE, 0, NONE};
  uint32_t vmcr = load_relaxed(&cpu->page->ich_vmcr);
  for (int slot = 0; slot < (int)GIC_LIST_REGISTERS; slot++) {
    uint64_t lr = lr_load(cpu->page, slot);
    uint32_t group = FIELD(lr, GIC_LR_GROUP);
    if (FIELD(lr, GIC_LR_STATE) == GIC_STATE_PENDING && group_enabled(vmcr, group))
      consider(&best, FIELD(lr, GIC_LR_VINTID), FIELD(lr, GIC_LR_PRIORITY) & GIC_PRIORITY_MASK, group, slot);
  }
  if (group_enabled(vmcr, 1)) consider_vlpis(cpu, &best);
  return best;
}

static inline uint32_t active_priorities(const vcpu_page_t *page) {
  return load_relaxed(&page->ich_ap0r) | load_relaxed(&page->ich_ap1r);
}

uint32_t icv_running_priority(const cpu_interface_t *cpu) {
  uint32_t active = active_priorities(cpu->page);
  return active ? (uint32_t)__builtin_ctz(active) << (8 - GIC_PRIORITY_BITS) : GIC_PRIORITY_IDLE;
}

uint32_t icv_binary_point(const cpu_interface_t *cpu, uint32_t group) {
  uint32_t vmcr = load_relaxed(&cpu->page->ich_vmcr);
  uint32_t bpr0 = FIELD(vmcr, GIC_VMCR_VBPR0), bpr1 = FIELD(vmcr, GIC_VMCR_VBPR1);
  if (bpr0 < GIC_BPR0_MIN) bpr0 = GIC_BPR0_MIN;
  if (bpr1 < GIC_BPR1_MIN) bpr1 = GIC_BPR1_MIN;
  if (!group) return bpr0;
  if (!(vmcr & GIC_VMCR_VCBPR_MASK)) return bpr1;
  return bpr0 < 7 ? bpr0 + 1 : 7; /* §12.3, ICV_BPR1_EL1: while CBPR is 1 it reads as BPR0 plus one, saturated */
}

void icv_set_binary_point(cpu_interface_t *cpu, uint32_t group, uint32_t value) {
  uint32_t vmcr = load_relaxed(&cpu->page->ich_vmcr), least = group ? GIC_BPR1_MIN : GIC_BPR0_MIN;
  if (group && vmcr & GIC_VMCR_VCBPR_MASK) return;
  value &= 7;
  if (value < least) value = least;
  vmcr = group ? SET(vmcr, GIC_VMCR_VBPR1, value) : SET(vmcr, GIC_VMCR_VBPR0, value);
  store_relaxed(&cpu->page->ich_vmcr, vmcr);
}

/* §4.8.2: the bits of a priority that count for preemption. */
static uint32_t group_priority_mask(const cpu_interface_t *cpu, uint32_t group) {
  uint32_t vmcr = load_relaxed(&cpu->page->ich_vmcr);
  bool common = !group || vmcr & GIC_VMCR_VCBPR_MASK;
  uint32_t point = common ? icv_binary_point(cpu, 0) + 1 : icv_binary_point(cpu, 1);
  return 0xFFu & ~((1u << point) - 1);
}

static bool can_signal(const cpu_interface_t *cpu, const highest_t *best) {
  const vcpu_page_t *page = cpu->page;
  if (best->slot == NONE || !(load_relaxed(&page->ich_hcr) & GIC_HCR_EN_MASK)) return false;
  if (best->priority >= FIELD(load_relaxed(&page->ich_vmcr), GIC_VMCR_VPMR)) return false;
  uint32_t running = icv_running_priority(cpu);
  if (running == GIC_PRIORITY_IDLE) return true;
  uint32_t mask = group_priority_mask(cpu, best->group);
  return (best->priority & mask) < (running & mask);
}

bool icv_signals(const cpu_interface_t *cpu) {
  highest_t best = highest(cpu);
  return can_signal(cpu, &best);
}

uint32_t icv_highest_pending(const cpu_interface_t *cpu, uint32_t group) {
  highest_t best = highest(cpu);
  return best.slot != NONE && best.group == group ? best.intid : GIC_SPURIOUS;
}

static void activate_priority(const cpu_interface_t *cpu, const highest_t *best) {
  uint32_t *active = best->group ? &cpu->page->ich_ap1r : &cpu->page->ich_ap0r;
  uint32_t level = (best->priority & group_priority_mask(cpu, best->group)) >> (8 - GIC_PRIORITY_BITS);
  store_relaxed(active, load_relaxed(active) | 1u << level);
}

uint32_t icv_acknowledge(cpu_interface_t *cpu, uint32_t group) {
  for (;;) {
    highest_t best = highest(cpu);
    if (best.group != group || !can_signal(cpu, &best)) return GIC_SPURIOUS;
    /* one that was moved or discarded meanwhile is somebody else's: look again */
    if (best.slot == VLPI && !vlpi_clear(cpu->page, best.intid - LPI_LPI_FIRST)) continue;
    activate_priority(cpu, &best);
    if (best.slot >= 0) { /* §6.1: an LPI has no active state */
      uint32_t state = best.intid >= LPI_LPI_FIRST ? GIC_STATE_INVALID : GIC_STATE_ACTIVE;
      lr_store(cpu->page, best.slot, SET(lr_load(cpu->page, best.slot), GIC_LR_STATE, state));
      ich_update_status(cpu->page);
    }
    return best.intid;
  }
}

/* Drops the running priority where it is one of `group`; false: it is not, or nothing is active. */
static bool drop_priority(vcpu_page_t *page, uint32_t group) {
  uint32_t *own = group ? &page->ich_ap1r : &page->ich_ap0r;
  uint32_t active = active_priorities(page), mine = load_relaxed(own);
  uint32_t highest_bit = active & -active;
  if (!(mine & highest_bit)) return false;
  store_relaxed(own, mine & ~highest_bit);
  return true;
}

static void count_end(vcpu_page_t *page) {
  uint32_t hcr = load_relaxed(&page->ich_hcr);
  store_relaxed(&page->ich_hcr, SET(hcr, GIC_HCR_EOICOUNT, FIELD(hcr, GIC_HCR_EOICOUNT) + 1));
}

static void deactivate_slot(vcpu_page_t *page, int slot, uint64_t lr) {
  uint32_t state = FIELD(lr, GIC_LR_STATE) & ~GIC_STATE_ACTIVE, pintid = FIELD(lr, GIC_LR_PINTID);
  lr_store(page, slot, SET(lr, GIC_LR_STATE, state));
  if (lr & GIC_LR_HW_MASK) __atomic_fetch_and(&page->physical_active[pintid / 64], ~(1ull << pintid % 64), __ATOMIC_RELEASE);
}

/* §12.4, ICH_HCR_EL2.EOIcount: an end that finds no list register is counted, an LPI's is not. */
static void deactivate(vcpu_page_t *page, uint32_t intid) {
  for (int slot = 0; slot < (int)GIC_LIST_REGISTERS; slot++) {
    uint64_t lr = lr_load(page, slot);
    if (FIELD(lr, GIC_LR_VINTID) == intid && FIELD(lr, GIC_LR_STATE) & GIC_STATE_ACTIVE) {
      deactivate_slot(page, slot, lr);
      return;
    }
  }
  count_end(page);
}

static inline bool can_be_active(uint32_t intid) { return intid < GIC_SPECIAL_FIRST; }

/* An end by the wrong group, which the architecture leaves open, does nothing. */
void icv_end(cpu_interface_t *cpu, uint32_t group, uint32_t intid) {
  vcpu_page_t *page = cpu->page;
  if (!can_be_active(intid) && intid < LPI_LPI_FIRST) return;
  if (!drop_priority(page, group) || !can_be_active(intid)) return;
  if (!(load_relaxed(&page->ich_vmcr) & GIC_VMCR_VEOIM_MASK)) deactivate(page, intid);
  ich_update_status(page);
}

void icv_deactivate(cpu_interface_t *cpu, uint32_t intid) {
  vcpu_page_t *page = cpu->page;
  if (!can_be_active(intid) || !(load_relaxed(&page->ich_vmcr) & GIC_VMCR_VEOIM_MASK)) return;
  deactivate(page, intid);
  ich_update_status(page);
}

bool ich_update_status(vcpu_page_t *page) {
  uint32_t hcr = load_relaxed(&page->ich_hcr), vmcr = load_relaxed(&page->ich_vmcr);
  uint32_t ended = 0, empty = 0, valid = 0, misr = 0;
  bool pending = false;
  for (uint32_t slot = 0; slot < GIC_LIST_REGISTERS; slot++) {
    uint64_t lr = lr_load(page, slot);
    uint32_t state = FIELD(lr, GIC_LR_STATE);
    bool asks = !(lr & GIC_LR_HW_MASK) && lr & GIC_LR_EOI_MASK;
    if (!state) *(asks ? &ended : &empty) |= 1u << slot;
    valid += state != GIC_STATE_INVALID;
    pending |= state & GIC_STATE_PENDING;
  }
  if (ended) misr |= GIC_MISR_EOI_MASK;
  if (hcr & GIC_HCR_UIE_MASK && valid <= 1) misr |= GIC_MISR_U_MASK;
  if (hcr & GIC_HCR_LRENPIE_MASK && hcr & GIC_HCR_EOICOUNT_MASK) misr |= GIC_MISR_LRENP_MASK;
  if (hcr & GIC_HCR_NPIE_MASK && !pending) misr |= GIC_MISR_NP_MASK;
  if (hcr & GIC_HCR_VGRP0EIE_MASK && vmcr & GIC_VMCR_VENG0_MASK) misr |= GIC_MISR_VGRP0E_MASK;
  if (hcr & GIC_HCR_VGRP0DIE_MASK && !(vmcr & GIC_VMCR_VENG0_MASK)) misr |= GIC_MISR_VGRP0D_MASK;
  if (hcr & GIC_HCR_VGRP1EIE_MASK && vmcr & GIC_VMCR_VENG1_MASK) misr |= GIC_MISR_VGRP1E_MASK;
  if (hcr & GIC_HCR_VGRP1DIE_MASK && !(vmcr & GIC_VMCR_VENG1_MASK)) misr |= GIC_MISR_VGRP1D_MASK;
  if (!(hcr & GIC_HCR_EN_MASK)) misr = 0;
  store_relaxed(&page->ich_misr, misr);
  store_relaxed(&page->ich_eisr, ended);
  store_relaxed(&page->ich_elrsr, empty);
  return misr;
}

/* Acquire: pairs with the hypervisor's release of a claim, so what it filled in is seen. */
bool vcpu_enter(cpu_interface_t *cpu) {
  uint32_t out = VCPU_PAGE_RUN_OUT;
  if (!cpu->inside)
    cpu->inside = __atomic_compare_exchange_n(&cpu->page->run_state, &out, VCPU_PAGE_RUN_IN, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
  return cpu->inside;
}

/* Release: a claim sees the list registers as they are left. A vCPU that never got in has nothing to give up. The caller fences. */
void vcpu_leave(cpu_interface_t *cpu) {
  if (cpu->inside) store_release(&cpu->page->run_state, VCPU_PAGE_RUN_OUT);
  cpu->inside = false;
}

bool vcpu_has_event(const cpu_interface_t *cpu) {
  return load_acquire(&cpu->page->force_exit) || icv_signals(cpu);
}
