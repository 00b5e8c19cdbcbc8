"""The experiments behind the table that compares the methods: small topologies that run, or that
`virtbed check` refuses.

Not modelled: systems other than the testbed's own guests; what is called an old one has a driver for the
8254x and no other.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from launcher.capture import inspect_capture
from launcher.compare_ways import METHODS, Method
from launcher.forkclient import ROLES
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Result
from launcher.run import run_plan
from launcher.rundir import Holder
from launcher.topology import parse_topology
from launcher.watcher import Watcher
from testbed.errors import ConfigError

FRAMES: Final = 500
_KINDS: Final[dict[Method, str]] = {"emulated": "e1000", "paravirtual": "virtio-net", "passthrough": "vf"}
_OLD: Final = "e1000"
"""The one driver of an old system."""


@dataclass(frozen=True)
class Boot:
    """A guest whose system has a driver for the 8254x alone."""

    up: bool
    said: str
    """What it said where it did not come up."""


@dataclass(frozen=True)
class Interposed:
    """Frames that were sent, and how many of them a capture in the vmm has."""

    sent: int
    captured: int
    copied: int
    """Frames that a vmm's bridge copied."""
    refused: str = ""
    """What `virtbed check` says to a capture there."""


@dataclass(frozen=True)
class Hardware:
    """What a method needs of its host."""

    works_without: bool
    """On a host without physical NIC, SR-IOV and IOMMU."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """By what is left out, what `virtbed check` says."""


@dataclass(frozen=True)
class Findings:
    """What all the experiments came to."""

    boots: Mapping[Method, Boot]
    interposed: Mapping[Method, Interposed]
    hardware: Mapping[Method, Hardware]


def topology(kind: str, old: bool = False, **nic: object) -> dict[str, Any]:
    """Return the topology file of two guests with a NIC of a kind each; `nic` has more keys of the first."""
    function = {"nic": "nic0"} if kind == "vf" else {}
    own = {"kind": kind, **function}
    guests: dict[str, Any] = {"a": {"nics": [own | nic]}, "b": {"nics": [own]}}
    if old:
        guests["a"]["drivers"] = [_OLD]
    hosts = {"h0": {"nics": {"nic0": {"vfs": 2}}} if kind == "vf" else {}}
    flow = {"kind": "pktgen", "from": "a", "to": "b", "count": FRAMES}
    return {"name": f"experiment-{os.getpid()}", "hosts": hosts, "guests": guests, "workloads": [flow]}


def find_out(told: Callable[[str], None], roles: Mapping[str, str] = ROLES) -> Findings:
    """Make every experiment; `told` is given a line about each kind of them.

    Raises ConfigError where this machine is too small.
    """
    told("which NICs an old guest's driver brings up")
    boots = {method: _boot(_KINDS[method], roles) for method in METHODS}
    told("whose frames a capture in the vmm sees")
    interposed = {method: _interpose(_KINDS[method], roles) for method in METHODS}
    told("what each method needs of its host")
    return Findings(boots, interposed, {method: _hardware(method, interposed[method]) for method in METHODS})


def _boot(kind: str, roles: Mapping[str, str]) -> Boot:
    result = _run(topology(kind, old=True), roles)
    return Boot(up=all(flow.good for flow in result.flows) and bool(result.flows), said=_said(result))


def _said(result: Result) -> str:
    return next((died.reason for died in result.died if died.reason), result.error or "")


def _interpose(kind: str, roles: Mapping[str, str]) -> Interposed:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "seen.pcapng"
        capture = [{"kind": "capture", "file": str(file)}]
        refused = refusal(topology(kind, interpose=capture))
        result = _run(topology(kind) if refused else topology(kind, interpose=capture), roles)
        captured = inspect_capture(file).frames if file.exists() else 0
    copied = sum(counters.get("frames_copied", 0) for counters in result.counters.values())
    return Interposed(sum(flow.received for flow in result.flows), captured, copied, refused)


def _hardware(method: Method, ran: Interposed) -> Hardware:
    """What needs no physical NIC was run on a host that has none."""
    if method != "passthrough":
        return Hardware(works_without=ran.sent > 0)
    plain, single, open_ = (topology("vf") for _ in range(3))
    plain["hosts"]["h0"] = {}
    single["hosts"]["h0"] = {"nics": {"nic0": {"vfs": 0}}}
    open_["hosts"]["h0"] |= {"iommu": {"bypass": True}}
    named = {"a physical NIC": plain, "SR-IOV": single, "an IOMMU": open_}
    refused = {name: refusal(file) for name, file in named.items()}
    return Hardware(works_without=not all(refused.values()), refused=refused)


def refusal(file: dict[str, Any]) -> str:
    """Return what `virtbed check` says first of a topology file, nothing where it is good."""
    try:
        parse_topology(msgspec.json.encode(file).decode(), "topology.yaml")
    except ConfigError as error:
        return error.problems[0].partition(": ")[2]
    return ""


def _run(file: dict[str, Any], roles: Mapping[str, str]) -> Result:
    plan = plan_fitting(parse_topology(msgspec.json.encode(file).decode(), "experiment"))
    result = run_plan(plan, Holder(plan.topology, os.getpid(), "bench", time.time()), Watcher(), roles)
    if result.interrupted:
        raise BenchFailed(result)
    return result
