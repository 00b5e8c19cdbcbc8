"""DMA requests between two bare processes: one posts them as a device does, one translates and copies as an
IOMMU does; nothing else runs in either.

Reference: testbed/native/dma_serve.h. Run as a program (`python -m launcher.peers.dma_pair`) this is one of
the two. Not modelled: refusals, MSIs; between processes every translation is in the cache.
"""

import argparse
import mmap
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from launcher import prctl
from launcher.peers.crew import crew
from testbed.address import BLOCK_SIZE_BYTES, PAGE_SIZE_BYTES, align_up
from testbed.memory.guest import GuestMemory
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.segment import Segment
from testbed.memory.tables import TableBuilder
from testbed.memory.walk import Stage
from testbed.native import DmaRequester, DmaServer, HostMap, Iotlb, Pinned, SharedWords
from testbed.spec import dma_request as d
from testbed.spec import page_table as pt

SLOTS: Final = 1024
STREAM: Final = 1
IOVA: Final = 0x4000_0000
HPA: Final = 0x100_0000_0000
TURN: Final = 1024
_GPA: Final = 0x100_0000
_TABLES_BYTES: Final = 2 * BLOCK_SIZE_BYTES
FRAME_BYTES_MAX: Final = 2048
"""Between the beginnings of two requests' data."""
_RING_BYTES: Final = align_up(d.ring_bytes(SLOTS), PAGE_SIZE_BYTES)
_STOP: Final = _RING_BYTES
_DEVICE_MEMORY: Final = _RING_BYTES + PAGE_SIZE_BYTES
_DEVICE_BYTES: Final = SLOTS * FRAME_BYTES_MAX
_RAM: Final = align_up(_DEVICE_MEMORY + _DEVICE_BYTES, BLOCK_SIZE_BYTES)
SHARED_BYTES: Final = _RAM + BLOCK_SIZE_BYTES
_COUNT_MODULUS: Final = 1 << 32
ROLES: Final = ("iommu", "device")


@dataclass(frozen=True)
class Shared:
    """The memory of both processes."""

    memory: mmap.mmap

    @property
    def ring(self) -> Pinned:
        """The ring and the word that says stop."""
        return Pinned(memoryview(self.memory)[:_DEVICE_MEMORY])

    def requester(self) -> DmaRequester:
        """Return the device's side."""
        return DmaRequester(self.ring, 0, SLOTS, STREAM)

    def server(self) -> DmaServer:
        """Return the IOMMU's side, its cache filled."""
        whole = memoryview(self.memory)
        cache, host = Iotlb(), HostMap()
        host.add(HPA, Pinned(whole[_RAM:]))
        context = cache.add_context(STREAM, None, 0, 0)
        assert context is not None
        permissions = pt.PERMISSION_READ | pt.PERMISSION_WRITE
        cache.fill(context, IOVA, HPA, BLOCK_SIZE_BYTES, permissions, False, 0)
        buffer = Pinned(whole[_DEVICE_MEMORY:_RAM])
        return DmaServer(self.ring, 0, SLOTS, STREAM, buffer, host, cache)

    @property
    def completed(self) -> int:
        """How many requests were dealt with, modulo 2 to the power of 32."""
        return SharedWords(self.ring).load32(d.DMA_RING_HEAD.offset("completed"))

    def stop(self) -> None:
        """Have both processes end."""
        SharedWords(self.ring).store32(_STOP, 1)


def fill(requester: DmaRequester, frame_bytes: int) -> None:
    """Post a read of a frame into every slot."""
    for slot in range(SLOTS):
        at = slot * FRAME_BYTES_MAX % BLOCK_SIZE_BYTES
        assert requester.post(d.KIND_READ, IOVA + at, frame_bytes, slot * FRAME_BYTES_MAX) is not None


def serve_ns(frame_bytes: int, rounds: int) -> float:
    """Return the time of a request served in this process, copy included, as the least of many rounds."""
    shared = Shared(mmap.mmap(-1, SHARED_BYTES))
    requester, server = shared.requester(), shared.server()
    fill(requester, frame_bytes)
    spent: list[float] = []
    for _ in range(rounds):
        requester.submit()
        begun_ns = time.perf_counter_ns()
        done, _ = server.serve(SLOTS)
        spent.append((time.perf_counter_ns() - begun_ns) / done)
        assert requester.completed is not None
        requester.repeat(SLOTS)
    return min(spent)


def hit_ns(frame_bytes: int, rounds: int) -> float:
    """Return the time of a translation that is cached, in bursts, as the least of many rounds."""
    cache = Iotlb()
    context = cache.add_context(STREAM, None, 0, 0)
    assert context is not None
    cache.fill(context, IOVA, HPA, BLOCK_SIZE_BYTES, pt.PERMISSION_READ, False, 0)
    rows = b"".join(
        d.DMA_REQUEST.pack(iova=IOVA + at, length=frame_bytes, stream=STREAM, substream=d.NO_SUBSTREAM)
        for at in range(0, d.BURST_MAX * FRAME_BYTES_MAX, FRAME_BYTES_MAX)
    )
    requests, pieces = Pinned(rows, False), Pinned(bytearray(2 * d.BURST_MAX * d.DMA_PIECE.size))
    spent = []
    for _ in range(rounds):
        begun_ns = time.perf_counter_ns()
        done, _, _ = cache.translate(requests, 0, d.BURST_MAX, pieces)
        spent.append((time.perf_counter_ns() - begun_ns) / done)
    return min(spent)


def miss_ns(frame_bytes: int, rounds: int) -> float:
    """Return the time of a translation that is not cached, in bursts, as the least of many rounds.

    Each request is for another page, found by a walk of stage 1 whose descriptors are found by walks of
    stage 2.
    """
    cache = _nested_cache()
    rows = b"".join(
        d.DMA_REQUEST.pack(iova=IOVA + at, length=frame_bytes, stream=STREAM, substream=d.NO_SUBSTREAM)
        for at in range(0, d.BURST_MAX * PAGE_SIZE_BYTES, PAGE_SIZE_BYTES)
    )
    requests, pieces = Pinned(rows, False), Pinned(bytearray(2 * d.BURST_MAX * d.DMA_PIECE.size))
    spent = []
    for _ in range(rounds):
        cache.invalidate(None, None, True, 0, 1 << pt.INPUT_BITS_MAX, True, True)
        begun_ns, missed = time.perf_counter_ns(), cache.misses
        done, _, _ = cache.translate(requests, 0, d.BURST_MAX, pieces)
        spent.append((time.perf_counter_ns() - begun_ns) / done)
        assert cache.misses - missed == d.BURST_MAX
    return min(spent)


def _nested_cache() -> Iotlb:
    """Return a cache whose misses are walked: 4 KiB pages at both stages, with 4 levels each."""
    segment = Segment("tables", _TABLES_BYTES, HPA, bytearray(_TABLES_BYTES))
    memory = HostMemory([segment])
    half, pages = _TABLES_BYTES // 2, d.BURST_MAX * PAGE_SIZE_BYTES
    second = TableBuilder(memory, FrameAllocator(memory, HPA, half), 2)
    for at in range(0, pages + half, PAGE_SIZE_BYTES):
        second.map(_GPA + at, HPA + half + at % half, PAGE_SIZE_BYTES)
    guest = GuestMemory(memory, second.root)
    first = TableBuilder(guest, FrameAllocator(guest, _GPA, half), 1)
    first.map(IOVA, _GPA, pages)
    cache = Iotlb()
    cache.walk_in(memory.host_map)
    context = cache.add_context(STREAM, None, 0, 0)
    assert context is not None
    stages = Stage(first.root), Stage(second.root)
    cache.set_tables(context, True, stages[0], None, stages[1], pt.INPUT_BITS_MAX)
    return cache


def requests_per_second(frame_bytes: int, seconds: float) -> float:
    """Return the rate between two processes. Raises MachineError where nothing moves."""
    descriptor = os.memfd_create("virtbed-dma-pair", 0)
    try:
        os.ftruncate(descriptor, SHARED_BYTES)
        shared = Shared(mmap.mmap(descriptor, SHARED_BYTES))
        commands = [_command(descriptor, frame_bytes, role) for role in ROLES]
        with crew("the DMA ring", commands, descriptor, shared.stop) as ours:
            ours.until_first(lambda: shared.completed, "request")
            return ours.rate(lambda: shared.completed, seconds, _COUNT_MODULUS)
    finally:
        os.close(descriptor)


def _command(descriptor: int, frame_bytes: int, role: str) -> Sequence[str]:
    numbers = (descriptor, os.getpid(), frame_bytes)
    return [sys.executable, "-P", "-m", "launcher.peers.dma_pair", *map(str, numbers), role]


def _be_iommu(shared: Shared, words: SharedWords) -> None:
    server = shared.server()
    while not words.load32(_STOP):
        done, _ = server.serve(TURN)
        if not done:
            os.sched_yield()


def _be_device(shared: Shared, words: SharedWords, frame_bytes: int) -> None:
    requester = shared.requester()
    fill(requester, frame_bytes)
    requester.submit()
    while not words.load32(_STOP):
        assert requester.completed is not None
        if requester.repeat(SLOTS):
            requester.submit()
        else:
            os.sched_yield()


def main(arguments: Sequence[str] | None = None) -> None:
    """Be one of the two processes until their maker says stop or ends."""
    parser = argparse.ArgumentParser()
    for name in ("descriptor", "parent", "frame_bytes"):
        parser.add_argument(name, type=int)
    parser.add_argument("role", choices=ROLES)
    told = parser.parse_args(arguments)
    prctl.die_with_parent(told.parent)
    prctl.set_name("dma-pair")
    shared = Shared(mmap.mmap(told.descriptor, SHARED_BYTES))
    words = SharedWords(shared.ring)
    if told.role == "iommu":
        _be_iommu(shared, words)
    else:
        _be_device(shared, words, told.frame_bytes)


if __name__ == "__main__":
    main()
