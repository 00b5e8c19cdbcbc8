"""The virtio declarations against numbers typed a second time from VIRTIO Version 1.2."""

import pytest

from testbed.spec import virtio
from testbed.spec.layout import Access, Record

# §2.7.5, §2.7.6, §2.7.8, §2.8.13, §2.8.14: name and size of the C structs, members as name:offset:bytes.
RECORDS = [
    (virtio.VIRTQ_DESC, "virtq_desc", 16, "addr:0:8 len:8:4 flags:12:2 next:14:2"),
    (virtio.VIRTQ_AVAIL, "virtq_avail", 4, "flags:0:2 idx:2:2"),
    (virtio.VIRTQ_USED, "virtq_used", 4, "flags:0:2 idx:2:2"),
    (virtio.VIRTQ_USED_ELEM, "virtq_used_elem", 8, "id:0:4 len:4:4"),
    (virtio.PACKED_DESC, "packed_desc", 16, "addr:0:8 len:8:4 id:12:2 flags:14:2"),
    (virtio.PACKED_EVENT, "packed_event", 4, "desc:0:2 flags:2:2"),
]

CONSTANTS = {
    # §2.7.5 VIRTQ_DESC_F_*, §2.8.1 VIRTQ_DESC_F_AVAIL and _USED
    "DESC_F_NEXT": 1, "DESC_F_WRITE": 2, "DESC_F_INDIRECT": 4, "DESC_F_AVAIL": 0x80, "DESC_F_USED": 0x8000,
    # §2.7.6, §2.7.8
    "AVAIL_F_NO_INTERRUPT": 1, "USED_F_NO_NOTIFY": 1,
    # §2.7: alignments, largest queue
    "DESC_ALIGN": 16, "AVAIL_ALIGN": 2, "USED_ALIGN": 4, "QUEUE_SIZE_MAX": 32768,
    # §2.8.10, §2.8.10.1, §2.8.14
    "RING_EVENT_FLAGS_ENABLE": 0, "RING_EVENT_FLAGS_DISABLE": 1, "RING_EVENT_FLAGS_DESC": 2,
    "PACKED_EVENT_WRAP_SHIFT": 15, "PACKED_EVENT_ALIGN": 4,
    # §6
    "F_INDIRECT_DESC": 28, "F_EVENT_IDX": 29, "F_VERSION_1": 32, "F_ACCESS_PLATFORM": 33, "F_RING_PACKED": 34,
    "F_IN_ORDER": 35, "F_ORDER_PLATFORM": 36, "F_SR_IOV": 37, "F_NOTIFICATION_DATA": 38,
    "F_NOTIF_CONFIG_DATA": 39, "F_RING_RESET": 40,
    # §2.1
    "STATUS_ACKNOWLEDGE": 1, "STATUS_DRIVER": 2, "STATUS_FAILED": 128, "STATUS_FEATURES_OK": 8,
    "STATUS_DRIVER_OK": 4, "STATUS_DEVICE_NEEDS_RESET": 64,
    # §4.2.2, §4.2.3.4, §5
    "MMIO_MAGIC": 0x74726976, "MMIO_VERSION": 2, "INTERRUPT_USED": 1, "INTERRUPT_CONFIG": 2,
    "DEVICE_ID_NET": 1, "MMIO_CONFIG_OFFSET": 0x100,
}  # fmt: skip

# Table 4.1, §4.2.2: offset, direction, name, in the order printed.
MMIO = """
000 R MagicValue | 004 R Version | 008 R DeviceID | 00c R VendorID | 010 R DeviceFeatures
014 W DeviceFeaturesSel | 020 W DriverFeatures | 024 W DriverFeaturesSel | 030 W QueueSel | 034 R QueueNumMax
038 W QueueNum | 044 RW QueueReady | 050 W QueueNotify | 060 R InterruptStatus | 064 W InterruptACK
070 RW Status
080 W QueueDescLow | 084 W QueueDescHigh | 090 W QueueDriverLow | 094 W QueueDriverHigh
0a0 W QueueDeviceLow | 0a4 W QueueDeviceHigh | 0ac W SHMSel | 0b0 R SHMLenLow | 0b4 R SHMLenHigh
0b8 R SHMBaseLow | 0bc R SHMBaseHigh | 0c0 RW QueueReset | 0fc R ConfigGeneration | 100 RW Config
"""
ROWS = [tuple(cell.split()) for line in MMIO.splitlines() for cell in line.split("|") if cell.strip()]
DIRECTIONS = {"R": Access.RO, "W": Access.WO, "RW": Access.RW}

# §2.7: sizes in bytes of descriptor table, available ring and used ring: 16 n, 6 + 2 n, 6 + 8 n.
SPLIT_SIZES = [(1, 16, 8, 14), (2, 32, 10, 22), (256, 4096, 518, 2054), (32768, 524288, 65542, 262150)]


@pytest.mark.parametrize(("record", "name", "size", "members"), RECORDS, ids=[row[1] for row in RECORDS])
def test_record_is_laid_out_as_the_standard_has_it(
    record: Record, name: str, size: int, members: str
) -> None:
    typed = [member.split(":") for member in members.split()]
    assert (record.name, record.size) == (name, size)
    assert [(f.name, f.offset, f.size) for f in record.fields] == [(n, int(o), int(s)) for n, o, s in typed]


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items(), ids=CONSTANTS)
def test_constant_is_the_standard_s(name: str, value: int) -> None:
    assert getattr(virtio, name) == value


@pytest.mark.parametrize(("offset", "direction", "name"), ROWS, ids=[row[2] for row in ROWS])
def test_mmio_register_is_where_the_standard_has_it(offset: str, direction: str, name: str) -> None:
    register = virtio.MMIO[name]
    assert (register.offset, register.access) == (int(offset, 16), DIRECTIONS[direction])


def test_every_mmio_register_was_typed_twice() -> None:
    assert [register.name for register in virtio.MMIO.registers] == [row[2] for row in ROWS]


def test_mmio_registers_read_at_first_as_the_standard_says() -> None:
    """§4.2.2: `virt`, version 2, no shared memory (length -1), queues not ready."""
    resets = {register.name: register.reset for register in virtio.MMIO.registers}
    assert resets["MagicValue"].to_bytes(4, "little") == b"virt"
    assert resets["Version"] == 2
    assert resets["SHMLenLow"] == resets["SHMLenHigh"] == 0xFFFF_FFFF
    assert resets["QueueReady"] == resets["Status"] == resets["InterruptStatus"] == 0


@pytest.mark.parametrize(("size", "desc", "avail", "used"), SPLIT_SIZES)
def test_parts_of_a_split_queue_have_the_standard_s_sizes(
    size: int, desc: int, avail: int, used: int
) -> None:
    assert virtio.split_desc_bytes(size) == desc
    assert virtio.split_avail_bytes(size) == avail
    assert virtio.split_used_bytes(size) == used


@pytest.mark.parametrize("size", [1, 2, 64, 256, 1024, 32768])
@pytest.mark.parametrize("base", [0, 0x4000_1000])
def test_parts_of_a_split_queue_are_aligned_and_apart(size: int, base: int) -> None:
    desc, avail, used = virtio.split_parts(base, size)
    assert (desc % 16, avail % 2, used % 4) == (0, 0, 0)
    assert base == desc
    assert desc + 16 * size <= avail
    assert avail + 6 + 2 * size <= used
    assert used + 6 + 8 * size == base + virtio.split_bytes(size)


@pytest.mark.parametrize("size", [1, 3, 256, 32768])
def test_parts_of_a_packed_queue_are_aligned_and_apart(size: int) -> None:
    """§2.8.10.1."""
    desc, driver, device = virtio.packed_parts(0x4000_1000, size)
    assert (desc % 16, driver % 4, device % 4) == (0, 0, 0)
    assert desc + 16 * size <= driver
    assert driver + 4 <= device
    assert device + 4 == desc + virtio.packed_bytes(size)
