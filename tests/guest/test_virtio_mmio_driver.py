"""The driver's side of the register block: order and width of accesses, devices that misbehave."""

import pytest

from testbed.errors import DeviceError
from testbed.guest.drivers.virtio_mmio import VirtioMmioPort
from testbed.spec import virtio as spec

BASE = 0x0A00_0000
VERSION_1 = 1 << spec.F_VERSION_1
OFFERED = VERSION_1 | 1 << spec.F_EVENT_IDX | 1 << spec.F_INDIRECT_DESC
NAMES = {BASE + r.offset: r.name for r in spec.MMIO.registers}


class Device:
    """Registers that take what is written; `reads` gives answers that a test wants, one by one."""

    def __init__(self) -> None:
        self.registers = {"MagicValue": spec.MMIO_MAGIC, "Version": 2, "DeviceID": 1, "QueueNumMax": 256}
        self.reads: dict[str, list[int]] = {}
        self.writes: list[tuple[str, int]] = []
        self.widths: list[tuple[int, int]] = []
        self.forbidden_status = 0
        self.config = bytes(range(0x10, 0x30))

    def load(self, gpa: int, size_bytes: int = 4) -> int:
        offset = gpa - BASE - spec.MMIO_CONFIG_OFFSET
        if offset >= 0:
            self.widths.append((offset, size_bytes))
            return int.from_bytes(self.config[offset : offset + size_bytes], "little")
        assert size_bytes == 4
        name = NAMES[gpa]
        if self.reads.get(name):
            return self.reads[name].pop(0)
        if name == "DeviceFeatures":
            return OFFERED >> 32 * self.registers["DeviceFeaturesSel"] & 0xFFFF_FFFF
        return self.registers.get(name, 0)

    def store(self, gpa: int, value: int, size_bytes: int = 4) -> None:
        assert size_bytes == 4
        name = NAMES[gpa]
        self.writes.append((name, value))
        self.registers[name] = value & ~self.forbidden_status if name == "Status" else value


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def port(device: Device) -> VirtioMmioPort:
    return VirtioMmioPort(device, BASE)


def test_port_start_resets_and_then_says_who_came(device: Device, port: VirtioMmioPort) -> None:
    """§3.1.1 steps 1 to 3."""
    port.start(spec.DEVICE_ID_NET)
    assert device.writes == [("Status", 0), ("Status", 1), ("Status", 3)]


def test_port_start_waits_until_the_reset_is_done(device: Device, port: VirtioMmioPort) -> None:
    device.reads["Status"] = [0xF, 0xF, 0]
    port.start(spec.DEVICE_ID_NET)
    assert device.reads["Status"] == []


def test_port_reset_that_is_never_done_is_told(device: Device, port: VirtioMmioPort) -> None:
    device.reads["Status"] = [4] * 100_000
    with pytest.raises(DeviceError, match=r"does not finish its reset, status 0x4"):
        port.start(spec.DEVICE_ID_NET)


def test_port_configuration_that_never_stands_still_is_told(device: Device, port: VirtioMmioPort) -> None:
    device.reads["ConfigGeneration"] = list(range(100_000))
    with pytest.raises(DeviceError, match="faster than it is read"):
        port.config_bytes(0, 6)


@pytest.mark.parametrize(("name", "value"), [("MagicValue", 0), ("Version", 1), ("DeviceID", 2)])
def test_port_start_refuses_another_device(
    device: Device, port: VirtioMmioPort, name: str, value: int
) -> None:
    device.registers[name] = value
    with pytest.raises(DeviceError, match=r"^no virtio device at 0xa000000: magic, version, id \("):
        port.start(spec.DEVICE_ID_NET)
    assert device.writes == []


def test_port_negotiate_accepts_what_is_offered_and_wanted(device: Device, port: VirtioMmioPort) -> None:
    """§3.1.1 steps 4 to 6: every feature is written before FEATURES_OK, which is read back."""
    port.start(spec.DEVICE_ID_NET)
    device.writes.clear()
    accepted = port.negotiate(VERSION_1 | 1 << spec.F_EVENT_IDX | 1 << spec.F_RING_PACKED)
    assert accepted == VERSION_1 | 1 << spec.F_EVENT_IDX
    written = [write for write in device.writes if write[0] != "DeviceFeaturesSel"]
    assert written == [
        ("DriverFeaturesSel", 0), ("DriverFeatures", 1 << 29),
        ("DriverFeaturesSel", 1), ("DriverFeatures", 1),
        ("Status", 3 | spec.STATUS_FEATURES_OK),
    ]  # fmt: skip


def test_port_negotiate_that_is_refused_gives_up(device: Device, port: VirtioMmioPort) -> None:
    device.forbidden_status = spec.STATUS_FEATURES_OK
    port.start(spec.DEVICE_ID_NET)
    with pytest.raises(DeviceError, match=r"^the device refuses features 0x100000000 of 0x130000000$"):
        port.negotiate(VERSION_1)
    assert device.writes[-1] == ("Status", 3 | spec.STATUS_FEATURES_OK | spec.STATUS_FAILED)


def test_port_queue_is_described_whole_before_it_is_ready(device: Device, port: VirtioMmioPort) -> None:
    port.set_queue(1, 64, 0x1_2345_6780, 0x2_0000_0000, 0xFFF0)
    assert device.writes == [
        ("QueueSel", 1), ("QueueNum", 64),
        ("QueueDescLow", 0x2345_6780), ("QueueDescHigh", 1),
        ("QueueDriverLow", 0), ("QueueDriverHigh", 2),
        ("QueueDeviceLow", 0xFFF0), ("QueueDeviceHigh", 0),
        ("QueueReady", 1),
    ]  # fmt: skip


def test_port_queue_that_does_not_exist_is_told(device: Device, port: VirtioMmioPort) -> None:
    assert port.queue_size_max(1) == 256
    device.registers["QueueNumMax"] = 0
    with pytest.raises(DeviceError, match=r"^the device at 0xa000000 has no queue 9$"):
        port.queue_size_max(9)


def test_port_driver_ok_is_read_back(device: Device, port: VirtioMmioPort) -> None:
    port.start(spec.DEVICE_ID_NET)
    port.driver_ok()
    assert device.writes[-1] == ("Status", 3 | spec.STATUS_DRIVER_OK)


@pytest.mark.parametrize("status", [0, 3, 7 | spec.STATUS_DEVICE_NEEDS_RESET])
def test_port_driver_ok_that_is_not_taken_is_told(device: Device, port: VirtioMmioPort, status: int) -> None:
    device.reads["Status"] = [status]
    with pytest.raises(DeviceError, match=f"^the device at 0xa000000 does not go live, status {status:#x}$"):
        port.driver_ok()


@pytest.mark.parametrize(("size_bytes", "value"), [(1, 0x14), (2, 0x1514), (4, 0x17161514)])
def test_port_configuration_field_is_read_by_one_access(
    device: Device, port: VirtioMmioPort, size_bytes: int, value: int
) -> None:
    """§4.2.2.2: accesses of the field's own width."""
    assert port.config(4, size_bytes) == value
    assert device.widths == [(4, size_bytes)]


def test_port_configuration_bytes_are_read_until_they_stand_still(
    device: Device, port: VirtioMmioPort
) -> None:
    """§2.5.1: once more where the generation moved meanwhile."""
    device.reads["ConfigGeneration"] = [4, 5, 5, 5]
    assert port.config_bytes(0, 6) == bytes(range(0x10, 0x16))
    assert device.widths == 2 * [(offset, 1) for offset in range(6)]


def test_port_interrupt_causes_are_acknowledged_as_read(device: Device, port: VirtioMmioPort) -> None:
    assert port.acknowledge_interrupt() == 0
    device.registers["InterruptStatus"] = 3
    assert port.acknowledge_interrupt() == 3
    assert device.writes == [("InterruptACK", 3)]


def test_port_notify_names_the_queue(device: Device, port: VirtioMmioPort) -> None:
    port.notify(5)
    assert device.writes == [("QueueNotify", 5)]


@pytest.mark.parametrize(("status", "needs"), [(0xF, False), (0x4F, True)])
def test_port_says_whether_a_reset_is_needed(
    device: Device, port: VirtioMmioPort, status: int, needs: bool
) -> None:
    device.registers["Status"] = status
    assert port.needs_reset() is needs
