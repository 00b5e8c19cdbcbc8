"""The hypervisor's ITS driver against the ITS, in one process."""

from functools import partial

import pytest

from testbed.errors import DeviceError
from testbed.iommu.interrupts import HostInterrupts, HostProcessor
from testbed.iommu.its_vpes import VcpuBacking
from testbed.memory.host import HostMemory
from testbed.memory.segment import Segment
from testbed.native import Pinned, SharedWords, VpePort
from testbed.spec import lpi
from testbed.spec.vcpu_page import VCPU_PAGE
from testbed.vmm.host_lpis import HostLpis, ScheduledVpe
from testbed.vmm.its_driver import ItsDriver

TABLES, TABLES_BYTES = 0x100_0000_0000, 2 << 20
ITS_BASE = 0x2_0000_0000
DEVICE, OTHER = 0x180, 0xFF82
VLPI = lpi.LPI_FIRST


class Host:
    """An ITS, its hypervisor, and one vCPU."""

    def __init__(self) -> None:
        self.memory = HostMemory([Segment("tables", TABLES_BYTES, TABLES, bytearray(TABLES_BYTES))])
        self._next = TABLES
        self.vpt = self.allocate(1 << 16)
        lpis, self.vcpu = Pinned(bytearray(4096)), Pinned(bytearray(VCPU_PAGE.size))
        self.vcpu_wakes = self.host_wakes = 0
        self.reports: list[str] = []
        self.system = HostInterrupts(
            self.memory,
            ITS_BASE,
            HostProcessor(lpis, self._wake_host),
            {self.vpt: VcpuBacking(self.vcpu, self._wake_vcpu)},
            lambda reason, _detail: self.reports.append(reason),
        )
        self.driver = ItsDriver(self.system.its, self.system.redistributor, self.memory, self.allocate)
        self.driver.start()
        self.lpis = HostLpis(lpis)
        self.wanted: list[int] = []

    def allocate(self, size_bytes: int) -> int:
        at = (self._next + size_bytes - 1) & -size_bytes
        self._next = at + size_bytes
        assert self._next <= TABLES + TABLES_BYTES
        return at

    def _wake_host(self) -> None:
        self.host_wakes += 1

    def _wake_vcpu(self) -> None:
        self.vcpu_wakes += 1

    def schedule(self) -> ScheduledVpe:
        """Make the vCPU's vPE."""
        table = Pinned(self.memory.view(self.vpt + 1024, lpi.VLPI_WORDS * 8))
        vpe = self.driver.map_vpe(self.vpt)
        port = VpePort(self.vcpu, table)
        return ScheduledVpe(vpe, port, self._wake_vcpu, lambda v: self.wanted.append(v.vpe))

    def taken(self) -> list[int]:
        """Take the virtual LPIs in the first word of the vCPU's page."""
        word = SharedWords(self.vcpu).clear_bits64(VCPU_PAGE.offset("vlpi_pending"), (1 << 64) - 1)
        return [VLPI + n for n in range(64) if word >> n & 1]

    def message(self, device: int, event: int) -> bool | None:
        """A device writes to the ITS's page."""
        [(page, window)] = self.system.windows.items()
        assert page == ITS_BASE + 0x1_0000
        return window(device, 0x40, event)


def test_events_of_two_devices_reach_the_hypervisor_apart() -> None:
    host = Host()
    handled: list[str] = []
    for device in (DEVICE, OTHER):
        host.driver.map_device(device, 3)
        for event in range(3):
            name = f"{device:#x}.{event}"
            host.lpis.on(host.driver.map_lpi(device, event), partial(handled.append, name))

    assert host.message(OTHER, 2)
    assert host.message(DEVICE, 0)
    assert host.lpis.take()

    assert handled == ["0x180.0", "0xff82.2"]
    assert not host.lpis.take()
    assert (host.reports, host.lpis.unexpected) == ([], 0)


def test_write_beside_the_register_is_refused() -> None:
    host = Host()
    [window] = host.system.windows.values()

    assert window(DEVICE, 0x44, 0) is None
    assert host.message(DEVICE, 0) is False  # taken by the ITS, which drops it
    assert host.system.counts()["dropped"] == 1


def test_direct_event_never_comes_by_the_hypervisor() -> None:
    host = Host()
    vpe = host.schedule()
    host.driver.map_device(DEVICE, 2)
    host.driver.map_vlpi(DEVICE, 1, vpe.vpe, VLPI + 3, host.driver.doorbell())
    vpe.enter()

    for _ in range(5):
        host.message(DEVICE, 1)
        assert host.taken() == [VLPI + 3]

    assert not host.lpis.take()
    assert (host.host_wakes, vpe.doorbells, host.reports) == (0, 0, [])


def test_scheduled_out_vpe_is_wanted_once_its_doorbell_rings() -> None:
    host = Host()
    vpe = host.schedule()
    host.driver.map_device(DEVICE, 2)
    doorbell = host.driver.doorbell()
    host.driver.map_vlpi(DEVICE, 0, vpe.vpe, VLPI, doorbell)
    host.lpis.on(doorbell, vpe.rung)

    host.message(DEVICE, 0)
    host.message(DEVICE, 0)
    host.lpis.take()
    assert host.wanted == [vpe.vpe]
    assert host.taken() == []
    vpe.enter()

    assert host.taken() == [VLPI]
    host.message(DEVICE, 0)
    assert vpe.leave()
    assert not host.lpis.take()


def test_move_unmap_and_discard() -> None:
    host = Host()
    vpe = host.schedule()
    host.driver.map_device(DEVICE, 4)
    host.driver.map_vlpi(DEVICE, 0, vpe.vpe, VLPI, 1023)
    host.driver.move_vlpi(DEVICE, 0, vpe.vpe)
    host.driver.configured_anew(DEVICE, 0)
    vpe.enter()
    host.message(DEVICE, 0)
    host.driver.unmap_event(DEVICE, 0)
    assert host.taken() == []
    host.driver.map_vlpi(DEVICE, 1, vpe.vpe, VLPI, 1023)
    host.driver.unmap_vpe(vpe.vpe)
    host.message(DEVICE, 1)
    host.driver.unmap_device(DEVICE)
    host.message(DEVICE, 1)

    assert host.reports == ["EVENT_VCPU_INVALID", "EVENT_UNMAPPED_DEVICE"]
    assert host.taken() == []


def test_queue_goes_round() -> None:
    host = Host()
    host.driver.map_device(DEVICE, 1)
    host.driver.map_lpi(DEVICE, 0)
    before = host.driver.commands
    for _ in range(200):
        host.driver.sync()

    assert host.driver.commands == before + 200
    assert host.system.counts()["command_errors"] == 0


def test_lpis_run_out_with_words() -> None:
    host = Host()
    for _ in range(lpi.HOST_LPIS):
        host.driver._enabled_lpi()
    host.driver.map_device(DEVICE, 1)

    with pytest.raises(DeviceError, match="2048 LPIs"):
        host.driver.map_lpi(DEVICE, 0)


def test_its_that_does_not_move_is_given_up() -> None:
    host = Host()
    host.system.its.write(0, 4, 0)
    now = iter(range(0, 10**10, 10**9))
    driver = host.driver
    driver._clock_ns = lambda: next(now)

    with pytest.raises(DeviceError, match="not completed its commands in 2 s"):
        driver.sync()


def test_its_that_stalled_is_told() -> None:
    host = Host()
    host.system.its.write(0, 4, 0)
    host.system.its.write(0x80, 8, 1 << 63 | 1 << 50)
    host.system.its.write(0, 4, 1)

    with pytest.raises(DeviceError, match="stalled"):
        host.driver.sync()
