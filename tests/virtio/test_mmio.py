"""The register block: what every register takes and gives, and that no access at all raises anything."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.interrupts.signal import RecordingEdge
from testbed.native import Pinned, Regions
from testbed.spec import virtio as spec
from testbed.spec.layout import Access
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.virtio.mmio import VirtioMmio
from testbed.virtio.net import VirtioNet
from testbed.virtio.net_config import NetConfig
from tests.support.recorders import RecordingFaults
from tests.virtio.bench import CONFIG, EVENT_IDX, FOUND, LIVE, QUEUE_SIZE, READY, VERSION_1, Bench

REGISTERS: Final = [r for r in spec.MMIO.registers if r.name not in ("Config", "QueueReset")]
READABLE: Final = [r.name for r in REGISTERS if r.access in (Access.RO, Access.RW)]
WRITABLE: Final = [r.name for r in REGISTERS if r.access in (Access.WO, Access.RW)]
OFFSETS: Final = {r.offset for r in REGISTERS}


class MmioBench(Bench):
    """The device behind its registers, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.mmio = VirtioMmio(self.device, self.faults)

    def read(self, name: str) -> int:
        return self.mmio.read(spec.MMIO[name].offset, 4)

    def write(self, name: str, value: int) -> None:
        self.mmio.write(spec.MMIO[name].offset, 4, value)


@pytest.fixture
def bench() -> MmioBench:
    return MmioBench()


def test_mmio_identifies_itself(bench: MmioBench) -> None:
    """§4.2.2: "virt", version 2, and a device id that is not 0."""
    names = ("MagicValue", "Version", "DeviceID", "VendorID")
    assert [bench.read(name) for name in names] == [0x74726976, 2, 1, spec.MMIO_VENDOR]


def test_mmio_has_no_shared_memory_regions(bench: MmioBench) -> None:
    """§4.2.2: the length of a region that does not exist is -1."""
    bench.write("SHMSel", 3)
    names = ("SHMLenLow", "SHMLenHigh", "SHMBaseLow", "SHMBaseHigh")
    assert [bench.read(name) for name in names] == [0xFFFF_FFFF] * 4


@pytest.mark.parametrize("name", READABLE)
def test_mmio_readable_register_reads_without_a_fault(bench: MmioBench, name: str) -> None:
    assert bench.read(name) <= 0xFFFF_FFFF
    assert bench.faults.reasons == []


@pytest.mark.parametrize("name", [r.name for r in REGISTERS if r.name not in READABLE] + ["QueueReset"])
def test_mmio_register_that_cannot_be_read_is_zero_and_a_fault(bench: MmioBench, name: str) -> None:
    assert bench.read(name) == 0
    assert bench.faults.reasons == ["register"]


@pytest.mark.parametrize("name", WRITABLE)
def test_mmio_writable_register_takes_zero_without_a_fault(bench: MmioBench, name: str) -> None:
    bench.write(name, 0)
    assert bench.faults.reasons == []


@pytest.mark.parametrize("name", [r.name for r in REGISTERS if r.name not in WRITABLE] + ["QueueReset"])
def test_mmio_register_that_cannot_be_written_is_a_fault(bench: MmioBench, name: str) -> None:
    before = [bench.read(readable) for readable in READABLE]
    bench.write(name, 0xFFFF_FFFF)
    assert bench.faults.reasons == ["register"]
    assert [bench.read(readable) for readable in READABLE] == before


@pytest.mark.parametrize("size_bytes", [1, 2, 8])
@pytest.mark.parametrize("name", ["MagicValue", "Status", "QueueReady"])
def test_mmio_register_of_any_other_width_is_a_fault(bench: MmioBench, name: str, size_bytes: int) -> None:
    offset = spec.MMIO[name].offset
    assert bench.mmio.read(offset, size_bytes) == 0
    bench.mmio.write(offset, size_bytes, 1)
    assert bench.faults.reasons == ["register"] * 2
    assert bench.device.status == 0


@pytest.mark.parametrize("offset", sorted(set(range(spec.MMIO_CONFIG_OFFSET)) - OFFSETS))
def test_mmio_offset_without_a_register_is_a_fault(bench: MmioBench, offset: int) -> None:
    assert bench.mmio.read(offset, 4) == 0
    bench.mmio.write(offset, 4, 1)
    assert bench.faults.reasons == ["register"] * 2


def test_mmio_features_are_offered_by_words(bench: MmioBench) -> None:
    offered = []
    for word in (0, 1, 2, 0xFFFF_FFFF):
        bench.write("DeviceFeaturesSel", word)
        offered.append(bench.read("DeviceFeatures"))
    assert offered == [EVENT_IDX, VERSION_1 >> 32, 0, 0]


def test_mmio_initialization_of_a_driver_reaches_the_backend(bench: MmioBench) -> None:
    bench.write("Status", FOUND)
    for word, features in enumerate((EVENT_IDX, VERSION_1 >> 32)):
        bench.write("DriverFeaturesSel", word)
        bench.write("DriverFeatures", features)
    bench.write("Status", READY)
    bench.write("QueueSel", 1)
    assert bench.read("QueueNumMax") == QUEUE_SIZE
    bench.write("QueueNum", 64)
    for register, gpa in (("QueueDesc", 0x1_2345_6780), ("QueueDriver", 2 << 32), ("QueueDevice", 0xFFF0)):
        bench.write(f"{register}Low", gpa & 0xFFFF_FFFF)
        bench.write(f"{register}High", gpa >> 32)
    bench.write("QueueReady", 1)
    bench.write("Status", LIVE)
    assert bench.read("Status") == LIVE
    (features, queues) = bench.backend.activations[0]
    queue = queues[1]
    assert features == VERSION_1 | EVENT_IDX
    assert (queue.size, queue.desc, queue.driver, queue.device) == (64, 0x1_2345_6780, 2 << 32, 0xFFF0)
    assert queue.ready
    assert not queues[0].ready


def test_mmio_half_of_an_address_leaves_the_other_alone(bench: MmioBench) -> None:
    bench.write("QueueDescHigh", 0xAAAA_AAAA)
    bench.write("QueueDescLow", 0x5555_5555)
    bench.write("QueueDescLow", 0x1111_1111)
    queue = bench.device.queue(0)
    assert queue is not None
    assert queue.desc == 0xAAAA_AAAA_1111_1111


def test_mmio_queue_that_does_not_exist_has_no_size_and_takes_nothing(bench: MmioBench) -> None:
    bench.write("QueueSel", 7)
    assert (bench.read("QueueNumMax"), bench.read("QueueReady")) == (0, 0)
    for name in ("QueueNum", "QueueDescLow", "QueueDeviceHigh", "QueueReady"):
        bench.write(name, 1)
    assert bench.faults.reasons == ["register"] * 4


def test_mmio_queue_that_is_ready_takes_nothing_until_it_is_not(bench: MmioBench) -> None:
    bench.write("QueueNum", 8)
    bench.write("QueueReady", 1)
    bench.write("QueueNum", 16)
    queue = bench.device.queue(0)
    assert queue is not None
    assert (queue.size, bench.read("QueueReady"), bench.faults.reasons) == (8, 1, ["register"])
    bench.write("QueueReady", 0)
    bench.write("QueueNum", 16)
    assert queue.size == 16


def test_mmio_interrupt_causes_are_read_and_acknowledged(bench: MmioBench) -> None:
    bench.device.raise_interrupt(spec.INTERRUPT_USED)
    assert bench.read("InterruptStatus") == spec.INTERRUPT_USED
    bench.write("InterruptACK", spec.INTERRUPT_USED)
    assert bench.read("InterruptStatus") == 0


def test_mmio_reset_forgets_the_selectors(bench: MmioBench) -> None:
    bench.write("QueueSel", 7)
    bench.write("DeviceFeaturesSel", 1)
    bench.write("Status", 0)
    assert bench.read("QueueNumMax") == QUEUE_SIZE
    assert bench.read("DeviceFeatures") == EVENT_IDX


def test_mmio_status_is_one_byte(bench: MmioBench) -> None:
    bench.write("QueueSel", 7)
    bench.write("Status", FOUND)
    bench.write("Status", 0x100)  # its low byte is 0: a reset, and of the selectors, too
    assert (bench.read("Status"), bench.read("QueueNumMax")) == (0, QUEUE_SIZE)


@pytest.mark.parametrize("size_bytes", [1, 2, 4])
def test_mmio_configuration_space_is_read_and_written_by_its_fields(
    bench: MmioBench, size_bytes: int
) -> None:
    offset = spec.MMIO_CONFIG_OFFSET + 4
    expected = int.from_bytes(CONFIG[4 : 4 + size_bytes], "little")
    assert bench.mmio.read(offset, size_bytes) == expected
    bench.mmio.write(offset, size_bytes, expected)
    assert bench.backend.config_writes == [(4, CONFIG[4 : 4 + size_bytes])]
    assert bench.faults.reasons == []


def test_mmio_configuration_space_is_not_read_by_64_bits(bench: MmioBench) -> None:
    assert bench.mmio.read(spec.MMIO_CONFIG_OFFSET, 8) == 0
    bench.mmio.write(spec.MMIO_CONFIG_OFFSET, 8, 1)
    assert bench.backend.config_writes == []
    assert bench.faults.reasons == ["register"] * 2


ACCESSES: Final = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(sorted(OFFSETS)), st.integers(0, spec.MMIO.size - 1)),
        st.sampled_from([4, 4, 4, 1, 2, 8]),
        st.one_of(
            st.none(),
            st.sampled_from([0, 1, FOUND, READY, LIVE, 0x4000_0000, VERSION_1 >> 32]),
            st.integers(0, (1 << 64) - 1),
        ),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(ACCESSES)
def test_mmio_any_accesses_to_a_network_device_raise_nothing(
    accesses: list[tuple[int, int, int | None]],
) -> None:
    memory, ram = Regions(), Pinned(bytearray(1 << 16))
    memory.add(0x4000_0000, ram)
    counters = Pinned(bytearray(PORT_COUNTERS.size))
    config = NetConfig("g.nic0", bytes(5) + b"\1", packed=True, in_order=True, queue_pairs=2)
    faults = RecordingFaults()
    device = VirtioNet(config, memory, RecordingEdge(), counters, 0, lambda: None, faults)
    mmio = VirtioMmio(device.device, device.count_fault)
    for offset, size_bytes, value in accesses:
        if value is None:
            assert 0 <= mmio.read(offset, size_bytes) < 1 << 8 * size_bytes
        else:
            mmio.write(offset, size_bytes, value & (1 << 8 * size_bytes) - 1)
    counted = counters.words(0, PORT_COUNTERS.size)
    assert sum(counted) == len(faults.reasons)
    mmio.write(spec.MMIO["Status"].offset, 4, 0)
    fresh = VirtioNet(config, memory, RecordingEdge(), counters, 0, lambda: None, faults)
    assert [mmio.read(spec.MMIO[name].offset, 4) for name in READABLE] == [
        VirtioMmio(fresh.device, faults).read(spec.MMIO[name].offset, 4) for name in READABLE
    ]
