"""The result of a run: what was sent and what arrived, what it cost, who died, and the exit code that
follows.

Reference: design, "The topology file and the commands" (schema 1). Plain data (msgspec structs), the same for
the table and for JSON. Not modelled: comparison of two results.
"""

import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import msgspec

from testbed.messages.attack import AttackName
from testbed.messages.control import GuestReport, Received, Sent
from testbed.messages.entries import FlowEntry

SCHEMA: Final = 1
INTERRUPTED: Final = "interrupted"
"""Why a flow failed that a person ended."""
_NS_PER_US: Final = 1e3
_BITS_PER_BYTE: Final = 8
_SIGNAL_BASE: Final = 128


class ExitCode(IntEnum):
    """What the command's exit status says."""

    GOOD = 0
    EXPECTATION_FAILED = 1
    """A frame was lost, reordered, corrupted or duplicated where none may be."""
    BAD_INPUT = 2
    MACHINE = 3
    """A process died or the machine lacks something."""
    INTERRUPTED = 130
    """Ctrl-C; another signal n gives 128 + n."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Root of every record of the result."""


class FlowResult(Record, frozen=True, kw_only=True, rename={"source": "from", "destination": "to"}):
    """One flow.

    Rates are the receiver's, from the first frame's arrival to the last one's; frames count without FCS.
    """

    name: str
    kind: Literal["replay", "pktgen", "rr", "timer", "ipi", "steer", "storm"]
    phase: int
    """From 1."""
    source: str
    destination: str
    frame_bytes: float
    """Of the frames that arrived, the mean where sizes differ."""
    sent: int = 0
    """Frames given to the device; for rr, requests; for timer and ipi, interrupts; a storm's
    acts."""
    received: int = 0
    """Good frames that arrived; for rr, requests answered; for timer and ipi, interrupts taken."""
    lost: int = 0
    reordered: int = 0
    corrupted: int = 0
    duplicated: int = 0
    spurious: int = 0
    """Interrupts taken that nobody had sent."""
    seconds: float = 0.0
    frames_per_second: float = 0.0
    bits_per_second: float = 0.0
    interrupts_per_second: float = 0.0
    latency_us: dict[str, float] | None = None
    """p50, p99, p999: of a request's round trip; of an interrupt from source to handler's first line."""
    failed: str | None = None
    """Why the flow did not come to its end."""

    @property
    def good(self) -> bool:
        """Whether the flow came to its end and every frame arrived once, whole and in order."""
        wrong = self.lost or self.reordered or self.corrupted or self.duplicated or self.spurious
        return not (self.failed or wrong)

    @property
    def is_interrupts(self) -> bool:
        """It has no frames."""
        return self.kind in ("timer", "ipi", "steer", "storm")


class OtherFlow(Record, frozen=True, kw_only=True):
    """How a flow fared beside an attack: medians of turns of some milliseconds, by turns hostile and not."""

    name: str
    frames_per_second: float
    """Beside the attack."""
    harmless_frames_per_second: float
    """Beside the same work of the same guest with what is its own."""
    quiet_frames_per_second: float
    """Beside the same guest asleep."""
    kept: float
    """The first in terms of the second, round by round."""

    @property
    def kept_of_quiet(self) -> float:
        """The first in terms of the third; 0 where nothing came then either."""
        return self.frames_per_second / self.quiet_frames_per_second if self.quiet_frames_per_second else 0.0


class AttackResult(Record, frozen=True, kw_only=True, rename={"source": "from"}):
    """One attack: what was tried, what stopped it, what came of it."""

    name: str
    attack: AttackName
    phase: int
    """From 1."""
    source: str
    function: str
    victim: str = ""
    attempts: int = 0
    stopped_by: dict[str, int] = {}
    """What counted it, `PROCESS COUNTER`: architected events, refusals, drops, stopped queues, budgets."""
    given: dict[str, float] = {}
    """Share of their time that NIC and IOMMU gave, by process, to what the attacker's function made them
    decide: register accesses, refusals, misses. Moving its frames is not in it.
    """
    noticed: bool = False
    """Something of that is what this attack is to be stopped by."""
    through: int = 0
    """Attempts that succeeded: changed bytes of memory that is watched, foreign frames at other guests,
    memory of others that was sent.
    """
    recovered: bool = True
    """The ordinary driver has brought the function up again."""
    others: tuple[OtherFlow, ...] = ()
    others_keep: float = 0.0
    """What they had to keep at least."""
    failed: str | None = None
    """Why the attack did not come to its end."""

    @property
    def wrong(self) -> str:
        """Say in a line what is wrong with whoever was attacked; empty: nothing."""
        slow = [other for other in self.others if other.kept < self.others_keep]
        if self.failed:
            return self.failed
        if self.through:
            return f"{self.through:,} attempts of {self.attempts:,} got through"
        if not self.attempts:
            return "nothing was attempted"
        if not self.noticed:
            return f"nothing noticed {self.attempts:,} attempts"
        if self.others_keep and not self.others:
            return "no flow was measured beside it, so nobody knows what others kept"
        if not self.recovered:
            return "the function does not come up again"
        if slow:
            told = ", ".join(f"{other.name} {other.kept:.0%}" for other in slow)
            return f"others keep less than {self.others_keep:.0%} of their throughput: {told}"
        return ""

    @property
    def good(self) -> bool:
        """Whether the attack was noticed and stopped, and the others kept what they had to."""
        return not self.wrong


class ProcessResult(Record, frozen=True, kw_only=True):
    """What one process used. `pss_bytes` is null for one that died."""

    name: str
    role: str
    pid: int
    cpu_seconds: float
    pss_bytes: int | None


class Died(Record, frozen=True, kw_only=True):
    """A process that ended and should not have."""

    name: str
    role: str
    pid: int
    signal: str | None = None
    code: int | None = None
    reason: str = ""
    """What it said before it ended, or why we ended it."""
    log: tuple[str, ...] = ()
    """The last lines of its output."""

    @property
    def how(self) -> str:
        """Return a phrase that says how it ended."""
        end = f"killed by {self.signal}" if self.signal else f"exited with code {self.code}"
        return f"{end}: {self.reason}" if self.reason else end


class Machine(Record, frozen=True, kw_only=True):
    """Where and when the run was."""

    cpu: str
    cpus: int
    """Those this process may use."""
    memory_bytes: int
    kernel: str
    python: str
    virtbed: str
    time: str
    """ISO 8601, UTC."""


class Result(Record, frozen=True, kw_only=True):
    """A whole run."""

    schema: int = SCHEMA
    topology: str
    seconds: float
    exit_code: int
    interrupted: bool = False
    error: str | None = None
    """Why the topology did not come up."""
    flows: tuple[FlowResult, ...] = ()
    attacks: tuple[AttackResult, ...] = ()
    processes: tuple[ProcessResult, ...] = ()
    died: tuple[Died, ...] = ()
    reports: tuple[GuestReport, ...] = ()
    """Rules that guests broke, each kind once."""
    counters: dict[str, dict[str, int]] = {}
    """By process; only those above zero."""
    machine: Machine


def _mean_frame_bytes(flow: FlowEntry, received: Received | None) -> float:
    sizes = flow.frame_bytes
    if received and received.received:
        mean = received.bytes / received.received
    else:
        mean = sum(sizes) / len(sizes) if sizes else 0.0
    return int(mean) if mean == int(mean) else round(mean, 1)


def _rate(amount: float, seconds: float) -> float:
    return round(amount / seconds, 1) if seconds > 0 and math.isfinite(seconds) else 0.0


def _latency_us(latency_ns: dict[str, int] | None) -> dict[str, float] | None:
    return {name: ns / _NS_PER_US for name, ns in latency_ns.items()} if latency_ns else None


def flow_result(flow: FlowEntry, phase: int, sent: Sent, received: Received) -> FlowResult:
    """Return the account of a flow that came to its end.

    What was sent and neither arrived whole nor arrived corrupted is lost; a duplicate makes up for no loss,
    but is told.
    """
    if flow.is_interrupts:
        return _interrupts_result(flow, phase, sent, received)
    is_rr = flow.kind == "rr"
    arrived = sent.answered if is_rr else received.received
    seconds = sent.seconds if is_rr else received.seconds
    return FlowResult(
        name=flow.name,
        kind=flow.kind,
        phase=phase,
        source=flow.source,
        destination=flow.destination,
        frame_bytes=_mean_frame_bytes(flow, received),
        sent=sent.sent,
        received=arrived,
        lost=max(0, sent.sent - arrived - received.corrupted),
        reordered=received.reordered,
        corrupted=received.corrupted,
        duplicated=received.duplicated,
        seconds=seconds,
        frames_per_second=_rate(arrived, seconds),
        bits_per_second=_rate(received.bytes * _BITS_PER_BYTE, seconds),
        latency_us=_latency_us(sent.latency_ns),
    )


def _interrupts_result(flow: FlowEntry, phase: int, sent: Sent, received: Received) -> FlowResult:
    return FlowResult(
        name=flow.name,
        kind=flow.kind,
        phase=phase,
        source=flow.source,
        destination=flow.destination,
        frame_bytes=0,
        sent=sent.sent,
        received=received.received,
        lost=max(0, sent.sent - received.received),
        spurious=received.duplicated,
        seconds=sent.seconds,
        interrupts_per_second=_rate(received.received, sent.seconds),
        latency_us=_latency_us(sent.latency_ns),
    )


def failed_flow(flow: FlowEntry, phase: int, why: str, sent: Sent | None = None) -> FlowResult:
    """Return the account of a flow that did not come to its end."""
    return FlowResult(
        name=flow.name,
        kind=flow.kind,
        phase=phase,
        source=flow.source,
        destination=flow.destination,
        frame_bytes=_mean_frame_bytes(flow, None),
        sent=sent.sent if sent else 0,
        failed=why,
    )


def exit_code(
    flows: Sequence[FlowResult],
    died: Sequence[Died],
    *,
    error: bool,
    ended_by: int = 0,
    attacks: Sequence[AttackResult] = (),
) -> int:
    """Return the exit code: the signal that ended the run, then what died, then what flows and attacks say.

    What a person ended has not failed.
    """
    if ended_by:
        return _SIGNAL_BASE + ended_by
    if died or error:
        return ExitCode.MACHINE
    good = all(flow.good or flow.failed == INTERRUPTED for flow in flows)
    if good and all(attack.good or attack.failed == INTERRUPTED for attack in attacks):
        return ExitCode.GOOD
    return ExitCode.EXPECTATION_FAILED


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _version() -> str:
    try:
        return metadata.version("virtbed")
    except metadata.PackageNotFoundError:
        return "unknown"


def machine() -> Machine:
    """Describe this machine as of now."""
    return Machine(
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        python=platform.python_version(),
        virtbed=_version(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


class BenchFailed(Exception):
    """A run that was to measure something did not end well; `result` says how."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"exit code {result.exit_code}")
        self.result = result
