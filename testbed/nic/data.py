"""The data side of the 82576: the registers of its queues, and a native engine that moves frames.

Reference: 82576 datasheet (320961, revision 2.63) §7.1, §7.2 (queues and descriptors), §8.10, §8.12 (their
registers), §7.10.3 (switch). What is done per frame or descriptor is native/nic_*.c; a turn of the engine
does everything that can be done at once, and what it asks of host memory may come later. A tail register is a
`DoorbellWord`, which a window of registers may write natively. Interrupts follow the descriptors that they
announce through the same DMA ring.

A queue that breaks a rule (a tail outside its ring, a malformed descriptor, a refused read) stops: its ENABLE
bit clears, the cause DOUTSYNC is set, and the others go on. A receive queue without descriptors holds its
senders back, at most for `stall_ns`, unless SRRCTL.DROP_EN or QDE say that it drops.

Not modelled: header split, descriptor and data prefetch thresholds, TDWBAH with WTHRESH, low latency and
descriptor threshold interrupts, more than 256 frames or 256 KiB of one segmented packet, flow control frames
(a full wire holds its sender back as they would).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from testbed.native import DoorbellWord, NicEngine, Pinned, trace
from testbed.nic.control import NicControl
from testbed.nic.interrupt import OUT_OF_SYNC
from testbed.pci.dma import DmaPort
from testbed.spec import dma_request, igb, igb_ring, igb_vf
from testbed.spec import trace as events
from testbed.spec.igb import field, mask

STALL_NS: Final = 100_000_000
"""How long a receive queue without descriptors holds its senders back."""
_ENABLE: Final = mask("RXDCTL", "ENABLE")
_BASE_REGISTERS: Final = ("BAL", "BAH", "LEN", "H")
_BUFFER_BYTES: Final = (2048, 1024, 512, 256)
"""RCTL.BSIZE, for queues whose SRRCTL.BSIZEPACKET is zero."""
_DESCTYPES: Final = (igb.DESCTYPE_LEGACY, igb.DESCTYPE_ONE_BUFFER)
_HEAD_ADDRESS: Final = ~0x3

Report = Callable[[int, str, str], None]
"""(function, what its driver did, what became of it)."""
_FAULTS: Final = ("none", "register", "dma", "descriptor")
"""By the engine's number."""


@dataclass
class Direction:
    """The transmit or the receive queues: names of their registers, and what the engine does with them."""

    prefix: str
    control: str
    start: Callable[[int], None]
    stop: Callable[[int], None]
    head: Callable[[int], int]
    tails: tuple[DoorbellWord, ...]
    running: int = 0
    """Queues whose ENABLE is set, a bit each."""


class NicData:
    """Queues, switch and wire of one NIC.

    Parameters
    ----------
    control: the control side, whose register file gets the queues' registers.
    sram: device memory, `NicEngine.memory_bytes()` from its beginning are used.
    counters: where, from `offset` on, eight `NIC_POOL` records are counted.
    report: told when a queue stops.
    """

    def __init__(
        self,
        control: NicControl,
        sram: Pinned,
        counters: Pinned,
        offset: int,
        report: Report = lambda _function, _reason, _detail: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        stall_ns: int = STALL_NS,
    ) -> None:
        statistics = control.statistics
        self.engine = NicEngine(sram, statistics.pinned, statistics.pools, counters, offset, stall_ns)
        self._tx = self._direction("TD", "TXDCTL")
        self._rx = self._direction("RD", "RXDCTL")
        self.advance: Callable[[], bool] = self._one_turn
        """Has the engine work, in one turn or for a while; says whether anything moved."""
        self._control, self._registers = control, control.registers
        self._report, self._clock_ns = report, clock_ns
        self._ports: dict[int, DmaPort] = {}
        self._messages: dict[tuple[int, int, int], None] = {}
        """MSIs (function, address, value) without room in their ring so far, in their order."""
        self.merged = 0
        """MSIs that were the same as one that still waited."""
        self._outdated = True
        self._bind()
        control.attach(self)
        self.reset_queues((1 << igb.QUEUES) - 1)

    def _direction(self, prefix: str, control: str) -> Direction:
        engine, tails = self.engine, tuple(DoorbellWord() for _ in range(igb.QUEUES))
        if prefix == "TD":
            return Direction(
                prefix, control, self._start_transmit, engine.stop_transmit, engine.transmit_head, tails
            )
        return Direction(
            prefix, control, self._start_receive, engine.stop_receive, engine.receive_head, tails
        )

    def attach_dma(self, ports: Mapping[int, DmaPort]) -> None:
        """Let functions (0: the PF, n: VF n-1) reach host memory."""
        for function, port in ports.items():
            self._ports[function] = port
            self.engine.attach_dma(function, port.ring)

    def doorbells(self, function: int) -> list[tuple[int, DoorbellWord]]:
        """Return (offset in the function's registers, tail) of the queues that it has, all aliases."""
        if function:
            return [
                (igb_vf.REGISTERS[name].at(index), tails[igb.vf_queue(function - 1, index)])
                for name, tails in (("TDT", self._tx.tails), ("RDT", self._rx.tails))
                for index in range(igb.VF_QUEUES)
            ]
        places = []
        for name, tails, alias, block in (
            ("TDT", self._tx.tails, igb.TX_ALIAS, igb.TX_BLOCK),
            ("RDT", self._rx.tails, igb.RX_ALIAS, igb.RX_BLOCK),
        ):
            reg = igb.REGISTERS[name]
            places += [(reg.at(queue), tails[queue]) for queue in range(igb.QUEUES)]
            places += [
                (alias + reg.offset - block + igb.ALIAS_STEP * queue, tails[queue])
                for queue in range(igb.ALIASED_QUEUES)
            ]
        return places

    def changed(self) -> None:
        """The control side's state is another one."""
        self._outdated = True

    def send(self, function: int, address: int, data: int) -> None:
        """Write an MSI as a function, behind everything that it has posted."""
        if trace:
            trace(events.MSI_RAISED, function, address, data)
        message = (function, address, data)
        self.merged += message in self._messages
        self._messages[message] = None

    # the loop's side

    def turn(self) -> bool:
        """Do everything that can be done now; say whether anything moved."""
        if self._outdated:
            self._configure()
        self.engine.await_events(*self._control.interrupts.awaited)
        moved = self.advance()
        self.take_events()
        self._submit()
        return moved

    def take_events(self) -> None:
        """Pass on what the engine has to say: before anybody looks at a register, or changes one."""
        tx, rx, spoofing, dropping, faults = self.engine.take_events()
        if tx:
            self._control.transmitted(tx)
        if rx:
            self._control.received(rx)
        if spoofing or dropping or faults:
            self._tell(spoofing, dropping, faults)

    def _one_turn(self) -> bool:
        return self.engine.turn(self._clock_ns())

    def deadline_ns(self) -> int | None:
        """Return when `turn` is needed though nothing has come, or None."""
        return self.engine.due_ns

    def _submit(self) -> None:
        if self._messages:
            self._post_messages()
        functions = self.engine.to_submit()
        while functions:
            lowest = functions & -functions
            self._ports[lowest.bit_length() - 1].submit()
            functions ^= lowest

    def _post_messages(self) -> None:
        """Post MSIs behind the write-backs that they announce; those without room wait for the next turn."""
        for message in tuple(self._messages):
            function, address, data = message
            port = self._ports.get(function)
            if port is None or self._post_message(port, address, data):
                del self._messages[message]

    @staticmethod
    def _post_message(port: DmaPort, address: int, data: int) -> bool:
        return port.ring.post(dma_request.KIND_MSI, address, dma_request.MSI_BYTES, data) is not None

    def _tell(self, spoofing: int, dropping: int, faults: int) -> None:
        for queue in range(igb.QUEUES):
            if spoofing >> queue & 1:
                self._control.spoofed(queue, self.engine.take_spoofed(queue))
            if dropping >> queue & 1:
                self._control.dropped(queue, self.engine.take_dropped(queue))
            if faults >> queue & 1:
                self._broken(self._tx, queue, self.engine.transmit_fault(queue))
            if faults >> igb.QUEUES + queue & 1:
                self._broken(self._rx, queue, self.engine.receive_fault(queue))

    def _broken(self, direction: Direction, queue: int, fault: int) -> None:
        self._registers.put(
            direction.control, queue, self._registers.get(direction.control, queue) & ~_ENABLE
        )
        direction.running &= ~(1 << queue)
        self._control.interrupts.cause(OUT_OF_SYNC)
        self._report(self._function(queue), _FAULTS[fault], f"{direction.prefix} queue {queue} stopped")

    # registers

    def reset_queues(self, queues: int) -> None:
        """The registers of queues were reset: forget what is under way there."""
        for queue in range(igb.QUEUES):
            if queues >> queue & 1:
                for direction in (self._tx, self._rx):
                    direction.tails[queue].value = 0
                    self._stop(direction, queue)
                    self._registers.put(direction.prefix + "H", queue, 0)
                    # §8.10, §8.12: queue 0 is enabled after a reset
                    self._control_written(direction, queue, self._registers.get(direction.control, queue))
        self._outdated = True

    def _bind(self) -> None:
        registers = self._registers
        for direction in (self._tx, self._rx):
            for suffix in _BASE_REGISTERS:
                registers.on_write_each(direction.prefix + suffix, partial(self._base_written, direction))
            registers.on_write_each(direction.control, partial(self._control_written, direction))
            registers.on_write_each(direction.prefix + "T", partial(_write_tail, direction))
            registers.on_read_each(direction.prefix + "T", partial(_read_tail, direction))
            registers.on_read_each(direction.prefix + "H", direction.head)
        registers.on_write_each("SRRCTL", lambda _queue, _value: self.changed())
        registers.on_write("RXCSUM", lambda _value: self.changed())

    def _base_written(self, direction: Direction, queue: int, _value: int) -> None:
        """A queue that was enabled before its ring was set up takes the ring now."""
        if direction.running >> queue & 1:
            direction.start(queue)

    def _control_written(self, direction: Direction, queue: int, value: int) -> None:
        running = bool(direction.running >> queue & 1)
        if value & _ENABLE and not running:
            direction.running |= 1 << queue
            direction.start(queue)
        elif running and not value & _ENABLE:
            self._stop(direction, queue)

    def _stop(self, direction: Direction, queue: int) -> None:
        direction.running &= ~(1 << queue)
        self._registers.put(direction.prefix + "H", queue, direction.head(queue))
        direction.stop(queue)

    def _configure(self) -> None:
        self._outdated = False
        state = self._control.state
        self.engine.configure(state)
        rxcsum, drop_en = self._registers["RXCSUM"], mask("SRRCTL", "DROP_EN")
        self.engine.configure_offloads(
            bool(rxcsum & mask("RXCSUM", "IPOFLD")),
            bool(rxcsum & mask("RXCSUM", "TUOFLD")),
            bool(rxcsum & mask("RXCSUM", "PCSD")),
        )
        for queue in range(igb.QUEUES):
            srrctl = self._registers.get("SRRCTL", queue)
            self.engine.set_drop(queue, bool(srrctl & drop_en or state.drop_queues >> queue & 1))

    def _function(self, queue: int) -> int:
        """Return whose requests a queue's are: pools without a virtual function are the PF's."""
        pool = queue % igb.POOLS
        return pool + 1 if pool < self._control.sriov.vfs else 0

    def _ring(self, prefix: str, queue: int) -> tuple[int, int, int]:
        """Return base address, descriptors and head, a head outside the ring as 0."""
        get = self._registers.get
        base = (
            get(f"{prefix}BAH", queue) << 32
            | get(f"{prefix}BAL", queue) & field(f"{prefix}BAL", f"{prefix}BAL").mask
        )
        size = (get(f"{prefix}LEN", queue) & field(f"{prefix}LEN", "LEN").mask) // igb_ring.DESC_BYTES
        head = get(f"{prefix}H", queue)
        return base, size, head if head < size else 0

    def _start_transmit(self, queue: int) -> None:
        base, size, head = self._ring("TD", queue)
        low = self._registers.get("TDWBAL", queue)
        address = self._registers.get("TDWBAH", queue) << 32 | low & _HEAD_ADDRESS
        written = address if low & igb_ring.HEAD_WRITE_BACK_ENABLE else 0
        tail = self._tx.tails[queue]
        self.engine.start_transmit(queue, self._function(queue), base, size, head, tail, written)

    def _start_receive(self, queue: int) -> None:
        srrctl = self._registers.get("SRRCTL", queue)
        desctype = field("SRRCTL", "DESCTYPE").get(srrctl)
        buffer_bytes = field("SRRCTL", "BSIZEPACKET").get(srrctl) * igb.BSIZEPACKET_UNIT_BYTES
        if not buffer_bytes:
            buffer_bytes = _BUFFER_BYTES[field("RCTL", "BSIZE").get(self._registers["RCTL"])]
        base, size, head = self._ring("RD", queue)
        # a descriptor type that is not modelled has no buffers: its queue takes nothing
        supported = buffer_bytes if desctype in _DESCTYPES else 0
        legacy, tail = desctype == igb.DESCTYPE_LEGACY, self._rx.tails[queue]
        self.engine.start_receive(queue, self._function(queue), base, size, head, tail, supported, legacy)


def _write_tail(direction: Direction, queue: int, value: int) -> None:
    direction.tails[queue].value = value


def _read_tail(direction: Direction, queue: int) -> int:
    return direction.tails[queue].value
