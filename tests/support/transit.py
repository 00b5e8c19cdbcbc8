"""Frames of workloads on their way: made by native sources, ill-treated by a path, taken by an inspector.

`Mischief` loses, doubles, reorders and corrupts frames and knows how many of each there are: the oracle of
what a sink counts.
"""

import random
from array import array
from collections.abc import Sequence
from itertools import accumulate

from testbed.native import Burst, FlowSink, FlowSource, FrameStore, Inspector, ReplaySource, frame_digest
from testbed.spec.flow import MAGIC_DATA, TAG_OFFSET
from tests.support.ring_pair import SPLIT, Rig, Setup, contents

SOURCE_MAC = b"\x02\0\0\0\0\1"
HEADERS = b"\x02\0\0\0\0\2" + SOURCE_MAC + b"\x08\0" + bytes(range(28))


class Slots:
    """Buffers to fill: a transmit queue that nobody reads."""

    def __init__(self, slot_bytes: int = 2048) -> None:
        self._rig = Rig(Setup(SPLIT, 256, slot_bytes=slot_bytes + 12))
        self._driver = self._rig.native_driver()

    def frames(self, source: FlowSource | ReplaySource, count: int) -> list[bytes]:
        """Return the next frames of a source."""
        found: list[bytes] = []
        while len(found) < count:
            burst = Burst()
            self._driver.reserve(burst, min(256, count - len(found)))
            source.fill(burst)
            found += contents(burst)
            self._driver.release(burst)
        return found


def generated(
    count: int, sizes: Sequence[int] = (60,), flow: int = 1, magic: int = MAGIC_DATA
) -> list[bytes]:
    source = FlowSource(flow, magic, sizes, [HEADERS] * len(sizes))
    return Slots(max(sizes)).frames(source, count)


def inspect(inspector: Inspector, frames: Sequence[bytes], now_ns: int = 0) -> list[int]:
    """Let frames arrive; return the sums of (data, requests, replies, foreign)."""
    totals = [0, 0, 0, 0]
    store = FrameStore()
    for start in range(0, len(frames), 256):
        store.load(list(frames[start : start + 256]))
        totals = [a + b for a, b in zip(totals, inspector.inspect(store, now_ns), strict=True)]
    return totals


def counts(sink: FlowSink) -> tuple[int, int, int, int]:
    return sink.received, sink.reordered, sink.duplicated, sink.corrupted


class Mischief:
    """What a bad path does to frames, and the count of it.

    The oracle: a frame is late where a later one arrived before it, double where it arrived before.
    """

    def __init__(self, rng: random.Random, frames: Sequence[bytes]) -> None:
        self._rng = rng
        self.order = list(range(len(frames)))
        self.corrupt: set[int] = set()
        """Positions of what arrives."""

    def lose(self) -> None:
        lost = self._rng.sample(self.order, len(self.order) // 10)
        self.order = [n for n in self.order if n not in set(lost)]

    def double(self) -> None:
        for _ in range(len(self.order) // 10):
            self.order.insert(self._rng.randrange(len(self.order) + 1), self._rng.choice(self.order))

    def shuffle(self) -> None:
        reach = self._rng.choice((2, 10, 1000))
        self.order = [
            n for _, n in sorted((i + self._rng.random() * reach, n) for i, n in enumerate(self.order))
        ]

    def flip(self) -> None:
        self.corrupt = set(self._rng.sample(range(len(self.order)), len(self.order) // 10))

    def arriving(self, frames: Sequence[bytes]) -> list[bytes]:
        """Return what arrives; bits are flipped anywhere but in what says whose frame it is."""
        arriving = [bytearray(frames[n]) for n in self.order]
        for position in self.corrupt:
            frame = arriving[position]
            where = self._rng.choice([i for i in range(len(frame)) if not TAG_OFFSET <= i < TAG_OFFSET + 6])
            frame[where] ^= 1 << self._rng.randrange(8)
        return [bytes(f) for f in arriving]

    def expected(self) -> tuple[int, int, int, int]:
        """Return received, reordered, duplicated, corrupted."""
        seen: set[int] = set()
        reordered = duplicated = 0
        for position, n in enumerate(self.order):
            if position in self.corrupt:
                continue
            if n in seen:
                duplicated += 1
            else:
                reordered += bool(seen) and n < max(seen)
                seen.add(n)
        return len(seen), reordered, duplicated, len(self.corrupt)


def replay(frames: Sequence[bytes]) -> ReplaySource:
    offsets = array("I", accumulate((len(f) for f in frames), initial=0))
    return ReplaySource(b"".join(frames), offsets.tobytes())


def captured(rng: random.Random, count: int, alike: float = 0.0) -> list[bytes]:
    """Return a capture; `alike`: the share of frames that equal an earlier one."""
    frames: list[bytes] = []
    for _ in range(count):
        if frames and rng.random() < alike:
            frames.append(rng.choice(frames))
        else:
            frames.append(b"\xff" * 6 + SOURCE_MAC + rng.randbytes(rng.randint(10, 200)))
    return frames


def replay_sink(frames: Sequence[bytes], loops: int = 1) -> tuple[Inspector, FlowSink]:
    digests = array("I", map(frame_digest, frames)).tobytes()
    sink = FlowSink(9, 0, digests=digests, total=len(frames) * loops, source_mac=SOURCE_MAC)
    inspector = Inspector()
    inspector.add(sink)
    return inspector, sink
