"""A vhost-user back end on the bench, and a front end that speaks to it through a real socket.

The front end's memory is a memfd, by itself at `UVA`, in the guest at `GPA`; its rings are driven by the
native drivers of the guests, whose own tests hold them to the standard. Both ends live in this one thread:
what the front end sends is served before it reads an answer.
"""

import contextlib
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testbed.messages.descriptors import Descriptors
from testbed.native import Burst, PackedDriver, PeerMemory, Pinned, SplitDriver
from testbed.net.reflect import Echo
from testbed.spec import vhost_user as spec
from testbed.spec import virtio
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.spec.vhost_user import Request
from testbed.virtio.net_config import NetConfig
from testbed.virtio.vhost_user.message import request
from testbed.virtio.vhost_user.net import VhostUserNet
from testbed.vmm.external import ExternalGuest
from tests.support.recorders import RecordingFaults
from tests.support.ring_pair import fill

MAC: Final = bytes.fromhex("020000000001")
MEMORY_BYTES: Final = 1 << 20
GPA: Final = 0x10_0000
UVA: Final = 0x7F00_0000_0000
SIZE: Final = 8
SLOT_BYTES: Final = 2048
RX, TX = 0, 1
_QUEUE_BYTES: Final = 0x1_0000
FEATURES: Final = 1 << virtio.F_VERSION_1 | 1 << spec.F_PROTOCOL_FEATURES
PROTOCOL: Final = (
    1 << spec.PROTOCOL_F_REPLY_ACK
    | 1 << spec.PROTOCOL_F_LOG_SHMFD
    | 1 << spec.PROTOCOL_F_INFLIGHT_SHMFD
    | 1 << spec.PROTOCOL_F_RESET_DEVICE
    | 1 << spec.PROTOCOL_F_CONFIGURE_MEM_SLOTS
    | 1 << spec.PROTOCOL_F_STATUS
    | 1 << spec.PROTOCOL_F_BACKEND_REQ
)
Driver = SplitDriver | PackedDriver


def memory_file(size_bytes: int = MEMORY_BYTES) -> int:
    """Return a descriptor of zeroed memory."""
    descriptor = os.memfd_create("front-end")
    os.ftruncate(descriptor, size_bytes)
    return descriptor


@dataclass(frozen=True)
class Told:
    """An answer: its payload and the descriptors that came with it."""

    payload: bytes
    descriptors: list[int] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The payload as one number."""
        return spec.U64.unpack(self.payload)["value"]


class BackEndBench:
    """The device with an echo behind it, at a socket."""

    def __init__(
        self,
        directory: Path,
        *,
        packed: bool = False,
        in_order: bool = False,
        pairs: int = 1,
        journal: Pinned | None = None,
    ) -> None:
        self.counters, self.faults = Pinned(bytearray(PORT_COUNTERS.size)), RecordingFaults()
        config = NetConfig("x.nic0", MAC, packed=packed, in_order=in_order, queue_pairs=pairs)
        self.net = VhostUserNet(config, self.counters, 0, self._changed, self.faults)
        self.echo = Echo(self.net, self.counters, 0)
        self.descriptors = Descriptors()
        self.guest = ExternalGuest(
            self.net, self.descriptors, str(directory / "s"), True, self.faults, journal
        )

    def _changed(self) -> None:
        self.echo.refresh()

    def serve(self) -> None:
        """Take every message and event that is there."""
        while self.descriptors.serve():
            pass
        self.guest.tick()

    def turn(self) -> None:
        """Move what the rings have, until nothing moves."""
        while any(action() for ring, action in self.echo.work() if ring.active):
            pass

    def count(self, member: str) -> int:
        """Return one of the port's counters."""
        words = self.counters.words(0, PORT_COUNTERS.size)
        return words[PORT_COUNTERS.offset(member) // 8]

    def close(self) -> None:
        """End it."""
        self.guest.close()
        self.descriptors.close()


class FrontEnd:
    """One connection."""

    def __init__(self, bench: BackEndBench, memory: int | None = None) -> None:
        self.bench = bench
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(bench.guest.path)
        self.socket.settimeout(5)
        self.descriptor = memory_file() if memory is None else memory
        self.memory = Pinned(PeerMemory(self.descriptor, 0, MEMORY_BYTES))
        self.kicks = [os.eventfd(0, os.EFD_NONBLOCK) for _ in bench.net.rings]
        self.calls = [os.eventfd(0, os.EFD_NONBLOCK) for _ in bench.net.rings]
        self.errors = [os.eventfd(0, os.EFD_NONBLOCK) for _ in bench.net.rings]
        self.drivers: dict[int, Driver] = {}
        bench.serve()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
        for descriptor in (*self.kicks, *self.calls, *self.errors):
            os.close(descriptor)
        self.bench.serve()

    # Messages

    def say_raw(self, data: bytes, descriptors: list[int] | None = None) -> None:
        """Send bytes; the back end takes them, or has hung up."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.socket, [data], descriptors or [])
        self.bench.serve()

    def say(self, number: Request, payload: bytes = b"", descriptors: list[int] | None = None) -> None:
        """Send a request that has no answer."""
        self.say_raw(request(number, payload), descriptors)

    def ask(
        self, number: Request, payload: bytes = b"", descriptors: list[int] | None = None, need: bool = False
    ) -> Told:
        """Send a request that has an answer, or is to have one; return it."""
        self.say_raw(request(number, payload, need_reply=need), descriptors)
        return self.hear(number)

    def hear(self, number: Request) -> Told:
        """Return the answer to a request."""
        data, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 8)
        header = spec.HEADER.unpack(data)
        assert (header["request"], spec.FLAGS_REPLY.get(header["flags"])) == (number, 1)
        assert len(data) == spec.HEADER.size + header["size"]
        return Told(data[spec.HEADER.size :], list(descriptors))

    @property
    def refused(self) -> bool:
        """The back end hung up."""
        try:
            return self.socket.recv(1, socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    # The way up

    def negotiate(self, features: int = FEATURES, protocol: int = PROTOCOL) -> None:
        """Say what is wanted."""
        self.say(Request.SET_OWNER)
        self.say(Request.SET_PROTOCOL_FEATURES, spec.U64.pack(value=protocol))
        self.say(Request.SET_FEATURES, spec.U64.pack(value=features))

    def share(self) -> None:
        """Share the memory as one region."""
        self.say(Request.SET_MEM_TABLE, *region_table((GPA, MEMORY_BYTES, UVA, 0, self.descriptor)))

    def ring(self, index: int, features: int = FEATURES, base: int | None = None, size: int = SIZE) -> Driver:
        """Lay a ring out, start and enable it; return its driver. The rings are at fixed places."""
        driver = self.lay_out(index, features, size)
        packed = features >> virtio.F_RING_PACKED & 1
        self.announce(index, packed=bool(packed), base=0x8000 * packed if base is None else base, size=size)
        return driver

    def lay_out(self, index: int, features: int = FEATURES, size: int = SIZE) -> Driver:
        """Make the driver of a ring."""
        packed = bool(features >> virtio.F_RING_PACKED & 1)
        start = index * _QUEUE_BYTES
        desc, avail, used = (GPA + part for part in _parts(packed, start, size))
        slots = start + 0x2000
        pinned = Pinned(self.memory.bytes_view()[slots : slots + size * SLOT_BYTES])
        kind = PackedDriver if packed else SplitDriver
        driver = kind(
            self.memory, GPA, size, desc, avail, used, pinned, GPA + slots, SLOT_BYTES,
            index % 2 == RX,
            event_idx=bool(features >> virtio.F_EVENT_IDX & 1),
            in_order=bool(features >> virtio.F_IN_ORDER & 1),
        )  # fmt: skip
        self.drivers[index] = driver
        return driver

    def announce(self, index: int, *, packed: bool, base: int, size: int = SIZE, flags: int = 0) -> None:
        """Say where a ring is, start and enable it."""
        self.say(Request.SET_VRING_NUM, state(index, size))
        self.say(Request.SET_VRING_BASE, state(index, base))
        self.address(index, packed=packed, size=size, flags=flags)
        self.say(Request.SET_VRING_KICK, spec.U64.pack(value=index), [self.kicks[index]])
        self.say(Request.SET_VRING_CALL, spec.U64.pack(value=index), [self.calls[index]])
        self.say(Request.SET_VRING_ERR, spec.U64.pack(value=index), [self.errors[index]])
        self.say(Request.SET_VRING_ENABLE, state(index, 1))

    def address(self, index: int, *, packed: bool = False, size: int = SIZE, flags: int = 0) -> None:
        """Say where the parts of a ring are."""
        desc, avail, used = _parts(packed, index * _QUEUE_BYTES, size)
        self.say(
            Request.SET_VRING_ADDR,
            spec.VRING_ADDR.pack(
                index=index, flags=flags, desc=UVA + desc, avail=UVA + avail, used=UVA + used, log=GPA + used
            ),
        )

    def up(self, features: int = FEATURES) -> None:
        """Come up with one pair of rings."""
        self.negotiate(features)
        self.share()
        self.ring(RX, features)
        self.ring(TX, features)
        self.drivers[RX].post_all()

    # Frames

    def send(self, *frames: bytes) -> bool:
        """Send frames; return whether the device wants a kick."""
        driver, burst = self.drivers[TX], Burst()
        assert driver.reserve(burst, len(frames)) == len(frames)
        fill(burst, frames)
        return driver.send(burst)

    def received(self) -> list[bytes]:
        """Take every frame that has come and post its buffer again."""
        driver, burst = self.drivers[RX], Burst()
        frames: list[bytes] = []
        while driver.collect(burst):
            frames += [burst.frame_bytes(i) for i in range(len(burst))]
            driver.post(burst)
        return frames


def state(index: int, num: int) -> bytes:
    """Return a vring state description."""
    return spec.VRING_STATE.pack(index=index, num=num)


def region_table(*regions: tuple[int, int, int, int, int]) -> tuple[bytes, list[int]]:
    """Return the payload of SET_MEM_TABLE and its descriptors: (gpa, size, uva, offset, descriptor) each."""
    payload = spec.REGIONS_HEADER.pack(count=len(regions))
    for gpa, size, uva, offset, _ in regions:
        payload += spec.REGION.pack(gpa=gpa, size=size, uva=uva, mmap_offset=offset)
    return payload, [region[-1] for region in regions]


def single_region(gpa: int, size: int, uva: int, offset: int = 0) -> bytes:
    """Return the payload of ADD_MEM_REG and REM_MEM_REG."""
    return bytes(spec.SINGLE_REGION_PADDING_BYTES) + spec.REGION.pack(
        gpa=gpa, size=size, uva=uva, mmap_offset=offset
    )


def frame(content: int, length: int = 60) -> bytes:
    """Return a frame with this byte in it."""
    return (b"\xff" * 6 + MAC + b"\x08\x00" + bytes([content])).ljust(length, b"\0")


def _parts(packed: bool, start: int, size: int) -> tuple[int, int, int]:
    """Return descriptors, driver's and device's part, in the order of the standard."""
    return virtio.packed_parts(start, size) if packed else virtio.split_parts(start, size)
