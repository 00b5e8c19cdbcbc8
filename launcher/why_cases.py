"""Why I/O is virtualized: the problems, each with a topology that has it and one that does not.

Reference: the files in configs/why, which say what they show. Every figure is read from a run's result; a
case holds when the first run shows the problem and the second does not. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from launcher.result import FlowResult, Result

Figures = Mapping[str, float]
"""By what it is, in words that a person reads."""
_MIB: Final = 1 << 20
_ALL: Final = 100.0


@dataclass(frozen=True)
class Case:
    """One problem and its cure."""

    name: str
    """Of its files: NAME.yaml and NAME-fixed.yaml."""
    problem: str
    cure: str
    figures: Callable[[Result], Figures]
    harmed: Callable[[Figures, Figures], bool]
    """Given the figures of both runs: whether the first shows the problem and the second does not."""
    refused: tuple[str, str]
    """What of the first file, a regular expression, is to be replaced by what for `check` to refuse it."""
    expects: tuple[int, int] = (0, 0)
    """Exit codes of both runs."""


def _share(flow: FlowResult) -> float:
    return round(_ALL * flow.received / flow.sent, 2) if flow.sent else 0.0


def _foreign(result: Result, guest: str) -> float:
    return result.counters.get(guest, {}).get("nic0.foreign_frames", 0)


def _mac(result: Result) -> Figures:
    got = {
        f"of the peer's frames for {flow.destination}, arrived there, %": _share(flow)
        for flow in result.flows
        if flow.kind == "pktgen"
    }
    answered = {
        f"of the requests of {flow.source}, answered, %": _share(flow)
        for flow in result.flows
        if flow.kind == "rr"
    }
    foreign = {f"frames that {guest} got and are not its own": _foreign(result, guest) for guest in "abc"}
    return {**got, **answered, **foreign}


def _mac_harmed(first: Figures, second: Figures) -> bool:
    lost = [value < _ALL for name, value in first.items() if name.endswith("%")]
    kept = [value == _ALL for name, value in second.items() if name.endswith("%")]
    alien = [value for name, value in second.items() if not name.endswith("%")]
    return any(lost) and all(kept) and not any(alien)


_OVERHEARD: Final = "of these, read by the spy"


def _snoop(result: Result) -> Figures:
    said = sum(flow.received * (2 if flow.kind == "rr" else 1) for flow in result.flows)
    counters = result.counters.get("spy", {})
    return {
        "frames between a and b": said,
        _OVERHEARD: _foreign(result, "spy"),
        "bytes that the spy's NIC wrote into its memory": counters.get("nic0.rx_bytes", 0),
        "frames that a and b lost by it": sum(flow.lost for flow in result.flows),
    }


def _snoop_harmed(first: Figures, second: Figures) -> bool:
    return first[_OVERHEARD] > 0 and second[_OVERHEARD] == 0


_THROUGH: Final = "bytes of alice's page that changed, and copies of it that were sent away"
_EVENTS: Final = "requests that the SMMU refused and recorded"


def _dma(result: Result) -> Figures:
    iommu = result.counters.get("iommu-h0", {})
    return {
        "attempts of mallory's device": sum(attack.attempts for attack in result.attacks),
        _THROUGH: sum(attack.through for attack in result.attacks),
        _EVENTS: iommu.get("fault.F_TRANSLATION", 0),
    }


def _dma_harmed(first: Figures, second: Figures) -> bool:
    return first[_THROUGH] > 0 == second[_THROUGH] and second[_EVENTS] > 0


_NICS: Final = "NICs for sixteen guests"


def _share_figures(result: Result) -> Figures:
    nics = [process for process in result.processes if process.role == "nic"]
    flows = result.flows
    return {
        _NICS: len(nics),
        "processes": len(result.processes),
        "memory of the NICs, MiB": round(sum(nic.pss_bytes or 0 for nic in nics) / _MIB, 1),
        "frames a second, all guests together": round(sum(flow.frames_per_second for flow in flows)),
        "frames a second of the slowest pair": round(min(flow.frames_per_second for flow in flows)),
    }


def _share_harmed(first: Figures, second: Figures) -> bool:
    return first[_NICS] == 16 > second[_NICS]


CASES: Final = (
    Case(
        "mac",
        "three guests each have a queue of one NIC, which has one MAC address (and so one IP address)",
        "each guest has a virtual function with an address of its own, and the NIC switches between them",
        _mac,
        _mac_harmed,
        (r"unsafe: [a-z-]+, ", ""),
        expects=(1, 0),
    ),
    Case(
        "snoop",
        "a guest's queue of the NIC is promiscuous: it gets a copy of what others send each other",
        "the NIC's switch gives each function the frames for its own address only",
        _snoop,
        _snoop_harmed,
        (r"unsafe: [a-z-]+, ", ""),
    ),
    Case(
        "dma",
        "a guest has a device and the host's IOMMU is bypassed: it writes over another guest's memory",
        "the IOMMU lets the device into its own guest's memory: what else it asks for is an event",
        _dma,
        _dma_harmed,
        (r"unsafe: [a-z-]+", ""),
        expects=(1, 0),
    ),
    Case(
        "share",
        "a NIC without SR-IOV can be given to one guest: sixteen guests take sixteen NICs",
        "SR-IOV: sixteen guests share the functions of three NICs",
        _share_figures,
        _share_harmed,
        (r"nic: nic\d+", "nic: nic0"),
    ),
)
