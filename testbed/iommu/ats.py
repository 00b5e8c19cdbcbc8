"""ATS: what an SMMU answers a device that asks for translations, and how it takes them back.

Reference: ARM IHI 0070 G.b §3.9.1 (responses), §4.5.1 (CMD_ATC_INV); PCI Express Base Specification §10
(ATS). The smallest translation unit is 4 KiB. Not modelled: split-stage ATS (IDR0.NS1ATS is 1), page
requests, execute permission, the Global bit (always 0).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from testbed.address import PAGE_SIZE_BYTES
from testbed.spec import smmu_queues as q
from testbed.spec.dma_area import INVALIDATE_TAG_BITS

STU_BYTES: Final = PAGE_SIZE_BYTES
INVALIDATE_TIMEOUT_NS: Final = 90_000_000_000
_TAGS: Final = 1 << INVALIDATE_TAG_BITS
"""PCI Express §10.3: a device has 90 seconds to complete an invalidation."""


class AtsStatus(Enum):
    """Completion status of a Translation Request."""

    SUCCESS = "successful completion"
    UNSUPPORTED_REQUEST = "unsupported request"
    COMPLETER_ABORT = "completer abort"


@dataclass(frozen=True, slots=True)
class AtsEntry:
    """One translation of a completion; without read and write it says that there is no access."""

    output: int
    """Host physical address of the block, aligned to its size."""
    size_bytes: int
    read: bool
    write: bool


@dataclass(frozen=True, slots=True)
class AtsCompletion:
    """The answer to a Translation Request."""

    status: AtsStatus
    entries: tuple[AtsEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class AtsInvalidation:
    """An Invalidation Request to one device; to be acknowledged by its tag once no transaction uses what it
    names.
    """

    tag: int
    stream: int
    substream: int | None
    address: int
    size_bytes: int
    """Naturally aligned around the address; 2 to the power of 64 is everything."""
    is_global: bool


def decode_invalidation(command: int, tag: int) -> AtsInvalidation:
    """Return the request that a CMD_ATC_INV stands for."""
    size_bits = min(q.ATC_SIZE.get(command), q.ATC_SIZE_ALL)
    size_bytes = PAGE_SIZE_BYTES << size_bits
    address = (q.ATC_ADDRESS.get(command) * PAGE_SIZE_BYTES) & -size_bytes
    substream = q.COMMAND_SUBSTREAM.get(command) if q.COMMAND_SSV.get(command) else None
    is_global = substream is not None and bool(q.ATC_GLOBAL.get(command))
    return AtsInvalidation(tag, q.COMMAND_STREAM.get(command), substream, address, size_bytes, is_global)


class AtsInvalidations:
    """Invalidations that devices have not acknowledged yet. A CMD_SYNC may complete only when there are
    none.

    `send` delivers a request to its device, False where no device with ATS answers to the stream (which
    counts as done, §3.9.1.5).
    """

    def __init__(self, send: Callable[[AtsInvalidation], bool], clock_ns: Callable[[], int]) -> None:
        self._send, self._clock_ns = send, clock_ns
        self._outstanding: dict[int, tuple[int, int]] = {}
        self._tag = 0
        self._lost = False

    def __len__(self) -> int:
        return len(self._outstanding)

    def issue(self, command: int) -> None:
        """Send the invalidation of a CMD_ATC_INV."""
        self._tag = tag = (self._tag + 1) % _TAGS
        # Before it is sent: a device in the same process may acknowledge at once.
        invalidation = decode_invalidation(command, tag)
        self._outstanding[tag] = (self._clock_ns() + INVALIDATE_TIMEOUT_NS, invalidation.stream)
        if not self._send(invalidation):
            self.acknowledge(tag)

    def acknowledge(self, tag: int, stream: int | None = None) -> bool:
        """Take a device's completion; False where the tag is not outstanding, or not with that stream (a
        device that answers twice, or for another, harms nobody).
        """
        known = self._outstanding.get(tag)
        if known is None or stream not in (None, known[1]):
            return False
        del self._outstanding[tag]
        return True

    def expire(self, now_ns: int) -> None:
        """Give up what is overdue; the next CMD_SYNC reports it."""
        for tag in [tag for tag, (deadline, _) in self._outstanding.items() if deadline <= now_ns]:
            del self._outstanding[tag]
            self._lost = True

    def forget_stream(self, stream: int) -> None:
        """The device behind a stream is gone: it uses nothing any more and will never answer."""
        for tag in [tag for tag, (_, owner) in self._outstanding.items() if owner == stream]:
            del self._outstanding[tag]

    def take_loss(self) -> bool:
        """Tell once whether an invalidation was given up since the last time."""
        lost, self._lost = self._lost, False
        return lost
