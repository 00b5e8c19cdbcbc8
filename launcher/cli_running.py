"""Commands about topologies that run: up, ps, stats, capture, exec, down.

Not modelled: topologies of other users or machines.
"""

import os
import signal
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from launcher.options import Json
from launcher.output import STDOUT, check_writable, complain, write_json
from testbed.errors import ConfigError, MachineError

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""Exit codes of a shell for a program that cannot be run, or is not there."""
Name = Annotated[str, typer.Argument(help="A running topology.", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the application."""
    for command in (up, ps, stats, irq, capture, down):
        app.command()(command)
    app.command("exec", context_settings={"allow_interspersed_args": False})(execute)


def up(
    file: Annotated[Path, typer.Argument(help="A topology file (YAML).", show_default=False)],
    workloads: Annotated[bool, typer.Option(help="Run the file's workloads.")] = True,
    json: Annotated[
        str, typer.Option("--json", metavar="FILE", help="Write the result there when it ends.")
    ] = "",
) -> None:
    """Bring a topology up and leave it running in the background."""
    check_writable(json)
    if json == STDOUT:
        raise typer.BadParameter("name a file: up ends before there is a result")
    from launcher import forkclient
    from launcher.background import NotUp, Order, start
    from launcher.netns import check_possible
    from launcher.prepare import prepare

    plan = prepare(file)
    check_possible(plan)
    where = str(Path(json).absolute()) if json else ""
    order = Order(plan=plan, file=str(file), workloads=workloads, json=where, roles=forkclient.ROLES)
    answer = start(order)
    if isinstance(answer, NotUp):
        complain(answer.problems)
        raise typer.Exit(answer.exit_code)
    name = plan.topology
    typer.echo(f"{name} is up (pid {answer.pid})")
    typer.echo(f"look: virtbed ps {name}, virtbed stats {name}; end: virtbed down {name}")


def ps(
    name: Annotated[str, typer.Argument(help="A running topology; all of them when left out.")] = "",
    json: Json = "",
) -> None:
    """Show the topologies that run, or the processes and flows of one."""
    check_writable(json)
    from launcher.ps import all_status, ps_view, status
    from launcher.table import console

    shown = status(name) if name else all_status()
    write_json(shown, json)
    if json != STDOUT:
        console().print(ps_view(shown))


def stats(
    name: Name,
    process: Annotated[list[str] | None, typer.Argument(help="Only these processes.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show counters that are zero too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look every second; end with Ctrl-C.")] = False,
    json: Json = "",
) -> None:
    """Show the counters of a running topology; looking disturbs nobody."""
    check_writable(json)
    from launcher.stats import Look, show, watch_until_gone

    look = Look(name, tuple(process or ()), every=every)
    if watch:
        watch_until_gone(look, json)
    else:
        show(look, json)


def irq(
    name: Name,
    trace: Annotated[
        bool, typer.Option("--trace", help="Follow one interrupt from its source to its handler.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0, max=600, help="With --trace: wait so long for an interrupt.")
    ] = 10.0,
    of: Annotated[
        Literal["any", "device", "sgi", "timer"], typer.Option(help="With --trace: of which kind.")
    ] = "any",
    json: Json = "",
) -> None:
    """Show the interrupts of a running topology: counts by way, pending, active, list registers, ITS."""
    check_writable(json)
    if trace:
        _follow(name, seconds, of, json)
        return
    from launcher.irq import interrupts_of, irq_view
    from launcher.table import console

    status = interrupts_of(name)
    write_json(status, json)
    if json != STDOUT:
        console().print(irq_view(status))


def _follow(name: str, seconds: float, of: str, json: str) -> None:
    from launcher.explain_view import steps_table
    from launcher.service import FollowInterrupt, InterruptFollowed, ask
    from launcher.table import console

    followed = ask(name, FollowInterrupt(seconds, of), InterruptFollowed)
    write_json(followed, json)
    if not followed.steps:
        kind = "" if of == "any" else f" of kind {of}"
        raise MachineError(f"{name}: no interrupt{kind} came from its source to its end within {seconds:g} s")
    if json != STDOUT:
        console().print(steps_table(f"One interrupt of {name}", followed.steps))


def capture(
    name: Name,
    nic: Annotated[str, typer.Argument(metavar="GUEST[.nicN]", help="Whose frames.", show_default=False)],
    write: Annotated[
        str, typer.Option("--write", "-w", metavar="FILE", help="Write pcapng there; - for standard output.")
    ] = "",
    count: Annotated[int, typer.Option("--count", "-c", min=0, help="End after so many frames.")] = 0,
    expression: Annotated[
        str, typer.Option("--filter", "-f", metavar="EXPR", help="Only frames that match (pcap-filter).")
    ] = "",
) -> None:
    """Capture the frames of a guest's NIC: a line each, or to a pcapng file; end with Ctrl-C."""
    from launcher.live_capture import run_capture

    captured = run_capture(name, nic, write, count, expression)
    missed = f", {captured.missed:,} missed" if captured.missed else ""
    typer.echo(f"{captured.frames:,} frames captured{missed}", err=True)
    if captured.error:
        raise MachineError(captured.error)


def execute(
    name: Name,
    guest: Annotated[str, typer.Argument(help="Whose network the program gets.", show_default=False)],
    command: Annotated[
        list[str], typer.Argument(metavar="-- PROGRAM [ARGUMENT]...", help="What to run.", show_default=False)
    ],
) -> None:
    """Run a program in the network namespace of a guest (workload netns): exec lab a -- ping 10.0.0.2."""
    from launcher.netns import enter
    from launcher.service import Enter, NamespaceAt, ask

    command = command[1:] if command[0] == "--" else command
    if not command:
        raise ConfigError("exec needs a program to run, e.g. virtbed exec lab a -- ping 10.0.0.2")
    place = ask(name, Enter(guest), NamespaceAt)
    if place.problem:
        raise ConfigError(place.problem)
    enter(place.path, place.inode)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and the program would inherit that
    try:
        os.execvp(command[0], command)  # noqa: S606 a person's own program, in this process's place
    except OSError as error:
        typer.echo(f"{command[0]}: {error.strerror}", err=True)
        raise typer.Exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE) from None


def down(name: Name, json: Json = "") -> None:
    """End a running topology in order and print the result of what ran."""
    check_writable(json)
    from launcher import rundir
    from launcher.result import Result
    from launcher.service import Down, ask
    from launcher.table import show_result

    result = ask(name, Down(), Result)
    rundir.wait_until_free(name)
    write_json(result, json)
    show_result(result, quiet=json == STDOUT)
    raise typer.Exit(result.exit_code)
