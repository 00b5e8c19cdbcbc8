"""`virtbed compare`: one workload over every path, the methods in order, the lecture's table, a report; and
one comparison against another.

Not modelled: more than two comparisons.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli_bench import ending_as_the_run_did
from launcher.options import Json
from launcher.output import STDOUT, check_writable, complain, write_json, write_text
from launcher.result import ExitCode

if TYPE_CHECKING:
    from launcher.compare_result import Comparison, Settings


def add_commands(app: typer.Typer) -> None:
    """Add `virtbed compare`."""
    app.command()(compare)


def compare(
    html: Annotated[
        str, typer.Option("--html", metavar="FILE", help="Write a report there: one file, charts inside.")
    ] = "",
    seconds: Annotated[float, typer.Option(min=0.01, max=60, help="Length of each try.")] = 0.012,
    repetitions: Annotated[int, typer.Option(min=1, help="How often to bring all ways up.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="How many figures to take the median of.")] = 6,
    tries: Annotated[
        int, typer.Option(min=1, help="How often to measure for each figure; the better half counts.")
    ] = 10,
    way: Annotated[
        list[str] | None, typer.Option(metavar="WAY", help="Only this way; repeat. Default: all of them.")
    ] = None,
    table: Annotated[
        bool, typer.Option(help="Make the experiments of the lecture's table, where each method is there.")
    ] = True,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Set it against an earlier --json, and exit with 1 if it is worse."
        ),
    ] = None,
    within: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="PERCENT",
            help="How much worse a median may be, at the machine's speed then and now.",
        ),
    ] = 20,
    read: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Measure nothing: take what an earlier --json has."),
    ] = None,
    json: Json = "",
) -> None:
    """Compare emulation, paravirtualization and passthrough: the same work over every way of a frame."""
    check_writable(json)
    check_writable(html, "--html")
    from launcher.compare_against import read_comparison
    from launcher.compare_result import Settings
    from launcher.compare_ways import WAYS
    from launcher.report_html import render

    before = read_comparison(against) if against else None
    settings = Settings(
        seconds=seconds, repetitions=repetitions, rounds=rounds, tries=tries, ways=tuple(way or WAYS)
    )
    compared = read_comparison(read) if read else _measured(settings, table, json)
    write_json(compared, json)
    if html:
        write_text(render(compared), html)
    problems = [*compared.problems, *_told(compared, before, within, json)]
    raise typer.Exit(ExitCode.EXPECTATION_FAILED if problems else 0)


def _measured(settings: "Settings", table: bool, json: str) -> "Comparison":
    from launcher.compare import run_comparison
    from launcher.compare_ways import STOCK
    from launcher.lecture_run import lecture_of
    from launcher.table import console

    told = console(stderr=True).print
    whole = set(STOCK.values()) <= set(settings.ways)
    look = (lambda ways: lecture_of(ways, told)) if table and whole else None
    command = shlex.join(["virtbed", *sys.argv[1:]])
    with ending_as_the_run_did(json):
        return run_comparison(settings, told, look, command)


def _told(
    compared: "Comparison", before: "Comparison | None", percent: float, json: str
) -> "tuple[str, ...]":
    """Print what standard output has room for; return what is worse than before."""
    from launcher.compare_against import against, against_view
    from launcher.compare_table import comparison_view
    from launcher.table import console

    found = against(before, compared, percent) if before else None
    worse = found.problems if found else ()
    if json == STDOUT:
        complain([*compared.problems, *worse])
        return worse
    console().print(comparison_view(compared))
    if found:
        console().print()
        console().print(against_view(found))
    return worse
