"""The attacks of a guest: hostile drivers of its virtual functions, and pages that it watches as a victim.

Reference: testbed/messages/control.py (BeginAttack, Turn, EndAttack; Guard, Inspect; their answers). What is
attacked is named by guest physical address; a guest with an SMMU of its own maps that in its stage 1. The
hostile driver gets a function that is up and keeps it until the attack ends; then the ordinary driver begins
anew. Not modelled: a guest that is hostile with two functions at the same time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from testbed.address import PAGE_SIZE_BYTES
from testbed.errors import DeviceError
from testbed.guest.drivers.driver import NetDriver
from testbed.guest.drivers.igbvf import IgbVfDriver
from testbed.guest.iova import ConfinedDma, PhysicalDma
from testbed.guest.ram import Piece, RamAllocator
from testbed.guest.senders import Runner
from testbed.guest.workloads.hostile import Program, make_program
from testbed.guest.workloads.hostile_function import HostileFunction
from testbed.messages.attack import AttackEntry
from testbed.messages.control import (
    Attacked,
    Attacking,
    BeginAttack,
    EndAttack,
    FromProcess,
    Guard,
    Guarding,
    Inspect,
    Inspected,
    ToProcess,
    Turn,
    Turned,
)
from testbed.messages.entries import GuestEntry, VfEntry

PATTERN: Final = bytes(range(256)) * (PAGE_SIZE_BYTES // 256)
"""What a page that is watched holds."""


@dataclass
class _Attack:
    """One that is under way."""

    function: HostileFunction
    driver: IgbVfDriver
    program: Program
    memory: PhysicalDma | ConfinedDma
    answer: Callable[[FromProcess], None]
    turn: Turn = field(default_factory=lambda: Turn(attack_id=0, behave="quiet"))
    next: Turn | None = None
    """What it is to be as soon as nothing is under way."""
    target: int = 0
    """The address that is attacked, as the function names it."""

    def step(self) -> bool:
        if self.next is not None and self.program.idle:
            self.turn, self.next = self.next, None
            self.function.flush()
            hostile = self.turn.behave == "hostile"
            self.target = self.memory.aimed_at(self.turn.target) if hostile else 0
            self.answer(
                Turned(
                    attack_id=self.turn.attack_id,
                    attempts=self.program.attempts,
                    through=self.program.through,
                )
            )
        if self.turn.behave == "quiet":
            return False
        return self.program.step(self.turn.behave == "hostile", self.target)


class Attacks:
    """Runs on the guest's loop; `drivers` by NIC; `send` speaks to the launcher."""

    def __init__(
        self,
        loop: Runner,
        entry: GuestEntry,
        drivers: Sequence[NetDriver],
        ram: RamAllocator,
        send: Callable[[FromProcess], None],
    ) -> None:
        self._loop, self._entry, self._drivers, self._ram, self._send = loop, entry, drivers, ram, send
        self._attacks: dict[int, _Attack] = {}
        self._watched: dict[int, Piece] = {}

    def handle(self, message: ToProcess) -> bool:
        """Carry out one message of the launcher; False: it is about something else."""
        match message:
            case BeginAttack():
                self._begin(message.attack)
            case Turn():
                self._attacks[message.attack_id].next = message
            case EndAttack():
                self._end(message.attack_id)
            case Guard():
                self._guard(message.attack.id)
            case Inspect():
                self._inspect(message.attack_id)
            case _:
                return False
        return True

    def _begin(self, entry: AttackEntry) -> None:
        driver, nic = self._drivers[entry.source_nic], self._entry.nics[entry.source_nic]
        assert isinstance(driver, IgbVfDriver)
        assert isinstance(nic, VfEntry)
        memory = driver.memory
        assert isinstance(memory, PhysicalDma | ConfinedDma)
        function = HostileFunction(driver.bus, memory)
        program = make_program(entry, function, driver.mac, memory.aimed_at(nic.msi_gpa))
        attack = self._attacks[entry.id] = _Attack(function, driver, program, memory, self._send)
        self._loop.runnable[attack.step] = None
        self._send(Attacking(attack_id=entry.id, page_gpa=memory.gpa_of(function.page.iova)))

    def _end(self, attack_id: int) -> None:
        attack = self._attacks.pop(attack_id, None)
        if attack is None:
            return
        self._loop.runnable.pop(attack.step, None)
        attack.function.give_back()
        try:
            attack.driver.restart()
            recovered = attack.driver.mailbox.clear_to_send
        except DeviceError:
            recovered = False
        program = attack.program
        self._send(
            Attacked(
                attack_id=attack_id,
                attempts=program.attempts,
                through=program.through,
                recovered=recovered,
            )
        )

    def _guard(self, attack_id: int) -> None:
        page = self._watched.get(attack_id)
        if page is None:
            page = self._watched[attack_id] = self._ram.take(PAGE_SIZE_BYTES, "a page that is watched")
        page.pinned.bytes_view()[:] = PATTERN
        self._send(Guarding(attack_id=attack_id, address=page.gpa))

    def _inspect(self, attack_id: int) -> None:
        now = bytes(self._watched[attack_id].pinned.bytes_view())
        changed = sum(is_now != was for is_now, was in zip(now, PATTERN, strict=True))
        self._send(Inspected(attack_id=attack_id, changed_bytes=changed))
