"""One virtqueue of a front end: what the front end said about it, and the queue while it runs.

Reference: "Vhost-user Protocol", Ring states. A ring is started by its kick descriptor and stopped by
GET_VRING_BASE; that it is enabled is apart from that. Buffers are used in the order in which they are taken,
so the used index says where to go on, whatever SET_VRING_BASE says of a split ring: front ends that reconnect
give 0. Not modelled: legacy rings; in-band notifications.
"""

from dataclasses import dataclass, field

from testbed.errors import GuestError
from testbed.interrupts.signal import Edge
from testbed.native import Burst, DirtyLog, PackedDevice, Pinned, RingJournal, SplitDevice
from testbed.spec import vhost_user as spec
from testbed.spec import virtio
from testbed.virtio.device import QueueConfig
from testbed.virtio.device_queue import build_device_queue
from testbed.virtio.net_queues import DeviceQueue
from testbed.virtio.vhost_user.memory import MemoryTable

_INDEX_BITS = 15
_PLACE_MASK = 0xFFFF


@dataclass(frozen=True)
class Addresses:
    """The parts of a ring by the front end's virtual addresses; `log` by guest physical address."""

    desc: int
    avail: int
    used: int
    log: int = 0
    logged: bool = False


@dataclass
class Setting:
    """What SET_VRING_* said; a reset forgets it."""

    size: int = 0
    base: int = 0
    addresses: Addresses | None = None
    started: bool = False
    """A kick descriptor came (or word that there is none), and no GET_VRING_BASE since."""


@dataclass
class Ring:
    """One virtqueue; `queue` exists while it runs."""

    index: int
    setting: Setting = field(default_factory=Setting)
    enabled: bool = False
    call: Edge | None = None
    error: Edge | None = None
    kick: int | None = None
    """The kick descriptor; None: it has to be polled."""
    queue: DeviceQueue | None = None
    journal: RingJournal | None = None
    out: Burst | None = None
    """What was fetched and not yet completed."""
    _desc_gpa: int = 0

    @property
    def running(self) -> bool:
        """It has a queue, and the queue is not broken."""
        return self.queue is not None and not self.queue.fault

    @property
    def configured(self) -> bool:
        """Everything that it takes to start it was said."""
        setting = self.setting
        return setting.started and setting.size > 0 and setting.addresses is not None

    def start(self, memory: MemoryTable, features: int, merge: bool, counters: Pinned, offset: int) -> None:
        """Build the queue where the ring stands; GuestError where it cannot be."""
        addresses, setting = self.setting.addresses, self.setting
        assert addresses is not None
        desc, avail, used = (
            memory.translate(uva) for uva in (addresses.desc, addresses.avail, addresses.used)
        )
        config = QueueConfig(setting.size, desc, avail, used, ready=True)
        queue = build_device_queue(config, features, memory.native, counters, offset, merge)
        if isinstance(queue, SplitDevice):
            self._resume_split(queue, memory, used)
        else:
            self._resume_packed(queue, memory, desc)
        self.queue, self._desc_gpa = queue, desc

    def stop(self) -> None:
        """End the queue in order: what is out is given back, where the ring stands is kept."""
        if self.queue is None:
            return
        if self.out is not None:
            self.queue.complete(self.out)
            self.out = None
        self.setting.base = self.position()
        if self.journal is not None:
            self.journal.done(self.place())
        self.queue = None

    def position(self) -> int:
        """Return where the device stands, in the form of SET_VRING_BASE."""
        if self.queue is None:
            return self.setting.base
        if isinstance(self.queue, SplitDevice):
            return self.queue.position
        (avail, avail_wrap), (used, used_wrap) = self.queue.position
        return (
            spec.PACKED_BASE_AVAIL.put(avail)
            | spec.PACKED_BASE_AVAIL_WRAP.put(int(avail_wrap))
            | spec.PACKED_BASE_USED.put(used)
            | spec.PACKED_BASE_USED_WRAP.put(int(used_wrap))
        )

    def place(self) -> int:
        """Return where the device stands as the journal has it: index and wrap counter."""
        return self.position() & _PLACE_MASK

    def remember(self, log: DirtyLog | None) -> None:
        """Take note, in journal and log, that everything up to here is used."""
        if self.journal is not None:
            self.journal.done(self.place())
        addresses = self.setting.addresses
        if log is not None and addresses is not None and addresses.logged:
            log.mark(addresses.log, virtio.split_used_bytes(self.setting.size))
            if isinstance(self.queue, PackedDevice):  # used descriptors stand where the available ones stood
                log.mark(self._desc_gpa, virtio.PACKED_DESC.size * self.setting.size)

    def _resume_split(self, queue: SplitDevice, memory: MemoryTable, used: int) -> None:
        head = memory.native.read(used, virtio.VIRTQ_USED.size)
        if head is None:
            raise GuestError("address", f"the used ring at {used:#x} leaves the front end's memory")
        index = virtio.VIRTQ_USED.unpack(head)["idx"]
        queue.position = index
        journal = self.journal
        if journal is None:
            return
        if self._known(journal, 0):
            burst = Burst()
            before, after = journal.unfinished(burst, self.setting.size)
            if len(burst) and before == index and after == (index + len(burst)) & _PLACE_MASK:
                queue.complete(burst)
                queue.position = after
        self._begin_journal(journal, 0, queue.position)

    def _resume_packed(self, queue: PackedDevice, memory: MemoryTable, desc: int) -> None:
        journal, place = self.journal, self.setting.base & _PLACE_MASK
        burst, size = Burst(), self.setting.size
        if journal is not None and self._known(journal, self.setting.base):
            before, after = journal.unfinished(burst, size)
            ring = memory.native.read(desc, virtio.PACKED_DESC.size * size) or b""
            if _has_got_to(ring, before):
                self._finish_packed(queue, burst, before, after)
                place = after
        _resume(queue, place, place)
        if journal is not None:
            self._begin_journal(journal, self.setting.base, place)

    @staticmethod
    def _finish_packed(queue: PackedDevice, burst: Burst, before: int, after: int) -> None:
        """Use the chains of a burst that was under way, where the first was not used any more."""
        _resume(queue, before, before)
        if len(burst) and queue.ready:
            _resume(queue, after, before)
            queue.complete(burst)

    def _known(self, journal: RingJournal, base: int) -> bool:
        """Whether the journal tells of this ring, started as it is now, by a process that was killed.

        Front ends give a packed ring's first base again, for nothing in it says where it stands.
        """
        addresses = self.setting.addresses
        assert addresses is not None
        return journal.knows(addresses.desc, self.setting.size, base)

    def _begin_journal(self, journal: RingJournal, base: int, place: int) -> None:
        addresses = self.setting.addresses
        assert addresses is not None
        journal.begin(addresses.desc, self.setting.size, base)
        journal.done(place)


def _has_got_to(ring: bytes, place: int) -> bool:
    """Whether a packed ring shows that a device has worked up to a place: a driver may have cleared it since.

    Every used bit is as the device's wrap counter before the place and as in the lap before behind it (virtio
    1.2 §2.8.1), but for descriptors inside a chain; in a ring that no device has touched all are 0.
    """
    index, wrap = place & (1 << _INDEX_BITS) - 1, bool(place >> _INDEX_BITS)
    size = virtio.PACKED_DESC.size
    ones = range(index) if wrap else range(index, len(ring) // size)
    at = virtio.PACKED_DESC.offset("flags")
    used = virtio.DESC_F_USED
    return any(int.from_bytes(ring[i * size + at : i * size + at + 2], "little") & used for i in ones)


def _resume(queue: PackedDevice, available: int, used: int) -> None:
    offset_mask, wrap = (1 << _INDEX_BITS) - 1, 1 << _INDEX_BITS
    try:
        queue.resume(available & offset_mask, bool(available & wrap), used & offset_mask, bool(used & wrap))
    except ValueError as error:
        raise GuestError("protocol", f"SET_VRING_BASE: {error}") from error
