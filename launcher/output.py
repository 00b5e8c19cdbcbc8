"""Where commands write: tables or JSON to standard output, problems to standard error, JSON to files.

Not modelled: formats other than JSON.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from testbed.errors import ConfigError, MachineError

STDOUT: Final = "-"


def check_writable(where: str, option: str = "--json") -> None:
    """Raise ConfigError where JSON could not be written to this path at the end of a run."""
    if where in ("", STDOUT):
        return
    path = Path(where)
    there = path if path.exists() else path.parent
    if path.is_dir() or (there is not path and not there.is_dir()) or not os.access(there, os.W_OK):
        raise ConfigError(
            f"{option}: must be a file that can be written, or - for standard output, not {where}"
        )


def write_json(value: object, where: str) -> None:
    """Write a value as JSON, indented, to a file or to standard output; to nowhere when `where` is empty."""
    if not where:
        return
    text = msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"
    if where == STDOUT:
        sys.stdout.write(text)
    else:
        write_text(text, where)


def write_text(text: str, where: str) -> None:
    """Write a file. Raises MachineError where that cannot be done."""
    try:
        Path(where).write_text(text)
    except OSError as error:
        raise MachineError(f"{where} cannot be written: {error.strerror}") from None


def complain(problems: Iterable[str]) -> None:
    """Write problems to standard error, a line each."""
    for problem in problems:
        sys.stderr.write(f"virtbed: {problem}\n")
