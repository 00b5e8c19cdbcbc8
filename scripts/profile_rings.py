"""Times each native step of a frame's way, in nanoseconds a frame: `python scripts/profile_rings.py`.

Both sides of the rings run as they do in a topology, by bursts, through the same native calls, and nothing
else: no loop, bells or counters of Python. `alone` has both sides in one process, so that every cache line is
at hand; `apart` has the guest in one process and the vmm in another, so that lines travel between processors.
The difference is what sharing memory costs. The figure is the median over calls, each weighted by its frames:
a call during which the process was preempted does not count for more.
Not modelled: three processes (the guest that sends is the one that receives), merged buffers.
"""

import argparse
import json
import mmap
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.guest.workloads.frames import headers
from testbed.messages.entries import FlowEntry
from testbed.native import (
    FRAMES_MAX,
    Burst,
    FlowSink,
    FlowSource,
    Inspector,
    MacTable,
    PackedDevice,
    PackedDriver,
    Pinned,
    Regions,
    SinkStore,
    SplitDevice,
    SplitDriver,
)
from testbed.net.mac import parse_mac
from testbed.net.reflect import STORE_BYTES
from testbed.spec import virtio as spec
from testbed.spec.flow import MAGIC_DATA
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.spec.virtio_net import FRAME_BYTES_MAX

RAM_GPA: Final = 1 << 30
SLOT_BYTES: Final = 25 * 64
"""As the guest's driver cuts its buffers for an MTU of 1500."""
SENDER, RECEIVER = "02:00:00:00:00:01", "02:00:00:00:00:02"
FLOW_ID: Final = 1
QUEUE_SIZE: Final = 1024
GUEST_STEPS: Final = ("reserve", "fill", "send", "collect", "inspect", "post")
VMM_STEPS: Final = ("fetch", "take", "classify", "deliver", "complete")
Driver = SplitDriver | PackedDriver
Device = SplitDevice | PackedDevice
Times = dict[str, list[tuple[int, int]]]
"""Nanoseconds and frames of each call of a step."""


@dataclass(frozen=True)
class Case:
    """What is measured."""

    path: str
    ring: str
    in_order: bool
    frame_bytes: int
    verify: bool
    size: int

    @property
    def name(self) -> str:
        """A column's heading."""
        return f"{self.ring}{' in-order' if self.in_order else ''} {self.frame_bytes}"


class Memory:
    """A guest's RAM, shared with a forked process."""

    def __init__(self, size_bytes: int) -> None:
        self.ram = mmap.mmap(-1, size_bytes)
        self.regions = Regions()
        self.regions.add(RAM_GPA, Pinned(self.ram))
        self._next = 0

    def take(self, size_bytes: int) -> tuple[int, Pinned]:
        """Return a piece's address and where it is mapped."""
        start = self._next
        self._next = align_up(start + size_bytes, PAGE_SIZE_BYTES)
        return RAM_GPA + start, Pinned(memoryview(self.ram)[start : start + size_bytes])


def queue(memory: Memory, case: Case, counters: Pinned, *, device_writes: bool) -> tuple[Driver, Device]:
    """Return both sides of a queue that is ready to be used."""
    packed = case.ring == "packed"
    bytes_of, parts_of = (
        (spec.packed_bytes, spec.packed_parts) if packed else (spec.split_bytes, spec.split_parts)
    )
    rings_gpa, rings = memory.take(bytes_of(case.size))
    slots_gpa, slots = memory.take(case.size * SLOT_BYTES)
    places = parts_of(rings_gpa, case.size)
    driver = (PackedDriver if packed else SplitDriver)(
        rings, rings_gpa, case.size, *places, slots, slots_gpa, SLOT_BYTES, device_writes,
        event_idx=True, in_order=case.in_order, merge=device_writes,
    )  # fmt: skip
    device = (PackedDevice if packed else SplitDevice)(
        memory.regions, case.size, *places, counters,
        event_idx=True, indirect=True, in_order=case.in_order, merge=device_writes,
    )  # fmt: skip
    driver.disarm()
    device.disarm()
    return driver, device


class Clock:
    """Adds up what each step takes."""

    def __init__(self) -> None:
        self.times: Times = defaultdict(list)

    def run(self, step: str, call: Callable[[], object], frames: Callable[[], int]) -> int:
        """Time one call; return its frames. A call without frames is not counted."""
        begun_ns = time.perf_counter_ns()
        call()
        took_ns, count = time.perf_counter_ns() - begun_ns, frames()
        if count:
            self.times[step].append((took_ns, count))
        return count


class Guest:
    """A guest that sends, and receives what it sent where the path says so."""

    def __init__(self, case: Case, tx: Driver, rx: Driver) -> None:
        self.clock, self._case, self._tx, self._rx = Clock(), case, tx, rx
        flow = FlowEntry(
            id=FLOW_ID, name="", kind="pktgen", source="", destination="",
            source_mac=SENDER, destination_mac=RECEIVER, frame_bytes=(case.frame_bytes,),
        )  # fmt: skip
        self._source = FlowSource(FLOW_ID, MAGIC_DATA, flow.frame_bytes, [headers(flow, case.frame_bytes)])
        self._sink, self._inspector = FlowSink(FLOW_ID, MAGIC_DATA, case.verify), Inspector()
        self._inspector.add(self._sink)
        self._out, self._in = Burst(), Burst()
        rx.post_all()

    def step(self) -> bool:
        """Send a burst and take one; say whether anything moved."""
        clock, out, came = self.clock, self._out, self._in
        sent = clock.run("reserve", lambda: self._tx.reserve(out, FRAMES_MAX), lambda: len(out))
        if sent:
            clock.run("fill", lambda: self._source.fill(out), lambda: sent)
            clock.run("send", lambda: self._tx.send(out), lambda: sent)
        if self._case.path == "sink":
            return bool(sent)
        got = clock.run("collect", lambda: self._rx.collect(came), lambda: len(came))
        if got:
            clock.run("inspect", lambda: self._inspector.inspect(came, 1), lambda: got)
            clock.run("post", lambda: self._rx.post(came), lambda: got)
        return bool(sent or got)


class Vmm:
    """A back end: a sink, or a bridge of two ports."""

    def __init__(self, case: Case, tx: Device, rx: Device, counters: Pinned) -> None:
        self.clock, self._case, self._tx, self._rx, self._counters = Clock(), case, tx, rx, counters
        self._store, self._burst, self._reached = SinkStore(STORE_BYTES, FRAME_BYTES_MAX), Burst(), 0
        self._table = MacTable()
        for port, mac in enumerate((SENDER, RECEIVER)):
            self._table.open_port(port, True)
            self._table.fix(parse_mac(mac), port)

    def step(self) -> bool:
        """Take a burst to its end or as far as it goes; say whether anything moved."""
        burst = self._burst
        if not len(burst) and not self.clock.run("fetch", lambda: self._tx.fetch(burst), lambda: len(burst)):
            return False
        if not (self._take_all() if self._case.path == "sink" else self._forward()):
            return False
        self.clock.run("complete", lambda: self._tx.complete(burst), lambda: len(burst))
        burst.clear()
        self._reached = 0
        return True

    def _take_all(self) -> bool:
        first = 0
        while first < len(self._burst):
            before = first

            def take() -> None:
                nonlocal first
                first = self._store.take(self._burst, first, self._counters, 0, self._case.verify)

            self.clock.run("take", take, lambda: first - before)  # noqa: B023 run at once
        return True

    def _forward(self) -> bool:
        burst, first = self._burst, self._reached
        if not first:
            self.clock.run(
                "classify",
                lambda: self._table.classify(burst, 0, 1, self._counters, 0, FRAME_BYTES_MAX),
                lambda: len(burst),
            )

        def deliver() -> None:
            self._reached = self._rx.deliver(burst, first, 1)
            self._rx.publish()

        self.clock.run("deliver", deliver, lambda: self._reached - first)
        return self._reached == len(burst)


def _sides(case: Case) -> tuple[Guest, Vmm]:
    memory = Memory(2 * (spec.split_bytes(case.size) + case.size * SLOT_BYTES) + 16 * PAGE_SIZE_BYTES)
    counters = Pinned(mmap.mmap(-1, PORT_COUNTERS.size))
    (tx_driver, tx_device), (rx_driver, rx_device) = (
        queue(memory, case, counters, device_writes=device_writes) for device_writes in (False, True)
    )
    return Guest(case, tx_driver, rx_driver), Vmm(case, tx_device, rx_device, counters)


def alone(case: Case, seconds: float) -> Times:
    """Measure both sides in this process, in turn."""
    guest, vmm = _sides(case)
    for _ in _until(seconds):
        guest.step()
        vmm.step()
    return guest.clock.times | vmm.clock.times


def apart(case: Case, seconds: float) -> Times:
    """Measure the guest here and the vmm in a process of its own; whoever finds nothing yields."""
    guest, vmm = _sides(case)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _work(vmm.step, seconds)
        with os.fdopen(writing, "w") as answer:
            json.dump(vmm.clock.times, answer)
        os._exit(0)
    os.close(writing)
    _work(guest.step, seconds)
    with os.fdopen(reading) as question:
        theirs: Times = json.load(question)
    os.waitpid(child, 0)
    return guest.clock.times | theirs


def _work(step: Callable[[], bool], seconds: float) -> None:
    for _ in _until(seconds):
        if not step():
            os.sched_yield()


def _until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def _per_frame(times: Times) -> dict[str, float]:
    return {step: round(_median(calls), 2) for step, calls in times.items()}


def _median(calls: Sequence[Sequence[int]]) -> float:
    """Return nanoseconds a frame in the call that has half of all frames before it."""
    ordered = sorted((ns / frames, frames) for ns, frames in calls)
    half, before = sum(frames for _, frames in ordered) / 2, 0
    for per_frame, frames in ordered:
        before += frames
        if before >= half:
            return per_frame
    return 0.0


def _table(title: str, columns: dict[str, dict[str, float]]) -> str:
    lines = [f"{title:<14}" + "".join(f"{name:>22}" for name in columns)]
    for side, steps in (("guest", GUEST_STEPS), ("vmm", VMM_STEPS)):
        for step in steps:
            values = [column.get(step) for column in columns.values()]
            if any(values):
                lines.append(
                    f"{step:<14}" + "".join(f"{'' if v is None else f'{v:.1f}':>22}" for v in values)
                )
        sums = [sum(column.get(step, 0) for step in steps) for column in columns.values()]
        lines.append(f"{side + ' sum':<14}" + "".join(f"{total:>22.1f}" for total in sums))
    return "\n".join(lines)


def take_turns() -> None:
    """Measure what each line of standard input asks for, both sides in this process; answer with a line."""
    for line in sys.stdin:
        turn = json.loads(line)
        case = Case("forward", turn["ring"], False, turn["frame_bytes"], False, QUEUE_SIZE)
        print(json.dumps(_per_frame(alone(case, turn["seconds"]))), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and print nanoseconds a frame."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each case (default: 0.3)")
    parser.add_argument("--size", type=int, default=QUEUE_SIZE, help="descriptors of a queue (default: 1024)")
    parser.add_argument("--verify", action=argparse.BooleanOptionalAction, default=False, help="check frames")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--turns", action="store_true", help="measure what each line of standard input says")
    parser.add_argument("--cpu", type=int, help="run on this processor")
    told = parser.parse_args(arguments)
    if told.cpu is not None:
        os.sched_setaffinity(0, [told.cpu])
    if told.turns:
        take_turns()
        return
    rings = [("split", False), ("split", True), ("packed", False), ("packed", True)]
    result: dict[str, dict[str, dict[str, float]]] = {}
    for how, path in product((alone, apart), ("sink", "forward")):
        cases = [Case(path, *ring, size, told.verify, told.size) for size, ring in product((60, 1514), rings)]
        result[f"{how.__name__} {path}"] = {case.name: _per_frame(how(case, told.seconds)) for case in cases}
    if told.json:
        print(json.dumps(result, indent=1))
        return
    print("\n\n".join(_table(title, columns) for title, columns in result.items()))


if __name__ == "__main__":
    main()
