"""A capture on a NIC of a running topology, from the service's side: begins, lasts, ends.

Whoever asked holds the connection open for writing as long as the capture is wanted, so that one who dies
leaves nothing running. Not modelled: captures of several NICs at a time.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final

import msgspec

from launcher.problems import did_you_mean
from testbed.errors import ConfigError, PeerGone
from testbed.messages.control import CaptureStarted, CaptureStopped, StartCapture, StopCapture
from testbed.messages.entries import NicEntry, Plan, VmmEntry

if TYPE_CHECKING:
    from launcher.run import Run

_numbers: Final = itertools.count(1)


class Capture(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Write the frames of a guest's NIC to a pcapng file or pipe: `Capturing`, then `Captured` answer it."""

    nic: str
    """A guest, or GUEST.nicN."""
    file: str
    expression: str = ""
    count: int = 0
    """End after so many frames; 0: when the connection is shut down for writing."""


class Capturing(msgspec.Struct, frozen=True, tag=True):
    """Every frame from now on is captured."""

    nic: str


class Captured(msgspec.Struct, frozen=True, tag=True):
    """The capture has ended; its file is whole."""

    frames: int
    missed: int
    error: str = ""


class NotCaptured(msgspec.Struct, frozen=True, tag=True):
    """There is no capture, and why."""

    problem: str
    ended: bool = False
    """The topology ended meanwhile."""


class CaptureSession:
    """One request and its connection."""

    def __init__(self, run: Run, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._run, self._reader, self._writer = run, reader, writer
        self._end = asyncio.Event()

    def end(self) -> None:
        """Have the capture end as if it were no longer wanted: the topology is about to go down."""
        self._end.set()

    async def serve(self, request: Capture) -> None:
        """Begin the capture, say so, wait until it is no longer wanted or has ended, and say what it has."""
        try:
            vmm, nic = find_nic(self._run.plan, request.nic)
            if not nic.interposable:
                raise ConfigError(f"{nic.name} cannot be captured: {nic.hidden}")
            await self._last(vmm, nic.name, request)
        except ConfigError as error:
            await self._say(NotCaptured(error.problems[0]))
        except PeerGone as error:
            await self._say(NotCaptured(str(error), ended=True))

    async def _last(self, vmm: str, nic: str, request: Capture) -> None:
        supervisor, number = self._run.supervisor, next(_numbers)
        start = StartCapture(
            capture_id=number,
            nic=nic,
            file=request.file,
            expression=request.expression,
            count=request.count,
        )
        # asked first: a capture of few frames may be over before we hear that it has begun
        stopped = asyncio.ensure_future(supervisor.ask(vmm, None, CaptureStopped, number))
        unwanted = asyncio.ensure_future(self._reader.read())
        ending = asyncio.ensure_future(self._end.wait())
        try:
            started = await supervisor.ask(vmm, start, CaptureStarted, number)
            if started.refused:
                raise ConfigError(started.refused)
            await self._say(Capturing(nic))
            await asyncio.wait((stopped, unwanted, ending), return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                await supervisor.tell(vmm, StopCapture(capture_id=number))
            result = await stopped
            await self._say(Captured(result.frames, result.missed, result.error))
        finally:
            for task in (stopped, unwanted, ending):
                task.cancel()
            await asyncio.gather(stopped, unwanted, ending, return_exceptions=True)

    async def _say(self, reply: Capturing | Captured | NotCaptured) -> None:
        self._writer.write(msgspec.json.encode(reply) + b"\n")
        await self._writer.drain()


def find_nic(plan: Plan, name: str) -> tuple[str, NicEntry]:
    """Return the NIC that `GUEST` (its first) or `GUEST.nicN` names, and its vmm. Raises ConfigError."""
    guests = _nics_of(plan)
    guest_name, dot, _ = name.partition(".")
    if guest_name not in guests:
        hint = did_you_mean(guest_name, guests) or f"; the guests are {', '.join(list(guests)[:8])}"
        raise ConfigError(f"topology {plan.topology} has no guest {guest_name}{hint}")
    wanted = name if dot else f"{guest_name}.nic0"
    vmm, nics = guests[guest_name]
    for nic in nics:
        if nic.name == wanted:
            return vmm, nic
    there = ", ".join(nic.name for nic in nics) or "no NIC"
    raise ConfigError(f"guest {guest_name} has {there}, not {wanted}")


def _nics_of(plan: Plan) -> dict[str, tuple[str, tuple[NicEntry, ...]]]:
    """Return the vmm and the NICs of every guest, those that are not ours included."""
    found: dict[str, tuple[str, tuple[NicEntry, ...]]] = {}
    for process in plan.processes:
        if isinstance(process.entry, VmmEntry):
            found |= {guest.name: (process.name, guest.nics) for guest in process.entry.guests}
            found |= {guest.name: (process.name, (guest.nic,)) for guest in process.entry.externals}
    return found
