"""The driver's side of a virtio device whose back end is another process: a vhost-user front end.

Reference: "Vhost-user Protocol" (QEMU documentation): Front-end message types, Ring states, Multiple queue
support. The back end gets the guest's RAM, by descriptor, and eventfds to be kicked by and to call with;
nothing of it involves the vmm. The configuration space is the front end's own: address and number of queue
pairs are what the topology says. Not modelled: a back end that comes back, logging, in-flight buffers.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from testbed.errors import DeviceError, PeerGone
from testbed.spec import vhost_user as spec
from testbed.spec import virtio
from testbed.spec import virtio_net as net
from testbed.spec.vhost_user import Request

ANSWER_SECONDS: Final = 10.0
"""How long an answer is waited for."""
_OWN: Final = (net.F_MAC, net.F_STATUS, net.F_MTU, net.F_SPEED_DUPLEX, net.F_CTRL_VQ)
"""Features that the back end has no part in."""
_PROTOCOL_WANTED: Final = (spec.PROTOCOL_F_MQ, spec.PROTOCOL_F_REPLY_ACK, spec.PROTOCOL_F_STATUS)
_LIVE: Final = (
    virtio.STATUS_ACKNOWLEDGE | virtio.STATUS_DRIVER | virtio.STATUS_FEATURES_OK | virtio.STATUS_DRIVER_OK
)


class Connection(Protocol):
    """A socket towards the back end."""

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message whole."""
        ...

    def receive(self, size_bytes: int) -> tuple[bytes, list[int]]:
        """Return at most so many bytes; none while there are none."""
        ...

    def wait(self, seconds: float) -> bool:
        """Block until there is something to read; False: not within that time."""
        ...


@dataclass(frozen=True)
class SharedRam:
    """The guest's RAM as it is shared: its segment's descriptor, and where guest and process have it."""

    descriptor: int
    size_bytes: int
    gpa: int
    hva: int


@dataclass(frozen=True)
class _Queue:
    size: int
    desc: int
    driver: int
    device: int


class VhostUserPort:
    """A `VirtioPort` over one connection; `on_call` is given each descriptor that the back end calls with."""

    def __init__(
        self, connection: Connection, ram: SharedRam, mac: bytes, pairs: int, on_call: Callable[[int], None]
    ) -> None:
        self._connection, self._ram, self._mac, self._pairs = connection, ram, mac, pairs
        self._on_call = on_call
        self._features = self._protocol = 0
        self._queues: dict[int, _Queue] = {}
        self._kicks: dict[int, int] = {}

    def start(self, device_id: int) -> None:
        """There is no identity to read: whoever answers is taken for what the topology says."""
        assert device_id == virtio.DEVICE_ID_NET
        self._say(Request.SET_OWNER)

    def negotiate(self, wanted: int) -> int:
        """Accept what is offered and wanted and not the front end's own; the protocol's features, too."""
        offered = self._ask(Request.GET_FEATURES)
        if not offered >> virtio.F_VERSION_1 & 1:
            raise DeviceError(f"the back end offers {offered:#x}, without VERSION_1")
        accepted = offered & wanted & ~sum(1 << bit for bit in _OWN)
        extends = offered >> spec.F_PROTOCOL_FEATURES & 1
        if extends:
            self._negotiate_protocol()
        if self._pairs == 1:
            accepted &= ~(1 << net.F_MQ)
        self._features = accepted | extends << spec.F_PROTOCOL_FEATURES
        self._say(Request.SET_FEATURES, spec.U64.pack(value=self._features))
        return accepted

    def queue_size_max(self, index: int) -> int:
        """The document has no limit but that of the ring itself."""
        if index >= 2 * self._pairs:
            raise DeviceError(f"the back end has {self._pairs} queue pairs, and no queue {index}")
        return virtio.QUEUE_SIZE_MAX

    def set_queue(self, index: int, size: int, desc: int, driver: int, device: int) -> None:
        """Remember a queue: it is announced when all are known."""
        self._queues[index] = _Queue(size, desc, driver, device)

    def driver_ok(self) -> None:
        """Share the RAM, start every ring, enable them."""
        self._share()
        for index, queue in self._queues.items():
            self._start_ring(index, queue)
        if self._has(spec.F_PROTOCOL_FEATURES):
            for index in self._queues:
                self._say(Request.SET_VRING_ENABLE, spec.VRING_STATE.pack(index=index, num=1))
        if self._protocol >> spec.PROTOCOL_F_STATUS & 1:
            self._command(Request.SET_STATUS, spec.U64.pack(value=_LIVE))

    def config(self, offset: int, size_bytes: int) -> int:
        """Return one field of the configuration space."""
        return int.from_bytes(self.config_bytes(offset, size_bytes), "little")

    def config_bytes(self, offset: int, length_bytes: int) -> bytes:
        """Return bytes of the configuration space that the front end makes up."""
        image = bytearray(net.NET_CONFIG.pack(max_virtqueue_pairs=self._pairs))
        image[: len(self._mac)] = self._mac
        return bytes(image[offset : offset + length_bytes])

    def notify(self, queue: int) -> None:
        """Kick."""
        os.eventfd_write(self._kicks[queue], 1)

    def acknowledge_interrupt(self) -> int:
        """A call says only that there are used buffers: nothing is to be acknowledged."""
        return 0

    def needs_reset(self) -> bool:
        """A back end that gives up hangs up."""
        return False

    def hear(self) -> None:
        """The connection has something to read, unasked: only its end is expected. PeerGone where it is."""
        data = self._receive(spec.HEADER.size)
        if data:
            raise DeviceError(f"the back end says {data.hex()}, unasked")

    def _negotiate_protocol(self) -> None:
        offered = self._ask(Request.GET_PROTOCOL_FEATURES)
        self._protocol = offered & sum(1 << bit for bit in _PROTOCOL_WANTED)
        self._say(Request.SET_PROTOCOL_FEATURES, spec.U64.pack(value=self._protocol))
        several = self._protocol >> spec.PROTOCOL_F_MQ & 1
        self._pairs = min(self._pairs, self._ask(Request.GET_QUEUE_NUM)) if several else 1

    def _has(self, bit: int) -> bool:
        return bool(self._features >> bit & 1)

    def _share(self) -> None:
        ram = self._ram
        region = spec.REGION.pack(gpa=ram.gpa, size=ram.size_bytes, uva=ram.hva)
        self._command(Request.SET_MEM_TABLE, spec.REGIONS_HEADER.pack(count=1) + region, [ram.descriptor])

    def _start_ring(self, index: int, queue: _Queue) -> None:
        """NUM, BASE, ADDR, CALL, KICK: the last one starts it."""
        packed = self._has(virtio.F_RING_PACKED)
        wraps = spec.PACKED_BASE_AVAIL_WRAP.put(1) | spec.PACKED_BASE_USED_WRAP.put(1)
        self._say(Request.SET_VRING_NUM, spec.VRING_STATE.pack(index=index, num=queue.size))
        self._say(Request.SET_VRING_BASE, spec.VRING_STATE.pack(index=index, num=wraps if packed else 0))
        to_hva = self._ram.hva - self._ram.gpa
        addresses = spec.VRING_ADDR.pack(
            index=index,
            desc=queue.desc + to_hva,
            avail=queue.driver + to_hva,
            used=queue.device + to_hva,
            log=queue.device,
        )
        self._say(Request.SET_VRING_ADDR, addresses)
        call = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._kicks[index] = kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._on_call(call)
        word = spec.U64.pack(value=spec.VRING_FD_INDEX.put(index))
        self._say(Request.SET_VRING_CALL, word, [call])
        self._say(Request.SET_VRING_KICK, word, [kick])

    def _command(self, request: Request, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a request and have the back end say that it went well, where it can."""
        acknowledged = bool(self._protocol >> spec.PROTOCOL_F_REPLY_ACK & 1)
        self._say(request, payload, descriptors, need_reply=acknowledged)
        if acknowledged and (failed := self._answer(request)):
            raise DeviceError(f"the back end refuses {request.name}: {failed:#x}")

    def _ask(self, request: Request) -> int:
        self._say(request)
        return self._answer(request)

    def _say(
        self,
        request: Request,
        payload: bytes = b"",
        descriptors: Sequence[int] = (),
        *,
        need_reply: bool = False,
    ) -> None:
        flags = spec.FLAGS_VERSION.put(spec.VERSION) | spec.FLAGS_NEED_REPLY.put(int(need_reply))
        header = spec.HEADER.pack(request=request, flags=flags, size=len(payload))
        try:
            self._connection.send(header + payload, descriptors)
        except PeerGone as error:
            raise DeviceError(f"the back end hung up before {request.name}") from error

    def _answer(self, request: Request) -> int:
        """Return the number with which the back end answers; DeviceError for anything else."""
        header = spec.HEADER.unpack(self._read(spec.HEADER.size, request))
        flags = spec.FLAGS_VERSION.put(spec.VERSION) | spec.FLAGS_REPLY.put(1)
        if (header["request"], header["flags"], header["size"]) != (request, flags, spec.U64.size):
            raise DeviceError(f"the back end answers {request.name} with {header}")
        return spec.U64.unpack(self._read(spec.U64.size, request))["value"]

    def _read(self, size_bytes: int, request: Request) -> bytes:
        data = b""
        try:
            while len(data) < size_bytes:
                if not self._connection.wait(ANSWER_SECONDS):
                    raise DeviceError(
                        f"the back end does not answer {request.name} within {ANSWER_SECONDS:g} s"
                    )
                data += self._receive(size_bytes - len(data))
        except PeerGone as error:
            raise DeviceError(f"the back end hung up at {request.name}") from error
        return data

    def _receive(self, size_bytes: int) -> bytes:
        """Return what the back end says; descriptors with it, which nothing here asks for, are closed."""
        data, descriptors = self._connection.receive(size_bytes)
        for descriptor in descriptors:
            os.close(descriptor)
        if descriptors:
            raise DeviceError(f"the back end sends {len(descriptors)} descriptors, unasked")
        return data
