"""Virtual functions in real topologies: on one NIC, across a wire, to virtio and e1000 guests."""

import os
import re
import signal
from pathlib import Path

import pytest

from launcher.result import Result
from launcher.service import CounterStatus, Stats, ask
from launcher.vf_requests import Changed, ChangeVf, ListVfs, VfList
from testbed.messages.control import VfChanges
from tests.support.background import until
from tests.support.launched import ROOT, Launched

pytestmark = pytest.mark.usefixtures("run_parent")

CAPTURE = ROOT / "configs/captures/lan-mix.pcap"
ONE_NIC = """
name: onenic
hosts: {{h0: {{nics: {{nic0: {{vfs: 2, ats: {ats}}}}}, bridge: {{{bridge}}}}}}}
guests:
  v: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0}}]}}
  w: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0}}]}}
  p: {{memory: 16MiB}}
  e: {{memory: 16MiB, nics: [{{kind: e1000}}]}}
workloads:
{workloads}
"""
BRIDGED = """
name: bridged
hosts:
  h0: {nics: {nic0: {vfs: 1, wire: w0}}, bridge: {uplink: nic0}}
  h1: {nics: {nic1: {vfs: 1, wire: w0}}, bridge: {uplink: nic1}}
guests:
  v: {host: h0, memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
  p: {host: h0, memory: 16MiB}
  w: {host: h1, memory: 16MiB, nics: [{kind: vf, nic: nic1}]}
workloads:
  - - {kind: pktgen, from: v, to: w, count: 5000}
    - {kind: pktgen, from: w, to: v, count: 5000}
"""
TWO_HOSTS = f"""
name: wired
hosts:
  h0: {{nics: {{nic0: {{vfs: 1, wire: w0}}}}}}
  h1: {{nics: {{nic1: {{vfs: 1, wire: w0}}}}}}
guests:
  v: {{host: h0, memory: 16MiB, interrupts: direct, nics: [{{kind: vf, nic: nic0}}]}}
  w: {{host: h1, memory: 16MiB, interrupts: direct, nics: [{{kind: vf, nic: nic1}}]}}
workloads:
  - {{kind: replay, from: v, to: w, pcap: {CAPTURE}}}
  - - {{kind: pktgen, from: v, to: w, count: 5000}}
    - {{kind: pktgen, from: w, to: v, frame: imix, count: 5000}}
"""
ENDLESS = """
name: endless
hosts:
  h0: {nics: {nic0: {vfs: 2}, nic1: {vfs: 2}}}
guests:
  a: {memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
  b: {memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
  c: {memory: 16MiB, nics: [{kind: vf, nic: nic1}]}
  d: {memory: 16MiB, nics: [{kind: vf, nic: nic1}]}
workloads:
  - - {kind: pktgen, from: a, to: b, duration: 60s, rate: 500}
    - {kind: pktgen, from: c, to: d, count: 500, rate: 500}
"""


def run(topology: str, directory: Path) -> Result:
    launched = Launched(topology, directory)
    code, result = launched.end(), launched.result()
    assert [flow.name for flow in result.flows if not flow.good] == []
    assert (code, result.died, result.reports, result.error) == (0, (), (), None)
    return result


BOOT_EXITS = 64
"""More than a guest has before its first frame, and far less than it has frames."""


def pktgen(source: str, destination: str, count: int = 3000) -> str:
    return f"  - {{kind: pktgen, from: {source}, to: {destination}, count: {count}}}"


@pytest.mark.parametrize("ats", [False, True], ids=["mediated", "ats"])
def test_functions_of_one_nic_talk_and_no_vmm_has_a_part_in_it(tmp_path: Path, ats: bool) -> None:
    replay = f"  - {{kind: replay, from: v, to: w, pcap: {CAPTURE}}}"
    workloads = "\n".join([replay, pktgen("v", "w"), pktgen("w", "v")])
    result = run(ONE_NIC.format(ats=str(ats).lower(), bridge="", workloads=workloads), tmp_path)
    vmm, counters = result.counters["vmm-h0"], result.counters

    for (
        guest
    ) in "vw":  # to set its interrupt controller up when it boots, and for interrupts by list registers
        exits = {name: n for name, n in counters[guest].items() if name.startswith("exits.")}
        assert set(exits) <= {"exits.hvc", "exits.mmio_read", "exits.mmio_write", "exits.irq"}
        assert exits["exits.hvc"] + exits["exits.mmio_read"] + exits["exits.mmio_write"] <= BOOT_EXITS
    assert not {n for n in vmm if n.startswith(("exits.v.", "exits.w.", "v.nic0", "w.nic0"))}
    assert vmm.get("frames_copied", 0) == vmm.get("bytes_copied", 0) == 0
    assert counters["nic0"]["pool0.tx_frames"] >= 3000
    mover = counters["nic0"].get("ats.requests", 0)
    assert (mover > 0) == ats
    assert (counters["iommu-h0"].get("nic0.vf0.bytes_read", 0) > 3000 * 60) != ats


def _with_uplink(workloads: str) -> str:
    return ONE_NIC.format(ats="false", bridge="uplink: nic0", workloads=workloads)


def test_a_function_talks_with_virtio_and_e1000_guests_over_the_uplink(tmp_path: Path) -> None:
    workloads = [pktgen(*ends) for ends in (("v", "p"), ("p", "v"), ("v", "e"), ("e", "v"))]
    result = run(_with_uplink("\n".join(workloads)), tmp_path)
    assert [flow.received for flow in result.flows] == [3000] * 4


def test_functions_of_two_hosts_talk_across_a_wire(tmp_path: Path) -> None:
    result = run(TWO_HOSTS, tmp_path)
    assert [flow.received for flow in result.flows] == [11_058, 5000, 5000]
    for host in ("vmm-h0", "vmm-h1"):
        counters = result.counters[host]
        assert counters.get("frames_copied", 0) == counters.get("bytes_copied", 0) == 0
    for guest in "vw":  # the same few however many frames and interrupts there are
        counters = result.counters[guest]
        assert counters["interrupts.vf"] > 0
        assert sum(n for name, n in counters.items() if name.startswith("exits.")) <= BOOT_EXITS


def test_no_uplink_sees_a_frame_that_functions_of_two_hosts_exchange(tmp_path: Path) -> None:
    result = run(BRIDGED, tmp_path)
    for host, nic in (("vmm-h0", "nic0"), ("vmm-h1", "nic1")):
        counters = result.counters[host]
        assert [counters.get(f"{nic}.{way}", 0) for way in ("frames_in", "frames_out")] == [0, 0]
        assert counters.get("frames_copied", 0) == counters.get("bytes_copied", 0) == 0
        assert result.counters[nic]["pool0.tx_frames"] >= 5000


def mapped(pid: int) -> dict[str, str]:
    """Return the rights of a process to each segment that it maps, by inode."""
    lines = Path(f"/proc/{pid}/maps").read_text()
    found = re.findall(r"^\S+ (\S+) \S+ \S+ (\d+) +/dev/shm/virtbed-\S+ \(deleted\)$", lines, re.MULTILINE)
    return {inode: rights for rights, inode in found}


def test_a_nic_maps_no_memory_of_a_guest_and_the_death_of_one_harms_nobody_else(tmp_path: Path) -> None:
    launched = Launched(ENDLESS, tmp_path)
    launched.until("phase 1 of 1")
    pids = {process.name: process.pid for process in launched.status("endless").processes}
    maps = {name: set(mapped(pid)) for name, pid in pids.items()}
    shared = {name: maps["nic0"] & maps[name] for name in "abcd"}
    assert [len(shared[name]) for name in "abcd"] == [1, 1, 0, 0]  # a window each
    assert len(maps["iommu-h0"] & maps["a"]) == 2  # RAM and stage 2
    os.kill(pids["nic0"], signal.SIGKILL)
    launched.until("c->d: 500 frames")
    os.kill(launched.pid, signal.SIGINT)
    launched.end()
    result = launched.result()
    flows = {flow.name: (flow.good, flow.failed) for flow in result.flows}
    assert flows == {"pktgen a->b": (False, "nic0 killed by SIGKILL"), "pktgen c->d": (True, None)}
    assert [(died.name, died.signal) for died in result.died] == [("nic0", "SIGKILL")]
    assert gone(result) == {("a", "a.nic0"), ("b", "b.nic0")}


def gone(result: Result) -> set[tuple[str, str]]:
    """Return which guests saw which device go, and that nothing else was told."""
    assert {report.reason for report in result.reports} == {"device_gone"}
    return {(report.guest, report.device) for report in result.reports}


UNWIRED = """
name: unwired
hosts:
  h0: {nics: {nic0: {vfs: 1, wire: w0}}}
  h1: {nics: {nic1: {vfs: 1, wire: w0}}}
guests:
  v: {host: h0, memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
  w: {host: h1, memory: 16MiB, nics: [{kind: vf, nic: nic1}]}
  p: {host: h1, memory: 16MiB}
  q: {host: h1, memory: 16MiB}
workloads:
  - - {kind: pktgen, from: w, to: v, duration: 60s, rate: 500}
    - {kind: pktgen, from: p, to: q, duration: 60s, rate: 500}
"""


def test_a_nic_whose_iommu_is_gone_leaves_the_wire(tmp_path: Path) -> None:
    launched = Launched(UNWIRED, tmp_path)
    launched.until("phase 1 of 1")
    os.kill(launched.pid_of("unwired", "iommu-h0"), signal.SIGKILL)

    def changes() -> int:
        return ask("unwired", Stats(), CounterStatus).counters["nic1"].get("wire.link_changes", 0)

    until(lambda: changes() == 2, "the other end's link goes down")
    os.kill(launched.pid, signal.SIGINT)
    launched.end()
    assert [(died.name, died.signal) for died in launched.result().died] == [("iommu-h0", "SIGKILL")]


def test_nobody_waits_for_a_nic_that_is_gone_and_had_translations(tmp_path: Path) -> None:
    text = ENDLESS.replace("endless", "waiting").replace("nic0: {vfs: 2}", "nic0: {vfs: 2, ats: true}")
    launched = Launched(text.replace("a: {memory", "a: {iommu: smmu, memory"), tmp_path)
    launched.until("phase 1 of 1")
    os.kill(launched.pid_of("waiting", "nic0"), signal.SIGKILL)
    launched.until("device_gone")
    nics = {nic.name: nic.link_up for nic in ask("waiting", ListVfs(), VfList).nics}
    refused = ask("waiting", ChangeVf("nic0", 0, VfChanges(trust=True)), Changed).problem
    launched.until("c->d: 500 frames")
    os.kill(launched.pid, signal.SIGINT)
    launched.end()

    assert nics == {"nic0": False, "nic1": False}  # of nic1, which has no wire, too
    assert "nic0 is gone" in refused
    # a device that does not answer would be a report of the vmm's, after seconds
    assert gone(launched.result()) == {("a", "a.nic0"), ("b", "b.nic0")}
