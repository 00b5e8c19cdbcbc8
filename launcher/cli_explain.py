"""`virtbed explain`: the real way of one frame or interrupt."""

from typing import Annotated, Literal

import typer

from launcher.cli_bench import ending_as_the_run_did
from launcher.options import Json
from launcher.output import STDOUT, check_writable, write_json, write_text


def add_commands(app: typer.Typer) -> None:
    """Add `virtbed explain`."""
    app.command()(explain)


def explain(
    way: Annotated[
        Literal["emulated", "virtio", "passthrough", "list-registers", "direct"],
        typer.Argument(help="Which way: of a frame, or of an interrupt.", show_default=False),
    ],
    svg: Annotated[str, typer.Option(metavar="FILE", help="Draw a sequence diagram there.")] = "",
    trace: Annotated[
        str, typer.Option(metavar="FILE", help="Write a Chrome trace there, for ui.perfetto.dev.")
    ] = "",
    json: Json = "",
) -> None:
    """Send one frame (or raise one interrupt) in a small topology; print what its processes did."""
    for where, option in ((json, "--json"), (svg, "--svg"), (trace, "--trace")):
        check_writable(where, option)
    from launcher import explain as explaining
    from launcher.explain_svg import sequence_svg
    from launcher.explain_view import explained_view
    from launcher.table import console
    from launcher.trace_json import chrome_trace
    from launcher.trace_names import Names

    with ending_as_the_run_did(json):
        explained, traced = explaining.explain(way)
    write_json(explained, json)
    if svg:
        write_text(sequence_svg(explained.title, explained.steps), svg)
    if trace:
        write_json(chrome_trace(Names(traced.plan), traced.way), trace)
    if json != STDOUT:
        console().print(explained_view(explained))
