"""Mistakes in a topology file, gathered so that all are told in one go.

A path is a tuple of mapping keys and list positions, as the file nests them; a problem is one line
`FILE:LINE: path.to.key: rule`.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from launcher.units import shown

Path = tuple[str | int, ...]
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake: where it is and which rule it breaks."""

    line: int
    text: str
    path: Path = field(default=(), compare=False)

    def told(self, file: str) -> str:
        """Return the line that a person reads."""
        where = f"{file}:{self.line}" if self.line else file
        return f"{where}: {format_path(self.path)}: {self.text}" if self.path else f"{where}: {self.text}"


def format_path(path: Path) -> str:
    """Return `guests.a.nics[0].mtu` for a path; a key that is not a plain word is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if _PLAIN_KEY.fullmatch(step) else f".{shown(step)}"
    return text.removeprefix(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean X?)` where a known word is near, else an empty text."""
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word[:64].casefold(), folded, n=1, cutoff=0.7)
    return f" (did you mean {folded[near[0]]}?)" if near else ""
