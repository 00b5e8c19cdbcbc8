"""An honest driver and an honest device around one virtqueue in one strict memory, each native or the model.

`Rig` lays the queue and the buffers out; `TxDriver`, `TxDevice`, `RxDriver` and `RxDevice` give both kinds of
each side one face that takes and returns frames as bytes. The queue is the last thing in its region: the byte
behind it is a canary.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Final

from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.native import (
    Burst,
    FrameStore,
    PackedDevice,
    PackedDriver,
    Pinned,
    ReplaySource,
    SplitDevice,
    SplitDriver,
)
from testbed.spec.port_counters import PORT_COUNTERS, fault_name
from tests.support.packed_model import PackedDecider, PackedModelDevice, PackedModelDriver, Place
from tests.support.raw_ring import RawPackedRing, RawSplitRing
from tests.support.ring_model import Features, ModelNetDevice, ModelNetDriver
from tests.support.split_model import SplitDecider, SplitModelDevice, SplitModelDriver
from tests.support.strict_memory import StrictMemory

SPLIT: Final = "split"
PACKED: Final = "packed"
PORT: Final = 1

NativeDevice = SplitDevice | PackedDevice
NativeDriver = SplitDriver | PackedDriver


@dataclass(frozen=True)
class Setup:
    """One queue: its format and size, what was negotiated, how its driver cuts `slot_bytes` long buffers into
    `parts`.
    """

    ring_format: str = SPLIT
    size: int = 8
    features: Features = field(default_factory=Features)
    parts: int = 1
    slot_bytes: int = 2048
    device_writes: bool = False
    buffers_max: int = 1 << 16
    """The model driver's limit of buffers; the native one has as many as the ring has room for."""

    @property
    def indirect(self) -> bool:
        """The driver uses indirect tables."""
        return self.features.indirect and self.parts > 1

    @property
    def slots_per_buffer(self) -> int:
        """Ring descriptors of one buffer."""
        return 1 if self.indirect else self.parts

    @property
    def buffers(self) -> int:
        """Buffers that fit into the ring."""
        return self.size // self.slots_per_buffer


class Rig:
    """Memory with one queue and its buffers; makes the sides."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        slots = align_up(setup.buffers * setup.slot_bytes, PAGE_SIZE_BYTES)
        tables = align_up(setup.buffers * setup.parts * 16, PAGE_SIZE_BYTES) if setup.indirect else 0
        desc_bytes = 16 * setup.size
        if setup.ring_format == SPLIT:
            used = align_up(desc_bytes + 6 + 2 * setup.size, 4)
            second, third, queue_bytes = desc_bytes, used, used + 6 + 8 * setup.size
        else:
            second, third, queue_bytes = desc_bytes, desc_bytes + 4, desc_bytes + 8
        self.memory = StrictMemory(slots + tables, queue_bytes)
        self.slots_gpa = self.memory.base
        self.tables_gpa = self.memory.base + slots if setup.indirect else None
        self.queue_gpa, self.queue_bytes = self.memory.base + slots + tables, queue_bytes
        self.places = self.queue_gpa, self.queue_gpa + second, self.queue_gpa + third
        self.counters = Pinned(bytearray(PORT_COUNTERS.size))

    @cached_property
    def split(self) -> RawSplitRing:
        """Every word of a split queue."""
        return RawSplitRing(self.memory, self.setup.size, *self.places)

    @cached_property
    def packed(self) -> RawPackedRing:
        """Every word of a packed queue."""
        return RawPackedRing(self.memory, self.setup.size, *self.places)

    def counter(self, name: str) -> int:
        """Return one of the port's counters."""
        return int(self.counters.words(PORT_COUNTERS.offset(name), 8)[0])

    def place(self, index: int) -> Place:
        """Return where in a packed ring the `index`-th descriptor since its start is."""
        return Place().after(index, self.setup.size)

    def native_device(self, index: int = 0) -> NativeDevice:
        """Return the native device, which goes on at `index`."""
        setup, memory = self.setup, self.memory.regions
        f = setup.features
        negotiated = (f.event_idx, f.indirect, f.merge, f.in_order)
        if setup.ring_format == SPLIT:
            split = SplitDevice(memory, setup.size, *self.places, self.counters, 0, *negotiated)
            split.position = index
            return split
        packed = PackedDevice(memory, setup.size, *self.places, self.counters, 0, *negotiated)
        place = self.place(index)
        packed.resume(place.offset, place.wrap, place.offset, place.wrap)
        return packed

    def native_driver(self) -> NativeDriver:
        """Return the native driver with as many buffers as fit."""
        setup, features = self.setup, self.setup.features
        make: Callable[..., NativeDriver] = SplitDriver if setup.ring_format == SPLIT else PackedDriver
        queue = self.memory.pinned(self.queue_gpa, self.queue_bytes)
        slots = self.memory.pinned(self.slots_gpa, setup.buffers * setup.slot_bytes)
        tables = None
        if self.tables_gpa is not None:
            tables = self.memory.pinned(self.tables_gpa, setup.buffers * setup.parts * 16)
        return make(
            queue, self.queue_gpa, setup.size, *self.places, slots, self.slots_gpa, setup.slot_bytes,
            setup.device_writes, setup.parts, tables, self.tables_gpa or 0,
            event_idx=features.event_idx, merge=features.merge, in_order=features.in_order,
        )  # fmt: skip

    def model_device(self, index: int = 0) -> ModelNetDevice:
        """Return the model of the device, which goes on at `index`."""
        setup, memory = self.setup, self.memory
        ring: SplitModelDevice | PackedModelDevice
        if setup.ring_format == SPLIT:
            ring = SplitModelDevice(memory, self.split, setup.features, index)
        else:
            ring = PackedModelDevice(memory, self.packed, setup.features, self.place(index))
        return ModelNetDevice(ring, memory, setup.size, setup.features)

    def model_driver(self, index: int = 0) -> ModelNetDriver:
        """Return the model of the driver, which starts at `index`."""
        setup, memory = self.setup, self.memory
        ring: SplitModelDriver | PackedModelDriver
        if setup.ring_format == SPLIT:
            ring = SplitModelDriver(memory, self.split, setup.features, index)
        else:
            ring = PackedModelDriver(memory, self.packed, setup.features, self.place(index))
        return ModelNetDriver(
            ring, memory, self.slots_gpa, setup.slot_bytes, min(setup.buffers, setup.buffers_max),
            setup.parts, self.tables_gpa, setup.features.merge,
        )  # fmt: skip


class NotificationOracle:
    """Says with the model's words when the sides of a rig must notify each other."""

    def __init__(self, rig: Rig, index: int = 0) -> None:
        self._rig = rig
        self._kick, self._call = self._decider(index), self._decider(index)

    def _decider(self, index: int) -> SplitDecider | PackedDecider:
        setup = self._rig.setup
        if setup.ring_format == SPLIT:
            return SplitDecider(setup.features.event_idx, index)
        return PackedDecider(setup.size, self._rig.place(index))

    def _entries(self, buffers: int) -> int:
        setup = self._rig.setup
        return buffers if setup.ring_format == SPLIT else buffers * setup.slots_per_buffer

    def kick(self, buffers: int) -> bool:
        """The driver made `buffers` available: must it kick?"""
        self._kick.made(self._entries(buffers))
        if self._rig.setup.ring_format == SPLIT:
            return self._kick.decide(self._rig.split.used_flags, self._rig.split.avail_event)
        return self._kick.decide(self._rig.packed.device_event_flags, self._rig.packed.device_event_desc)

    def call(self, buffers: int) -> bool:
        """The device gave `buffers` back: must it call?"""
        self._call.made(self._entries(buffers))
        if self._rig.setup.ring_format == SPLIT:
            return self._call.decide(self._rig.split.avail_flags, self._rig.split.used_event)
        return self._call.decide(self._rig.packed.driver_event_flags, self._rig.packed.driver_event_desc)


def fill(reserved: Burst, frames: Sequence[bytes]) -> None:
    """Write frames into the reserved buffers of a burst."""
    offsets = array("I", accumulate((len(f) for f in frames), initial=0))
    ReplaySource(b"".join(frames), offsets.tobytes()).fill(reserved)


def contents(burst: Burst) -> list[bytes]:
    """Return a burst's frames as bytes."""
    return [burst.frame_bytes(i) for i in range(len(burst))]


class TxDriver:
    """Sends frames; native or model."""

    def __init__(self, side: NativeDriver | ModelNetDriver) -> None:
        self.side = side

    def send(self, frames: Sequence[bytes]) -> tuple[int, bool]:
        """Send as many as there is room for; return (how many, kick)."""
        if isinstance(self.side, ModelNetDriver):
            self.side.reclaim()
            sent = 0
            while sent < len(frames) and self.side.send(frames[sent]):
                sent += 1
            return sent, self.side.ring.publish()
        burst = Burst()
        sent = self.side.reserve(burst, len(frames))
        if sent:
            fill(burst, frames[:sent])
        return sent, self.side.send(burst)

    def reclaim(self) -> None:
        """Take back what was sent."""
        self.side.reclaim()

    def ask(self) -> bool | None:
        """Ask for calls; the native side says whether there is something already."""
        if isinstance(self.side, ModelNetDriver):
            self.side.ring.ask()
            return None
        return self.side.arm()

    def hush(self) -> None:
        """Ask for no calls."""
        (self.side.ring.hush if isinstance(self.side, ModelNetDriver) else self.side.disarm)()


class RxDriver(TxDriver):
    """Receives frames; native or model."""

    def post_all(self) -> bool:
        """Offer every free buffer; return kick."""
        if isinstance(self.side, ModelNetDriver):
            self.side.post_all()
            return self.side.ring.publish()
        return self.side.post_all()

    def collect(self) -> tuple[list[bytes], bool]:
        """Take what arrived and offer its buffers again; return (frames, kick)."""
        if isinstance(self.side, ModelNetDriver):
            frames = self.side.collect()
            return frames, self.post_all()
        burst = Burst()
        self.side.collect(burst)
        return contents(burst), self.side.post(burst)


class TxDevice:
    """Takes frames from a transmit queue; native or model. Bursts are completed in the order of fetching."""

    def __init__(self, side: NativeDevice | ModelNetDevice) -> None:
        self.side = side
        self._bursts: list[Burst] = []

    def fetch(self, limit: int) -> list[bytes]:
        """Take up to `limit` frames."""
        if isinstance(self.side, ModelNetDevice):
            return self.side.fetch(limit)
        burst = Burst()
        if self.side.fetch(burst, limit):
            self._bursts.append(burst)
        return contents(burst)

    def complete(self) -> list[tuple[int, bool]]:
        """Give everything back; return (frames, call) of each decision about a call."""
        if isinstance(self.side, ModelNetDevice):
            return [(self.side.fetched, self.side.complete())]
        bursts, self._bursts = self._bursts, []
        return [(len(burst), self.side.complete(burst)) for burst in bursts]

    def ask(self) -> bool | None:
        """Ask for kicks; the native side says whether there is something already."""
        if isinstance(self.side, ModelNetDevice):
            self.side.ring.ask()
            return None
        return self.side.arm()

    def hush(self) -> None:
        """Ask for no kicks."""
        (self.side.ring.hush if isinstance(self.side, ModelNetDevice) else self.side.disarm)()

    @property
    def fault(self) -> str:
        """Name of the fault, empty where there is none."""
        if isinstance(self.side, ModelNetDevice):
            return ",".join(sorted(self.side.broken))
        return fault_name(self.side.fault) if self.side.fault else ""


class RxDevice(TxDevice):
    """Puts frames into a receive queue; native or model."""

    def deliver(self, frames: Sequence[bytes]) -> int:
        """Deliver frames; return how many did not have to wait."""
        if isinstance(self.side, ModelNetDevice):
            for done, frame in enumerate(frames):
                if self.side.deliver(frame) == "wait":
                    return done
            return len(frames)
        store = FrameStore()
        store.load(frames)
        store.send_all_to(PORT)
        return self.side.deliver(store, 0, PORT)

    def publish(self) -> bool:
        """Show the driver what was used; True: it must be called."""
        return self.side.publish()
