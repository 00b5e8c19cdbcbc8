"""The command that boots a small Linux as an external guest of a running topology."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from launcher.output import complain
from testbed.errors import ConfigError

app = typer.Typer(help="Guests that are not the testbed's own.", no_args_is_help=True)


@app.callback()
def guest() -> None:
    """Guests that are not the testbed's own."""


@app.command()
def linux(
    name: Annotated[str, typer.Argument(help="A running topology.", show_default=False)],
    guest: Annotated[str, typer.Argument(help="Its external guest to be.", show_default=False)],
    program: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- PROGRAM [ARGUMENT]...]", help="Run this and end; else a shell."),
    ] = None,
    address: Annotated[str, typer.Option("--address", "-a", help="Of its eth0, e.g. 10.0.0.9/24.")] = "",
    memory: Annotated[str, typer.Option("--memory", "-m", help="Its RAM.")] = "128MiB",
) -> None:
    """Boot a small Linux in QEMU (no KVM) as an external guest; the terminal is its console.

    It ends with its shell or its program, whose exit code it returns; Ctrl-A x ends it at once.
    """
    from launcher.linux_guest import LinuxGuest, Nic, check_installed, run
    from launcher.linux_guest_image import Setting
    from launcher.service import ExternalAt, WhereExternal, ask

    memory_bytes = _memory(memory)
    size = shutil.get_terminal_size()
    setting = Setting(guest, _address(address), tuple(program or ()), size.lines, size.columns)
    check_installed()
    place = ask(name, WhereExternal(guest), ExternalAt)
    if place.entry is None:
        complain([place.problem])
        raise typer.Exit(2)
    entry = place.entry
    nic = Nic(
        socket=Path(entry.socket),
        mac=entry.nic.mac,
        queue_pairs=entry.nic.queue_pairs,
        packed=entry.nic.ring == "packed",
        listens=not entry.listens,
    )
    raise typer.Exit(run(LinuxGuest(setting, nic, memory_bytes)))


def _address(text: str) -> str:
    from launcher.rules import parse_interface_address

    try:
        return parse_interface_address(text) if text else ""
    except ConfigError as error:
        raise typer.BadParameter(error.problems[0], param_hint="--address") from None


def _memory(text: str) -> int:
    from launcher.linux_guest import MEMORY_BYTES_MAX, MEMORY_BYTES_MIN
    from launcher.units import parse_size

    try:
        return parse_size(text, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)
    except ConfigError as error:
        raise typer.BadParameter(error.problems[0], param_hint="--memory") from None
