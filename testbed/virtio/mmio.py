"""virtio over MMIO: decodes register accesses and turns them into calls of the transport-free device.

Reference: virtio 1.2 §4.2. A register is 32 bits wide and accessed so; the configuration space takes 8, 16
and 32 bits (§4.2.2.2). Anything else is the guest's fault: counted, reads as zero, changes nothing. Not
modelled: shared memory regions, queue reset, stopping one queue of a live device (QueueReady 0).
"""

from collections.abc import Callable

from testbed.spec import virtio as spec
from testbed.virtio.device import FaultSink, QueueConfig, VirtioDevice

_WORD_BYTES = 4
_STATUS_MASK = 0xFF
_CONFIG_SIZES_BYTES = (1, 2, 4)
_CONSTANTS = ("MagicValue", "Version", "VendorID", "SHMLenLow", "SHMLenHigh", "SHMBaseLow", "SHMBaseHigh")


class VirtioMmio:
    """The register block of one device."""

    def __init__(self, device: VirtioDevice, fault: FaultSink) -> None:
        self.device, self._fault = device, fault
        self._device_features_sel = self._driver_features_sel = self._queue_sel = 0
        self._reads = self._read_table()
        self._writes = self._write_table()

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what the driver reads."""
        if offset >= spec.MMIO_CONFIG_OFFSET and size_bytes in _CONFIG_SIZES_BYTES:
            data = self.device.backend.config_read(offset - spec.MMIO_CONFIG_OFFSET, size_bytes)
            return int.from_bytes(data, "little")
        handler = self._reads.get(offset)
        if handler is None or size_bytes != _WORD_BYTES:
            self._fault("register", f"read of {size_bytes} bytes at {offset:#x}")
            return 0
        return handler()

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Take what the driver writes."""
        if offset >= spec.MMIO_CONFIG_OFFSET and size_bytes in _CONFIG_SIZES_BYTES:
            self.device.backend.config_write(
                offset - spec.MMIO_CONFIG_OFFSET, value.to_bytes(size_bytes, "little")
            )
            return
        handler = self._writes.get(offset)
        if handler is None or size_bytes != _WORD_BYTES:
            self._fault("register", f"write of {size_bytes} bytes at {offset:#x}")
            return
        handler(value)

    def _read_table(self) -> dict[int, Callable[[], int]]:
        device, backend = self.device, self.device.backend
        live: dict[str, Callable[[], int]] = {
            "DeviceID": lambda: backend.device_id,
            "DeviceFeatures": self._device_features,
            "QueueNumMax": self._queue_num_max,
            "QueueReady": lambda: int(self._queue().ready),
            "InterruptStatus": lambda: device.interrupt_status,
            "Status": lambda: device.status,
            "ConfigGeneration": lambda: device.config_generation,
        }
        table = {spec.MMIO[name].offset: handler for name, handler in live.items()}
        for name in _CONSTANTS:
            table[spec.MMIO[name].offset] = lambda value=spec.MMIO[name].reset: value  # type: ignore[misc]
        return table

    def _write_table(self) -> dict[int, Callable[[int], None]]:
        named: dict[str, Callable[[int], None]] = {
            "DeviceFeaturesSel": lambda value: setattr(self, "_device_features_sel", value),
            "DriverFeaturesSel": lambda value: setattr(self, "_driver_features_sel", value),
            "DriverFeatures": lambda value: self.device.set_driver_features(self._driver_features_sel, value),
            "QueueSel": lambda value: setattr(self, "_queue_sel", value),
            "QueueNum": lambda value: self._set("size", value),
            "QueueReady": lambda value: self.device.set_queue_ready(self._queue_sel, bool(value & 1)),
            "QueueNotify": lambda _value: None,  # the doorbell itself is the message; see vmm/exits.py
            "InterruptACK": self.device.acknowledge,
            "Status": self._write_status,
            "SHMSel": lambda _value: None,  # there are no shared memory regions: every length reads as -1
        }
        for register, member in (("QueueDesc", "desc"), ("QueueDriver", "driver"), ("QueueDevice", "device")):
            named[f"{register}Low"] = lambda value, m=member: self._set_half(m, 0, value)  # type: ignore[misc]
            named[f"{register}High"] = lambda value, m=member: self._set_half(m, 32, value)  # type: ignore[misc]
        return {spec.MMIO[name].offset: handler for name, handler in named.items()}

    def _device_features(self) -> int:
        if self._device_features_sel >= spec.FEATURE_WORDS:
            return 0
        return self.device.backend.features >> 32 * self._device_features_sel & 0xFFFF_FFFF

    def _queue(self) -> QueueConfig:
        return self.device.queue(self._queue_sel) or QueueConfig()

    def _queue_num_max(self) -> int:
        sizes = self.device.backend.queue_sizes
        return sizes[self._queue_sel] if self._queue_sel < len(sizes) else 0

    def _set(self, member: str, value: int) -> None:
        queue = self.device.queue(self._queue_sel)
        if queue is None or queue.ready or self.device.active:
            self._fault(
                "register", f"queue {self._queue_sel} does not exist or is ready, {member} cannot be written"
            )
        else:
            setattr(queue, member, value)

    def _set_half(self, member: str, shift: int, value: int) -> None:
        old: int = getattr(self._queue(), member)
        self._set(member, old & ~(0xFFFF_FFFF << shift) | value << shift)

    def _write_status(self, value: int) -> None:
        status = value & _STATUS_MASK
        self.device.write_status(status)
        if status == 0:
            self._device_features_sel = self._driver_features_sel = self._queue_sel = 0
