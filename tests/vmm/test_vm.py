"""A VM assembled from its plan entry: stage 2 maps its RAM, devices answer outside it, doorbells are told."""

import msgspec
import pytest

from testbed.address import GUEST_RAM_GPA, Hpa
from testbed.errors import DeviceError, MemoryFault
from testbed.guest.gic import GicDriver
from testbed.memory.guest import GuestMemory
from testbed.memory.host import HostMemory
from testbed.native import SharedWords, VirtualCpuInterface
from testbed.spec import vcpu_page
from testbed.spec import virtio as spec
from testbed.spec.page_table import DFSC_TRANSLATION_L0
from testbed.vmm.vm import Vm
from tests.inprocess.machine import MMIO_GPA, RAM_BYTES, GuestMachine, HostMachine
from tests.support.recorders import RecordingDoorbell

MATCH = vcpu_page.DOORBELL_MATCH


@pytest.fixture
def host() -> HostMachine:
    return HostMachine("a", boot=False)


@pytest.fixture
def guest(host: HostMachine) -> GuestMachine:
    return host.guests[0]


def test_vm_maps_the_guest_s_ram_and_nothing_else(guest: GuestMachine) -> None:
    memory = GuestMemory(HostMemory([guest.ram, guest.tables]), Hpa(guest.entry.stage2_hpa))
    memory.write(GUEST_RAM_GPA, b"first")
    memory.write(GUEST_RAM_GPA + RAM_BYTES - 4, b"last")
    assert (bytes(guest.ram.view[:5]), bytes(guest.ram.view[-4:])) == (b"first", b"last")
    for outside in (GUEST_RAM_GPA - 1, GUEST_RAM_GPA + RAM_BYTES, MMIO_GPA):
        with pytest.raises(MemoryFault):
            memory.read(outside, 1)
    assert DFSC_TRANSLATION_L0 == 0b000100


def test_vm_memory_of_its_devices_is_the_guest_s(guest: GuestMachine) -> None:
    assert guest.vm.memory.contains(GUEST_RAM_GPA, RAM_BYTES)
    assert not guest.vm.memory.contains(GUEST_RAM_GPA, RAM_BYTES + 1)
    assert not guest.vm.memory.contains(guest.ram.hpa, 1)


def test_vm_device_answers_at_its_window(guest: GuestMachine) -> None:
    found = guest.vm.bus.find(MMIO_GPA, 4)
    assert found is not None
    assert found.device.read(MMIO_GPA - found.base, 4) == spec.MMIO_MAGIC
    assert guest.vm.bus.find(MMIO_GPA + spec.MMIO_STRIDE_BYTES, 4) is None


def test_vm_tells_the_vcpu_which_store_is_a_doorbell(guest: GuestMachine) -> None:
    words, base = SharedWords(guest.page), vcpu_page.VCPU_PAGE.offset("doorbells")
    assert words.load64(base + MATCH.offset("gpa")) == MMIO_GPA + spec.MMIO["QueueNotify"].offset
    assert words.load32(base + MATCH.offset("valid")) == 1
    assert words.load32(base + MATCH.size + MATCH.offset("valid")) == 0


def test_vm_device_s_interrupt_is_its_intid_of_the_guest_s_controller(guest: GuestMachine) -> None:
    guest.power_on()
    driver = GicDriver(guest.vcpu, VirtualCpuInterface(guest.page))
    driver.start()
    driver.enable_spi(guest.nic.intid, edge=True)
    guest.device.device.raise_interrupt(spec.INTERRUPT_USED)
    assert driver.interface.enter()
    assert driver.interface.acknowledge() == guest.nic.intid


def test_vm_with_more_doorbells_than_its_page_holds_is_refused(
    host: HostMachine, guest: GuestMachine
) -> None:
    def add(number: int) -> None:
        gpa = MMIO_GPA + number * spec.MMIO_STRIDE_BYTES
        nic = msgspec.structs.replace(guest.nic, mmio_gpa=gpa)
        guest.vm.add_virtio_net(nic, lambda _device: None, host.reports)

    for number in range(1, vcpu_page.DOORBELL_MATCHES):
        add(number)
    with pytest.raises(DeviceError, match=r"^guest a: a vCPU page has room for 16 doorbells$"):
        add(vcpu_page.DOORBELL_MATCHES)


def test_vm_whose_tables_are_elsewhere_than_planned_is_refused(
    host: HostMachine, guest: GuestMachine
) -> None:
    entry = msgspec.structs.replace(guest.entry, stage2_hpa=guest.entry.stage2_hpa + 4096)
    bell = RecordingDoorbell(guest.page)
    with pytest.raises(DeviceError, match=r"^guest a: stage-2 root at 0x[0-9a-f]+, planned at 0x[0-9a-f]+$"):
        Vm(entry, guest.ram, guest.tables, guest.vcpu_segment, host.counters, [bell], host.reports)
