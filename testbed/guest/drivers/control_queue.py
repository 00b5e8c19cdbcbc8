"""The driver's side of virtio-net's control queue: one command at a time, waited for.

Reference: virtio 1.2 §5.1.6.5; §2.7.13 and §2.8.14 (making buffers available). A command takes two
descriptors: what the device reads and the byte that it answers with. Slow on purpose: commands are rare, so
nothing here is native but the ordered stores. Not modelled: commands other than those of MQ.
"""

from collections.abc import Callable
from typing import Final

from testbed.guest.drivers.virtio_port import VirtioPort
from testbed.guest.ram import RamAllocator
from testbed.native import SharedWords
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net

Wait = Callable[[Callable[[], bool]], None]
QUEUE_SIZE: Final = 2
_COMMAND_OFFSET: Final = 2048
_STATUS_OFFSET: Final = 4092
_UNANSWERED: Final = 0xFF


class ControlQueue:
    """One control queue, split or packed; `wait` blocks until a condition holds."""

    def __init__(self, port: VirtioPort, ram: RamAllocator, features: int, index: int, wait: Wait) -> None:
        self._port, self._index, self._wait = port, index, wait
        self._packed = bool(features >> spec.F_RING_PACKED & 1)
        self._piece = ram.take(_STATUS_OFFSET + 1, "the control queue")
        self._words = SharedWords(self._piece.pinned)
        self._count = 0
        parts = (spec.packed_parts if self._packed else spec.split_parts)(self._piece.gpa, QUEUE_SIZE)
        self._avail, self._used = (part - self._piece.gpa for part in parts[1:])
        port.queue_size_max(index)
        port.set_queue(index, QUEUE_SIZE, *parts)

    def set_pairs(self, pairs: int) -> bool:
        """Ask for so many queue pairs (§5.1.6.5.5); True: the device agrees."""
        header = bytes((net.CTRL_CLASS_MQ, net.CTRL_MQ_VQ_PAIRS_SET))
        return self.command(header + net.CTRL_MQ.pack(virtqueue_pairs=pairs)) == net.CTRL_OK

    def command(self, data: bytes) -> int:
        """Give a command and return the answer."""
        view = self._piece.pinned.bytes_view()
        view[_COMMAND_OFFSET : _COMMAND_OFFSET + len(data)] = data
        view[_STATUS_OFFSET] = _UNANSWERED
        (self._offer_packed if self._packed else self._offer_split)(len(data))
        self._count += 1
        self._port.notify(self._index)
        self._wait(lambda: view[_STATUS_OFFSET] != _UNANSWERED)
        return view[_STATUS_OFFSET]

    def _offer_split(self, length_bytes: int) -> None:
        first = spec.VIRTQ_DESC.pack(
            addr=self._piece.gpa + _COMMAND_OFFSET, len=length_bytes, flags=spec.DESC_F_NEXT, next=1
        )
        second = spec.VIRTQ_DESC.pack(addr=self._piece.gpa + _STATUS_OFFSET, len=1, flags=spec.DESC_F_WRITE)
        table = first + second
        self._piece.pinned.bytes_view()[: len(table)] = table
        ring = self._avail + spec.VIRTQ_AVAIL.size
        self._words.store16(ring + 2 * (self._count % QUEUE_SIZE), 0)
        # used_event: the answer is worth an interrupt
        self._words.store16(ring + 2 * QUEUE_SIZE, self._count & 0xFFFF)
        self._words.store16(self._avail + spec.VIRTQ_AVAIL.offset("idx"), self._count + 1 & 0xFFFF)

    def _offer_packed(self, length_bytes: int) -> None:
        """A command fills the ring, so every one begins at 0 and turns the wrap counter."""
        wrap = self._count % 2 == 0
        avail = spec.DESC_F_AVAIL if wrap else spec.DESC_F_USED
        view, size = self._piece.pinned.bytes_view(), spec.PACKED_DESC.size
        second = spec.PACKED_DESC.pack(
            addr=self._piece.gpa + _STATUS_OFFSET, len=1, flags=avail | spec.DESC_F_WRITE
        )
        first = spec.PACKED_DESC.pack(addr=self._piece.gpa + _COMMAND_OFFSET, len=length_bytes)
        flags = spec.PACKED_DESC.offset("flags")
        view[size : 2 * size] = second
        view[:flags] = first[:flags]
        self._words.store16(flags, avail | spec.DESC_F_NEXT)
