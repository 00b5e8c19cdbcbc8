"""What a virtual function's driver reaches: its own queues, vectors, mailbox and counts, and nothing else.

Reference: 82576 datasheet (320961, revision 2.63) §8.26 (registers), §7.10.2.1 (queues), §7.3.3 (vectors).
Each register is the device's register of the function's own queue or vector, by the table in spec/igb_vf.py;
whatever is written, no other address than those can be touched. Not modelled: VTFRTIMER counting, VFPSRTYPE
(packets are not split).
"""

from collections.abc import Callable
from typing import Final, Protocol

from testbed.memory.register_file import RegisterFile
from testbed.nic.interrupt import Interrupts
from testbed.nic.mailbox import Mailboxes
from testbed.nic.statistics import Statistics
from testbed.spec import igb, igb_vf
from testbed.spec.igb_statistics import VF_ROWS

_RST: Final = igb_vf.mask("VTCTRL", "RST")
_OWN: Final = (1 << igb.VF_VECTORS) - 1
_WORD_BYTES: Final = 4


class Device(Protocol):
    """What a window needs of the device that it looks into."""

    registers: RegisterFile
    interrupts: Interrupts
    mailboxes: Mailboxes
    statistics: Statistics

    def reset_vf(self, vf: int) -> None:
        """Reset a virtual function, as its driver asks by VTCTRL.RST."""
        ...


class VfWindow:
    """BAR 0 of one virtual function."""

    def __init__(self, device: Device, vf: int) -> None:
        self._device, self._vf = device, vf
        self._first = igb.vf_vector(vf, 0)
        self.registers = registers = RegisterFile(igb_vf.REGISTERS, unimplemented=("VFPSRTYPE",))
        self.read: Callable[[int, int], int] = registers.read
        """read(offset, size): what a load gives."""
        self.write: Callable[[int, int, int], None] = registers.write
        """write(offset, size, value): do a store."""
        registers.on_write("VTCTRL", self._control)
        registers.on_read("VTSTATUS", lambda: self._shared("STATUS"))
        registers.on_read("VTFRTIMER", lambda: self._shared("FRTIMER"))
        self._bind_mailbox(registers)
        self._bind_interrupts(registers)
        self._bind_queues()
        for name, _, _ in VF_ROWS:
            registers.on_read(name, self._counter(name.lower()))

    def reset(self) -> None:
        """Forget what is stored here: the function was reset."""
        self.registers.reset()

    def _shared(self, name: str) -> int:
        return self._device.registers.read(igb.REGISTERS[name].offset, _WORD_BYTES)

    def _control(self, value: int) -> None:
        if value & _RST:
            self._device.reset_vf(self._vf)

    def _counter(self, name: str) -> Callable[[], int]:
        return lambda: self._device.statistics.pool(self._vf, name)

    def _bind_mailbox(self, registers: RegisterFile) -> None:
        mailboxes, vf = self._device.mailboxes, self._vf
        registers.on_read("VFMAILBOX", lambda: mailboxes.read(vf))
        registers.on_write("VFMAILBOX", lambda value: mailboxes.write(vf, value))
        registers.on_read_each("VMBMEM", lambda index: mailboxes.read_word(vf, index))
        registers.on_write_each("VMBMEM", lambda index, value: mailboxes.write_word(vf, index, value))

    def _bind_interrupts(self, registers: RegisterFile) -> None:
        unit, first, vf = self._device.interrupts, self._first, self._vf
        own = _OWN << first
        registers.on_write("VTEICS", lambda value: unit.raise_vectors((value & _OWN) << first))
        registers.on_read("VTEIMS", lambda: unit.masks[0] >> first & _OWN)
        registers.on_write("VTEIMS", lambda value: unit.unmask((value & _OWN) << first))
        registers.on_write("VTEIMC", lambda value: unit.mask((value & _OWN) << first))
        registers.on_read("VTEIAC", lambda: unit.masks[1] >> first & _OWN)
        registers.on_write("VTEIAC", lambda value: unit.set_auto_clear(own, value << first))
        registers.on_read("VTEIAM", lambda: unit.masks[2] >> first & _OWN)
        registers.on_write("VTEIAM", lambda value: unit.set_auto_mask(own, value << first))
        registers.on_read("VTEICR", lambda: unit.take(own) >> first)
        registers.on_write("VTEICR", lambda value: unit.clear((value & _OWN) << first))
        registers.on_write("VTIVAR", lambda value: unit.allocate_queues(vf, value))
        registers.on_write("VTIVAR_MISC", lambda value: unit.allocate_mailbox(vf, value))
        self._forward("VTEITR", "EITR", lambda vector: first + vector)

    def _bind_queues(self) -> None:
        for reg in igb_vf.QUEUE_REGISTERS:
            self._forward(reg.name, reg.name, lambda queue: igb.vf_queue(self._vf, queue))

    def _forward(self, own: str, shared: str, member: Callable[[int], int]) -> None:
        """Make each member of a family of this window a member of a family of the device."""
        device, family = self._device.registers, igb.REGISTERS[shared]

        def read(index: int) -> int:
            return device.read(family.at(member(index)), _WORD_BYTES)

        def write(index: int, value: int) -> None:
            device.write(family.at(member(index)), _WORD_BYTES, value)

        self.registers.on_read_each(own, read)
        self.registers.on_write_each(own, write)
