/* Pending virtual LPIs of one vPE, between whoever makes them pending (the ITS) and whoever schedules the vPE.
 *
 * While the vPE is resident its pending bits are in the vCPU's page, else in its virtual pending table (GICv4, IHI 0069 chapter 6).
 * A bit is moved by atomic exchange and is in one of the two places at rest, so it is never lost and never doubled:
 * - post: publishes the bit where `resident` says, full fence, reads `resident` again; where that has changed it takes the bit back
 *   (unless it has been moved or taken already, then all is done) and begins anew;
 * - enter and leave (one scheduler at a time): change `resident`, full fence, then move what they find. One of the two fences comes first in the single order
 *   of fences: either the mover finds the bit, or the poster sees that `resident` has changed.
 * What leave writes back is all that is pending, enabled or not, in the architected part of the table (IDAI is 1: nothing is in the first KiB), and it
 * is complete when leave returns (Dirty is never seen set). What it returns is PendingLast, which also counts what is not enabled, as §12.11 leaves open.
 * A list register's content is no part of it: the hypervisor that has filled it keeps it.
 * The page is the guest's, too: it may write anything there and harms only its own interrupts. */
#pragma once
#include "bell.h"

enum { VPE_DELIVERED, VPE_WAKE, VPE_ABSENT };

typedef struct {
  vcpu_page_t *page;
  uint64_t *table; /* the virtual pending table's words from LPI 8192 on */
  uint32_t processor;
} vpe_port_t;

/* Make virtual LPI `n` (from 8192) pending. VPE_WAKE: the vCPU sleeps and needs one message. VPE_ABSENT: not resident, pending in the table. */
int vpe_post(vpe_port_t *port, uint32_t n);
/* Take back virtual LPI `n`; true: it was pending, and whoever else looks finds it no more. Waits for a move under way. */
bool vpe_take(vpe_port_t *port, uint32_t n);
bool vpe_is_pending(const vpe_port_t *port, uint32_t n);
/* Schedule the vPE on a processor. True: it sleeps, there is something for it, and it needs one message. */
bool vpe_enter(vpe_port_t *port, uint32_t processor);
/* Schedule it out. True: something is pending (GICR_VPENDBASER.PendingLast). */
bool vpe_leave(vpe_port_t *port);
/* The ITS has another idea of the vPE's processor: move what waits in the table where that makes it resident. True as with enter. */
bool vpe_refresh(vpe_port_t *port);
/* Tell the vCPU that configurations have changed. True: it sleeps and needs one message. */
bool vpe_config_changed(vpe_port_t *port);

static inline bell_t *vpe_bell(vpe_port_t *port) { return (bell_t *)&port->page->to_vcpu_rung; }
