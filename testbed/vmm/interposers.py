"""The interposers of one vmm: chains built from the plan, and captures that come and go while it runs.

Not modelled: interposers other than captures that come or go while it runs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from testbed.deadline import earliest
from testbed.errors import ConfigError
from testbed.messages.control import CaptureStarted, CaptureStopped, FromProcess, StartCapture
from testbed.messages.entries import (
    CallEntry,
    CaptureEntry,
    Direction,
    FilterEntry,
    InterposeEntry,
    MirrorEntry,
    RateEntry,
    ServedEntry,
)
from testbed.native import Burst
from testbed.net.bridge import Attachment, Bridge
from testbed.net.interpose import chain
from testbed.net.interpose.call import Call, Report, load_function
from testbed.net.interpose.capture import Capture
from testbed.net.interpose.chain import DIRECTIONS, Chain
from testbed.net.interpose.counts import PortCounts
from testbed.net.interpose.filter import Filter, compile_filter
from testbed.net.interpose.mirror import Mirror
from testbed.net.interpose.rate import Rate


@dataclass
class _Port:
    """One NIC on the bridge."""

    name: str
    attachment: Attachment
    chain: Chain
    counts: PortCounts
    report: Report


class Interposers:
    """The chains of every NIC on one bridge; `send` speaks to the launcher."""

    def __init__(
        self,
        bridge: Bridge,
        send: Callable[[FromProcess], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._bridge, self._send, self._clock = bridge, send, clock
        self._ports: dict[str, _Port] = {}
        self._captures: list[Capture] = []
        """Those of the plan."""
        self._live: dict[int, tuple[_Port, Capture]] = {}
        """Those that were asked for while it runs."""

    def add(self, nic: ServedEntry, attachment: Attachment, report: Report) -> None:
        """Give a NIC its chain.

        Raises ConfigError where a capture's file cannot be written or a function cannot be loaded.
        """
        counts = PortCounts(attachment.counters, attachment.offset)
        port = self._ports[nic.name] = _Port(nic.name, attachment, Chain(), counts, report)
        for entry in nic.interpose:
            self._extend(port, entry)
        self._refresh(port)

    def start_capture(self, message: StartCapture) -> None:
        """Begin a capture and say so, or say why not."""
        refused = ""
        try:
            port = self._port(message.nic)
            program = compile_filter(message.expression) if message.expression else None
            capture = Capture(message.file, port.name, port.counts, port.report, program, message.count)
        except ConfigError as error:
            refused = str(error)
        else:
            port.chain.add_at_guest(capture, DIRECTIONS)
            self._refresh(port)
            self._live[message.capture_id] = port, capture
        self._send(CaptureStarted(capture_id=message.capture_id, refused=refused))

    def stop_capture(self, capture_id: int) -> None:
        """End a capture and say what it has; nothing happens where it has ended."""
        if capture_id not in self._live:
            return
        port, capture = self._live.pop(capture_id)
        port.chain.remove(capture)
        self._refresh(port)
        capture.close()
        self._send(
            CaptureStopped(
                capture_id=capture_id, frames=capture.frames, missed=capture.missed, error=capture.error
            )
        )

    def tick(self) -> None:
        """Write what is due; end the captures that have what they want."""
        if not (self._captures or self._live):
            return
        now_ns = self._clock()
        for capture in self._all():
            if capture.due_ns is not None and now_ns >= capture.due_ns:
                capture.flush()
        for capture_id, (_, capture) in tuple(self._live.items()):
            if capture.ended:
                self.stop_capture(capture_id)

    def deadline_ns(self) -> int | None:
        """Return when `tick` must run even if nothing happens, or None."""
        if any(capture.ended for _, capture in self._live.values()):
            return self._clock()
        return earliest(c.due_ns for c in self._all())

    def close(self) -> None:
        """End every capture: its file is whole."""
        for capture_id in tuple(self._live):
            self.stop_capture(capture_id)
        for capture in self._captures:
            capture.close()

    def _all(self) -> list[Capture]:
        return [*self._captures, *(capture for _, capture in self._live.values())]

    def _port(self, name: str) -> _Port:
        if name not in self._ports:
            raise ConfigError(f"{name} is no NIC on the bridge, and the vmm sees no other's frames")
        return self._ports[name]

    def _refresh(self, port: _Port) -> None:
        """A port without interposers must not pay for them."""
        self._bridge.interpose(port.attachment, None if port.chain.empty else port.chain)

    def _extend(self, port: _Port, entry: InterposeEntry) -> None:
        directions = _directions(entry.direction)
        match entry:
            case CaptureEntry():
                capture = Capture(entry.file, port.name, port.counts, port.report)
                self._captures.append(capture)
                port.chain.add(capture, directions)
            case FilterEntry():
                program = compile_filter(entry.expression)
                port.chain.add(Filter(program, entry.drops == "matching", port.counts), directions)
            case RateEntry():
                for direction in directions:
                    port.chain.add(self._rate(port, entry), [direction])
            case MirrorEntry():
                port.chain.add(Mirror(self._copy_to(entry.to), port.counts), directions, copies=True)
            case CallEntry():
                function = load_function(entry.function, entry.directory)
                port.chain.add(Call(entry.function, function, port.counts, port.report), directions)

    def _rate(self, port: _Port, entry: RateEntry) -> Rate:
        bits, hold = entry.unit == "bits", entry.excess == "hold"
        return Rate(entry.per_second, entry.depth, bits, hold, port.counts, self._clock)

    def _copy_to(self, name: str) -> Callable[[Burst], None]:
        def copy(burst: Burst) -> None:
            # looked up late: a mirror may be built before its target
            self._bridge.mirror(burst, self._ports[name].attachment)

        return copy


def _directions(direction: Direction) -> tuple[chain.Direction, ...]:
    return DIRECTIONS if direction == "both" else (direction,)
