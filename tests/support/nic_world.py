"""A whole NIC in one process: control and data side, the PF's driver with the bridge's uplink, igbvf drivers
in guests, each with strict memory of its own behind an IOMMU that is slow and obvious.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.guest.drivers.igbvf import IgbVfConfig, IgbVfDriver, VfBus
from testbed.native import Burst, NicEngine, Pinned, ReplaySource
from testbed.nic.data import NicData
from testbed.observe.catalogue import guest_counter_names
from testbed.observe.counters import Counters
from testbed.pci.access import MsiMessage
from testbed.spec import dma_request as dma
from testbed.spec import igb_pci
from testbed.spec.nic_counters import NIC_POOL
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.spec.wire import wire_bytes
from testbed.vmm.pf_driver import VECTOR_OTHER
from testbed.vmm.pf_functions import VfSettings
from testbed.vmm.pf_uplink import PfUplink, UplinkConfig
from tests.support.immediate_port import ImmediatePort
from tests.support.nic_bench import STALL_NS, Iommu
from tests.support.pf_machine import DirectPort, registers
from tests.support.strict_memory import StrictMemory
from tests.support.vf_machine import VfMachine

MEMORY_BYTES = 1 << 20
FUNCTION_BASE = 0x1_0000_0000
"""Where function n's memory is: n times this."""


@dataclass
class Piece:
    iova: int
    pinned: Pinned


class FunctionMemory:
    """Strict memory of one function's driver, handed out from the bottom up."""

    def __init__(self, function: int) -> None:
        self.strict = StrictMemory(MEMORY_BYTES, base=FUNCTION_BASE * (function + 1))
        self._next = self.strict.base

    def take(self, size_bytes: int, purpose: str) -> Piece:
        assert purpose
        at, self._next = self._next, self._next + align_up(size_bytes, PAGE_SIZE_BYTES)
        return Piece(at, self.strict.pinned(at, size_bytes))


class FunctionIommu(Iommu):
    """One function's requests: to its own memory and nowhere else; messages are recorded."""

    def __init__(self, world: "NicWorld", function: int) -> None:
        super().__init__(world.memories[function].strict, world.sram)
        self._world, self._function = world, function
        self.refused = 0

    def _do(self, row: dict[str, int]) -> int:
        if row["kind"] == dma.KIND_MSI:
            self._world.messages.append((self._function, row["buffer"]))
            return dma.STATUS_DONE
        status = super()._do(row)
        self.refused += status != dma.STATUS_DONE
        return status


class NicWorld(VfMachine):
    """The machine of the drivers, with queues."""

    def __init__(self, *settings: VfSettings, ring_size: int = 64, replicate: bool = True) -> None:
        self.sram = memoryview(bytearray(NicEngine.memory_bytes()))
        self.memories = [FunctionMemory(function) for function in range(len(settings) + 1)]
        super().__init__(*settings, start=False, replicate=replicate)
        self.ring_size = ring_size
        self.pool_counters = bytearray(8 * NIC_POOL.size)
        self.stopped: list[tuple[int, str]] = []
        self.queues = NicData(
            self.nic, Pinned(self.sram), Pinned(self.pool_counters), 0, self._stopped, self.clock, STALL_NS
        )
        self.iommus = [FunctionIommu(self, function) for function in range(len(self.memories))]
        self.queues.attach_dma(
            {
                function: ImmediatePort(iommu.add(function), lambda: None)
                for function, iommu in enumerate(self.iommus)
            }
        )
        self.out, self.into = Pinned(bytearray(wire_bytes(65536))), Pinned(bytearray(wire_bytes(65536)))
        self.guests: dict[int, IgbVfDriver] = {}
        self.port_counters = bytearray(PORT_COUNTERS.size)
        self.uplink = PfUplink(
            self.driver,
            self.memories[0],
            Pinned(self.port_counters),
            0,
            lambda: None,
            UplinkConfig(ring_size),
        )
        self.driver.start()
        self.uplink.start()
        self.run()

    def _send(self, function: int, address: int, data: int) -> None:
        self.queues.send(function, address, data)

    def _changed(self) -> None:
        self.queues.changed()

    def _stopped(self, function: int, reason: str, _detail: str) -> None:
        self.stopped.append((function, reason))

    def plug(self, other: "NicWorld") -> None:
        """Join this NIC's wire with another's."""
        self.queues.engine.attach_wire(self.out, self.into)
        other.queues.engine.attach_wire(self.into, self.out)

    def turn(self) -> bool:
        """Do one step of everything; say whether anything moved."""
        moved = self.queues.turn()
        for function, iommu in enumerate(self.iommus):
            moved |= iommu.serve(function)
        self.queues.engine.publish_wire()
        self.queues.engine.release_wire()
        moved |= bool(self.messages)
        messages, self.messages = self.messages, []
        for function, vector in messages:
            self._interrupt(function, vector)
        return moved

    def _interrupt(self, function: int, vector: int) -> None:
        if function == 0:
            if vector == VECTOR_OTHER:
                self.driver.handle_interrupt(vector)
            else:
                self.uplink.interrupted()
        elif function - 1 in self.guests:
            self.guests[function - 1].handle_vector(vector)

    def run(self) -> None:
        """Go on until nothing moves; let what is due come."""
        if not hasattr(self, "iommus"):
            return
        for _ in range(10_000):
            if not self.turn():
                due = self.nic.deadline_ns()
                if due is None:
                    return
                self.advance(max(0, due - self.clock.now_ns))
        raise AssertionError("the NIC never comes to rest")

    def load(self, vf: int = 0, config: IgbVfConfig | None = None) -> IgbVfDriver:
        """Load a driver on a virtual function whose configuration space the hypervisor has."""
        space = igb_pci.MSIX + 2
        self.nic.write(vf + 1, 16, space, 2, 0x8000)
        self.nic.write(vf + 1, 16, 0x04, 2, 0x4)
        vectors = [MsiMessage(0x1000 * (vf + 1), vector) for vector in range(3)]
        bus = VfBus(registers(self.nic, vf + 1), DirectPort(self.nic, vf + 1, igb_pci.MSIX_BAR))
        config = config or IgbVfConfig(vectors, ring_size=self.ring_size)
        counters = Counters(guest_counter_names(1))
        memory = self.memories[vf + 1]
        self.guests[vf] = driver = IgbVfDriver(bus, memory, counters, "nic0", config, self.pause, self.clock)
        self.run()
        return driver

    def count(self, pool: int, name: str) -> int:
        return NIC_POOL.unpack(self.pool_counters, pool * NIC_POOL.size)[name]

    def assert_intact(self) -> None:
        for memory in self.memories:
            memory.strict.assert_intact()


def send(driver: IgbVfDriver, frames: Sequence[bytes]) -> int:
    """Send as many frames as there are buffers for; return how many."""
    burst = Burst()
    count = driver.tx_reserve(burst, len(frames))
    if count:
        offsets = array("I", [0, *accumulate(len(data) for data in frames)])
        ReplaySource(b"".join(frames), offsets).fill(burst)
        driver.tx_send(burst)
    return count


def receive(driver: IgbVfDriver) -> list[bytes]:
    """Take what arrived and give the buffers back."""
    burst, got = Burst(), list[bytes]()
    while count := driver.rx_collect(burst):
        got += [burst.frame_bytes(i) for i in range(count)]
        driver.rx_refill(burst)
    return got
