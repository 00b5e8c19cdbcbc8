"""`virtbed compare`: one workload over every path, the methods in order, the lecture's table, a report.

Not modelled: comparison of two machines.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli_bench import ending_as_the_run_did
from launcher.output import STDOUT, check_writable, complain, write_json

EXPECTATION_FAILED = 1
Json = Annotated[
    str,
    typer.Option("--json", metavar="FILE", help="Write JSON there; - for standard output, and only that."),
]


def add_commands(app: typer.Typer) -> None:
    """Add `virtbed compare`."""
    app.command()(compare)


def compare(
    html: Annotated[
        str, typer.Option("--html", metavar="FILE", help="Write a report there: one file, charts inside.")
    ] = "",
    seconds: Annotated[float, typer.Option(min=0.05, max=60, help="Length of each measurement.")] = 0.1,
    repetitions: Annotated[int, typer.Option(min=1, help="How often to run every way, in turn.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure each time it runs.")] = 2,
    way: Annotated[
        list[str] | None, typer.Option(metavar="WAY", help="Only this way; repeat. Default: all of them.")
    ] = None,
    table: Annotated[
        bool, typer.Option(help="Make the experiments of the lecture's table, where each method is there.")
    ] = True,
    json: Json = "",
) -> None:
    """Compare emulation, paravirtualization and passthrough: the same work over every way of a frame."""
    for where in (json, html):
        check_writable(where)
    from launcher.compare import run_comparison
    from launcher.compare_result import Settings
    from launcher.compare_table import comparison_view
    from launcher.compare_ways import STOCK, WAYS
    from launcher.lecture_run import lecture_of
    from launcher.report_html import render
    from launcher.table import console

    told = console(stderr=True).print
    settings = Settings(seconds=seconds, repetitions=repetitions, rounds=rounds, ways=tuple(way or WAYS))
    whole = set(STOCK.values()) <= set(settings.ways)
    look = (lambda ways: lecture_of(ways, told)) if table and whole else None
    command = shlex.join(["virtbed", *sys.argv[1:]])
    with ending_as_the_run_did(json):
        compared = run_comparison(settings, told, look, command)
    write_json(compared, json)
    if html:
        Path(html).write_text(render(compared))
    if json == STDOUT:
        complain(compared.problems)
    else:
        console().print(comparison_view(compared))
    raise typer.Exit(EXPECTATION_FAILED if compared.problems else 0)
