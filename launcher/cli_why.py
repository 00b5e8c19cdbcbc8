"""`virtbed why`: the problems that I/O virtualization solves, run."""

from typing import Annotated, Literal

import typer

from launcher.cli_bench import ending_as_the_run_did
from launcher.options import Json
from launcher.output import STDOUT, check_writable, write_json
from launcher.result import ExitCode


def add_commands(app: typer.Typer) -> None:
    """Add `virtbed why`."""
    app.command()(why)


def why(
    problem: Annotated[
        Literal["mac", "snoop", "dma", "share"], typer.Argument(help="Which problem.", show_default=False)
    ],
    seconds: Annotated[
        float, typer.Option(min=0, max=3600, help="Length of each workload; 0: as its file says.")
    ] = 0.0,
    json: Json = "",
) -> None:
    """Show why I/O is virtualized: run a topology that has a problem, and the one that cures it."""
    check_writable(json)
    from launcher.table import console
    from launcher.why import find_case, look, why_table

    with ending_as_the_run_did(json):
        seen = look(find_case(problem), seconds, console(stderr=True).print)
    write_json(seen, json)
    if json != STDOUT:
        console().print(why_table(seen))
    raise typer.Exit(0 if seen.holds else ExitCode.EXPECTATION_FAILED)
