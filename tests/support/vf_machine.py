"""A NIC, its PF's driver and a guest's igbvf, in one process: while the VF's driver waits, the PF's works."""

from dataclasses import dataclass

from testbed.address import PAGE_SIZE_BYTES
from testbed.guest.drivers.igbvf import IgbVfConfig, IgbVfDriver, VfBus
from testbed.native import Pinned
from testbed.observe.catalogue import guest_counter_names
from testbed.observe.counters import Counters
from testbed.pci.access import MsiMessage
from testbed.spec import bar_window, igb_pci
from testbed.vmm.pf_functions import VfSettings
from tests.support.pf_machine import DirectPort, PfMachine, registers

_IOVA = 0x7000_0000_0000


@dataclass
class Piece:
    iova: int
    pinned: Pinned


class Memory:
    """Hands out memory from the bottom up, each piece at an address of its own."""

    def __init__(self, base: int = _IOVA) -> None:
        self.next = base
        self.pieces: list[Piece] = []

    def take(self, size_bytes: int, purpose: str) -> Piece:
        assert purpose
        size_bytes = -(-size_bytes // PAGE_SIZE_BYTES) * PAGE_SIZE_BYTES
        piece = Piece(self.next, Pinned(bytearray(size_bytes)))
        self.pieces.append(piece)
        self.next += size_bytes + PAGE_SIZE_BYTES
        return piece


class VfMachine(PfMachine):
    """The PF's machine, with a driver on each virtual function that is asked for."""

    def __init__(self, *settings: VfSettings, start: bool = True, replicate: bool = True) -> None:
        super().__init__(*settings, start=start, replicate=replicate)
        self.paused_ns = 0

    def pause(self, ns: int) -> None:
        """Let time pass and the PF's driver work."""
        self.paused_ns += ns
        self.advance(ns)
        self.run()

    def load(self, vf: int = 0, config: IgbVfConfig | None = None) -> IgbVfDriver:
        """Load a driver on a virtual function, as a guest does."""
        vectors = [MsiMessage(0x1000 * (vf + 1), vector) for vector in range(3)]
        counters = Counters(guest_counter_names(1))
        bus = VfBus(
            registers(self.nic, vf + 1),
            DirectPort(self.nic, vf + 1, igb_pci.MSIX_BAR),
            DirectPort(self.nic, vf + 1, bar_window.SPACE_CONFIGURATION),
        )
        config = config or IgbVfConfig(vectors, ring_size=64)
        driver = IgbVfDriver(bus, Memory(), counters, "nic0", config, self.pause, self.clock)
        self.run()
        return driver

    def deliver_interrupts(self, driver: IgbVfDriver, vf: int = 0) -> list[int]:
        """Have a driver handle its mailbox's vector as often as it was sent; return all its vectors."""
        mine = [vector for function, vector in self.messages if function == vf + 1]
        self.messages = [m for m in self.messages if m[0] != vf + 1]
        for vector in mine:
            if vector == 2:
                driver.handle_interrupt()
        return mine
