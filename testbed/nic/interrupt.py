"""Interrupt causes of the 82576 and the MSI-X vectors that they become, of all functions together.

Reference: 82576 datasheet (320961, revision 2.63) §7.3, §8.8. EICR has a bit for each of 25 vectors: those of
virtual function n are three from `igb.vf_vector(n, 0)` on, while it exists; the lowest ten are the PF's. A
vector's message is sent when its bit in EICR and EIMS becomes set, but not before EITR's interval has passed
since the last one; sending clears the EICR bits in EIAC and, under GPIE.EIAME, the EIMS bits in EIAM. Causes
other than the queues' are in ICR and reach EICR by IVAR_MISC; those of a virtual function's mailbox by its
own VTIVAR_MISC. Not modelled: INTx and MSI (GPIE.MULTIPLE_MSIX clear: nothing is sent), low latency
interrupts, the TCP timer, the moderation counter's value.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from testbed.memory.register_file import RegisterFile
from testbed.spec import igb, igb_vf
from testbed.spec.igb import mask

LSC: Final = mask("ICR", "LSC")
TXDW: Final = mask("ICR", "TXDW")
RXDW: Final = mask("ICR", "RXDW")
RX_MISS: Final = mask("ICR", "RX_MISS")
MAILBOX: Final = mask("ICR", "SWMB")
OUT_OF_SYNC: Final = mask("ICR", "DOUTSYNC")
_ALL: Final = sum(bits.mask for bits in igb.REGISTERS["ICR"].bits)
_VECTORS: Final = mask("EIMS", "VECTOR")
_OF_A_VF: Final = (1 << igb.VF_VECTORS) - 1
_INTERVAL: Final = igb.field("EITR", "INTERVAL")
_OTHER: Final = igb.field("IVAR_MISC", "OTHER")
_OTHER_VALID: Final = mask("IVAR_MISC", "OTHER_VALID")
_MAILBOX: Final = igb_vf.REGISTERS.field("VTIVAR_MISC", "MAILBOX")
_MAILBOX_VALID: Final = igb_vf.mask("VTIVAR_MISC", "MAILBOX_VALID")
_NSICR: Final = mask("GPIE", "NSICR")
_MSIX: Final = mask("GPIE", "MULTIPLE_MSIX")
_AUTO_MASK: Final = mask("GPIE", "EIAME")
_ENTRY_BITS: Final = 8
_ENTRY_VALID: Final = 0x80
_ENTRY_VECTOR: Final = 0x1F


@dataclass(slots=True)
class _State:
    causes: int = 0
    """ICR."""
    cause_mask: int = 0
    """IMS."""
    pending: int = 0
    """EICR."""
    mask: int = 0
    """EIMS."""
    auto_clear: int = 0
    auto_mask: int = 0
    asserted: int = 0
    """Vectors whose message was sent and whose level has not gone down since."""
    interval_ns: list[int] = field(default_factory=lambda: [0] * igb.VECTORS)
    sent_ns: list[int | None] = field(default_factory=lambda: [None] * igb.VECTORS)
    due_ns: dict[int, int] = field(default_factory=dict)
    """Vectors that wait for their interval to be over, and when it is."""
    rx_vector: list[int] = field(default_factory=lambda: [0] * igb.QUEUES)
    """Each queue's bit in EICR, 0: none."""
    tx_vector: list[int] = field(default_factory=lambda: [0] * igb.QUEUES)
    mailbox_vector: list[int] = field(default_factory=lambda: [0] * igb.VFS_MAX)


class Interrupts:
    """The interrupt unit. Every time is in nanoseconds of `clock`.

    send(function, vector): signals an MSI-X vector of a function, 0 for the PF, n for VF n-1.
    """

    def __init__(
        self, registers: RegisterFile, send: Callable[[int, int], None], clock: Callable[[], int]
    ) -> None:
        self._registers, self._send, self._clock = registers, send, clock
        self.sent = [0] * (igb.VFS_MAX + 1)
        """Messages by function."""
        self._vfs = 0
        self._state = _State()
        self._awaited, self._awaited_by = (0, 0), -1
        self._bind(registers)

    def _bind(self, registers: RegisterFile) -> None:
        registers.on_read("ICR", self._read_icr)
        registers.on_write("ICR", self._clear_causes)
        registers.on_write("ICS", self.cause)
        registers.on_read("IMS", lambda: self._state.cause_mask)
        registers.on_write("IMS", self._unmask_causes)
        registers.on_write("IMC", self._mask_causes)
        registers.on_read("EICR", self._read_eicr)
        registers.on_write("EICR", self.clear)
        registers.on_write("EICS", self.raise_vectors)
        registers.on_read("EIMS", lambda: self._state.mask)
        registers.on_write("EIMS", self.unmask)
        registers.on_write("EIMC", self.mask)
        registers.on_read("EIAC", lambda: self._state.auto_clear)
        registers.on_write("EIAC", lambda value: self.set_auto_clear(_VECTORS, value))
        registers.on_read("EIAM", lambda: self._state.auto_mask)
        registers.on_write("EIAM", lambda value: self.set_auto_mask(_VECTORS, value))
        registers.on_write("GPIE", lambda _value: self._update(_VECTORS))
        registers.on_write_each("EITR", self._throttle)
        registers.on_write_each("IVAR", self._allocate)

    # the device's side

    def set_vfs(self, vfs: int) -> None:
        """That many virtual functions exist now: their vectors are theirs."""
        self._vfs = vfs

    def received(self, queues: int) -> None:
        """Raise the causes of receive queues (bit mask)."""
        self._state.causes |= RXDW
        self.raise_vectors(_vectors_of(queues, self._state.rx_vector))

    def transmitted(self, queues: int) -> None:
        """Raise the causes of transmit queues (bit mask)."""
        self._state.causes |= TXDW
        self.raise_vectors(_vectors_of(queues, self._state.tx_vector))

    def cause(self, causes: int) -> None:
        """Set bits of ICR as if they had happened (and what a write of ICS does)."""
        state = self._state
        state.causes |= causes & _ALL
        if state.causes & causes & state.cause_mask:
            self._raise_other()

    def mailbox(self, vf: int) -> None:
        """Raise the mailbox cause of a virtual function."""
        self.raise_vectors(self._state.mailbox_vector[vf])

    def raise_vectors(self, vectors: int) -> None:
        """Set bits of EICR, and send what may be sent."""
        vectors &= _VECTORS
        self._state.pending |= vectors
        self._update(vectors)

    # registers, for the PF and through the windows of virtual functions

    @property
    def pending(self) -> int:
        """EICR, as it is."""
        return self._state.pending

    @property
    def masks(self) -> tuple[int, int, int]:
        """EIMS, EIAC and EIAM."""
        return self._state.mask, self._state.auto_clear, self._state.auto_mask

    @property
    def awaited(self) -> tuple[int, int]:
        """Transmit and receive queues (bit masks) whose cause would send a message now: the causes of others
        only have to be known before the next access to a register.
        """
        state = self._state
        vectors = state.mask & ~state.asserted
        if vectors != self._awaited_by:
            self._awaited_by = vectors
            tables = (state.tx_vector, state.rx_vector)
            tx, rx = (sum(1 << n for n, bit in enumerate(each) if bit & vectors) for each in tables)
            self._awaited = tx, rx
        return self._awaited

    def take(self, vectors: int) -> int:
        """Return and clear bits of EICR (a read of EICR or VTEICR)."""
        taken = self._state.pending & vectors
        self.clear(vectors)
        return taken

    def clear(self, vectors: int) -> None:
        """Clear bits of EICR."""
        self._state.pending &= ~vectors
        self._update(vectors & _VECTORS)

    def unmask(self, vectors: int) -> None:
        """Set bits of EIMS."""
        self._state.mask |= vectors & _VECTORS
        self._update(vectors & _VECTORS)

    def mask(self, vectors: int) -> None:
        """Clear bits of EIMS."""
        self._state.mask &= ~vectors
        self._update(vectors & _VECTORS)

    def set_auto_clear(self, which: int, value: int) -> None:
        """Write the bits `which` of EIAC."""
        self._state.auto_clear = self._state.auto_clear & ~which | value & which

    def set_auto_mask(self, which: int, value: int) -> None:
        """Write the bits `which` of EIAM."""
        self._state.auto_mask = self._state.auto_mask & ~which | value & which

    def allocate_queues(self, vf: int, vtivar: int) -> None:
        """Take VTIVAR: the vectors of a virtual function's two queues."""
        self._awaited_by = -1
        for queue in range(igb.VF_QUEUES):
            device_queue = igb.vf_queue(vf, queue)
            entry = vtivar >> 2 * _ENTRY_BITS * queue
            self._state.rx_vector[device_queue] = _vf_bit(vf, entry)
            self._state.tx_vector[device_queue] = _vf_bit(vf, entry >> _ENTRY_BITS)

    def allocate_mailbox(self, vf: int, vtivar_misc: int) -> None:
        """Take VTIVAR_MISC: the vector of a virtual function's mailbox."""
        self._state.mailbox_vector[vf] = _vf_bit(vf, vtivar_misc)

    # reset and time

    def reset(self) -> None:
        """Forget everything, of every function."""
        self._state = _State()
        self._awaited_by = -1

    def reset_vf(self, vf: int) -> None:
        """Forget what belongs to a virtual function."""
        first = igb.vf_vector(vf, 0)
        own, state = _OF_A_VF << first, self._state
        for name in ("pending", "mask", "auto_clear", "auto_mask", "asserted"):
            setattr(state, name, getattr(state, name) & ~own)
        for vector in range(first, first + igb.VF_VECTORS):
            state.due_ns.pop(vector, None)
            state.interval_ns[vector] = 0
            self._registers.put("EITR", vector, 0)
        self.allocate_queues(vf, 0)
        self.allocate_mailbox(vf, 0)

    def deadline_ns(self) -> int | None:
        """Return when `on_timer` has something to do, or None."""
        return min(self._state.due_ns.values()) if self._state.due_ns else None

    def on_timer(self, now_ns: int) -> None:
        """Send what waited for its interval."""
        over = sum(1 << vector for vector, due_ns in self._state.due_ns.items() if due_ns <= now_ns)
        for vector in _bits(over):
            del self._state.due_ns[vector]
        self._update(over)

    # the PF's registers

    def _read_icr(self) -> int:
        """§8.8: cleared by the read when nothing is masked in or GPIE.NSICR says so."""
        state = self._state
        causes = state.causes
        if self._registers["GPIE"] & _NSICR or not state.cause_mask:
            state.causes = 0
        state.cause_mask &= ~self._registers["IAM"]
        return causes

    def _clear_causes(self, value: int) -> None:
        self._state.causes &= ~value

    def _unmask_causes(self, value: int) -> None:
        state = self._state
        state.cause_mask |= value & _ALL
        if state.causes & value & _ALL:
            self._raise_other()

    def _mask_causes(self, value: int) -> None:
        self._state.cause_mask &= ~value

    def _read_eicr(self) -> int:
        return self.take(_VECTORS)

    def _throttle(self, vector: int, value: int) -> None:
        self._state.interval_ns[vector] = _INTERVAL.get(value) * igb.EITR_UNIT_NS
        self._state.due_ns.pop(vector, None)
        self._update(1 << vector)

    def _allocate(self, index: int, value: int) -> None:
        self._awaited_by = -1
        state = self._state
        for queue, shift in ((index, 0), (index + igb.QUEUES // 2, 2 * _ENTRY_BITS)):
            state.rx_vector[queue] = _bit(value >> shift)
            state.tx_vector[queue] = _bit(value >> shift + _ENTRY_BITS)

    def _raise_other(self) -> None:
        allocation = self._registers["IVAR_MISC"]
        if allocation & _OTHER_VALID:
            self.raise_vectors(1 << _OTHER.get(allocation))

    # messages

    def _update(self, vectors: int) -> None:
        """Look at vectors whose EICR or EIMS bit may have changed."""
        state = self._state
        state.asserted &= ~vectors | (state.pending & state.mask)
        if not self._registers["GPIE"] & _MSIX:
            return
        for vector in _bits(state.pending & state.mask & vectors & ~state.asserted):
            if self._may_send(vector):
                self._message(vector)

    def _may_send(self, vector: int) -> bool:
        """Say whether the vector's interval is over; if not, remember when it is."""
        state = self._state
        interval_ns, sent_ns = state.interval_ns[vector], state.sent_ns[vector]
        if not interval_ns:
            return True
        now_ns = self._clock()
        if sent_ns is not None and now_ns < sent_ns + interval_ns:
            state.due_ns[vector] = sent_ns + interval_ns
            return False
        state.sent_ns[vector] = now_ns
        return True

    def _message(self, vector: int) -> None:
        state, bit = self._state, 1 << vector
        state.asserted |= bit
        state.pending &= ~(bit & state.auto_clear)
        if self._registers["GPIE"] & _AUTO_MASK:
            state.mask &= ~(bit & state.auto_mask)
        state.asserted &= state.pending & state.mask
        function, number = self._owner(vector)
        self.sent[function] += 1
        self._send(function, number)

    def _owner(self, vector: int) -> tuple[int, int]:
        """Return which function a vector belongs to, and its number there."""
        vf = (igb.VECTORS - 1 - vector) // igb.VF_VECTORS
        if vf < self._vfs:
            return vf + 1, vector - igb.vf_vector(vf, 0)
        return 0, vector


def _bits(word: int) -> list[int]:
    """Return the numbers of the bits that are set, lowest first."""
    return [n for n in range(word.bit_length()) if word >> n & 1]


def _vectors_of(queues: int, allocated: list[int]) -> int:
    vectors = 0
    for queue in _bits(queues):
        vectors |= allocated[queue]
    return vectors


def _bit(entry: int) -> int:
    """Return the EICR bit that an IVAR entry stands for; 0 where it is not valid or has no vector."""
    vector = entry & _ENTRY_VECTOR
    return 1 << vector if entry & _ENTRY_VALID and vector < igb.VECTORS else 0


def _vf_bit(vf: int, entry: int) -> int:
    """The same for an entry of a virtual function, whose vectors are 0 to 2."""
    vector = _MAILBOX.get(entry)
    valid = entry & _MAILBOX_VALID and vector < igb.VF_VECTORS
    return 1 << igb.vf_vector(vf, vector) if valid else 0
