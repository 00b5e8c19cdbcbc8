"""The rules of an interrupt controller, written plainly: an oracle for the vGIC and what its vCPUs take.

Reference: ARM IHI 0069 §4.1 (life cycle), §4.8 (priority, preemption, masking), §3.3 (affinity). There are no
list registers here: whatever is pending, enabled and of an enabled group can be taken by the processor it is
for. Of equal priority the lowest INTID comes first.
"""

from dataclasses import dataclass, field

SPURIOUS, IDLE, FIRST_LPI = 1023, 0xFF, 8192


@dataclass(eq=False)
class Irq:
    """One interrupt: an SGI or PPI of a processor, an SPI, or an LPI of a processor."""

    intid: int
    target: int
    edge: bool = True
    priority: int = 0
    group: int = 1
    enabled: bool = True
    latch: bool = False
    line: bool = False
    active: bool = False

    @property
    def pending(self) -> bool:
        return self.latch or (self.line and not self.edge)


@dataclass
class Processor:
    """What a processor has set, and the priorities at which it runs."""

    mask: int = 0xF8
    groups: set[int] = field(default_factory=lambda: {1})
    split: bool = False
    point: int = 3
    running: list[tuple[int, int, int]] = field(default_factory=list)
    """(group priority, group, INTID) of what was acknowledged and has not dropped."""


class GicModel:
    """A controller with so many processors."""

    def __init__(self, processors: int) -> None:
        self.cpus = [Processor() for _ in range(processors)]
        self.groups = {1}
        self.irqs: dict[tuple[int, int], Irq] = {}
        """By processor (-1: shared) and INTID."""
        self._waiting: list[set[Irq]] = [set() for _ in range(processors)]
        """Pending ones, by whom they are for."""

    def add(self, intid: int, target: int, **state: object) -> Irq:
        """Declare an interrupt."""
        owner = -1 if 32 <= intid < 1020 else target
        self.irqs[owner, intid] = made = Irq(intid, target, **state)  # type: ignore[arg-type]
        self.moved(made)
        return made

    def moved(self, irq: Irq) -> None:
        """Take notice of an interrupt whose pending state or target changed."""
        for number, waiting in enumerate(self._waiting):
            if irq.pending and irq.target == number:
                waiting.add(irq)
            else:
                waiting.discard(irq)

    def edge(self, irq: Irq) -> None:
        if irq.edge:
            irq.latch = True
            self.moved(irq)

    def level(self, irq: Irq, asserted: bool) -> None:
        irq.latch |= asserted and not irq.line and irq.edge
        irq.line = asserted
        self.moved(irq)

    def set_pending(self, irq: Irq, pending: bool) -> None:
        irq.latch = pending
        self.moved(irq)

    def best(self, cpu: int) -> Irq | None:
        """The highest priority interrupt that could be taken, masks apart."""
        found, groups = None, self.groups & self.cpus[cpu].groups
        for irq in self._waiting[cpu]:
            if irq.enabled and not irq.active and irq.group in groups:
                key = (irq.priority & 0xF8, irq.intid)
                if found is None or key < (found.priority & 0xF8, found.intid):
                    found = irq
        return found

    def running(self, cpu: int) -> int:
        return min((priority for priority, _, _ in self.cpus[cpu].running), default=IDLE)

    def signalled(self, cpu: int) -> Irq | None:
        best, processor = self.best(cpu), self.cpus[cpu]
        if best is None or best.priority & 0xF8 >= processor.mask:
            return None
        running = self.running(cpu)
        cut = self._cut(processor, best.group)
        if running != IDLE and best.priority >> cut >= running >> cut:
            return None
        return best

    @staticmethod
    def _cut(processor: Processor, group: int) -> int:
        return processor.point if group else 3

    def acknowledge(self, cpu: int, group: int = 1) -> int:
        irq = self.signalled(cpu)
        if irq is None or irq.group != group:
            return SPURIOUS
        irq.latch = False
        irq.active = irq.intid < FIRST_LPI
        self.moved(irq)
        processor = self.cpus[cpu]
        cut = self._cut(processor, group)
        processor.running.append(((irq.priority & 0xF8) >> cut << cut, group, irq.intid))
        return irq.intid

    def end(self, cpu: int) -> tuple[int, int] | None:
        """End what runs at the highest priority; return its group and INTID."""
        processor = self.cpus[cpu]
        if not processor.running:
            return None
        last = min(processor.running)
        processor.running.remove(last)
        _, group, intid = last
        if not processor.split:
            self.deactivate(cpu, intid)
        return group, intid

    def deactivate(self, cpu: int, intid: int) -> None:
        if intid < FIRST_LPI:
            self.irqs[-1 if intid >= 32 else cpu, intid].active = False
