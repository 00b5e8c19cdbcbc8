"""The link between two ends of a wire: both must be up, and a process that dies takes it down."""

import subprocess
from collections.abc import Callable

from testbed.native import Pinned, SharedWords
from testbed.nic.link import Link
from testbed.spec.wire import WIRE, wire_bytes


class Ends:
    """Two ends and what each was told."""

    def __init__(self) -> None:
        one, two = Pinned(bytearray(wire_bytes(65536))), Pinned(bytearray(wire_bytes(65536)))
        self.from_left = SharedWords(one)
        self.told: list[tuple[str, bool]] = []
        self.left = Link(one, two, self._teller("left"))
        self.right = Link(two, one, self._teller("right"))

    def _teller(self, name: str) -> Callable[[bool], None]:
        return lambda up: self.told.append((name, up))

    def look(self) -> tuple[bool, bool]:
        self.left.look()
        self.right.look()
        return self.left.up, self.right.up


def test_link_is_up_while_the_other_end_says_so() -> None:
    ends = Ends()
    assert ends.look() == (False, False)
    ends.left.announce(True)
    assert ends.look() == (False, True)
    ends.right.announce(True)
    assert ends.look() == (True, True)
    ends.left.announce(False)
    assert ends.look() == (True, False)
    assert ends.told == [("right", True), ("left", True), ("right", False)]
    assert (ends.left.changes, ends.right.changes) == (1, 2)
    ends.left.close()
    ends.right.close()


def test_number_that_is_no_process_is_nobody() -> None:
    ends = Ends()
    ends.left.announce(True)
    for number in (0, 1 << 31, (1 << 32) - 1):
        ends.from_left.store32(WIRE.offset("sender_pid"), number)
        assert ends.look() == (False, False)


def test_link_goes_down_with_the_process_at_the_other_end() -> None:
    ends = Ends()
    ends.left.announce(True)
    ends.right.announce(True)
    with subprocess.Popen(["sleep", "100"]) as other:
        ends.from_left.store32(WIRE.offset("sender_pid"), other.pid)
        assert ends.look() == (True, True)
        other.kill()
        other.wait()
    assert ends.look() == (True, False)
    ends.from_left.store32(WIRE.offset("sender_pid"), other.pid)
    assert ends.look() == (True, False), "a process that has ended already"
    ends.left.close()
    ends.right.close()
