"""The table of virtual functions that `virtbed vf list` prints."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape

from launcher import figures
from launcher.table import new_table
from testbed.messages.control import NicState, VfState

_COLUMNS = ["vf", "guest", "MAC", "state", "VLAN", "rate", "checks"]
_COUNTS = ["resets", "messages", "refused", "throttled", "spoofs"]


def vf_view(nics: Sequence[NicState]) -> RenderableType:
    """Return a table for each NIC."""
    if not nics:
        return "no NIC has virtual functions"
    return Group(*(part for nic in nics for part in (_nic(nic), "")))


def _nic(nic: NicState) -> RenderableType:
    table = new_table(f"{escape(nic.name)}, link {'up' if nic.link_up else 'down'}", _COLUMNS, _COUNTS)
    for vf in nic.vfs:
        counts = (vf.resets, vf.messages, vf.refused, vf.throttled, vf.spoof_events)
        table.add_row(
            str(vf.number),
            escape(vf.guest) or figures.NOTHING,
            vf.mac,
            _state(vf),
            str(vf.vlan) if vf.vlan else figures.NOTHING,
            _rate(vf.rate_bits_per_second),
            _checks(vf),
            *map(str, counts),
        )
    return table


def _state(vf: VfState) -> str:
    if not vf.link:
        return "link down"
    return "running" if vf.running else "no driver"


def _checks(vf: VfState) -> str:
    said = ["spoof-check" if vf.spoof_check else "no spoof-check"]
    return ", ".join(said + ["trusted"] * vf.trust + ["drops"] * vf.drop)


def _rate(bits_per_second: int) -> str:
    return f"{bits_per_second / 1e6:g} Mbit/s" if bits_per_second else "unlimited"
