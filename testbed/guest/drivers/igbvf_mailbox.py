"""The mailbox of a virtual function, its driver's side: asks the physical function's driver and waits for the
answer.

Reference: 82576 datasheet (320961, revision 2.63) §7.10.2.9, §8.26; the messages are those of igbvf
(testbed/spec/igb_mailbox.py). Reading VFMAILBOX clears what it says, so that is remembered here. A message
that does not answer what was asked is one that the PF sent by itself: it is kept for `poll`. Not modelled:
further MAC addresses.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from testbed.errors import DeviceError
from testbed.pci.access import RegisterBus
from testbed.spec import igb_mailbox
from testbed.spec.igb_vf import REGISTERS, mask

_REQ, _ACK, _VFU, _PFU = (mask("VFMAILBOX", name) for name in ("REQ", "ACK", "VFU", "PFU"))
_PFSTS, _PFACK, _RSTI, _RSTD = (mask("VFMAILBOX", name) for name in ("PFSTS", "PFACK", "RSTI", "RSTD"))
_REMEMBERED: Final = _PFSTS | _PFACK | _RSTD
_ANSWER: Final = igb_mailbox.ACK | igb_mailbox.NACK
_FLAGS: Final = _ANSWER | igb_mailbox.CTS
_POLL_NS: Final = 500_000
_PATIENCE_NS: Final = 2_000_000_000
"""How long an answer is waited for; igbvf waits one second."""
_LOOKS_MIN: Final = 100
"""How often it is looked for at least: who was stopped itself for all that time has not waited yet."""
_ALL_ONES: Final = 0xFFFF_FFFF


class VfMailbox:
    """The driver's side.

    pause(ns): lets that much time pass. clock: monotonic, in nanoseconds.
    """

    def __init__(
        self, bus: RegisterBus, pause: Callable[[int], None], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._bus, self._pause, self._clock = bus, pause, clock
        self._flags = 0
        self._unasked: list[int] = []
        self._asking = False
        self.clear_to_send = False
        """The PF's driver said that we may ask for more than a reset."""

    def wait_for_pf(self) -> None:
        """Wait while the physical function is being reset. DeviceError where there is no end to it."""
        self._until(lambda: not self._look() & _RSTI, "end the reset of its physical function")
        self._flags, self.clear_to_send = 0, False
        self._unasked.clear()

    def ask(self, words: Sequence[int]) -> tuple[bool, list[int]]:
        """Send a message; return whether it was granted, and the answer's words.

        DeviceError where there is no answer.
        """
        self._asking = True
        try:
            return self._exchange(words)
        finally:
            self._asking = False

    def _exchange(self, words: Sequence[int]) -> tuple[bool, list[int]]:
        self._hold()
        while self._flags & _PFSTS:  # what the PF sent by itself would be overwritten
            self._keep(self._receive()[0])
            self._hold()
        self._flags &= ~_PFACK
        for index, word in enumerate(words):
            self._bus.write32(REGISTERS["VMBMEM"].at(index), word)
        self._bus.write32(REGISTERS["VFMAILBOX"].offset, _REQ)
        answer: list[int] = []

        def answered() -> bool:
            if self._look() & _PFSTS:
                answer[:] = self._receive()
            return bool(answer) and self._answers(answer[0], words[0])

        self._until(answered, f"answer mailbox message {words[0]:#x}")
        self.clear_to_send = bool(answer[0] & igb_mailbox.CTS)
        return bool(answer[0] & igb_mailbox.ACK), answer

    @property
    def waiting(self) -> bool:
        """Something that the PF sent by itself came while something was asked: `poll` has it."""
        return bool(self._unasked)

    def poll(self) -> bool:
        """Take what the PF sent by itself; return whether there was anything. `clear_to_send` follows it.

        While something is asked what comes may be the answer, so it is left alone.
        """
        if self._asking:
            return False
        flags = self._look()
        if flags & _PFSTS:
            self._keep(self._receive()[0])
        if flags & (_RSTI | _RSTD):  # the PF was reset, and we with it
            self._flags &= ~_RSTD
            self._unasked.append(igb_mailbox.PF_CONTROL)
        if not self._unasked:
            return False
        self.clear_to_send = bool(self._unasked[-1] & igb_mailbox.CTS)
        self._unasked.clear()
        return True

    def _answers(self, answer: int, asked: int) -> bool:
        """Say whether a word is the answer to what was asked; the PF's own messages are kept."""
        self._keep(answer)
        return bool(answer & _ANSWER) and answer & ~_FLAGS == asked

    def _keep(self, word: int) -> None:
        """Keep what is no answer for `poll`."""
        if not word & _ANSWER and word & ~_FLAGS == igb_mailbox.PF_CONTROL:
            self._unasked.append(word)

    def _look(self) -> int:
        """Return VFMAILBOX with what earlier reads have cleared."""
        value = self._bus.read32(REGISTERS["VFMAILBOX"].offset)
        if value == _ALL_ONES:
            raise DeviceError("82576 VF: the device does not answer")
        self._flags |= value & _REMEMBERED
        return value | self._flags

    def _hold(self) -> None:
        """Become the one who uses the mailbox's words."""

        def held() -> bool:
            self._bus.write32(REGISTERS["VFMAILBOX"].offset, _VFU)
            return bool(self._look() & _VFU)

        self._until(held, "give its mailbox to us")

    def _receive(self) -> list[int]:
        """Copy the PF's message out and acknowledge it."""
        self._flags &= ~(_PFSTS | _PFACK)
        words = [self._bus.read32(REGISTERS["VMBMEM"].at(index)) for index in range(3)]
        self._bus.write32(REGISTERS["VFMAILBOX"].offset, _ACK)
        return words

    def _until(self, done: Callable[[], bool], purpose: str) -> None:
        end_ns, looks = self._clock() + _PATIENCE_NS, 0
        while not done():
            looks += 1
            if looks >= _LOOKS_MIN and self._clock() >= end_ns:
                raise DeviceError(f"82576 VF: the physical function's driver does not {purpose}")
            self._pause(_POLL_NS)
