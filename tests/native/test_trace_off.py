"""What tracing costs while it is off: looks at its flag, which a frame that is forwarded does not make.

Looks are counted by the processor, so the figure is the same on every machine.
"""

import ctypes
import errno
from collections.abc import Iterator

import pytest

from testbed.native import Burst, MacTable, Pinned, trace
from testbed.net.mac import parse_mac
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.spec.trace import HEADER, RECORD, RECORDS_OFFSET
from testbed.spec.virtio_net import FRAME_BYTES_MAX
from tests.support.ring_pair import PACKED, SPLIT, Rig, Setup, fill
from tests.support.watchpoint import Watchpoint

SIZE = 256
LOOKS_MAX = 12
"""One or two for each step: send, fetch, classify, deliver, publish, complete, collect, post."""
SENDER, RECEIVER = "02:00:00:00:00:01", "02:00:00:00:00:02"
FRAME = bytes.fromhex("020000000002" "020000000001" "0800") + bytes(46)  # fmt: skip


@pytest.fixture
def flag() -> Iterator[int]:
    """Where the flag of a ring is that is attached, and off."""
    page = bytearray(RECORDS_OFFSET + 16 * RECORD.size)
    trace.attach(Pinned(page))
    yield ctypes.addressof(ctypes.c_char.from_buffer(page)) + HEADER.offset("enabled")
    trace.detach()


class Way:
    """From one guest's queue through a bridge into another's."""

    def __init__(self, ring_format: str) -> None:
        setups = (Setup(ring_format=ring_format, size=SIZE, device_writes=writes) for writes in (False, True))
        tx, rx = (Rig(setup) for setup in setups)
        self.sends, self.fetches = tx.native_driver(), tx.native_device()
        self.takes, self.delivers = rx.native_driver(), rx.native_device()
        self.takes.post_all()
        self.table, self.counters = MacTable(), Pinned(bytearray(PORT_COUNTERS.size))
        for port, mac in enumerate((SENDER, RECEIVER)):
            self.table.open_port(port, True)
            self.table.fix(parse_mac(mac), port)

    def forward(self, frames: int) -> int:
        """Send so many frames as one burst; return how many arrive."""
        burst = Burst()
        self.sends.reserve(burst, frames)
        fill(burst, [FRAME] * frames)
        self.sends.send(burst)
        self.fetches.fetch(burst)
        self.table.classify(burst, 0, 1, self.counters, 0, FRAME_BYTES_MAX)
        self.delivers.deliver(burst, 0, 1)
        self.delivers.publish()
        self.fetches.complete(burst)
        self.takes.collect(burst)
        self.takes.post(burst)
        return len(burst)


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
def test_a_burst_that_is_forwarded_looks_at_the_flag_a_few_times_however_many_frames_it_has(
    ring_format: str, flag: int
) -> None:
    way = Way(ring_format)
    try:
        watchpoint = Watchpoint(flag)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOSYS, errno.ENOENT):
            raise
        pytest.skip(f"the kernel allows no watchpoint: {error}")
    with watchpoint:
        for frames in (1, SIZE - 1):
            before = watchpoint.accesses
            assert way.forward(frames) == frames
            assert 0 < watchpoint.accesses - before <= LOOKS_MAX
