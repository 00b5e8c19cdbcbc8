"""Serves the mailboxes of virtual functions: what their drivers may have, and what not.

Reference: 82576 datasheet (320961, revision 2.63) §7.10.2.9; the messages are those of igb and igbvf
(testbed/spec/igb_mailbox.py). A message is copied out of the mailbox word by word before it is looked at, so
that it cannot change meanwhile; whatever is in it, it is answered with ACK or NACK and harms nobody else.
A virtual function that has not been reset since the PF or its link changed may ask for nothing but a reset.
One that sends more than `BURST_MESSAGES` in `WINDOW_NS` is not listened to until the window is over. What the
PF says by itself waits while the mailbox is in use, so that it is never written over a request or an answer.
"""

from collections.abc import Callable
from typing import Final, Protocol

from testbed.spec import igb, igb_mailbox
from testbed.spec.igb import field, mask
from testbed.vmm.pf_functions import VLAN_MAX, Vf
from testbed.vmm.pf_registers import PfRegisters

BURST_MESSAGES: Final = 64
WINDOW_NS: Final = 100_000_000
"""A driver that comes up sends about ten messages."""
_PFU: Final = mask("PFMAILBOX", "PFU")
_RVFU: Final = mask("PFMAILBOX", "RVFU")
_STS: Final = mask("PFMAILBOX", "STS")
_ACK: Final = mask("PFMAILBOX", "ACK")
_VFREQ: Final = field("MBVFICR", "VFREQ")
_VFACK: Final = field("MBVFICR", "VFACK")
_ALL_VFS: Final = (1 << igb.VFS_MAX) - 1
_HASH_MASK: Final = (1 << igb_mailbox.HASH_BITS) - 1
_HASHES_A_WORD: Final = 2
_HASH_WORD_BITS: Final = 16


class Policy(Protocol):
    """What follows from resets and messages; the latter's methods answer whether it was granted."""

    def take_resets(self) -> bool:
        """Take notice of virtual functions that were reset; say whether there was any."""
        ...

    def reset_vf(self, vf: Vf) -> bool:
        """The driver starts: False where it has no address, or its link is off."""
        ...

    def set_mac(self, vf: Vf, mac: bytes) -> bool: ...

    def change_macs(self, vf: Vf, mac: bytes | None) -> bool:
        """Add a further address, or with None remove all of them."""
        ...

    def set_multicast(self, vf: Vf, hashes: tuple[int, ...], everything: bool) -> bool: ...

    def set_vlan(self, vf: Vf, vlan: int, member: bool) -> bool: ...

    def set_frame_max(self, vf: Vf, frame_max_bytes: int) -> bool: ...

    def set_promiscuous(self, vf: Vf, multicast: bool) -> bool: ...


class MailboxService:
    """The PF's side of every mailbox."""

    def __init__(
        self, registers: PfRegisters, vfs: list[Vf], policy: Policy, clock: Callable[[], int]
    ) -> None:
        self._registers, self._vfs, self._policy, self._clock = registers, vfs, policy, clock
        self._window_ns = [0] * len(vfs)
        self._in_window = [0] * len(vfs)
        self._deaf = 0
        """Virtual functions that are not listened to until their window is over."""
        self._unread = 0
        """Those that have not acknowledged what they were sent."""
        self._waiting = 0
        """Those that are to be told about their link."""

    def start(self) -> None:
        """Listen to everyone."""
        self._deaf = 0
        self._registers.write("MBVFIMR", _ALL_VFS)

    def serve(self) -> bool:
        """Answer every virtual function that waits, one message each; say whether there was any."""
        causes = self._registers.read("MBVFICR")
        # only now: whoever asks was reset before it asked, and what the answer grants must outlive that reset
        if self._policy.take_resets():
            causes = self._registers.read("MBVFICR")
        requests, acknowledged = _VFREQ.get(causes) & ~self._deaf, _VFACK.get(causes)
        if not requests and not acknowledged:
            return False
        if acknowledged:
            self._registers.write("MBVFICR", _VFACK.put(acknowledged))
            self._unread &= ~acknowledged
        for vf in self._vfs:
            if requests >> vf.number & 1 and self._admits(vf):
                self._registers.write("MBVFICR", _VFREQ.put(1 << vf.number))
                self._answer(vf)
            if self._waiting >> vf.number & 1:
                self.notify(vf)
        return requests != 0

    def notify(self, vf: Vf) -> None:
        """Tell a virtual function that something about its link changed, as soon as its mailbox is free."""
        bit = 1 << vf.number
        self._waiting |= bit
        if self._unread & bit:
            return
        self._registers.write("PFMAILBOX", _PFU, vf.number)
        held = self._registers.read("PFMAILBOX", vf.number) & _PFU
        if held and not _VFREQ.get(self._registers.read("MBVFICR")) & bit:
            self._waiting &= ~bit
            message = igb_mailbox.PF_CONTROL | (igb_mailbox.CTS if vf.driver.clear_to_send else 0)
            self._send(vf, [message])
        elif held:
            self._registers.write("PFMAILBOX", 0, vf.number)

    def forget(self, vf: Vf) -> None:
        """A virtual function was reset: it looks at its link by itself, and has read what it was sent."""
        self._unread &= ~(1 << vf.number)
        self._waiting &= ~(1 << vf.number)

    def deadline_ns(self) -> int | None:
        """Return when `on_timer` has something to do, or None."""
        due = [self._window_ns[vf.number] for vf in self._vfs if self._deaf >> vf.number & 1]
        return min(due) + WINDOW_NS if due else None

    def on_timer(self, now_ns: int) -> bool:
        """Listen again to whom the window is over; say whether anything was answered."""
        over = [
            vf.number
            for vf in self._vfs
            if self._deaf >> vf.number & 1 and now_ns >= self._window_ns[vf.number] + WINDOW_NS
        ]
        for number in over:
            self._deaf &= ~(1 << number)
        if over:
            self._registers.write("MBVFIMR", _ALL_VFS & ~self._deaf)
        return bool(over) and self.serve()

    # one message

    def _admits(self, vf: Vf) -> bool:
        """Count a message; False where the virtual function has sent too many."""
        number, now_ns = vf.number, self._clock()
        if now_ns >= self._window_ns[number] + WINDOW_NS:
            self._window_ns[number], self._in_window[number] = now_ns, 0
        self._in_window[number] += 1
        vf.counts.messages += 1
        if self._in_window[number] <= BURST_MESSAGES:
            return True
        vf.counts.throttled += 1
        self._deaf |= 1 << number
        self._registers.write("MBVFIMR", _ALL_VFS & ~self._deaf)
        return False

    def _answer(self, vf: Vf) -> None:
        message = self._receive(vf)
        word = message[0]
        if word & (igb_mailbox.ACK | igb_mailbox.NACK):  # an answer of ours, sent back
            return
        granted, reply = self._grant(vf, message)
        if not granted:
            vf.counts.refused += 1
        reply[0] = word & ~igb_mailbox.CTS | (igb_mailbox.ACK if granted else igb_mailbox.NACK)
        if vf.driver.clear_to_send and word & igb_mailbox.TYPE_MASK != igb_mailbox.RESET:
            reply[0] |= igb_mailbox.CTS
        self._send(vf, reply)

    def _grant(self, vf: Vf, message: list[int]) -> tuple[bool, list[int]]:
        """Do what a message asks for; return whether it was granted, and the words of the answer."""
        kind = message[0] & igb_mailbox.TYPE_MASK
        if kind == igb_mailbox.RESET:
            granted = self._policy.reset_vf(vf)
            mac = vf.mac if granted else bytes(6)
            return granted, [0, int.from_bytes(mac[:4], "little"), int.from_bytes(mac[4:], "little")]
        if not vf.driver.clear_to_send:
            return False, [0]
        handler = {
            igb_mailbox.SET_MAC_ADDR: self._set_mac,
            igb_mailbox.SET_MULTICAST: self._set_multicast,
            igb_mailbox.SET_VLAN: self._set_vlan,
            igb_mailbox.SET_LPE: self._set_lpe,
            igb_mailbox.SET_PROMISC: self._set_promiscuous,
        }.get(kind)
        return (handler is not None and handler(vf, message)), [0]

    def _set_mac(self, vf: Vf, message: list[int]) -> bool:
        mac = (message[1] | message[2] << 32).to_bytes(8, "little")[:6]
        info = igb_mailbox.INFO.get(message[0])
        if info == igb_mailbox.MAC_FILTER_CLEAR:
            return self._policy.change_macs(vf, None)
        if info == igb_mailbox.MAC_FILTER_ADD:
            return self._policy.change_macs(vf, mac)
        return info == 0 and self._policy.set_mac(vf, mac)

    def _set_multicast(self, vf: Vf, message: list[int]) -> bool:
        count = igb_mailbox.INFO.get(message[0])
        within = min(count, igb_mailbox.MULTICAST_HASHES_MAX)
        hashes = tuple(
            message[1 + n // _HASHES_A_WORD] >> _HASH_WORD_BITS * (n % _HASHES_A_WORD) & _HASH_MASK
            for n in range(within)
        )
        return self._policy.set_multicast(vf, hashes, count > within)

    def _set_vlan(self, vf: Vf, message: list[int]) -> bool:
        info, vlan = igb_mailbox.INFO.get(message[0]), message[1]
        known = info in (igb_mailbox.VLAN_ADD, igb_mailbox.VLAN_REMOVE)
        return known and vlan <= VLAN_MAX and self._policy.set_vlan(vf, vlan, info == igb_mailbox.VLAN_ADD)

    def _set_lpe(self, vf: Vf, message: list[int]) -> bool:
        return self._policy.set_frame_max(vf, message[1])

    def _set_promiscuous(self, vf: Vf, message: list[int]) -> bool:
        return self._policy.set_promiscuous(
            vf, bool(igb_mailbox.INFO.get(message[0]) & igb_mailbox.PROMISC_MULTICAST)
        )

    # the hardware

    def _receive(self, vf: Vf) -> list[int]:
        """Copy a message out and acknowledge it. A mailbox that its VF does not give back is taken."""
        registers, number = self._registers, vf.number
        registers.write("PFMAILBOX", _RVFU | _PFU, number)
        first = igb_mailbox.WORDS * number
        head = registers.read("VMBMEM", first)
        words = [head, *(registers.read("VMBMEM", first + n) for n in range(1, _words_of(head)))]
        registers.write("PFMAILBOX", _ACK, number)
        return words + [0] * (igb_mailbox.WORDS - len(words))

    def _send(self, vf: Vf, words: list[int]) -> None:
        registers, number = self._registers, vf.number
        registers.write("PFMAILBOX", _RVFU | _PFU, number)
        for n, word in enumerate(words):
            registers.write("VMBMEM", word, igb_mailbox.WORDS * number + n)
        registers.write("PFMAILBOX", _STS, number)
        self._unread |= 1 << number


def _words_of(head: int) -> int:
    """Return how many words a message has that begins with `head`."""
    kind = head & igb_mailbox.TYPE_MASK
    if kind == igb_mailbox.SET_MAC_ADDR:
        return 3
    if kind == igb_mailbox.SET_MULTICAST:
        count = min(igb_mailbox.INFO.get(head), igb_mailbox.MULTICAST_HASHES_MAX)
        return 1 + (count + 1) // _HASHES_A_WORD
    return 2 if kind in (igb_mailbox.SET_VLAN, igb_mailbox.SET_LPE) else 1
