"""Virtqueues, feature bits, device status and the virtio-mmio register block.

Reference: Virtual I/O Device (VIRTIO) Version 1.2, sections named beside each declaration. Only the modern
(VERSION_1) interface is declared; the legacy one is not modelled.
"""

from typing import Final

from testbed.address import CACHE_LINE_BYTES, align_up
from testbed.spec.layout import Access, Field, Record, Reg, RegisterMap

# Split virtqueue, §2.7

VIRTQ_DESC: Final = Record(
    "virtq_desc", 16, "virtio 1.2 §2.7.5",
    Field("addr", 0, 8, "guest physical address"),
    Field("len", 8, 4, "bytes"),
    Field("flags", 12, 2),
    Field("next", 14, 2, "index of the next descriptor, where NEXT is set"),
)  # fmt: skip
VIRTQ_AVAIL: Final = Record("virtq_avail", 4, "virtio 1.2 §2.7.6", Field("flags", 0, 2), Field("idx", 2, 2))
VIRTQ_USED: Final = Record("virtq_used", 4, "virtio 1.2 §2.7.8", Field("flags", 0, 2), Field("idx", 2, 2))
VIRTQ_USED_ELEM: Final = Record(
    "virtq_used_elem", 8, "virtio 1.2 §2.7.8", Field("id", 0, 4), Field("len", 4, 4)
)

DESC_F_NEXT: Final = 1
DESC_F_WRITE: Final = 2
DESC_F_INDIRECT: Final = 4
DESC_F_AVAIL: Final = 1 << 7
"""Packed virtqueue, §2.8.1."""
DESC_F_USED: Final = 1 << 15
AVAIL_F_NO_INTERRUPT: Final = 1
USED_F_NO_NOTIFY: Final = 1

QUEUE_SIZE_MAX: Final = 32768
"""§2.7: the largest queue size; a split queue's size is a power of two."""
DESC_ALIGN: Final = 16
AVAIL_ALIGN: Final = 2
USED_ALIGN: Final = 4
"""§2.7: alignment of the three parts of a split virtqueue."""


def split_desc_bytes(size: int) -> int:
    """Return the bytes of a split queue's descriptor table (§2.7)."""
    return VIRTQ_DESC.size * size


def split_avail_bytes(size: int) -> int:
    """Return the bytes of the available ring: header, ring, used_event (§2.7)."""
    return VIRTQ_AVAIL.size + 2 * size + 2


def split_used_bytes(size: int) -> int:
    """Return the bytes of the used ring: header, ring, avail_event (§2.7)."""
    return VIRTQ_USED.size + VIRTQ_USED_ELEM.size * size + 2


def split_parts(base: int, size: int) -> tuple[int, int, int]:
    """Return addresses of descriptor table, available and used ring, one behind the other from `base` on.

    The used ring begins on a cache line of its own: the two sides write to different lines.
    """
    avail = base + split_desc_bytes(size)
    return base, avail, align_up(avail + split_avail_bytes(size), CACHE_LINE_BYTES)


def split_bytes(size: int) -> int:
    """Return the bytes of a whole split queue as `split_parts` lays it out."""
    return split_parts(0, size)[2] + split_used_bytes(size)


# Packed virtqueue, §2.8

PACKED_DESC: Final = Record(
    "packed_desc", 16, "virtio 1.2 §2.8.13",
    Field("addr", 0, 8), Field("len", 8, 4), Field("id", 12, 2), Field("flags", 14, 2),
)  # fmt: skip
PACKED_EVENT: Final = Record(
    "packed_event",
    4,
    "virtio 1.2 §2.8.14",
    Field("desc", 0, 2, "offset (15 bits) and wrap counter"),
    Field("flags", 2, 2),
)
PACKED_EVENT_ALIGN: Final = 4
"""§2.8.10.1: alignment of an event suppression structure."""
PACKED_EVENT_WRAP_SHIFT: Final = 15
"""§2.8.10: the wrap counter above the 15 bits of the offset."""
RING_EVENT_FLAGS_ENABLE: Final = 0
RING_EVENT_FLAGS_DISABLE: Final = 1
RING_EVENT_FLAGS_DESC: Final = 2


def packed_parts(base: int, size: int) -> tuple[int, int, int]:
    """Return addresses of descriptor ring, driver's and device's event suppression from `base` on.

    Each side writes to cache lines of its own.
    """
    driver_event = align_up(base + PACKED_DESC.size * size, CACHE_LINE_BYTES)
    return base, driver_event, driver_event + CACHE_LINE_BYTES


def packed_bytes(size: int) -> int:
    """Return the bytes of a whole packed queue as `packed_parts` lays it out."""
    return packed_parts(0, size)[2] + PACKED_EVENT.size


# Feature bits, §6 (those of the network device are in virtio_net)

F_INDIRECT_DESC: Final = 28
F_EVENT_IDX: Final = 29
F_VERSION_1: Final = 32
F_ACCESS_PLATFORM: Final = 33
F_RING_PACKED: Final = 34
F_IN_ORDER: Final = 35
F_ORDER_PLATFORM: Final = 36
F_SR_IOV: Final = 37
F_NOTIFICATION_DATA: Final = 38
F_NOTIF_CONFIG_DATA: Final = 39
F_RING_RESET: Final = 40

FEATURE_WORDS: Final = 2
"""§6: bits 0 to 63 are declared so far, in words of 32."""

# Device status, §2.1

STATUS_ACKNOWLEDGE: Final = 1
STATUS_DRIVER: Final = 2
STATUS_DRIVER_OK: Final = 4
STATUS_FEATURES_OK: Final = 8
STATUS_DEVICE_NEEDS_RESET: Final = 64
STATUS_FAILED: Final = 128

# virtio over MMIO, §4.2

MMIO_MAGIC: Final = 0x7472_6976
"""The bytes `virt`."""
MMIO_VERSION: Final = 2
MMIO_VENDOR: Final = 0x6465_6276
"""The bytes `vbed`."""
INTERRUPT_USED: Final = 1
INTERRUPT_CONFIG: Final = 2
DEVICE_ID_NET: Final = 1

_RO, _RW, _WO = Access.RO, Access.RW, Access.WO
_REF = "virtio 1.2 §4.2.2"

MMIO: Final = RegisterMap(
    "virtio_mmio", 0x200,
    Reg("MagicValue", 0x000, _RO, MMIO_MAGIC, _REF),
    Reg("Version", 0x004, _RO, MMIO_VERSION, _REF),
    Reg("DeviceID", 0x008, _RO, 0, _REF),
    Reg("VendorID", 0x00C, _RO, MMIO_VENDOR, _REF),
    Reg("DeviceFeatures", 0x010, _RO, 0, _REF, "32 feature bits selected by DeviceFeaturesSel"),
    Reg("DeviceFeaturesSel", 0x014, _WO, 0, _REF),
    Reg("DriverFeatures", 0x020, _WO, 0, _REF),
    Reg("DriverFeaturesSel", 0x024, _WO, 0, _REF),
    Reg("QueueSel", 0x030, _WO, 0, _REF),
    Reg("QueueNumMax", 0x034, _RO, 0, _REF),
    Reg("QueueNum", 0x038, _WO, 0, _REF),
    Reg("QueueReady", 0x044, _RW, 0, _REF),
    Reg("QueueNotify", 0x050, _WO, 0, _REF, "a doorbell"),
    Reg("InterruptStatus", 0x060, _RO, 0, _REF),
    Reg("InterruptACK", 0x064, _WO, 0, _REF),
    Reg("Status", 0x070, _RW, 0, _REF, "writing 0 resets the device"),
    Reg("QueueDescLow", 0x080, _WO, 0, _REF),
    Reg("QueueDescHigh", 0x084, _WO, 0, _REF),
    Reg("QueueDriverLow", 0x090, _WO, 0, _REF),
    Reg("QueueDriverHigh", 0x094, _WO, 0, _REF),
    Reg("QueueDeviceLow", 0x0A0, _WO, 0, _REF),
    Reg("QueueDeviceHigh", 0x0A4, _WO, 0, _REF),
    Reg("SHMSel", 0x0AC, _WO, 0, _REF),
    Reg("SHMLenLow", 0x0B0, _RO, 0xFFFF_FFFF, _REF, "no shared memory regions: length -1"),
    Reg("SHMLenHigh", 0x0B4, _RO, 0xFFFF_FFFF, _REF),
    Reg("SHMBaseLow", 0x0B8, _RO, 0xFFFF_FFFF, _REF),
    Reg("SHMBaseHigh", 0x0BC, _RO, 0xFFFF_FFFF, _REF),
    Reg("QueueReset", 0x0C0, _RW, 0, _REF, "with F_RING_RESET"),
    Reg("ConfigGeneration", 0x0FC, _RO, 0, _REF),
    Reg("Config", 0x100, _RW, 0, _REF, "device configuration space, bytes", size=1, count=0x100),
)  # fmt: skip
MMIO_CONFIG_OFFSET: Final = MMIO["Config"].offset
MMIO_STRIDE_BYTES: Final = MMIO.size
