"""What a guest may ask of its hypervisor with HVC.

Reference: Arm SMCCC (DEN0028) §2, §6, §7. An unknown function is answered NOT_SUPPORTED and counted. Not
modelled: PSCI, functions with side effects.
"""

from collections.abc import Callable
from typing import Final

from testbed.observe.counters import Counters
from testbed.spec import smccc

Registers = tuple[int, int, int, int]
_ARCHITECTURE_CALLS: Final = frozenset({smccc.VERSION, smccc.ARCH_FEATURES})
_W_MASK: Final = 0xFFFF_FFFF


def _features(function: int) -> Registers:
    there = function & _W_MASK in _ARCHITECTURE_CALLS
    return smccc.SUCCESS if there else smccc.NOT_SUPPORTED, 0, 0, 0


_CALLS: Final[dict[int, Callable[[int], Registers]]] = {
    smccc.VERSION: lambda _x1: (smccc.VERSION_1_1, 0, 0, 0),
    smccc.ARCH_FEATURES: _features,
    smccc.HYPERVISOR_UID: lambda _x1: smccc.UID,
    smccc.HYPERVISOR_REVISION: lambda _x1: (*smccc.REVISION, 0, 0),
}


class Hypercalls:
    """The calls of one vCPU."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def call(self, x0: int, x1: int, x2: int, x3: int) -> Registers:  # noqa: ARG002 no call has more yet
        """Return X0 to X3 after a call with these."""
        known = _CALLS.get(x0 & _W_MASK)
        if known is None:
            self._counters.add("hypercalls.unknown")
            return smccc.NOT_SUPPORTED, 0, 0, 0
        return known(x1)
