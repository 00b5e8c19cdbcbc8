/* A vCPU's virtual CPU interface: ICV_* operations on the list registers, active priorities and pending virtual LPIs of its page.
 *
 * Reference: ARM IHI 0069, §4.8 (priorities, preemption), chapter 6 (virtual interrupts), §12.3 (ICV_*), §12.4 (ICH_*).
 *
 * Who touches what: the list registers, ICH_HCR, ICH_VMCR and the active priorities are the vCPU's while `run_state` is RUN_IN and none
 * of its exits waits for an answer; the hypervisor's while an exit waits, or once it has claimed a vCPU that is out (RUN_OUT to
 * RUN_CLAIMED by compare and swap, acquire: it sees what the vCPU stored before it left; back by a release store: whoever enters sees
 * what it filled in). A guest may break this and any other rule of its own page: whoever reads there takes nothing on trust.
 * Pending virtual LPIs are set by whoever has one, at any time: see vlpi_set. */
#pragma once
#include "layouts.h"
#include "order.h"

typedef struct {
  vcpu_page_t *page;
  const uint8_t *lpi_config; /* the guest's LPI configuration table; NULL: none is enabled */
  uint32_t lpi_configs;      /* how many bytes of it there are */
  bool inside;               /* this vCPU has entered: what it believes of run_state */
} cpu_interface_t;

/* ICV_* */
uint32_t icv_highest_pending(const cpu_interface_t *cpu, uint32_t group);
uint32_t icv_acknowledge(cpu_interface_t *cpu, uint32_t group);
void icv_end(cpu_interface_t *cpu, uint32_t group, uint32_t intid);
void icv_deactivate(cpu_interface_t *cpu, uint32_t intid);
uint32_t icv_running_priority(const cpu_interface_t *cpu);
uint32_t icv_binary_point(const cpu_interface_t *cpu, uint32_t group);
void icv_set_binary_point(cpu_interface_t *cpu, uint32_t group, uint32_t value);
bool icv_signals(const cpu_interface_t *cpu);

/* Computes ICH_MISR, EISR and ELRSR anew; true: a maintenance interrupt is asserted. */
bool ich_update_status(vcpu_page_t *page);

/* Entry and exit of a vCPU that waits for interrupts. */
bool vcpu_enter(cpu_interface_t *cpu);
void vcpu_leave(cpu_interface_t *cpu);
bool vcpu_has_event(const cpu_interface_t *cpu);

/* Sets a virtual LPI pending; true: it was pending already.
 * Safe against the vCPU and every other producer: one atomic OR. Release: what was stored before (its configuration, the data it
 * announces) is seen by the vCPU that finds the bit. The full fence comes before the caller's look at whether the vCPU is resident or
 * its bell is armed, as bell.h demands; an acknowledge clears the bit by an atomic AND, so each set is taken by exactly one of those who
 * clear (acknowledge, a move, a discard). */
static inline bool vlpi_set(vcpu_page_t *page, uint32_t lpi) {
  uint64_t bit = 1ull << lpi % 64;
  bool was = __atomic_fetch_or(&page->vlpi_pending[lpi / 64], bit, __ATOMIC_ACQ_REL) & bit;
  full_fence();
  return was;
}

/* Clears a virtual LPI; true: it was pending, and is the caller's now. */
static inline bool vlpi_clear(vcpu_page_t *page, uint32_t lpi) {
  uint64_t bit = 1ull << lpi % 64;
  return __atomic_fetch_and(&page->vlpi_pending[lpi / 64], ~bit, __ATOMIC_ACQ_REL) & bit;
}
