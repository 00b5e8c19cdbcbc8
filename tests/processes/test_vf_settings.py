"""What the operator wants of virtual functions, as traffic sees it; functions and guests of another host."""

from pathlib import Path

import pytest

from launcher.result import FlowResult, Result
from launcher.service import CounterStatus, Down, Stats, ask
from launcher.vf_requests import Changed, ChangeVf
from testbed.messages.control import VfChanges
from tests.support.launched import ROOT, Launched

pytestmark = pytest.mark.usefixtures("run_parent")

CAPTURE = ROOT / "configs/captures/lan-mix.pcap"
COUNT = 3000
LIMIT_BITS_PER_SECOND = 20_000_000
FRAME_BITS = 60 * 8
LOOKS_MAX = 20_000

SETTINGS = f"""
name: settings
hosts:
  h0: {{nics: {{nic0: {{vfs: 5}}}}}}
guests:
  a: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0, vlan: 100}}]}}
  b: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0, vlan: 100}}]}}
  c: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0, vlan: 200}}]}}
  d: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0, rate: 20Mbit, trust: true}}]}}
  e: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0, spoof_check: false}}]}}
workloads:
  - {{kind: replay, from: a, to: b, pcap: {CAPTURE}}}
  - - {{kind: pktgen, from: a, to: b, count: {COUNT}}}
    - {{kind: pktgen, from: b, to: a, frame: imix, count: {COUNT}}}
  - {{kind: rr, from: b, to: a, count: 50}}
  - - {{kind: pktgen, from: a, to: c, count: 100}}
    - {{kind: pktgen, from: e, to: a, count: 100}}
    - {{kind: pktgen, from: c, to: d, count: 100}}
  - {{kind: pktgen, from: d, to: e, count: 20000}}
  - {{kind: pktgen, from: e, to: d, count: {COUNT}}}
"""


def flows_of(result: Result, *ends: str) -> list[FlowResult]:
    return [flow for flow in result.flows if f"{flow.source}->{flow.destination}" in ends]


def test_traffic_follows_vlan_rate_trust_and_spoof_check(tmp_path: Path) -> None:
    launched = Launched(SETTINGS, tmp_path)
    assert launched.end() == 1  # frames into another's VLAN are lost
    result = launched.result()
    assert (result.died, result.reports, result.error) == ((), (), None)

    of_one_vlan = flows_of(result, "a->b", "b->a")  # as if there was none
    assert [(flow.kind, flow.good, flow.received) for flow in of_one_vlan] == [
        ("replay", True, 11_058),
        ("pktgen", True, COUNT),
        ("pktgen", True, COUNT),
        ("rr", True, 50),
    ]
    between = flows_of(result, "a->c", "e->a", "c->d")  # into, between and out of VLANs
    assert [(flow.sent, flow.received, flow.lost) for flow in between] == [(100, 0, 100)] * 3
    assert all(not result.counters[name].get("nic0.foreign_frames", 0) for name in "abcde")

    (limited,), (other,) = flows_of(result, "d->e"), flows_of(result, "e->d")
    assert (limited.good, limited.received, other.good) == (True, 20_000, True)
    # at least so long, but for what a receiver that is late does not see of it
    assert limited.frames_per_second < 2 * LIMIT_BITS_PER_SECOND / FRAME_BITS


RUNNING = """
name: vlans
hosts:
  h0: {nics: {nic0: {vfs: 2}}}
guests:
  a: {memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
  b: {memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
workloads:
  - {kind: pktgen, from: a, to: b, duration: 60s, rate: 2000}
"""


def counted(process: str, name: str) -> int:
    return ask("vlans", Stats(), CounterStatus).counters[process].get(name, 0)


def change(number: int, **changes: object) -> None:
    order = ChangeVf("nic0", number, VfChanges(**changes))  # type: ignore[arg-type]
    assert ask("vlans", order, Changed).problem == ""


def grows(process: str, *names: str) -> bool:
    """Say whether counters go on; the flow never pauses for so long."""

    def now() -> int:
        return sum(counted(process, name) for name in names)

    first = now()
    return any(now() > first + 50 for _ in range(LOOKS_MAX))


def test_a_vlan_that_is_set_while_frames_come_stops_them_until_both_are_in_it(tmp_path: Path) -> None:
    launched = Launched(RUNNING, tmp_path)
    launched.until("phase 1")
    assert grows("b", "nic0.rx_frames")
    change(1, vlan=300)
    assert grows("nic0", "pool0.dropped.no_receiver", "pool0.dropped.link_down")
    before = counted("b", "nic0.rx_frames")
    assert grows("nic0", "pool0.dropped.no_receiver", "pool0.dropped.link_down")
    assert counted("b", "nic0.rx_frames") == before
    change(0, vlan=300)
    assert grows("b", "nic0.rx_frames")
    assert counted("b", "nic0.foreign_frames") == 0
    ask("vlans", Down(), Result)
    launched.end()


APART = f"""
name: apart
hosts:
  h0: {{nics: {{nic0: {{vfs: 1, wire: w0}}}}}}
  h1: {{nics: {{nic1: {{wire: w0}}}}, bridge: {{uplink: nic1}}}}
guests:
  v: {{host: h0, memory: 16MiB, nics: [{{kind: vf, nic: nic0}}]}}
  p: {{host: h1, memory: 16MiB}}
  e: {{host: h1, memory: 16MiB, nics: [{{kind: e1000}}]}}
workloads:
  - {{kind: replay, from: v, to: p, pcap: {CAPTURE}}}
  - {{kind: replay, from: v, to: e, pcap: {CAPTURE}}}
  - - {{kind: pktgen, from: v, to: p, count: {COUNT}}}
    - {{kind: pktgen, from: p, to: v, count: {COUNT}}}
  - - {{kind: pktgen, from: v, to: e, frame: imix, count: {COUNT}}}
    - {{kind: pktgen, from: e, to: v, frame: imix, count: {COUNT}}}
  - {{kind: rr, from: v, to: p, count: 50}}
  - {{kind: rr, from: v, to: e, count: 50}}
"""


def test_a_function_talks_with_virtio_and_e1000_guests_across_a_wire(tmp_path: Path) -> None:
    launched = Launched(APART, tmp_path)
    code, result = launched.end(), launched.result()
    assert [(flow.name, flow.lost) for flow in result.flows if not flow.good] == []
    assert (code, result.died, result.reports) == (0, (), ())
    assert [flow.received for flow in result.flows] == [11_058] * 2 + [COUNT] * 4 + [50] * 2
    vmm = result.counters["vmm-h0"]  # the function's host has no part in it
    assert vmm.get("frames_copied", 0) == vmm.get("bytes_copied", 0) == 0
