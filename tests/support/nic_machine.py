"""The control side of a NIC under test: one 82576 without queues, its messages and time recorded."""

from testbed.address import Bdf
from testbed.nic.control import NicConfig, NicControl
from testbed.spec import bar_window, igb, igb_pci, igb_vf, pci
from tests.support.recorders import ManualClock

MAC = bytes.fromhex("525400990001")
EXPRESS, SRIOV = igb_pci.EXPRESS, igb_pci.SRIOV
CONFIGURATION = bar_window.SPACE_CONFIGURATION


class RecordingDataSide:
    """Remembers which queues were reset."""

    def __init__(self) -> None:
        self.resets: list[int] = []

    def reset_queues(self, queues: int) -> None:
        self.resets.append(queues)


class NicMachine:
    """A NIC whose wire is plugged in; MSI-X vector n of function f is message (f, 1000h * f + n)."""

    def __init__(self, vfs: int = 0, mac: bytes = MAC) -> None:
        self.clock = ManualClock()
        self.changes = 0
        self.messages: list[tuple[int, int]] = []
        """(function, vector)"""
        self.nic = NicControl(NicConfig("nic0", mac, Bdf(0x0100)), self._send, self._changed, self.clock)
        self.data = RecordingDataSide()
        self.nic.attach(self.data)
        self.nic.set_wire(True)
        if vfs:
            self.enable_vfs(vfs)

    def _send(self, function: int, address: int, data: int) -> None:
        assert address >> 12 == function
        self.messages.append((function, data))

    def _changed(self) -> None:
        self.changes += 1

    def enable_vfs(self, vfs: int) -> None:
        """Set NumVFs and VF Enable."""
        self.nic.write(0, CONFIGURATION, SRIOV + pci.SRIOV["NUM_VFS"].offset, 2, vfs)
        self.nic.write(0, CONFIGURATION, SRIOV + pci.SRIOV["SRIOV_CONTROL"].offset, 2, 0x19 if vfs else 0x10)

    def enable_messages(self, function: int) -> None:
        """Unmask every vector of a function and let it write."""
        vectors = igb.VF_VECTORS if function else igb.MSIX_VECTORS
        for vector in range(vectors):
            for offset, value in ((0, 0x1000 * function), (4, 0), (8, vector), (12, 0)):
                self.nic.write(function, igb_pci.MSIX_BAR, 16 * vector + offset, 4, value)
        self.nic.write(function, CONFIGURATION, igb_pci.MSIX + 2, 2, 0x8000)
        self.nic.write(function, CONFIGURATION, pci.HEADER["COMMAND"].offset, 2, 0x6)

    def flr(self, function: int) -> None:
        """Do a function level reset."""
        self.nic.write(function, CONFIGURATION, EXPRESS + pci.EXPRESS["DEVICE_CONTROL"].offset, 2, 0x8000)

    # the PF's registers

    def rd(self, name: str, index: int = 0) -> int:
        return self.nic.read(0, igb_pci.REGISTERS_BAR, igb.REGISTERS[name].at(index), 4)

    def wr(self, name: str, value: int, index: int = 0) -> None:
        self.nic.write(0, igb_pci.REGISTERS_BAR, igb.REGISTERS[name].at(index), 4, value)

    # a virtual function's

    def vrd(self, vf: int, name: str, index: int = 0) -> int:
        return self.nic.read(vf + 1, igb_pci.REGISTERS_BAR, igb_vf.REGISTERS[name].at(index), 4)

    def vwr(self, vf: int, name: str, value: int, index: int = 0) -> None:
        self.nic.write(vf + 1, igb_pci.REGISTERS_BAR, igb_vf.REGISTERS[name].at(index), 4, value)

    def advance(self, ns: int) -> None:
        """Let time pass, stopping at every deadline on the way."""
        end_ns = self.clock.now_ns + ns
        while (due_ns := self.nic.deadline_ns()) is not None and due_ns <= end_ns:
            self.clock.now_ns = max(due_ns, self.clock.now_ns)
            self.nic.on_timer(self.clock.now_ns)
        self.clock.now_ns = end_ns

    def taken(self) -> list[tuple[int, int]]:
        """Return the messages since the last call."""
        taken, self.messages = self.messages, []
        return taken
