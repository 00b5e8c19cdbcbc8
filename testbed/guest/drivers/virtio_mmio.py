"""The driver's side of virtio over MMIO.

Reference: virtio 1.2 §3.1.1 (driver initialization), §4.2.3 (MMIO-specific initialization and operation).
Every access is a vCPU load or store; that it traps is nothing this file knows. Not modelled: the legacy
interface, shared memory regions, queue reset.
"""

from typing import Final, Protocol

from testbed.errors import DeviceError
from testbed.spec import virtio as spec

_READS_MAX: Final = 10_000
"""How often a device that is not ready is looked at."""


class Accessor(Protocol):
    """Loads and stores by guest physical address."""

    def load(self, gpa: int, size_bytes: int = 4) -> int:
        """Return a value."""
        ...

    def store(self, gpa: int, value: int, size_bytes: int = 4) -> None:
        """Store a value."""
        ...


class VirtioMmioPort:
    """One device's register block at `base_gpa`."""

    def __init__(self, cpu: Accessor, base_gpa: int) -> None:
        self._cpu, self._base = cpu, base_gpa
        self._status = 0
        self._notify_gpa = base_gpa + spec.MMIO["QueueNotify"].offset

    def start(self, device_id: int) -> None:
        """Check what is there, reset it, and say that a driver has come (§3.1.1 steps 1 to 3)."""
        found = (self._read("MagicValue"), self._read("Version"), self._read("DeviceID"))
        wanted = (spec.MMIO_MAGIC, spec.MMIO_VERSION, device_id)
        if found != wanted:
            raise DeviceError(
                f"no virtio device at {self._base:#x}: magic, version, id {found} instead of {wanted}"
            )
        self._write("Status", 0)
        self._wait_for_reset()
        self._add_status(spec.STATUS_ACKNOWLEDGE)
        self._add_status(spec.STATUS_DRIVER)

    def negotiate(self, wanted: int) -> int:
        """Accept what is both offered and wanted; return it (§3.1.1 steps 4 to 6)."""
        offered = 0
        for word in range(2):
            self._write("DeviceFeaturesSel", word)
            offered |= self._read("DeviceFeatures") << 32 * word
        accepted = offered & wanted
        for word in range(2):
            self._write("DriverFeaturesSel", word)
            self._write("DriverFeatures", accepted >> 32 * word & 0xFFFF_FFFF)
        self._add_status(spec.STATUS_FEATURES_OK)
        if not self._read("Status") & spec.STATUS_FEATURES_OK:
            self._add_status(spec.STATUS_FAILED)
            raise DeviceError(f"the device refuses features {accepted:#x} of {offered:#x}")
        return accepted

    def queue_size_max(self, index: int) -> int:
        """Return the largest size of a queue; DeviceError where there is no such queue."""
        self._write("QueueSel", index)
        size = self._read("QueueNumMax")
        if not size:
            raise DeviceError(f"the device at {self._base:#x} has no queue {index}")
        return size

    def set_queue(self, index: int, size: int, desc: int, driver: int, device: int) -> None:
        """Describe a queue and make it ready (§4.2.3.2)."""
        self._write("QueueSel", index)
        self._write("QueueNum", size)
        for register, gpa in (("QueueDesc", desc), ("QueueDriver", driver), ("QueueDevice", device)):
            self._write(f"{register}Low", gpa & 0xFFFF_FFFF)
            self._write(f"{register}High", gpa >> 32)
        self._write("QueueReady", 1)

    def driver_ok(self) -> None:
        """Go live; DeviceError where the device does not."""
        self._add_status(spec.STATUS_DRIVER_OK)
        status = self._read("Status")
        if status & spec.STATUS_DEVICE_NEEDS_RESET or not status & spec.STATUS_DRIVER_OK:
            raise DeviceError(f"the device at {self._base:#x} does not go live, status {status:#x}")

    def config(self, offset: int, size_bytes: int) -> int:
        """Return one field of the configuration space, by one access of its own width (§4.2.2.2)."""
        return self._cpu.load(self._base + spec.MMIO_CONFIG_OFFSET + offset, size_bytes)

    def config_bytes(self, offset: int, length_bytes: int) -> bytes:
        """Return bytes of the configuration space, read until its generation stands still (§2.5.1)."""
        for _ in range(_READS_MAX):
            before = self._read("ConfigGeneration")
            data = bytes(self.config(offset + i, 1) for i in range(length_bytes))
            if self._read("ConfigGeneration") == before:
                return data
        raise DeviceError(f"the device at {self._base:#x} changes its configuration faster than it is read")

    def notify(self, queue: int) -> None:
        """Kick (§4.2.3.3)."""
        self._cpu.store(self._notify_gpa, queue)

    def acknowledge_interrupt(self) -> int:
        """Return the causes of an interrupt and acknowledge them (§4.2.3.4)."""
        causes = self._read("InterruptStatus")
        if causes:
            self._write("InterruptACK", causes)
        return causes

    def needs_reset(self) -> bool:
        """Say whether the device has given up on this driver."""
        return bool(self._read("Status") & spec.STATUS_DEVICE_NEEDS_RESET)

    def _wait_for_reset(self) -> None:
        """§4.2.3.1: 0 reads back once the reset is done."""
        for _ in range(_READS_MAX):
            status = self._read("Status")
            if not status:
                return
        raise DeviceError(f"the device at {self._base:#x} does not finish its reset, status {status:#x}")

    def _add_status(self, bit: int) -> None:
        self._status |= bit
        self._write("Status", self._status)

    def _read(self, register: str) -> int:
        return self._cpu.load(self._base + spec.MMIO[register].offset)

    def _write(self, register: str, value: int) -> None:
        self._cpu.store(self._base + spec.MMIO[register].offset, value)
