"""Virtual functions in guests' own hands, real processes: who can touch guests' memory by either way, and
what the death of an IOMMU does to others.
"""

import os
import signal
from pathlib import Path

import pytest

from tests.support.launched import Launched

pytestmark = pytest.mark.usefixtures("run_parent")

MEMORY = 16 << 20
COUNT = 30_000
ENDLESS = """
name: {name}
hosts:
  h0:
    nics: {{nic0: {{vfs: 2{ats}}}}}
guests:
  va: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0}}]}}
  vb: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0}}]}}
workloads:
  - {{kind: pktgen, from: va, to: vb, duration: 60s, rate: 1000}}
"""
BESIDE = f"""
name: {{name}}
hosts:
  h0: {{{{nics: {{{{nic0: {{{{vfs: 2}}}}}}}}}}}}
guests:
  va: {{{{memory: 16MiB, nics: [{{{{kind: vf, nic: nic0}}}}]}}}}
  vb: {{{{memory: 16MiB, nics: [{{{{kind: vf, nic: nic0}}}}]}}}}
  pa: {{{{memory: 16MiB}}}}
  pb: {{{{memory: 16MiB}}}}
workloads:
  - - {{{{kind: pktgen, from: va, to: vb, duration: 60s, rate: 1000}}}}
    - {{{{kind: pktgen, from: pa, to: pb, count: {COUNT}, rate: 20000}}}}
"""


def _inodes(pid: int, size_bytes: int) -> set[str]:
    """Return the inodes of shared mappings of a size that a process has."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        places, permissions, _offset, _device, inode, *_ = line.split()
        start, end = (int(place, 16) for place in places.split("-"))
        if permissions.endswith("s") and end - start == size_bytes:
            found.add(inode)
    return found


@pytest.mark.parametrize("ats", [False, True], ids=["mediated", "ats"])
def test_nic_has_guests_memory_mapped_only_with_ats(ats: bool, tmp_path: Path) -> None:
    name = "maps-ats" if ats else "maps"
    launched = Launched(ENDLESS.format(name=name, ats=", ats: true" if ats else ""), tmp_path)
    launched.until("phase 1")
    of_guests = [_inodes(launched.pid_of(name, guest), MEMORY) for guest in ("va", "vb")]
    nic, iommu = (_inodes(launched.pid_of(name, process), MEMORY) for process in ("nic0", "iommu-h0"))
    os.kill(launched.pid, signal.SIGINT)
    launched.end()

    assert [len(inodes) for inodes in of_guests] == [1, 1]
    assert of_guests[0].isdisjoint(of_guests[1])
    assert iommu >= of_guests[0] | of_guests[1]
    assert nic & (of_guests[0] | of_guests[1]) == (of_guests[0] | of_guests[1] if ats else set())


def test_death_of_the_iommu_harms_only_those_that_use_it(tmp_path: Path) -> None:
    name, victim = "death-iommu", "iommu-h0"
    launched = Launched(BESIDE.format(name=name), tmp_path)
    launched.until("phase 1")
    os.kill(launched.pid_of(name, victim), signal.SIGKILL)
    launched.until("pa->pb: 30,000 frames")
    os.kill(launched.pid, signal.SIGINT)
    launched.end()
    result = launched.result()

    assert [(death.name, death.signal) for death in result.died] == [(victim, "SIGKILL")]
    told = {(report.guest, report.device, report.reason) for report in result.reports}
    assert told == {("va", "va.nic0", "device_gone"), ("vb", "vb.nic0", "device_gone")}
    good = {flow.name: flow.received for flow in result.flows if flow.good}
    assert good == {"pktgen pa->pb": COUNT}
