"""One connection of a front end: what each message does. Transport-free: messages in, answers out.

Reference: "Vhost-user Protocol", Front-end message types, Ring states, Migration, Inflight I/O tracking,
REPLY_ACK. Offered protocol features: MQ (with more than one queue pair), LOG_SHMFD, REPLY_ACK, BACKEND_REQ
(the channel is kept; a network back end has nothing to ask), INFLIGHT_SHMFD, RESET_DEVICE,
CONFIGURE_MEM_SLOTS, STATUS. Never CONFIG: the configuration space is the front end's. Not modelled: postcopy,
IOTLB, in-band notifications, RARP, MTU, cross-endian.

A front end that breaks a rule is refused: where it asked for an answer it gets one that says so, else the
connection ends (`GuestError`); nobody else notices.
"""

import os
from collections.abc import Callable
from typing import Final

from testbed.errors import GuestError
from testbed.interrupts.signal import Edge
from testbed.native import DirtyLog, Pinned, RingJournal
from testbed.spec import vhost_user as spec
from testbed.spec.vhost_user import Request
from testbed.spec.virtio import QUEUE_SIZE_MAX
from testbed.virtio.vhost_user.memory import SLOTS_MAX, MemoryTable, map_file
from testbed.virtio.vhost_user.message import Message, reply
from testbed.virtio.vhost_user.net import Kicks, VhostUserNet
from testbed.virtio.vhost_user.ring import Addresses, Ring, Setting

PROTOCOL_FEATURES: Final = sum(
    1 << bit
    for bit in (
        spec.PROTOCOL_F_LOG_SHMFD,
        spec.PROTOCOL_F_REPLY_ACK,
        spec.PROTOCOL_F_BACKEND_REQ,
        spec.PROTOCOL_F_INFLIGHT_SHMFD,
        spec.PROTOCOL_F_RESET_DEVICE,
        spec.PROTOCOL_F_CONFIGURE_MEM_SLOTS,
        spec.PROTOCOL_F_STATUS,
    )
)
_NEEDS: Final = {
    Request.GET_QUEUE_NUM: spec.PROTOCOL_F_MQ,
    Request.SET_LOG_BASE: spec.PROTOCOL_F_LOG_SHMFD,
    Request.SET_BACKEND_REQ_FD: spec.PROTOCOL_F_BACKEND_REQ,
    Request.GET_INFLIGHT_FD: spec.PROTOCOL_F_INFLIGHT_SHMFD,
    Request.SET_INFLIGHT_FD: spec.PROTOCOL_F_INFLIGHT_SHMFD,
    Request.RESET_DEVICE: spec.PROTOCOL_F_RESET_DEVICE,
    Request.GET_MAX_MEM_SLOTS: spec.PROTOCOL_F_CONFIGURE_MEM_SLOTS,
    Request.ADD_MEM_REG: spec.PROTOCOL_F_CONFIGURE_MEM_SLOTS,
    Request.REM_MEM_REG: spec.PROTOCOL_F_CONFIGURE_MEM_SLOTS,
    Request.SET_STATUS: spec.PROTOCOL_F_STATUS,
    Request.GET_STATUS: spec.PROTOCOL_F_STATUS,
}
"""The protocol feature without which a request makes no sense."""
_SUCCESS: Final = 0
_FAILURE: Final = 1


class Answer:
    """Bytes to send back and descriptors to send with them, which are closed afterwards."""

    def __init__(self, data: bytes, *descriptors: int) -> None:
        self.data, self.descriptors = data, descriptors


class OwnedEdge:
    """Makes an `Edge` of a descriptor and closes it: what the composition root hands in."""

    def __init__(self, edge: Edge, close: Callable[[], None]) -> None:
        self.pulse, self.close = edge.pulse, close


SignalMaker = Callable[[int], OwnedEdge]


class Session:
    """The state of one connection. `close` when it ends."""

    def __init__(
        self, device: VhostUserNet, kicks: Kicks, signal: SignalMaker, journal: Pinned | None = None
    ) -> None:
        """`journal` has room for a record for each ring, and outlives this process; None: nothing does."""
        self._device, self._kicks, self._signal = device, kicks, signal
        self._memory = MemoryTable()
        self._features = self._protocol = self._status = 0
        self._back_channel: int | None = None
        self._owned: dict[tuple[str, int], OwnedEdge] = {}
        self._handlers = self._table()
        self._record(journal)
        self._journal_is_ours = journal is not None

    @property
    def lost(self) -> bool:
        """The front end cut short a file that it shares: the session must end."""
        return self._memory.lost

    @property
    def polls(self) -> bool:
        """A ring runs whose front end will not kick."""
        return any(ring.running and ring.kick is None for ring in self._device.rings)

    def handle(self, message: Message) -> Answer | None:
        """Do what a message says; what it brought and nobody kept is closed.

        Raises GuestError where the connection must end.
        """
        try:
            return self._answer(message)
        finally:
            for descriptor in message.descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """Stop every ring and give everything back."""
        for ring in self._device.rings:
            self._end(ring, forget=self._journal_is_ours)
            ring.setting, ring.enabled = Setting(), False
            ring.call = ring.error = ring.journal = None
        for owned in self._owned.values():
            owned.close()
        self._owned.clear()
        if self._back_channel is not None:
            os.close(self._back_channel)
            self._back_channel = None
        self._device.log = None
        self._memory = MemoryTable()
        self._device.refresh()

    def _answer(self, message: Message) -> Answer | None:
        acknowledged = message.need_reply and self._has(spec.PROTOCOL_F_REPLY_ACK)
        try:
            self._check(message.request)
            answer = self._handlers[message.request](message)
        except GuestError as error:
            if not acknowledged or message.request in _ANSWERED:
                raise
            self._device.count_fault(error.reason, error.detail)
            return Answer(reply(message.request, spec.U64.pack(value=_FAILURE)))
        if answer is None and acknowledged:
            return Answer(reply(message.request, spec.U64.pack(value=_SUCCESS)))
        return answer

    def _check(self, request: Request) -> None:
        needed = _NEEDS.get(request)
        if needed is not None and not self._has(needed):
            raise _refused(f"{request.name} without its protocol feature, bit {needed}")

    def _table(self) -> dict[Request, Callable[[Message], Answer | None]]:
        return {
            Request.GET_FEATURES: lambda m: _number(m, self._device.features),
            Request.SET_FEATURES: self._set_features,
            Request.SET_OWNER: lambda _m: None,
            Request.RESET_OWNER: self._reset_owner,
            Request.SET_MEM_TABLE: self._set_mem_table,
            Request.SET_LOG_BASE: self._set_log_base,
            Request.SET_LOG_FD: lambda _m: None,  # optional: the log itself says what changed
            Request.SET_VRING_NUM: self._set_vring_num,
            Request.SET_VRING_ADDR: self._set_vring_addr,
            Request.SET_VRING_BASE: self._set_vring_base,
            Request.GET_VRING_BASE: self._get_vring_base,
            Request.SET_VRING_KICK: self._set_vring_kick,
            Request.SET_VRING_CALL: self._set_vring_call,
            Request.SET_VRING_ERR: self._set_vring_err,
            Request.GET_PROTOCOL_FEATURES: lambda m: _number(m, self._offered()),
            Request.SET_PROTOCOL_FEATURES: self._set_protocol_features,
            Request.GET_QUEUE_NUM: lambda m: _number(m, self._device.config.queue_pairs),
            Request.SET_VRING_ENABLE: self._set_vring_enable,
            Request.SET_BACKEND_REQ_FD: self._set_backend_req_fd,
            Request.GET_INFLIGHT_FD: self._get_inflight_fd,
            Request.SET_INFLIGHT_FD: self._set_inflight_fd,
            Request.RESET_DEVICE: self._reset_device,
            Request.GET_MAX_MEM_SLOTS: lambda m: _number(m, SLOTS_MAX),
            Request.ADD_MEM_REG: self._add_mem_reg,
            Request.REM_MEM_REG: self._rem_mem_reg,
            Request.SET_STATUS: self._set_status,
            Request.GET_STATUS: lambda m: _number(m, self._status),
        }

    # Features and status

    def _has(self, protocol_feature: int) -> bool:
        return bool(self._protocol >> protocol_feature & 1)

    def _offered(self) -> int:
        several = self._device.config.queue_pairs > 1
        return PROTOCOL_FEATURES | several << spec.PROTOCOL_F_MQ

    def _set_features(self, message: Message) -> None:
        features = message.u64()
        if unknown := features & ~self._device.features:
            raise _refused(f"SET_FEATURES {features:#x}: {unknown:#x} was not offered")
        changed = (features ^ self._features) & ~(1 << spec.F_LOG_ALL)
        if changed and any(ring.queue is not None for ring in self._device.rings):
            raise _refused(f"SET_FEATURES {features:#x} changes {changed:#x} while rings run")
        self._features = features

    def _set_protocol_features(self, message: Message) -> None:
        features = message.u64()
        if unknown := features & ~self._offered():
            raise _refused(f"SET_PROTOCOL_FEATURES {features:#x}: {unknown:#x} was not offered")
        self._protocol = features

    def _set_status(self, message: Message) -> None:
        # rings start and stop by messages of their own, also at a reset: 0 comes before GET_VRING_BASE
        self._status = message.u64() & 0xFF

    def _reset_owner(self, _message: Message) -> None:
        for ring in self._device.rings:
            ring.enabled = False
        self._device.refresh()

    def _reset_device(self, _message: Message) -> None:
        """All rings are stopped and disabled; memory, descriptors and features stay as they are."""
        for ring in self._device.rings:
            self._stop(ring)
            ring.setting, ring.enabled = Setting(), False
        self._status = 0
        self._device.refresh()

    def _set_backend_req_fd(self, message: Message) -> None:
        if self._back_channel is not None:
            os.close(self._back_channel)
        self._back_channel = message.descriptors.pop()

    # Memory

    def _set_mem_table(self, message: Message) -> None:
        count = message.record(spec.REGIONS_HEADER)["count"]
        regions = [
            message.record(spec.REGION, spec.REGIONS_HEADER.size + i * spec.REGION.size)
            for i in range(min(count, spec.REGIONS_MAX))
        ]
        if len(message.payload) != spec.REGIONS_HEADER.size + count * spec.REGION.size:
            raise _refused(f"SET_MEM_TABLE: {len(message.payload)} bytes do not hold {count} regions")
        if len(message.descriptors) != count:
            raise _refused(f"SET_MEM_TABLE: {len(message.descriptors)} descriptors for {count} regions")
        table = MemoryTable()
        for region, descriptor in zip(regions, message.descriptors, strict=True):
            _add_region(table, region, descriptor)
        self._replace_memory(table)

    def _add_mem_reg(self, message: Message) -> None:
        region = message.record(spec.REGION, spec.SINGLE_REGION_PADDING_BYTES)
        if self._memory.add_again(region["gpa"], region["size"], region["uva"]):
            return
        _add_region(self._memory, region, message.descriptors[0])
        for ring in self._device.rings:
            self._start(ring)

    def _rem_mem_reg(self, message: Message) -> None:
        region = message.record(spec.REGION, spec.SINGLE_REGION_PADDING_BYTES)
        table = self._memory.without(region["gpa"], region["size"], region["uva"])
        if table is not self._memory:
            self._replace_memory(table)

    def _replace_memory(self, table: MemoryTable) -> None:
        """Have the rings that run go on in other memory, each from where it stands."""
        running = [ring for ring in self._device.rings if ring.queue is not None]
        for ring in running:
            self._device.stop(ring)
        self._memory = table  # only now: nothing looks into the old one any more
        for ring in running:
            self._start(ring)

    def _set_log_base(self, message: Message) -> Answer:
        log = message.record(spec.LOG)
        memory = map_file(message.descriptors[0], log["offset"], log["size"], "SET_LOG_BASE")
        self._device.log = DirtyLog(Pinned(memory))
        return _number(message, _SUCCESS)

    # Rings

    def _ring(self, index: int) -> Ring:
        if index >= len(self._device.rings):
            raise _refused(f"there is no virtqueue {index}; there are {len(self._device.rings)}")
        return self._device.rings[index]

    def _set_vring_num(self, message: Message) -> None:
        state = message.record(spec.VRING_STATE)
        ring = self._stopped(state["index"])
        if not 0 < state["num"] <= QUEUE_SIZE_MAX:
            raise _refused(
                f"SET_VRING_NUM: a virtqueue has 1 to {QUEUE_SIZE_MAX} entries, not {state['num']}"
            )
        ring.setting.size = state["num"]

    def _set_vring_addr(self, message: Message) -> None:
        said = message.record(spec.VRING_ADDR)
        ring = self._ring(said["index"])
        logged = bool(spec.VRING_ADDR_F_LOG.get(said["flags"]))
        addresses = Addresses(said["desc"], said["avail"], said["used"], said["log"], logged)
        old = ring.setting.addresses
        parts = (addresses.desc, addresses.avail, addresses.used)
        if ring.queue is not None and (old is None or (old.desc, old.avail, old.used) != parts):
            raise _refused(f"SET_VRING_ADDR moves virtqueue {ring.index} while it runs")
        ring.setting.addresses = addresses
        self._start(ring)

    def _set_vring_base(self, message: Message) -> None:
        state = message.record(spec.VRING_STATE)
        self._stopped(state["index"]).setting.base = state["num"]

    def _get_vring_base(self, message: Message) -> Answer:
        ring = self._ring(message.record(spec.VRING_STATE)["index"])
        self._end(ring, forget=True)
        payload = spec.VRING_STATE.pack(index=ring.index, num=ring.setting.base)
        return Answer(reply(message.request, payload))

    def _set_vring_kick(self, message: Message) -> None:
        ring, descriptor = self._described(message)
        self._forget_kick(ring)
        if descriptor is not None:
            self._wake_for(descriptor)
        ring.kick, ring.setting.started = descriptor, True
        if not self._features >> spec.F_PROTOCOL_FEATURES & 1:
            ring.enabled = True
        self._start(ring)

    def _set_vring_call(self, message: Message) -> None:
        ring, descriptor = self._described(message)
        ring.call = self._own("call", ring.index, descriptor)

    def _set_vring_err(self, message: Message) -> None:
        ring, descriptor = self._described(message)
        ring.error = self._own("error", ring.index, descriptor)

    def _set_vring_enable(self, message: Message) -> None:
        state = message.record(spec.VRING_STATE)
        ring = self._ring(state["index"])
        if state["num"] > 1:
            raise _refused(f"SET_VRING_ENABLE {state['num']}: must be 0 or 1")
        ring.enabled = bool(state["num"])
        self._device.refresh()

    def _stopped(self, index: int) -> Ring:
        ring = self._ring(index)
        if ring.queue is not None:
            raise _refused(f"virtqueue {index} must be stopped first")
        return ring

    def _described(self, message: Message) -> tuple[Ring, int | None]:
        """Return the ring that a descriptor is for, and the descriptor, which is now the session's."""
        word = message.u64()
        ring = self._ring(spec.VRING_FD_INDEX.get(word))
        none = bool(spec.VRING_FD_NONE.get(word))
        if none == bool(message.descriptors):
            raise _refused(f"{message.request.name} {word:#x} with {len(message.descriptors)} descriptors")
        return ring, None if none else message.descriptors.pop()

    def _own(self, what: str, index: int, descriptor: int | None) -> OwnedEdge | None:
        """Take another descriptor in place of a ring's; one that is refused leaves it the one it has."""
        new = None if descriptor is None else self._signal(descriptor)
        old = self._owned.pop((what, index), None)
        if old is not None:
            old.close()
        if new is not None:
            self._owned[what, index] = new
        return new

    def _start(self, ring: Ring) -> None:
        """Start a ring about which everything is said."""
        if ring.queue is None and ring.configured and len(self._memory):
            self._device.start(ring, self._memory, self._features)

    def _end(self, ring: Ring, *, forget: bool) -> None:
        """Stop a ring in order, and forget its record: nothing of it is in doubt.

        What is recorded of one that never ran here is another process's, which was killed: it stays for the
        connection that starts the ring again.
        """
        ran = ring.queue is not None
        self._stop(ring)
        if forget and ran and ring.journal is not None:
            ring.journal.end()

    def _stop(self, ring: Ring) -> None:
        self._device.stop(ring)
        self._forget_kick(ring)
        ring.setting.started = False

    def _wake_for(self, descriptor: int) -> None:
        try:
            self._kicks.add(descriptor)
        except GuestError:
            os.close(descriptor)
            raise

    def _forget_kick(self, ring: Ring) -> None:
        if ring.kick is not None:
            self._kicks.discard(ring.kick)
            os.close(ring.kick)
            ring.kick = None

    # In-flight buffers

    def _get_inflight_fd(self, message: Message) -> Answer:
        """Make the memory in which the rings are recorded; the front end keeps it for who comes after us."""
        asked = message.record(spec.INFLIGHT)
        size = len(self._device.rings) * spec.RING_JOURNAL.size
        descriptor = os.memfd_create("virtbed-inflight", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            self._record(Pinned(map_file(descriptor, 0, size, "GET_INFLIGHT_FD")))
            self._journal_is_ours = False
        except BaseException:
            os.close(descriptor)
            raise
        payload = spec.INFLIGHT.pack(
            mmap_size=size, num_queues=asked["num_queues"], queue_size=asked["queue_size"]
        )
        return Answer(reply(message.request, payload), descriptor)

    def _set_inflight_fd(self, message: Message) -> None:
        said = message.record(spec.INFLIGHT)
        needed = len(self._device.rings) * spec.RING_JOURNAL.size
        if said["mmap_size"] < needed:
            raise _refused(f"SET_INFLIGHT_FD: {said['mmap_size']} bytes, where {needed} were given out")
        memory = map_file(message.descriptors[0], said["mmap_offset"], needed, "SET_INFLIGHT_FD")
        self._record(Pinned(memory))
        self._journal_is_ours = False

    def _record(self, journal: Pinned | None) -> None:
        if any(ring.queue is not None for ring in self._device.rings):
            raise _refused("in-flight memory while rings run")
        if journal is None:
            return
        for ring in self._device.rings:
            ring.journal = RingJournal(journal, ring.index * spec.RING_JOURNAL.size)


_ANSWERED: Final = frozenset(
    {
        Request.GET_FEATURES, Request.GET_PROTOCOL_FEATURES, Request.GET_QUEUE_NUM, Request.GET_VRING_BASE,
        Request.SET_LOG_BASE, Request.GET_INFLIGHT_FD, Request.GET_MAX_MEM_SLOTS, Request.GET_STATUS,
    }
)  # fmt: skip
"""What has an answer of its own, which cannot say that something is wrong."""


def _add_region(table: MemoryTable, region: dict[str, int], descriptor: int) -> None:
    table.add(region["gpa"], region["size"], region["uva"], region["mmap_offset"], descriptor)


def _number(message: Message, value: int) -> Answer:
    return Answer(reply(message.request, spec.U64.pack(value=value)))


def _refused(detail: str) -> GuestError:
    return GuestError("protocol", detail)
