"""A vCPU whose software abuses its interrupt controller, or does something harmless as often as it can.

Reference: ARM IHI 0069 §4.7 (SGIs), §12.9, §12.11 (registers), §4.1 (an interrupt that is never ended). What
it harms is its own guest's business; for others it is to be no worse than `spin` (work without exits) and
`hypercalls` (exits that ask for nothing). Not modelled: storms of devices.
"""

import random
import time
from collections.abc import Callable
from typing import Final, Protocol

from testbed.address import GUEST_GICD_GPA, GUEST_GICR_GPA, GUEST_RAM_GPA
from testbed.guest.gic import Cpu, GicDriver
from testbed.messages.control import Received, Sent
from testbed.messages.entries import FlowEntry
from testbed.spec import gic, smccc
from testbed.spec import gic_registers as registers

SLICE_NS: Final = 500_000
"""How long one step storms: the guest's own loop still turns."""
_ALL: Final = 0xFFFF_FFFF
_FIRST_SGI: Final = 2
"""Those below are the guest's own."""
_SGIS: Final = range(_FIRST_SGI, gic.SGIS)
_LOADS: Final = 64
_NS_PER_SECOND: Final = 1e9


class StormingCpu(Cpu, Protocol):
    """The vCPU."""

    def hvc(self, x0: int, x1: int = 0, x2: int = 0, x3: int = 0) -> tuple[int, int, int, int]:
        """Call the hypervisor."""
        ...


class StormWork:
    """One storm; `step`, `start` and `wake_ns` as a sender of frames. What it did is sent and received."""

    queue = None
    starved = False

    def __init__(
        self,
        flow: FlowEntry,
        cpu: StormingCpu,
        driver: GicDriver,
        done: Callable[[Sent], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.flow, self._cpu, self._driver, self._done, self._clock = flow, cpu, driver, done, clock
        self._random = random.Random(flow.id)  # noqa: S311 - the same storm for the same flow
        self._act = {
            "spin": self._spin,
            "hypercalls": self._call,
            "sgi": self._send,
            "no-eoi": self._never_end,
            "registers": self._scribble,
        }[flow.storm]
        self.finished = self._is_ready = False
        self._started_ns = self._acts = 0

    def start(self) -> None:
        """The storm's time begins."""
        self._started_ns = self._clock()

    def step(self) -> bool:
        """Storm for a slice of time; True always: a storm does not rest."""
        if not self._is_ready:
            self._is_ready = True
            if self.flow.storm in ("sgi", "no-eoi"):
                self._driver.enable_private(*_SGIS)
        now_ns = self._clock()
        if now_ns - self._started_ns >= self.flow.duration_ns:
            self.finished = True
            seconds = (now_ns - self._started_ns) / _NS_PER_SECOND
            self._done(Sent(flow_id=self.flow.id, sent=self._acts, answered=self._acts, seconds=seconds))
            return True
        until_ns = now_ns + SLICE_NS
        while self._clock() < until_ns:
            self._act()
            self._acts += 1
        return True

    def wake_ns(self) -> int | None:
        """Return when to step although nothing happened."""
        return self._started_ns

    def received(self) -> Received:
        """Return what it did: nothing of it can be lost."""
        none = {"reordered": 0, "corrupted": 0, "duplicated": 0, "bytes": 0}
        return Received(flow_id=self.flow.id, received=self._acts, seconds=0.0, **none)

    def _spin(self) -> None:
        for _ in range(_LOADS):
            self._cpu.load(GUEST_RAM_GPA)

    def _call(self) -> None:
        self._cpu.hvc(smccc.VERSION)

    def _send(self) -> None:
        """To every vCPU, itself as well."""
        self._driver.send_sgi(self._random.choice(_SGIS), gic.SGI_TARGETLIST.mask)

    def _never_end(self) -> None:
        self._send()
        interface = self._driver.interface
        if interface.acknowledge() >= gic.SPECIAL_FIRST and interface.must_exit:
            self._call()

    def _scribble(self) -> None:
        choose = self._random
        base, size = choose.choice(
            ((GUEST_GICD_GPA, registers.GICD_BYTES), (GUEST_GICR_GPA, registers.GICR_V3_STRIDE_BYTES))
        )
        width = choose.choice((1, 4, 8))
        gpa = base + choose.randrange(size) // width * width
        value = choose.choice((0, _ALL, choose.getrandbits(8 * width)))
        if choose.getrandbits(2):
            self._cpu.store(gpa, value & (1 << 8 * width) - 1, width)
        else:
            self._cpu.load(gpa, width)
