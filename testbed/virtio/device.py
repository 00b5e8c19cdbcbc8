"""The transport-free virtio device: status machine, feature negotiation, queue set-up, interrupt causes.

Reference: virtio 1.2 §2.1 (status), §2.2 (features), §2.7 (queues), §3.1 (initialization). A transport
(virtio-mmio, vhost-user) decodes accesses and calls in here; the backend (virtio-net) is what the device is.
Not modelled, so not offered: the legacy interface, queue reset (§2.6), shared memory regions,
F_NOTIFICATION_DATA.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from testbed.errors import GuestError
from testbed.interrupts.signal import Edge
from testbed.spec import virtio as spec

_SETTABLE: Final = (
    spec.STATUS_ACKNOWLEDGE
    | spec.STATUS_DRIVER
    | spec.STATUS_FEATURES_OK
    | spec.STATUS_DRIVER_OK
    | spec.STATUS_FAILED
)


@dataclass
class QueueConfig:
    """What a driver says about one virtqueue; addresses are guest physical."""

    size: int = 0
    desc: int = 0
    driver: int = 0
    device: int = 0
    ready: bool = False


class FaultSink(Protocol):
    """Counts and reports what a driver did wrong."""

    def __call__(self, reason: str, detail: str) -> None: ...


class Backend(Protocol):
    """What a virtio device is, apart from how it is reached."""

    device_id: int
    features: int
    """Feature bits offered."""
    queue_sizes: tuple[int, ...]
    """Largest size of each virtqueue."""

    def config_read(self, offset: int, length_bytes: int) -> bytes:
        """Return bytes of the device configuration space; zeros behind its end."""
        ...

    def config_write(self, offset: int, data: bytes) -> None:
        """Take a write to the configuration space; ignored where the field is read-only."""
        ...

    def activate(self, features: int, queues: list[QueueConfig]) -> None:
        """DRIVER_OK: go live; GuestError where the queues cannot be used."""
        ...

    def reset(self) -> None:
        """Stop and forget the driver."""
        ...


@dataclass
class _State:
    """Everything a reset forgets."""

    queues: list[QueueConfig]
    status: int = 0
    driver_features: int = 0
    interrupt_status: int = 0
    active: bool = False


class VirtioDevice:
    """One device. `fault` is called with (reason, detail) for whatever a driver does wrong."""

    def __init__(self, backend: Backend, interrupt: Edge, fault: FaultSink) -> None:
        self.backend, self._interrupt, self._fault = backend, interrupt, fault
        self.config_generation = 0
        self._state = self._fresh()

    def _fresh(self) -> _State:
        return _State([QueueConfig() for _ in self.backend.queue_sizes])

    @property
    def status(self) -> int:
        """The device status byte."""
        return self._state.status

    @property
    def interrupt_status(self) -> int:
        """Causes that the driver has not acknowledged."""
        return self._state.interrupt_status

    @property
    def active(self) -> bool:
        """DRIVER_OK was accepted and nothing broke since."""
        return self._state.active

    def queue(self, index: int) -> QueueConfig | None:
        """Return a queue's configuration, None where there is no such queue."""
        return self._state.queues[index] if index < len(self._state.queues) else None

    def write_status(self, value: int) -> None:
        """Take a write to the status register: 0 resets, other bits are only ever set (§2.1.1)."""
        if value == 0:
            self.reset()
            return
        state = self._state
        new = value & _SETTABLE & ~state.status
        if state.status & ~value & _SETTABLE:
            text = f"status {value:#x} clears bits of {state.status:#x}; only a reset clears them"
            self._fault("register", text)
        if new & spec.STATUS_FEATURES_OK and not self._features_acceptable():
            new &= ~spec.STATUS_FEATURES_OK
        state.status |= new
        if new & spec.STATUS_DRIVER_OK:
            self._go_live()

    def set_driver_features(self, word: int, value: int) -> None:
        """Take 32 of the driver's feature bits; ignored once FEATURES_OK is set (§3.1.1)."""
        if self._state.status & spec.STATUS_FEATURES_OK:
            self._fault("register", "driver features written after FEATURES_OK")
        elif word < spec.FEATURE_WORDS:
            shift = 32 * word
            self._state.driver_features = (
                self._state.driver_features & ~(0xFFFF_FFFF << shift) | value << shift
            )
        elif value:
            self._state.driver_features |= 1 << 32 * spec.FEATURE_WORDS  # a bit that no device offers

    def set_queue_ready(self, index: int, ready: bool) -> None:
        """Take QueueReady; a queue is fixed while it is ready (§4.2.2.2)."""
        queue = self.queue(index)
        if queue is None:
            self._fault("register", f"queue {index} does not exist")
        elif self._state.active:
            self._fault("register", f"queue {index} changed after DRIVER_OK")
        else:
            largest = self.backend.queue_sizes[index]
            queue.ready = ready and 0 < queue.size <= largest
            if ready and not queue.ready:
                self._fault("register", f"queue {index} has 1 to {largest} entries, not {queue.size}")

    def raise_interrupt(self, cause: int) -> None:
        """Add a cause and give an edge: a driver that acknowledges late still hears of what came after."""
        self._state.interrupt_status |= cause
        self._interrupt.pulse()

    def acknowledge(self, causes: int) -> None:
        """InterruptACK: forget causes (§4.2.2)."""
        self._state.interrupt_status &= ~causes

    def config_changed(self) -> None:
        """The configuration space changed: tell a driver that is up (§2.5)."""
        self.config_generation = (self.config_generation + 1) & 0xFFFF_FFFF
        if self._state.status & spec.STATUS_DRIVER_OK:
            self.raise_interrupt(spec.INTERRUPT_CONFIG)

    def break_down(self, reason: str, detail: str) -> None:
        """The driver broke a rule that cannot be lived with (§2.1.2).

        DEVICE_NEEDS_RESET, and a configuration interrupt where the driver is up.
        """
        self._fault(reason, detail)
        if not self._state.status & spec.STATUS_DEVICE_NEEDS_RESET:
            self._state.status |= spec.STATUS_DEVICE_NEEDS_RESET
            self._state.active = False
            if self._state.status & spec.STATUS_DRIVER_OK:
                self.raise_interrupt(spec.INTERRUPT_CONFIG)

    def reset(self) -> None:
        """Forget the driver: every state is replaced by a fresh one."""
        self.backend.reset()
        self._state = self._fresh()

    def _features_acceptable(self) -> bool:
        accepted = self._state.driver_features
        if accepted & ~self.backend.features:
            self._fault("register", f"features {accepted & ~self.backend.features:#x} were not offered")
            return False
        if not accepted >> spec.F_VERSION_1 & 1:
            self._fault("register", "VERSION_1 was not accepted; the legacy interface is not offered")
            return False
        return True

    def _go_live(self) -> None:
        state = self._state
        if not state.status & spec.STATUS_FEATURES_OK:
            self._fault("register", "DRIVER_OK without FEATURES_OK")
            state.status &= ~spec.STATUS_DRIVER_OK
            return
        try:
            state.active = True
            self.backend.activate(state.driver_features, state.queues)
        except GuestError as error:
            self.break_down(error.reason, error.detail)
