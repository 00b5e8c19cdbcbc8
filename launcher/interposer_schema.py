"""The interposers of the topology file: what may look at a NIC's frames on their way through the vmm.

Reference: testbed/net/interpose. What they say together with other values is checked in `interposers`.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from launcher.rules import FilterExpression, FlowRate, Function, OneOf, Text, choice
from launcher.section import Section


class InterposerSection(Section):
    """What every interposer has."""

    direction: Annotated[Literal["tx", "rx", "both"], choice("tx", "rx", "both")] = "both"
    """Frames that the guest sends (tx), that it gets (rx), or both."""


class CaptureSection(InterposerSection):
    """Write frames to a pcapng file."""

    kind: Literal["capture"]
    """Which kind of interposer this is."""
    file: Text
    """The file to write; its path is relative to the topology file."""


class FilterSection(InterposerSection):
    """Drop frames by a pcap-filter expression."""

    kind: Literal["filter"]
    """Which kind of interposer this is."""
    drop: FilterExpression | None = None
    """Drop the frames that match."""
    only: FilterExpression | None = Field(alias="pass", default=None)
    """Drop the frames that do not match."""


class RateSection(InterposerSection):
    """Limit frames or bits a second, each direction by itself."""

    kind: Literal["rate"]
    """Which kind of interposer this is."""
    limit: FlowRate
    """Frames a second (100k) or bits a second (1Gbit, frames without FCS)."""
    excess: Annotated[Literal["drop", "hold"], choice("drop", "hold")] = "drop"
    """Drop what is over, or hold it back in the guest's queue (direction tx only)."""


class MirrorSection(InterposerSection):
    """Copy frames to another NIC of the same host."""

    kind: Literal["mirror"]
    """Which kind of interposer this is."""
    to: Text
    """Who gets the copies: a guest, or GUEST.nicN."""


class CallSection(InterposerSection):
    """Have a Python function see every burst; slow, for experiments."""

    kind: Literal["call"]
    """Which kind of interposer this is."""
    function: Function
    """package.module:function; modules beside the topology file are found, too."""


Interposer = Annotated[
    CaptureSection | FilterSection | RateSection | MirrorSection | CallSection,
    OneOf(CaptureSection, FilterSection, RateSection, MirrorSection, CallSection),
]
"""Every kind of interposer."""
INTERPOSERS_MAX: Final = 16
