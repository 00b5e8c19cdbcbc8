"""Which event of one process is the cause of which event of another: what a trace's arrows are drawn from.

Each rule says which events are causes, which are effects, and by what an effect knows its cause. Causes wait
in order and an effect takes the oldest one; where one effect answers for several (a wake-up, a count) it is
the latest one's. An effect without a cause, or before it, is wrong. Pure.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from launcher.trace_names import Names
from testbed.messages.doorbell import vcpu_inbox
from testbed.observe.trace import Record
from testbed.spec import gic
from testbed.spec import trace as events
from testbed.spec.trace import Event

Key = Callable[[Names, Record], Hashable]


@dataclass(frozen=True, slots=True)
class Rule:
    """What has what effect; a key of None: this event is no such cause or effect."""

    cause: Event
    effect: Event
    cause_key: Key
    effect_key: Key
    latest: bool = False
    """One effect may answer for several causes, or one cause have several: the latest counts."""


@dataclass(frozen=True, slots=True)
class Link:
    """Indexes of cause and effect among the events."""

    cause: int
    effect: int


@dataclass(frozen=True, slots=True)
class Links:
    """What was found."""

    links: list[Link]
    orphans: list[int]
    """Effects without a cause."""


def vcpu_of(record: Record) -> str:
    """Return whose an event is: a process, or a further vCPU of a guest."""
    return vcpu_inbox(record.process, record.lane)


def _vcpu(_names: Names, record: Record) -> str:
    return vcpu_of(record)


def _guest(names: Names, record: Record) -> str:
    return names.listener(record.arguments["guest"])


def _argument(*wanted: str) -> Key:
    """Return a key of the host and these arguments."""

    def key(names: Names, record: Record) -> Hashable:
        return names.host(record.process), *(record.arguments[name] for name in wanted)

    return key


def _frame(_names: Names, record: Record) -> Hashable:
    return record.frame


def _bell(names: Names, record: Record) -> str:
    return names.listener(record.arguments["process"])


def _woken(names: Names, record: Record) -> str | None:
    return _vcpu(names, record) if record.arguments["woken_by"] == events.WOKEN_BY_BELL else None


def _listed(names: Names, record: Record) -> Hashable:
    image = record.arguments["lr"]
    pending = gic.LR_STATE.get(image) & gic.STATE_PENDING
    return (_guest(names, record), gic.LR_VINTID.get(image)) if pending else None


def _acknowledged(names: Names, record: Record) -> Hashable:
    return _vcpu(names, record), record.arguments["intid"]


_WRITE: Final = _argument("register", "value")
_REQUEST: Final = _argument("stream", "request", "iova")
RULES: Final = (
    Rule(events.EXIT, events.EXIT_DECODED, _vcpu, _guest),
    Rule(events.EXIT_OTHER, events.EXIT_TAKEN, _vcpu, _guest),
    Rule(events.EXIT_ANSWERED, events.ENTRY, _guest, _vcpu),
    Rule(events.BELL_SENT, events.WAKE, _bell, _woken, latest=True),
    Rule(events.EXIT_FORCED, events.MUST_EXIT, _guest, _vcpu),
    Rule(events.REGISTER_POSTED, events.REGISTER_TAKEN, _WRITE, _WRITE),
    Rule(events.DMA_POSTED, events.DMA_TAKEN, _REQUEST, _REQUEST),
    Rule(events.DMA_TAKEN, events.DMA_COMPLETED, _argument("stream"), _argument("stream"), latest=True),
    Rule(events.DESCRIPTOR_POSTED, events.BRIDGE_DECIDED, _frame, _frame),
    Rule(events.FRAME_COPIED, events.FRAME_TAKEN, _frame, _frame),
    Rule(events.WIRE_OUT, events.WIRE_IN, _frame, _frame),
    Rule(events.ITS_PHYSICAL, events.LPI_TAKEN, _argument("intid"), _argument("intid"), latest=True),
    Rule(events.LIST_REGISTER, events.ACKNOWLEDGED, _listed, _acknowledged, latest=True),
    Rule(events.VPE_POSTED, events.ACKNOWLEDGED, _argument("intid"), _argument("intid"), latest=True),
)  # fmt: skip
_UNSURE: Final = frozenset({events.ACKNOWLEDGED, events.FRAME_TAKEN, events.BRIDGE_DECIDED})
"""Effects that other ways have, too."""


def link(names: Names, records: Sequence[Record]) -> Links:
    """Return the cause of each effect among events in the order in which they happened."""
    waiting: dict[tuple[Rule, Hashable], deque[int]] = defaultdict(deque)
    links, orphans = [], []
    for index, record in enumerate(records):
        for rule in RULES:
            if record.event is rule.effect and (key := rule.effect_key(names, record)) is not None:
                causes = waiting[rule, key]
                if causes:
                    links.append(Link(causes[-1] if rule.latest else causes.popleft(), index))
                elif record.event not in _UNSURE:
                    orphans.append(index)
            if record.event is rule.cause and (key := rule.cause_key(names, record)) is not None:
                waiting[rule, key].append(index)
    return Links(links, orphans)
