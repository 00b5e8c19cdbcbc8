"""Drops the frames that match a pcap-filter expression, or those that do not.

Reference: the language is in `expression`. The expression is compiled once, to classic BPF, and the native
interpreter runs the checked program over a burst.
"""

from testbed.native import BpfProgram, Burst
from testbed.net.interpose.chain import Direction
from testbed.net.interpose.counts import PortCounts
from testbed.net.interpose.expression import parse_expression
from testbed.net.interpose.program import compile_test


def compile_filter(expression: str) -> BpfProgram:
    """Return the program of an expression. Raises ConfigError that names the position of a mistake."""
    return BpfProgram(compile_test(parse_expression(expression)))


class Filter:
    """Drops what matches (`drop_matching`), or what does not."""

    def __init__(self, program: BpfProgram, drop_matching: bool, counts: PortCounts) -> None:
        self._program, self._drop_matching, self._counts = program, drop_matching, counts

    def apply(self, burst: Burst, _direction: Direction) -> None:
        """Run the program over the frames that are present."""
        self._counts.add("dropped_filter", self._program.remove(burst, self._drop_matching))
