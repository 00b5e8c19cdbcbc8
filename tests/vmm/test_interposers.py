"""A vmm's interposers over a real bridge: the plan's chains, and captures that come and go."""

from pathlib import Path

import dpkt
import pytest

from testbed.errors import ConfigError
from testbed.messages.control import CaptureStarted, CaptureStopped, FromProcess, StartCapture
from testbed.messages.entries import (
    CallEntry,
    CaptureEntry,
    FilterEntry,
    InterposeEntry,
    MirrorEntry,
    RateEntry,
    VirtioNetEntry,
)
from testbed.net.bridge import Bridge
from testbed.vmm.interposers import Interposers
from tests.net.ring_port import RingPort, attach, frame
from tests.support.recorders import ManualClock

HERE = str(Path(__file__).parents[2])


class Host:
    """Two NICs `g1.nic0` and `g2.nic0`; the first has what is given."""

    def __init__(self, *entries: InterposeEntry) -> None:
        self.clock, self.said, self.reports = ManualClock(), list[FromProcess](), list[tuple[str, str]]()
        self.bridge = Bridge(1_000_000, clock=self.clock)
        self.interposers = Interposers(self.bridge, self.said.append, self.clock)
        self.a, self.b = RingPort(1), RingPort(2)
        self.attached = []
        for port, chain in ((self.a, entries), (self.b, ())):
            attachment = attach(self.bridge, port)
            nic = VirtioNetEntry(name=port.name, mac=port.mac.hex(":"), mmio_gpa=0, intid=48, interpose=chain)
            self.interposers.add(nic, attachment, lambda *told: self.reports.append(told))
            self.attached.append(attachment)

    def send(self, *contents: int) -> list[int]:
        """Send frames from the first NIC and return what arrives at the second."""
        self.a.sender.reclaim()
        self.a.send(*(frame(self.b.mac, self.a.mac, content) for content in contents))
        self.bridge.turn(self.attached[0].lanes[0])
        return [int.from_bytes(taken[14:18], "little") for taken in self.b.take()]


def captured(path: Path) -> list[int]:
    with path.open("rb") as file:
        return [int.from_bytes(data[14:18], "little") for _, data in dpkt.pcapng.Reader(file)]


def test_chain_of_the_plan_runs_in_its_order(tmp_path: Path) -> None:
    before, after = tmp_path / "before.pcapng", tmp_path / "after.pcapng"
    host = Host(
        CaptureEntry(file=str(before)),
        FilterEntry(expression="ether[14] = 1", drops="matching"),
        FilterEntry(expression="less 60", drops="others"),
        CallEntry(function="tests.net.interpose.recorded_calls:drop_first", directory=HERE),
        RateEntry(per_second=1, depth=2, unit="frames"),
        CaptureEntry(file=str(after)),
    )
    assert host.send(0, 1, 2, 3, 4) == [2, 3]
    host.interposers.close()
    assert (captured(before), captured(after)) == ([0, 1, 2, 3, 4], [2, 3])
    drops = [host.a.counter(f"dropped_{reason}") for reason in ("filter", "call", "rate")]
    assert drops == [1, 1, 1]


def test_mirror_may_be_planned_before_its_target() -> None:
    host = Host(MirrorEntry(to="g2.nic0", direction="tx"))
    assert host.send(7) == [7, 7]


def test_what_cannot_be_built_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Host(CallEntry(function="tests.vmm:no_such", directory=HERE))
    with pytest.raises(ConfigError, match="cannot be written"):
        Host(CaptureEntry(file=str(tmp_path / "no" / "a.pcapng")))


def test_live_capture_begins_ends_and_leaves_the_port_as_it_was(tmp_path: Path) -> None:
    host, path = Host(), tmp_path / "live.pcapng"
    without = [attachment.interposer for attachment in host.attached]
    host.send(1)
    host.interposers.start_capture(
        StartCapture(capture_id=5, nic="g1.nic0", file=str(path), expression="ether[14] > 2")
    )
    host.send(2, 3, 4)
    host.interposers.stop_capture(5)
    host.interposers.stop_capture(5)
    host.send(5)
    assert captured(path) == [3, 4]
    assert host.said == [CaptureStarted(capture_id=5), CaptureStopped(capture_id=5, frames=2, missed=0)]
    assert without == [attachment.interposer for attachment in host.attached] == [None, None]


def test_live_capture_of_a_count_ends_by_itself_at_once(tmp_path: Path) -> None:
    host, path = Host(), tmp_path / "live.pcapng"
    host.interposers.start_capture(StartCapture(capture_id=1, nic="g1.nic0", file=str(path), count=2))
    due = [host.interposers.deadline_ns()]
    host.send(1, 2, 3)
    due.append(host.interposers.deadline_ns())
    host.interposers.tick()
    due.append(host.interposers.deadline_ns())
    assert captured(path) == [1, 2]
    assert due == [None, host.clock.now_ns, None]
    assert host.said[-1] == CaptureStopped(capture_id=1, frames=2, missed=0)


def test_live_capture_that_cannot_be_is_refused_with_the_reason(tmp_path: Path) -> None:
    host = Host()
    for nic, file, expression in (
        ("g9.nic0", str(tmp_path / "a"), ""),
        ("g1.nic0", str(tmp_path / "no" / "a"), ""),
        ("g1.nic0", str(tmp_path / "a"), "frob"),
    ):
        host.interposers.start_capture(StartCapture(capture_id=1, nic=nic, file=file, expression=expression))
    refusals = [message.refused for message in host.said if isinstance(message, CaptureStarted)]
    assert ["no NIC on the bridge" in refusals[0], "cannot be written" in refusals[1]] == [True, True]
    assert "position 1" in refusals[2]


def test_close_makes_live_captures_whole(tmp_path: Path) -> None:
    host, path = Host(), tmp_path / "live.pcapng"
    host.interposers.start_capture(StartCapture(capture_id=1, nic="g1.nic0", file=str(path)))
    host.send(1, 2)
    host.interposers.close()
    assert captured(path) == [1, 2]
    assert host.said[-1] == CaptureStopped(capture_id=1, frames=2, missed=0)
