"""What a virtio driver asks of the way to its device, whatever the transport.

Reference: virtio 1.2 §3.1.1 (driver initialization), §4 (transports). Two implement it: virtio-mmio towards
the vmm, and vhost-user towards a back end in another process.
"""

from typing import Protocol


class VirtioPort(Protocol):
    """One device."""

    def start(self, device_id: int) -> None:
        """Find the device and say that a driver has come; DeviceError where it is another one."""
        ...

    def negotiate(self, wanted: int) -> int:
        """Accept what is both offered and wanted; return it. DeviceError where the device refuses."""
        ...

    def queue_size_max(self, index: int) -> int:
        """Return the largest size of a queue; DeviceError where there is no such queue."""
        ...

    def set_queue(self, index: int, size: int, desc: int, driver: int, device: int) -> None:
        """Describe a queue, by guest physical addresses."""
        ...

    def driver_ok(self) -> None:
        """Go live; DeviceError where the device does not."""
        ...

    def config(self, offset: int, size_bytes: int) -> int:
        """Return one field of the configuration space."""
        ...

    def config_bytes(self, offset: int, length_bytes: int) -> bytes:
        """Return bytes of the configuration space, of one generation."""
        ...

    def notify(self, queue: int) -> None:
        """Kick."""
        ...

    def acknowledge_interrupt(self) -> int:
        """Return the causes of an interrupt and acknowledge them."""
        ...

    def needs_reset(self) -> bool:
        """Say whether the device has given up on this driver."""
        ...
