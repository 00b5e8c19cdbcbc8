"""Functions of devices in the hands of guests: what the hypervisor does before it gets out of the way.

Reference: design, "The three paths", passthrough; ARM IHI 0070 G.b §3.3 (stream table), §3.9.1 (ATS), §7.3
(events). An assigned function's addresses are its guest's: by the guest's own stage 2, or by a stage 1 of the
guest's and then stage 2. Its registers and the page to which it writes its MSIs are mapped at stage 2, so
that neither passes through here. What the SMMU records of a function is told to whom it belongs.

Not modelled: functions that are taken from a running guest without its driver's consent; page requests.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from testbed.address import PAGE_SIZE_BYTES
from testbed.errors import DeviceError
from testbed.memory.tables import Attributes, TableBuilder
from testbed.pci import smmu_entries as entries
from testbed.pci.smmu_driver import SmmuDriver
from testbed.pci.smmu_entries import EventRecord


class Report(Protocol):
    """Tells, once for each kind, what went wrong with whose device."""

    def __call__(self, guest: str, device: str, reason: str, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Window:
    """Part of the host's address space that a guest may reach: registers of a function, a page for MSIs."""

    gpa: int
    hpa: int
    size_bytes: int = PAGE_SIZE_BYTES


@dataclass(frozen=True, slots=True)
class Assigned:
    """A function in the hands of a guest."""

    name: str
    """`NIC.vfN`."""
    stream: int
    guest: str
    vmid: int
    stage2: TableBuilder
    ats: bool = False
    windows: tuple[Window, ...] = ()
    on_event: Callable[[EventRecord], bool] = field(default=lambda _: False)
    """Takes the events that are the guest's own to handle (faults of its stage 1); True: taken."""
    bypass: bool = False
    """It is let into all memory, by host physical addresses."""


class Assignments:
    """The functions of one host's devices that guests have."""

    def __init__(self, driver: SmmuDriver, report: Report) -> None:
        self._driver, self._report = driver, report
        self._by_stream: dict[int, Assigned] = {}
        self.events: Counter[str] = Counter()
        """Records by name."""

    def assign(self, function: Assigned) -> None:
        """Give a function to its guest: map its windows, then let its transactions in."""
        if function.stream in self._by_stream:
            owner = self._by_stream[function.stream].guest
            raise DeviceError(f"{function.name} is guest {owner}'s already; release it first")
        for window in function.windows:
            if (
                function.stage2.lookup(window.gpa) != window.hpa
            ):  # guests' functions share the page of the ITS
                function.stage2.map(window.gpa, window.hpa, window.size_bytes, Attributes(device=True))
        self._by_stream[function.stream] = function
        self._driver.set_entry(function.stream, self._stage2_entry(function))

    def nest(self, stream: int, guest_entry: int | None) -> None:
        """Translate by a guest's own stage 1 before stage 2, as the guest's STE says; None: no more."""
        function = self._by_stream[stream]
        if guest_entry is None:
            image = self._stage2_entry(function)
        else:
            image = entries.nested_entry(guest_entry, function.vmid, function.stage2.root, function.ats)
        self._set_entry(stream, image)
        self.complete((stream,))

    def block(self, stream: int) -> None:
        """Stop a function's transactions, each of which is then aborted in silence."""
        self._set_entry(stream, entries.abort_entry())
        self.complete((stream,))

    def lose(self, streams: Iterable[int]) -> None:
        """The device of these functions is gone: whatever comes in their name is aborted, and no cache of the
        device is waited for.
        """
        for stream in streams:
            if stream in self._by_stream:
                self._by_stream[stream] = replace(self._by_stream[stream], ats=False)
                self.block(stream)

    def command(self, image: int) -> None:
        """Have the SMMU do something; `complete` waits for it."""
        with self._asking("the SMMU"):
            self._driver.command(image)

    def release(self, stream: int) -> None:
        """Take a function back: first its transactions, then the windows, which others may share."""
        self.block(stream)
        del self._by_stream[stream]

    def of_guest(self, guest: str) -> Sequence[Assigned]:
        """Return the functions of a guest."""
        return [function for function in self._by_stream.values() if function.guest == guest]

    def forget_range(self, guest: str, gpa: int, length_bytes: int) -> None:
        """Return when no function of a guest can use an old translation of a range any more.

        To be called between taking a mapping out of stage 2 and using its memory for something else.
        """
        functions = self.of_guest(guest)
        if not functions:
            return
        with self._asking("the SMMU"):
            self._driver.invalidate_stage2(functions[0].vmid, gpa, length_bytes)
        self.complete(function.stream for function in functions)

    def complete(self, streams: Iterable[int]) -> None:
        """Return when invalidations asked for before are complete in the SMMU and in the devices' caches.

        A device that does not answer is reported and waited for no longer: it is gone, or will be ended.
        """
        cached = [self._by_stream[stream] for stream in streams if self._by_stream[stream].ats]
        names = ", ".join(function.name for function in cached) or "the SMMU"
        with self._asking(names):
            # the SMMU's own first: else a device could ask for an old translation again
            self._driver.sync()
            for function in cached:
                # by input address, which only without stage 1 is a guest physical one: so, everything
                self._driver.command(entries.invalidate_device(function.stream))
            if cached:
                self._driver.sync()

    def _set_entry(self, stream: int, image: int) -> None:
        with self._asking("the SMMU"):
            self._driver.set_entry(stream, image)

    @contextmanager
    def _asking(self, names: str) -> Iterator[None]:
        """Report who does not answer."""
        try:
            yield
        except DeviceError as error:
            self._report("", names, "no_answer", str(error))

    def take_events(self) -> bool:
        """Take what the SMMU recorded and tell it to whom it belongs; True: there was any."""
        events = self._driver.take_events()
        for event in events:
            self.events[event.name] += 1
            function = self._by_stream.get(event.stream)
            if function is None:
                self._report("", f"stream {event.stream:#x}", event.name, "no guest has this function")
            elif not function.on_event(event):
                self._report(function.guest, function.name, event.name, _told(event))
        return bool(events)

    @staticmethod
    def _stage2_entry(function: Assigned) -> int:
        if function.bypass:
            return entries.bypass_entry()
        return entries.stage2_entry(function.vmid, function.stage2.root, function.ats)


def _told(event: EventRecord) -> str:
    access = "write to" if event.write else "read of"
    return f"{access} I/O address {event.address:#x} was refused; no byte moved"
