"""A NIC with the physical function's driver on it, in one process, and a hand on each virtual function."""

from dataclasses import dataclass

from testbed.nic.control import NicControl
from testbed.pci.access import MsiMessage
from testbed.spec import bar_window, igb_mailbox, igb_pci, igb_vf
from testbed.vmm.pf_driver import PfBus, PfDriver, PfDriverConfig
from testbed.vmm.pf_functions import VfSettings
from tests.support.nic_machine import NicMachine

VF_MACS = tuple(bytes.fromhex(f"0200000000{n:02x}") for n in range(0x11, 0x19))
REQ, ACK, VFU = (igb_vf.mask("VFMAILBOX", name) for name in ("REQ", "ACK", "VFU"))
PFSTS, PFACK, RSTD = (igb_vf.mask("VFMAILBOX", name) for name in ("PFSTS", "PFACK", "RSTD"))


@dataclass
class DirectPort:
    """One register space of one function, without a window in between."""

    nic: NicControl
    function: int
    space: int

    def read32(self, offset: int) -> int:
        return self.nic.read(self.function, self.space, offset, 4)

    def write32(self, offset: int, value: int) -> None:
        self.nic.write(self.function, self.space, offset, 4, value)

    def read(self, offset: int, size_bytes: int) -> int:
        return self.nic.read(self.function, self.space, offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        self.nic.write(self.function, self.space, offset, size_bytes, value)


def registers(nic: NicControl, function: int) -> DirectPort:
    return DirectPort(nic, function, igb_pci.REGISTERS_BAR)


class PfMachine(NicMachine):
    """The driver, started; its interrupts are handled when `run` is called."""

    def __init__(self, *settings: VfSettings, start: bool = True, replicate: bool = True) -> None:
        super().__init__()
        self.links: list[bool] = []
        self.reports: list[tuple[int, str]] = []
        bus = PfBus(
            registers(self.nic, 0),
            DirectPort(self.nic, 0, igb_pci.MSIX_BAR),
            DirectPort(self.nic, 0, bar_window.SPACE_CONFIGURATION),
            [DirectPort(self.nic, vf + 1, bar_window.SPACE_CONFIGURATION) for vf in range(len(settings))],
        )
        config = PfDriverConfig("nic0", [MsiMessage(0, vector) for vector in range(3)], settings, replicate)
        self.driver = PfDriver(bus, config, self.clock, self.links.append, self._report)
        if start:
            self.driver.start()
            self.run()
            for vf in range(len(settings)):
                self.vrd(vf, "VFMAILBOX")

    def _report(self, vf: int, reason: str, detail: str) -> None:
        assert detail
        self.reports.append((vf, reason))

    def run(self) -> None:
        """Handle the PF's interrupts until there is none; let throttled ones come."""
        for _ in range(50):
            mine = [vector for function, vector in self.messages if function == 0]
            self.messages = [m for m in self.messages if m[0] != 0]
            for vector in mine:
                self.driver.handle_interrupt(vector)
            if not mine:
                if self.nic.deadline_ns() is None:
                    return
                self.advance(50_000)
        raise AssertionError("the PF's interrupts do not end")

    # a virtual function's mailbox, by hand

    def ask(self, vf: int, *words: int) -> list[int]:
        """Send a message, have it answered, return the answer's words."""
        self.vwr(vf, "VFMAILBOX", VFU)
        for index, word in enumerate(words):
            self.vwr(vf, "VMBMEM", word, index)
        self.vwr(vf, "VFMAILBOX", REQ)
        self.run()
        flags = self.vrd(vf, "VFMAILBOX")
        assert flags & (PFSTS | PFACK) == PFSTS | PFACK, f"VF {vf} got no answer: {flags:#x}"
        answer = [self.vrd(vf, "VMBMEM", index) for index in range(igb_mailbox.WORDS)]
        self.vwr(vf, "VFMAILBOX", ACK)
        self.run()
        return answer

    def reset_vf(self, vf: int) -> list[int]:
        """Do what a VF's driver does first: reset the function, then ask for it."""
        self.vwr(vf, "VTCTRL", igb_vf.mask("VTCTRL", "RST"))
        self.run()
        return self.ask(vf, igb_mailbox.RESET)


def mac_words(mac: bytes) -> tuple[int, int]:
    """Return an address as two words of a message."""
    return int.from_bytes(mac[:4], "little"), int.from_bytes(mac[4:], "little")
