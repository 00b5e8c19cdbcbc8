"""A NIC whose guest is a Linux network stack: frames between its driver and a TAP device, by bursts.

Reference: the kernel's Documentation/networking/tuntap.rst (TAP, IFF_NO_PI, IFF_VNET_HDR). What the stack
sends leaves by the driver's first queue, so its order is kept; a driver without room is waited for, and the
stack's own queue fills meanwhile. Segmentation and joining are done here, natively: the NIC has none. Not
modelled: several queues of the TAP device.
"""

from collections.abc import Callable

from testbed.guest.drivers.driver import NetDriver, NetQueue
from testbed.native import FRAMES_MAX, Burst, Tap
from testbed.observe.counters import Counters


class TapJoint:
    """Joins one NIC's driver to a TAP device; `gone` is told once when somebody takes the device away."""

    def __init__(
        self, driver: NetDriver, tap: Tap, counters: Counters, prefix: str, gone: Callable[[str], None]
    ) -> None:
        self._driver, self._tap = driver, tap
        self._counters, self._prefix, self._gone = counters, prefix, gone
        self._outgoing, self._incoming = Burst(), Burst()
        self._lost = False
        driver.tx_watch.active = False  # looked at only while the stack's frames wait for room

    def send(self) -> bool:
        """Take a burst of the stack's frames to the NIC; True: there was one. Where it has no room, wait."""
        reserved = self._driver.tx_reserve(self._outgoing, FRAMES_MAX)
        if not reserved:
            self._tap.active, self._driver.tx_watch.active = False, True
            return False
        taken = self._read()
        if taken < reserved:
            self._driver.tx_release(self._outgoing, taken)
        if taken:
            self._driver.tx_send(self._outgoing)
        return taken > 0

    def room(self) -> bool:
        """Go on with the stack's frames: buffers came back."""
        self._tap.active, self._driver.tx_watch.active = not self._lost, False
        return not self._lost and self.send()

    def receive(self, queue: NetQueue) -> bool:
        """Hand a burst that arrived in a queue to the stack; True: there was one."""
        if not queue.rx_collect(self._incoming):
            return False
        if not self._lost:
            self._write()
        queue.rx_refill(self._incoming)
        return True

    def count(self) -> None:
        """Publish what was counted natively."""
        tap, counters, prefix = self._tap, self._counters, self._prefix
        counters.set(f"{prefix}.read", tap.frames_read)
        counters.set(f"{prefix}.written", tap.frames_written)
        counters.set(f"{prefix}.cut", tap.frames_cut)
        counters.set(f"{prefix}.joined", tap.frames_joined)
        counters.set(f"{prefix}.dropped.too_long", tap.too_long)
        counters.set(f"{prefix}.dropped.refused", tap.refused)

    def _read(self) -> int:
        try:
            return self._tap.read(self._outgoing)
        except OSError as error:
            self._lose(error)
            return 0

    def _write(self) -> None:
        try:
            self._tap.write(self._incoming)
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Somebody deleted the device in its namespace: what arrives from now on is for nobody."""
        self._lost, self._tap.active = True, False
        self._gone(error.strerror or str(error))
