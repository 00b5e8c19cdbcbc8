"""Options that several commands have, spelled once."""

from typing import Annotated

import typer

Json = Annotated[
    str,
    typer.Option("--json", metavar="FILE", help="Write JSON there; - for standard output, and only that."),
]
