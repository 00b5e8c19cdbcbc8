"""One interrupt of a running topology, from its source to the end of its handler, out of trace rings. Pure.

From an end of interrupt the way is followed back: what came before it in the same process, and over the links
of `trace_links` what caused it in another. Between the first and the last of these, the exits of the vCPU and
the wake-ups of the processes on the way belong to it, too. A source is a device, a write of ICC_SGI1R_EL1, or
the time for which a timer was set. A vCPU's thread counts as a process. Not modelled: an SGI of a vCPU to
several, of which one way is shown.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final

from launcher.explain_steps import linked
from launcher.trace_links import vcpu_of
from launcher.trace_names import Names
from testbed.observe.trace import Record
from testbed.spec import dma_request, gic
from testbed.spec import trace as events
from testbed.spec.trace import Event

SOURCES: Final = {
    "device": frozenset({events.MSI_RAISED, events.CAUSE_SET, events.EDGE, events.LINE_SET}),
    "sgi": frozenset({events.SGI_WRITTEN}),
    "timer": frozenset({events.TIMER_DUE}),
}
"""Where ways begin, by kind of interrupt."""
ANY: Final = frozenset[Event]().union(*SOURCES.values())
_LINKED: Final = frozenset({events.ACKNOWLEDGED, events.LPI_TAKEN, events.DMA_TAKEN, events.EXIT_TAKEN})
"""Whose cause is in another process."""
_LATEST_NS: Final = 20_000_000
"""An event farther back has caused something else."""
_LATE_NS_MAX: Final = 1_000_000_000
"""A timer is taken so late at most."""
_VCPU_GROUP: Final = frozenset(
    {events.EXIT_FORCED, events.MUST_EXIT, events.EXIT_OTHER, events.EXIT_TAKEN, events.EXIT_ANSWERED,
     events.ENTRY, events.VCPU_CLAIMED}
)  # fmt: skip
_WAKE_GROUP: Final = frozenset({events.BELL_SENT, events.WAKE})
_Same = Callable[[Record, Record], bool]


def _with(*names: str) -> _Same:
    """Return whether two events agree in these arguments."""
    return lambda a, b: all(a.arguments.get(name) == b.arguments.get(name) for name in names)


def _is_message(before: Record, _after: Record) -> bool:
    return before.arguments["request"] == dma_request.KIND_MSI


def _is_listed(before: Record, after: Record) -> bool:
    a, b = before.arguments, after.arguments
    return a["guest"] == b["guest"] and a["intid"] == gic.LR_VINTID.get(b["lr"])


def _of_sender(before: Record, after: Record) -> bool:
    return before.arguments["guest"] == after.arguments["source"]


_AT_ONCE: Final = frozenset({events.EDGE, events.LINE_SET, events.EXIT_OTHER})
"""What came before these was the last thing that their process did."""
_BEFORE: Final[dict[Event, tuple[tuple[Event, _Same], ...]]] = {
    events.ENDED: ((events.HANDLER, _with("intid")),),
    events.HANDLER: ((events.ACKNOWLEDGED, _with("intid")),),
    events.LIST_REGISTER: tuple(
        (source, _is_listed)
        for source in (events.EDGE, events.LINE_SET, events.SGI_PENDING, events.TIMER_ASSERTED)
    ),
    events.SGI_PENDING: ((events.EXIT_TAKEN, _of_sender),),
    events.TIMER_ASSERTED: ((events.EXIT_TAKEN, _with("guest")),),
    events.EXIT_OTHER: ((events.SGI_WRITTEN, _with()), (events.TIMER_DUE, _with())),
    events.EDGE: ((events.LPI_TAKEN, _with()),),
    events.LINE_SET: ((events.CAUSE_SET, _with()),),
    events.VPE_POSTED: ((events.ITS_VIRTUAL, _with("intid")),),
    events.ITS_VIRTUAL: ((events.DMA_TAKEN, _is_message),),
    events.ITS_PHYSICAL: ((events.DMA_TAKEN, _is_message),),
    events.DMA_POSTED: ((events.MSI_RAISED, _with("iova")),),
}
"""What came before an event in its own process: the latest of these."""


def follow(
    names: Names, records: Sequence[Record], sources: Collection[Event] = ANY, *, whole: bool = True
) -> list[Record]:
    """Return the events of the latest interrupt whose way is known to a source of these, or nothing.

    With `whole` false a way whose source is not among the events is good, too.
    """
    causes = {each.effect: each.cause for each in linked(names, records).links}
    for index in range(len(records) - 1, -1, -1):
        if records[index].event is events.ENDED:
            chain = _chain(records, causes, index)
            if records[chain[-1]].event in sources or not whole:
                return [*_deadline(records[chain[-1]]), *_with_exits(names, records, chain)]
    return []


def _deadline(source: Record) -> Iterator[Record]:
    """Yield the time for which a timer was set, where that is its source and a guest told no nonsense."""
    at_ns = source.arguments.get("at", 0)
    if source.event is events.TIMER_DUE and 0 <= source.at_ns - at_ns <= _LATE_NS_MAX:
        yield replace(source, at_ns=at_ns, event=events.TIMER_DEADLINE)


def _chain(records: Sequence[Record], causes: dict[int, int], last: int) -> list[int]:
    """Return the indexes of a way from its end back as far as it is known."""
    chain = [last]
    while True:
        index = chain[-1]
        before = causes.get(index) if records[index].event in _LINKED else _latest(records, index)
        if before is None or records[index].at_ns - records[before].at_ns > _LATEST_NS:
            return chain
        chain.append(before)


def _latest(records: Sequence[Record], index: int) -> int | None:
    record = records[index]
    wanted = dict(_BEFORE.get(record.event, ()))
    for before in range(index - 1, -1, -1):
        candidate = records[before]
        if (candidate.process, candidate.lane) != (record.process, record.lane):
            continue
        if candidate.event not in wanted:
            if record.event in _AT_ONCE:
                return None
            continue
        if wanted[candidate.event](candidate, record):
            return before
    return None


def _with_exits(names: Names, records: Sequence[Record], chain: Sequence[int]) -> list[Record]:
    """Return the events of a way with the exits of its vCPU and the wake-ups of its processes."""
    on_the_way = set(chain)
    guest = vcpu_of(records[chain[0]])
    processes = {vcpu_of(records[index]) for index in chain}

    def belongs(index: int) -> bool:
        record = records[index]
        if index in on_the_way:
            return True
        if record.event in _VCPU_GROUP:
            whose = record.arguments.get("guest")
            return (vcpu_of(record) if whose is None else names.listener(whose)) == guest
        if record.event is events.BELL_SENT:
            return names.listener(record.arguments["process"]) in processes and vcpu_of(record) in processes
        return record.event in _WAKE_GROUP and vcpu_of(record) in processes

    return [records[index] for index in range(chain[-1], chain[0] + 1) if belongs(index)]
