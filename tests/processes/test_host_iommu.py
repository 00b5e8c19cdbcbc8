"""Attacks of a function on its host over real processes: each is stopped, recorded, told to its owner, and
does not slow the others.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.memory.tables import Attributes, TableBuilder
from testbed.native import Bell
from testbed.spec import bar_window
from testbed.spec import dma_request as d
from testbed.vmm.assignment import Assigned
from testbed.vmm.host_iommu import HostIommu
from tests.support.iommu_child import NAME, RAM, RAM_BYTES, TABLES, IommuChild, wait

ATTACKER, OTHER = 0x180, 0x182
GUEST = 0x4000_0000
PAGE = 4096
HALF = RAM_BYTES // 2
SECRET = b"the other guest's"


class Host:
    """Two guests with half of the RAM each, and a function each; this process is hypervisor and NIC."""

    def __init__(self, child: IommuChild, ats: bool) -> None:
        self.child = child
        self.told: list[tuple[str, str, str]] = []
        window = child.segments[f"{NAME}.window"].pinned
        bell = child.bell(Bell(window, bar_window.BELL_TO_DEVICE))
        self._runnable: dict[Callable[[], bool], None] = {}
        tables = child.segments["h0.tables"]
        self.iommu = HostIommu(window, tables, bell.ring, self._wait, self._report, self._runnable)
        self.iommu.start()
        self.spaces = {}
        for index, (guest, stream) in enumerate((("a", ATTACKER), ("b", OTHER))):
            builder = self.spaces[guest] = TableBuilder(child.memory, child.frames, 2)
            builder.map(GUEST, RAM + index * HALF, HALF - PAGE)
            builder.map(GUEST + HALF - PAGE, RAM + index * HALF + HALF - PAGE, PAGE, Attributes(write=False))
            self.iommu.assignments.assign(Assigned(f"nic0.vf{index}", stream, guest, index + 1, builder, ats))
        child.memory.write(RAM + HALF, SECRET)

    def _report(self, guest: str, device: str, reason: str, detail: str) -> None:
        assert detail
        self.told.append((guest, device, reason))

    def _wait(self, ready: Callable[[], bool], deadline_ns: int | None = None) -> None:
        """Be the NIC while the hypervisor waits."""
        self.child.serve_device()
        wait(ready, deadline_ns)

    def hears(self) -> bool:
        """Do what a hypervisor's loop does when a wire was pulsed; say whether it was told something."""
        for watched, action in self.iommu.wires:
            if watched.ready:
                action()
        for action in tuple(self._runnable):
            action()
        return bool(self.told)


@pytest.fixture(scope="module", params=[False, True], ids=["mediated", "ats"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="vb-") as directory:
        child = IommuChild(Path(directory), ATTACKER, OTHER, ats=request.param)
        yield Host(child, request.param)
        assert child.close() == 0


ATTACKS = {
    "another guest's memory": (d.KIND_READ, RAM + HALF, "F_TRANSLATION"),
    "its own memory by host address": (d.KIND_WRITE, RAM, "F_TRANSLATION"),
    "the hypervisor's tables": (d.KIND_WRITE, TABLES, "F_TRANSLATION"),
    "behind the end of its memory": (d.KIND_WRITE, GUEST + HALF, "F_TRANSLATION"),
    "from its memory into what follows": (d.KIND_READ, GUEST + HALF - 8, "F_TRANSLATION"),
    "a page that is read-only": (d.KIND_WRITE, GUEST + HALF - PAGE, "F_PERMISSION"),
    "what no table resolves": (d.KIND_READ, 1 << 63, "F_ADDR_SIZE"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_stopped_and_told_to_its_owner(host: Host, attack: str) -> None:
    kind, iova, event = ATTACKS[attack]
    sram = host.child.segments["nic0.sram"].view
    sram[:64] = b"\xee" * 64
    before = host.child.memory.read(RAM, RAM_BYTES)
    host.told.clear()

    assert host.child.transfer(kind, iova, 64, stream=ATTACKER) == d.STATUS_ABORT

    host.child.until(host.hears)
    assert host.told == [("a", "nic0.vf0", event)]
    assert bytes(sram[:64]) == b"\xee" * 64
    assert host.child.memory.read(RAM, RAM_BYTES) == before


def test_flood_of_refused_requests_leaves_the_other_function_alone(host: Host) -> None:
    attacker = host.child.client.ports[ATTACKER]
    while attacker.ring.post(d.KIND_WRITE, 0, 64, 0) is not None:
        pass
    attacker.submit()
    for _ in range(200):
        assert host.child.transfer(d.KIND_READ, GUEST, 17, stream=OTHER) == d.STATUS_DONE

    assert bytes(host.child.segments["nic0.sram"].view[:17]) == SECRET
    # with ATS the attacker has one request under way, and is slower than its budget of refusals fills
    refused = "refused" if host.child.client.watched else "paused"
    host.child.until(lambda: host.child.counters[f"nic0.vf0.{refused}"] > 0)
    assert host.child.counters["nic0.vf1.paused"] == 0
