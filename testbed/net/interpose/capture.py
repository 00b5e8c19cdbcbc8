"""Writes frames to a pcapng file or pipe as they pass.

Reference: `testbed.spec.pcapng`. One interface a file, named as the NIC; times are those of a frame's burst,
in nanoseconds since the epoch; the direction is seen from the guest: what it sends is outbound. Blocks are
made natively in a buffer of `BUFFER_BYTES` and written when it is full and every `FLUSH_NS`. A file makes
the vmm wait; a pipe does not: what its reader is too slow for is missed and counted. Not modelled: snap
lengths, several interfaces in one file.
"""

import os
import time
from collections.abc import Callable
from typing import Final

from testbed.errors import ConfigError
from testbed.native import BpfProgram, Burst, PcapngBuffer
from testbed.net.interpose.call import Report
from testbed.net.interpose.chain import Direction
from testbed.net.interpose.counts import PortCounts
from testbed.spec import pcapng
from testbed.spec.virtio_net import FRAME_BYTES_MAX

BUFFER_BYTES: Final = 1 << 18
FLUSH_NS: Final = 50_000_000
UNLIMITED: Final = (1 << 64) - 1
_APPLICATION: Final = "virtbed"
_FLAGS: Final = {"tx": pcapng.EPB_OUTBOUND, "rx": pcapng.EPB_INBOUND}


def option(code: int, value: bytes) -> bytes:
    """Return an option of a block, padded."""
    return pcapng.OPTION.pack(code=code, length=len(value)) + value + bytes(-len(value) % pcapng.PADDED_TO)


def _block(record_bytes: Callable[[int], bytes], head_bytes: int, options: bytes) -> bytes:
    options += pcapng.OPTION.pack(code=pcapng.OPT_END)
    length = head_bytes + len(options) + pcapng.LENGTH_BYTES
    return record_bytes(length) + options + length.to_bytes(pcapng.LENGTH_BYTES, "little")


def header(interface: str) -> bytes:
    """Return what a capture of one interface begins with: section header and interface description."""

    def section(length: int) -> bytes:
        return pcapng.SHB.pack(
            type=pcapng.TYPE_SHB,
            length=length,
            magic=pcapng.BYTE_ORDER_MAGIC,
            major=pcapng.VERSION_MAJOR,
            minor=pcapng.VERSION_MINOR,
            section_length=pcapng.SECTION_LENGTH_UNKNOWN,
        )

    def description(length: int) -> bytes:
        return pcapng.IDB.pack(
            type=pcapng.TYPE_IDB,
            length=length,
            link_type=pcapng.LINK_ETHERNET,
            snap_length=FRAME_BYTES_MAX,
        )

    written_by = option(pcapng.SHB_USERAPPL, _APPLICATION.encode())
    named = option(pcapng.IF_NAME, interface.encode()) + option(pcapng.IF_TSRESOL, bytes([pcapng.TSRESOL_NS]))
    return _block(section, pcapng.SHB.size, written_by) + _block(description, pcapng.IDB.size, named)


class Capture:
    """A capture of one NIC, from the time it is made until `close`, its limit or an error.

    Raises ConfigError where the file cannot be written.
    """

    def __init__(
        self,
        path: str,
        interface: str,
        counts: PortCounts,
        report: Report,
        program: BpfProgram | None = None,
        limit: int = 0,
        times: tuple[Callable[[], int], Callable[[], int]] = (time.time_ns, time.monotonic_ns),
    ) -> None:
        """Take frames that match `program`, at most `limit` (0: any number)."""
        self.path, self.frames, self.missed, self.error = path, 0, 0, ""
        self._counts, self._report = counts, report
        self._limit = limit or UNLIMITED
        self._now_ns, self._clock = times
        self._buffer = PcapngBuffer(BUFFER_BYTES, program)
        self._due_ns: int | None = None
        self._file = _open(path)
        self._buffer.put(header(interface))
        self.flush()

    @property
    def ended(self) -> bool:
        """It takes no more frames: closed, at its limit, or broken."""
        return self._file < 0 or self.frames >= self._limit

    @property
    def due_ns(self) -> int | None:
        """When what it has must be written, None where nothing waits."""
        return self._due_ns

    def apply(self, burst: Burst, direction: Direction) -> None:
        """Take the frames that are present and match."""
        if self.ended:
            return
        time_ns, flags, first = self._now_ns(), _FLAGS[direction], 0
        while first < len(burst) and not self.ended:
            reached, taken = self._buffer.append(burst, first, self._limit - self.frames, time_ns, flags)
            self._took(taken)
            if reached < len(burst) and not self._write():
                self._miss(burst, reached)
                break
            first = reached
        if self._buffer.used and self._due_ns is None:
            self._due_ns = self._clock() + FLUSH_NS

    def flush(self) -> None:
        """Write what waits, as far as the file takes it."""
        self._write()
        self._due_ns = self._clock() + FLUSH_NS if self._buffer.used and self._file >= 0 else None

    def close(self) -> None:
        """Write what waits and close the file; a pipe gets what it has room for."""
        self._write()
        self._shut()

    def _took(self, frames: int) -> None:
        self.frames += frames
        self._counts.add("frames_captured", frames)

    def _miss(self, burst: Burst, first: int) -> None:
        missed = sum(index >= first for index in burst.present())
        self.missed += missed
        self._counts.add("captures_missed", missed)

    def _write(self) -> bool:
        """Write what the file takes now; say whether that was anything."""
        if self._file < 0 or not self._buffer.used:
            return False
        written = 0
        try:
            written = os.write(self._file, self._buffer.pending())
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = f"{self.path}: {error.strerror}"
            self._shut()
            self._report("capture_error", self.error)
            return False
        self._buffer.written(written)
        return written > 0

    def _shut(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._due_ns = -1, None
        self._buffer.written(self._buffer.used)


def _open(path: str) -> int:
    # Without O_NONBLOCK a pipe that nobody reads would stop the vmm.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o644)
    except OSError as error:
        raise ConfigError(f"capture file {path} cannot be written: {error.strerror}") from error
