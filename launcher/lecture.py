"""The lecture's table of the three methods, filled by experiments instead of opinions.

Reference: the lecture's comparison of device emulation, paravirtualization and passthrough (performance,
changes to the guest's kernel, complexity of the VMM, interposition, hardware, old systems). Where a cell and
the lecture disagree, the cell says why. Pure: it is given what was measured and found out.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from launcher import figures
from launcher.code_size import Lines
from launcher.compare_result import Cell, Lecture, MethodOrder, Row, WayResult
from launcher.compare_ways import METHODS, STOCK, Method
from launcher.experiments import Boot, Findings, Hardware, Interposed

_RANKS: Final = ("poor", "medium", "good")
_SAYS: Final[dict[str, tuple[str, str, str]]] = {
    "performance": _RANKS,
    "kernel": ("no", "driver and changes", "VF driver"),
    "complexity": ("high", "medium", "low"),
    "interposition": ("yes", "yes", "no"),
    "hardware": ("no", "no", "yes"),
    "old": ("yes", "some", "no"),
}
"""What the lecture's table has, in the order of METHODS."""
_WAY: Final = "of a frame"


def _says(row: str, method: Method) -> str:
    return _SAYS[row][METHODS.index(method)]


def make_lecture(
    ways: Mapping[str, WayResult],
    order: Sequence[MethodOrder],
    findings: Findings,
    sizes: Mapping[Method, Lines],
) -> Lecture:
    """Return the table."""
    rows = (
        Row(
            name="performance",
            experiment="60-byte frames from a guest to the wire: frames a second, and CPU time of a frame",
            cells=_performance(order),
        ),
        Row(
            name="guest's kernel must be changed",
            experiment="a guest whose system has a driver for the 8254x alone is given each NIC",
            cells={method: _kernel(method, findings.boots[method], ways) for method in METHODS},
        ),
        Row(
            name="complexity of the VMM",
            experiment="lines of the hypervisor's code on the way of a frame and for set-up; its exits",
            cells={method: _complexity(method, sizes, ways) for method in METHODS},
        ),
        Row(
            name="interposition",
            experiment="a capture in the vmm, on the way of the guest's frames",
            cells={method: _interposition(method, findings.interposed[method]) for method in METHODS},
        ),
        Row(
            name="needs hardware for it",
            experiment="the same guests on a host without physical NIC, without SR-IOV, without IOMMU",
            cells={method: _hardware(method, findings.hardware[method]) for method in METHODS},
        ),
        Row(
            name="old systems run",
            experiment="the guest with the 8254x driver alone, again",
            cells={method: _old(method, findings.boots[method]) for method in METHODS},
        ),
    )
    return Lecture(rows=rows)


def _performance(order: Sequence[MethodOrder]) -> dict[Method, Cell]:
    by_rate = sorted(order, key=lambda one: one.frames_per_second)
    cells: dict[Method, Cell] = {}
    for one in order:
        found, says = _RANKS[by_rate.index(one)], _says("performance", one.method)
        rate = figures.mega(one.frames_per_second)
        cells[one.method] = Cell(
            found=found,
            evidence=f"{one.way}: {rate} Mframe/s, {one.cpu_ns:,.4g} ns of CPU a frame",
            lecture=says,
            agrees=found == says,
            why="" if found == says else "its rate was not where the lecture has it on this machine",
        )
    return cells


def _kernel(method: Method, boot: Boot, ways: Mapping[str, WayResult]) -> Cell:
    says = _says("kernel", method)
    if boot.up:
        return Cell(found="no", evidence="it came up, frames arrived", lecture=says, agrees=says == "no")
    if method == "paravirtual":
        calls = _exits(ways, STOCK[method]).get("hvc", 0.0)
        return Cell(
            found="a driver",
            evidence=f"no link: {boot.said}; with the driver {calls:g} hypercalls a frame",
            lecture=says,
            agrees=False,
            why="a virtio-net device is found and driven like any other: registers that trap, rings in "
            "memory, a store as doorbell; but for its driver nothing in the kernel knows of it",
        )
    return Cell(found="VF driver", evidence=f"no link: {boot.said}", lecture=says, agrees=says == "VF driver")


def _exits(ways: Mapping[str, WayResult], way: str) -> dict[str, float]:
    return ways[way].at("wire", "pktgen", 60).exits if way in ways else {}


def _complexity(method: Method, sizes: Mapping[Method, Lines], ways: Mapping[str, WayResult]) -> Cell:
    own, says = sizes[method], _says("complexity", method)
    ranked = sorted(METHODS, key=lambda each: -sizes[each].on_the_way)
    found = ("high", "medium", "low")[ranked.index(method)]
    exits = sum(_exits(ways, STOCK[method]).values())
    evidence = (
        f"{own.on_the_way:,} lines on the way {_WAY}, {own.set_up:,} for set-up; {exits:.3g} exits a frame"
    )
    more = own.total > min(sizes[each].total for each in METHODS if each != method)
    why = ""
    if found != says:
        why = "counted in lines on the way of a frame"
    elif method == "passthrough" and more:
        why = (
            "on the way of a frame, yes: nothing of the vmm is there. But what sets it up (drivers "
            "of physical "
            f"function, SMMU and ITS, mailbox, filters) is {own.total:,} lines, more than a virtio-net device"
        )
    return Cell(found=found, evidence=evidence, lecture=says, agrees=not why, why=why)


def _interposition(method: Method, seen: Interposed) -> Cell:
    says = _says("interposition", method)
    if seen.captured >= seen.sent > 0:
        evidence = f"{seen.captured:,} of {seen.sent:,} frames captured"
        return Cell(found="yes", evidence=evidence, lecture=says, agrees=says == "yes")
    evidence = f"{seen.sent:,} frames arrived, the vmm copied {seen.copied:,}; refused: {seen.refused}"
    return Cell(found="no", evidence=evidence, lecture=says, agrees=says == "no")


def _hardware(method: Method, needs: Hardware) -> Cell:
    says = _says("hardware", method)
    if needs.works_without:
        evidence = "frames arrived on a host that has none of it"
        return Cell(found="no", evidence=evidence, lecture=says, agrees=says == "no")
    evidence = "; ".join(f"without {name}: {text}" for name, text in needs.refused.items())
    return Cell(found="yes", evidence=evidence, lecture=says, agrees=says == "yes")


def _old(method: Method, boot: Boot) -> Cell:
    says = _says("old", method)
    if boot.up:
        return Cell(found="yes", evidence="the 8254x driver came up", lecture=says, agrees=says == "yes")
    evidence = f"no link with the 8254x driver: {boot.said}"
    if method == "paravirtual":
        return Cell(
            found="where the driver is had",
            evidence=evidence,
            lecture=says,
            agrees=says == "some",
        )
    return Cell(found="no", evidence=evidence, lecture=says, agrees=says == "no")
