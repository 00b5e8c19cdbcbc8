"""`virtbed vf`: virtual functions of a running topology, as `ip link` shows and sets them.

Not modelled: changing the number of virtual functions.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Final

import typer

from launcher.options import Json
from launcher.output import STDOUT, check_writable, write_json
from launcher.problems import did_you_mean
from testbed.errors import ConfigError

vf = typer.Typer(help="Show and change virtual functions of a running topology.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A running topology.", show_default=False)]


@vf.command("list")
def show(name: Name, json: Json = "") -> None:
    """Show every NIC's virtual functions: who has them, their settings, what their drivers did."""
    check_writable(json)
    from launcher.service import ask
    from launcher.table import console
    from launcher.vf_requests import ListVfs, VfList
    from launcher.vf_table import vf_view

    found = ask(name, ListVfs(), VfList)
    write_json(found, json)
    if json != STDOUT:
        console().print(vf_view(found.nics))


@vf.command("set", context_settings={"ignore_unknown_options": True})
def change(
    name: Name,
    nic: Annotated[str, typer.Argument(help="Whose virtual function.", show_default=False)],
    number: Annotated[int, typer.Argument(metavar="N", min=0, help="Which.", show_default=False)],
    settings: Annotated[
        list[str], typer.Argument(metavar="KEY VALUE...", help="What to change.", show_default=False)
    ],
) -> None:
    """Change settings: mac ADDRESS, vlan ID, rate RATE, spoof-check on, trust on, drop on, link down."""
    from launcher.service import ask
    from launcher.vf_requests import Changed, ChangeVf
    from testbed.messages.control import VfChanges

    changes = VfChanges(**read_settings(settings))  # type: ignore[arg-type]
    answer = ask(name, ChangeVf(nic, number, changes), Changed)
    if answer.problem:
        raise ConfigError(answer.problem)


def read_settings(words: list[str]) -> dict[str, object]:
    """Return what `KEY VALUE` pairs say, by field of `VfChanges`. Raises ConfigError."""
    if len(words) % 2:
        raise ConfigError(f"each setting has a value: {words[-1]} has none")
    found: dict[str, object] = {}
    for key, text in zip(words[::2], words[1::2], strict=True):
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or f"; there are {', '.join(_KEYS)}"
            raise ConfigError(f"a virtual function has no setting {key}{hint}")
        field, read = _KEYS[key]
        if field in found:
            raise ConfigError(f"{key} is given twice")
        try:
            found[field] = read(text)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error.problems[0]}") from None
    return found


def _switch(on: str, off: str) -> Callable[[str], bool]:
    """Return what reads one of two words."""

    def read(text: str) -> bool:
        if text not in (on, off):
            raise ConfigError(f"is {on} or {off}, not {text}")
        return text == on

    return read


def _vlan(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"is a number, 0 for none, not {text}")
    return int(text)


def _rate(text: str) -> int:
    """Read bits a second, 0 for no limit."""
    from launcher.units import parse_rate

    if text == "0":
        return 0
    rate = parse_rate(text)
    if not rate.bits_per_second:
        raise ConfigError(f"is in bits a second, as 100Mbit, or 0 for no limit, not {text}")
    return round(rate.bits_per_second)


_KEYS: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "mac": ("mac", str),
    "vlan": ("vlan", _vlan),
    "rate": ("rate_bits_per_second", _rate),
    "spoof-check": ("spoof_check", _switch("on", "off")),
    "trust": ("trust", _switch("on", "off")),
    "drop": ("drop", _switch("on", "off")),
    "link": ("link", _switch("up", "down")),
}
