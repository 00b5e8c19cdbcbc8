"""What hostile drivers of a virtual function do, each beside the same work with what is the driver's own.

Reference: what is tried is named by `testbed.messages.entries.AttackName`. Every program is a step that is
either hostile or harmless: the harmless step has as many accesses, with its own memory, address or ring, or
(floods) to registers where they do nothing; beside a flood of doorbells, which nobody makes wait, it writes
memory. Nobody tells the device, the IOMMU or the hypervisor what is coming.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final, Protocol

from testbed.address import GUEST_RAM_GPA, PAGE_SIZE_BYTES
from testbed.guest.workloads.hostile_function import (
    BROADCAST,
    NOBODY,
    RING_SIZE,
    WHOLE_FRAME,
    HostileFunction,
    data,
)
from testbed.messages.attack import AttackEntry
from testbed.net.mac import parse_mac
from testbed.pci.access import MsiMessage
from testbed.spec import igb_mailbox
from testbed.spec.flow import FRAME_BYTES_MIN
from testbed.spec.igb_ring import (
    DTYP_CONTEXT,
    DTYP_SHIFT,
    FRAME_MAX_BYTES,
    TX_CONTEXT,
    TX_DATA,
    TX_DEXT,
    TX_IFCS,
    TX_TSE,
)
from testbed.spec.igb_vf import mask
from testbed.spec.its import ITS
from testbed.spec.page_table import INPUT_BITS_MAX

PATIENCE_NS: Final = 20_000_000
"""How long an answer is waited for; who has spent the budget of refusals gets none."""
_SPOOFED_A_MOVE: Final = 32
_FLOOD_A_STEP: Final = 64
_FLOOD_STEP_NS: Final = 2_000_000
"""No step takes so long that nobody makes wait."""
_SCRIBBLED: Final = 64
_WORDS: Final = 0x6B6F6F74
"""What is written where a message is aimed at memory."""
_BAD_DTYP: Final = 0xF
_TRANSLATER: Final = ITS["TRANSLATER"].offset % PAGE_SIZE_BYTES
_EVENT_BEYOND: Final = 0xFFFF
_EVENTS: Final = 3
"""Every virtual function has so many vectors, so EventIDs from 0."""
"""No function has so many events."""


class Program(Protocol):
    """An attack under way."""

    attempts: int
    """Hostile ones."""
    through: int
    """Those that the attacker sees succeed."""

    @property
    def idle(self) -> bool:
        """Nothing that was tried is under way."""
        ...

    def step(self, hostile: bool, target: int) -> bool:
        """Try something, or look what came of it; True: something moved."""
        ...


@dataclass(frozen=True, slots=True)
class Move:
    """One thing to try: descriptors in a ring, or a message."""

    descriptors: tuple[bytes, ...] = ()
    base: int | None = None
    """Where the ring lies; None: in memory of the driver's own."""
    head: int = 0
    """Where the head is written back, 0: nowhere."""
    tail: int | None = None
    """What TDT is set to, where that is not behind the descriptors."""
    message: MsiMessage | None = None
    leaks: bool = False
    """A descriptor that comes back done would have sent memory of others."""


class RingProgram:
    """Makes one move after another: waits for each to be done, refused or given up."""

    def __init__(
        self,
        function: HostileFunction,
        hostile: Callable[[int], Sequence[Move]],
        harmless: Sequence[Move],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.attempts = self.through = 0
        self._function, self._moves, self._clock = function, hostile, clock
        self._harmless = cycle(harmless)
        self._target: int | None = None
        self._hostile: Iterator[Move] = cycle(())
        self._pending: Move | None = None
        self._as_hostile = False
        self._until_ns = 0

    @property
    def idle(self) -> bool:
        """The last move was done, refused or given up."""
        return self._pending is None

    def step(self, hostile: bool, target: int) -> bool:
        """Begin a move, or see what came of the last one."""
        if self._pending is not None:
            return self._look(self._pending)
        if hostile and target != self._target:
            self._target, self._hostile = target, cycle(self._moves(target))
        self._as_hostile = hostile
        self._begin(next(self._hostile if hostile else self._harmless))
        return True

    def _begin(self, move: Move) -> None:
        self.attempts += self._as_hostile
        function = self._function
        if move.message is not None:
            function.aim(move.message)
            function.fire()
            return
        function.place(move.base, move.head)
        if move.base is None:
            function.fill(list(move.descriptors))
        function.write("TDT", len(move.descriptors) or 1 if move.tail is None else move.tail)
        self._pending, self._until_ns = move, self._clock() + PATIENCE_NS

    def _look(self, move: Move) -> bool:
        done = move.base is None and move.head == 0 and self._function.is_done(len(move.descriptors) - 1)
        self.through += done and move.leaks and self._as_hostile
        written = move.head and self._function.read("TDH") == len(move.descriptors)
        if done or written or not self._function.enabled or self._clock() >= self._until_ns:
            self._pending = None
        return True


class LoopProgram:
    """A ring whose tail runs before its head without end: a packet that never ends, or contexts only."""

    def __init__(
        self, function: HostileFunction, frame: int, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.attempts = self.through = 0
        self.idle = True
        self._function, self._clock = function, clock
        endless = data(frame, FRAME_BYTES_MIN, TX_IFCS)
        whole = data(frame, FRAME_BYTES_MIN, WHOLE_FRAME)
        self._rings = {True: cycle(([endless] * RING_SIZE, [_context()] * RING_SIZE))}
        self._rings[False] = cycle(([whole] * RING_SIZE,))
        self._until_ns, self._tail, self._as_hostile = 0, 0, False

    def step(self, hostile: bool, target: int) -> bool:
        """Let the device have what is between head and tail, and see whether it goes on."""
        del target
        function = self._function
        if hostile != self._as_hostile or self._clock() >= self._until_ns:
            function.place()
            function.fill(next(self._rings[hostile]))
            self._until_ns, self._tail = self._clock() + PATIENCE_NS, 0
            self._as_hostile = hostile
        self.attempts += hostile
        self._tail = (self._tail - 1) % RING_SIZE
        function.write("TDT", self._tail)
        if not function.enabled:
            self._until_ns = 0
        return True


class FloodProgram:
    """Writes registers as fast as it can: some that hurt, or others that do nothing."""

    def __init__(
        self,
        blow: Callable[[], None],
        harmless: Callable[[], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.attempts = self.through = 0
        self.idle = True
        self._blow, self._harmless, self._clock = blow, harmless, clock
        self._as_hostile = self._waited = False

    def step(self, hostile: bool, target: int) -> bool:
        """Write for a while; only once where the device makes us wait, or who is to be heard never is."""
        del target
        if hostile != self._as_hostile:
            self._as_hostile, self._waited = hostile, False
        blow, times = self._blow if hostile else self._harmless, 1 if self._waited else _FLOOD_A_STEP
        begun_ns = self._clock()
        for _ in range(times):
            blow()
        self.attempts += times * hostile
        self._waited |= self._clock() - begun_ns >= _FLOOD_STEP_NS
        return True


def make_program(
    attack: AttackEntry,
    function: HostileFunction,
    mac: bytes,
    msi_gpa: int,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Program:
    """Return the program of an attack; mac: the function's own address, msi_gpa: the page of its messages."""
    frames = _Frames(function, mac, attack)
    match attack.attack:
        case "flood-mailbox":
            return FloodProgram(lambda: _mail(function), lambda: _jot(function), clock)
        case "flood-doorbell":
            function.place()
            return FloodProgram(lambda: function.write("TDT", 0), lambda: _scribble(function), clock)
        case "flood-interrupt":
            function.unthrottle()
            return FloodProgram(function.fire, lambda: _jot(function), clock)
        case "ring-loop":
            return LoopProgram(function, frames.own, clock)
        case _:
            return RingProgram(function, *_moves(attack, function, frames, msi_gpa), clock)


@dataclass(init=False)
class _Frames:
    """Addresses of frames: an ordinary one to nobody, one that everybody would get, and a spoofed one."""

    own: int
    heard: int
    spoofed: int

    def __init__(self, function: HostileFunction, mac: bytes, attack: AttackEntry) -> None:
        self.own = function.add_frame(NOBODY, mac)
        self.heard = function.add_frame(BROADCAST, mac)
        source = parse_mac(attack.victim_mac) if attack.victim_mac else mac
        self.spoofed = function.add_frame(BROADCAST, source, attack.vlan)


def _moves(
    attack: AttackEntry, function: HostileFunction, frames: _Frames, msi_gpa: int
) -> tuple[Callable[[int], Sequence[Move]], Sequence[Move]]:
    """Return the hostile moves (by the address that is attacked) and the harmless ones."""
    page = function.page.iova
    own = Move((data(frames.own, FRAME_BYTES_MIN),))
    reads = (Move((data(frames.own, FRAME_BYTES_MIN, TX_IFCS), data(page, FRAME_BYTES_MIN))), own)
    writes = _writes(page, frames)
    match attack.attack:
        case "spoof-mac" | "spoof-vlan":
            one = data(frames.spoofed, FRAME_BYTES_MIN)
            many = Move((data(frames.own, FRAME_BYTES_MIN),) * _SPOOFED_A_MOVE)
            return lambda _: [Move((one,) * _SPOOFED_A_MOVE)], [many]
        case "malformed-descriptors":
            return lambda _: _malformed(frames), [own]
        case "dma-unmapped":
            return lambda _: [m for at in _UNMAPPED for m in _dma(at, frames)], [*reads, *writes]
        case "dma-msi-window":
            return lambda _: _window(msi_gpa, frames), [*reads, *writes]
        case "dma-read-only":
            return lambda _: writes, writes
        case "stale-translation":
            return lambda _: _dma(page, frames), [*reads, *writes]
        case _:
            return lambda target: _dma(target, frames), [*reads, *writes]


_UNMAPPED: Final = (
    PAGE_SIZE_BYTES,
    GUEST_RAM_GPA - PAGE_SIZE_BYTES,
    GUEST_RAM_GPA + (1 << 40),
    (1 << INPUT_BITS_MAX) - PAGE_SIZE_BYTES,
    (1 << 64) - PAGE_SIZE_BYTES,
)


def _dma(at: int, frames: _Frames) -> list[Move]:
    """Send a page, take descriptors from it, write the head and messages into it."""
    leak = Move((data(frames.heard, FRAME_BYTES_MIN, TX_IFCS), data(at, FRAME_BYTES_MIN)), leaks=True)
    return [leak, Move(base=at), *_writes(at, frames)]


def _writes(at: int, frames: _Frames) -> list[Move]:
    head = Move((data(frames.own, FRAME_BYTES_MIN),), head=at)
    return [head, Move(message=MsiMessage(at + 8, _WORDS))]


def _window(msi_gpa: int, frames: _Frames) -> list[Move]:
    """Read the page of messages, and write into it what is no message of this function, and messages with
    the EventIDs of every other one, which are also its own.
    """
    others = [Move(message=MsiMessage(msi_gpa + offset, _WORDS)) for offset in (0, PAGE_SIZE_BYTES - 4)]
    numbers = (*range(_EVENTS), _EVENT_BEYOND)
    events = [Move(message=MsiMessage(msi_gpa + _TRANSLATER, number)) for number in numbers]
    return [*_dma(msi_gpa, frames), *others, *events]


def _context() -> bytes:
    """Return a context descriptor that makes no sense: longest headers, no segment size."""
    return TX_CONTEXT.pack(
        vlan_macip_lens=0xFFFF_FFFF,
        type_tucmd_mlhl=DTYP_CONTEXT << DTYP_SHIFT | TX_DEXT,
        mss_l4len_idx=0xFF00,
    )


def _malformed(frames: _Frames) -> list[Move]:
    """Descriptors of which no frame can be made."""
    reserved = TX_DATA.pack(
        address=frames.heard, cmd_type_len=FRAME_BYTES_MIN | _BAD_DTYP << DTYP_SHIFT | TX_DEXT | WHOLE_FRAME
    )
    segmented = data(frames.heard, FRAME_BYTES_MIN, WHOLE_FRAME | TX_TSE, FRAME_BYTES_MIN)
    return [
        Move((reserved,)),
        Move((data(frames.heard, 0),)),
        Move((data(frames.heard, FRAME_MAX_BYTES + 1),)),
        Move((data(frames.heard, 0xFFFF),)),
        Move((_context(), segmented)),
        Move((data(frames.heard, FRAME_BYTES_MIN),), tail=RING_SIZE),
        Move((data(frames.heard, FRAME_BYTES_MIN),), tail=0xFFFF_FFFF),
    ]


def _jot(function: HostileFunction) -> None:
    """Mask nothing, twice."""
    for _ in range(2):
        function.write("VTEIMC", 0)


def _scribble(function: HostileFunction) -> None:
    """Write memory of its own, for about as long as a register's write takes."""
    own = function.page.pinned.bytes_view()
    for at in range(_SCRIBBLED):
        own[at] = 0


def _mail(function: HostileFunction) -> None:
    """Leave a message that makes no sense, whoever has the mailbox, and interrupt the physical function."""
    function.write("VMBMEM", igb_mailbox.SET_VLAN | igb_mailbox.INFO.put(_BAD_DTYP))
    function.write("VFMAILBOX", mask("VFMAILBOX", "REQ"))
