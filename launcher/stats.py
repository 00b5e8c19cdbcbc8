"""The counters of a running topology, once or every second with rates.

Not modelled: history, graphs.
"""

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import Final

import msgspec
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from launcher import figures
from launcher.output import STDOUT, write_json
from launcher.service import CounterStatus, Stats, ask
from launcher.table import console, new_table
from testbed.errors import ConfigError, VirtbedError

WATCH_SECONDS: Final = 1.0
_NS_PER_SECOND: Final = 1e9


@dataclass(frozen=True)
class Look:
    """What to look at."""

    topology: str
    processes: tuple[str, ...] = ()
    """All when empty."""
    every: bool = False
    """Counters that are zero too."""


def look_at(look: Look) -> CounterStatus:
    """Return the counters asked for. Raises ConfigError for a topology or process that there is not."""
    status = ask(look.topology, Stats(), CounterStatus)
    for name in look.processes:
        if name not in status.counters:
            there = ", ".join(list(status.counters)[:10])
            raise ConfigError(f"topology {look.topology} has no process {name}; it has {there}")
    counters = {
        process: {name: value for name, value in values.items() if value or look.every}
        for process, values in status.counters.items()
        if not look.processes or process in look.processes
    }
    return CounterStatus(status.at_ns, counters)


def stats_table(status: CounterStatus, before: CounterStatus | None = None) -> Table:
    """Return the counters as a table, with rates where there is an earlier look."""
    table = new_table("", ["process", "counter"], ["value", *(["per second"] if before else [])])
    for process, values in status.counters.items():
        shown = escape(process)
        for name, value in values.items():
            rate = [_rate(process, name, status, before)] if before else []
            table.add_row(shown, escape(name), f"{value:,}", *rate)
            shown = ""
    return table


def _rate(process: str, name: str, now: CounterStatus, before: CounterStatus) -> str:
    grown = now.counters[process][name] - before.counters.get(process, {}).get(name, 0)
    return figures.count(grown / ((now.at_ns - before.at_ns) / _NS_PER_SECOND))


def show(look: Look, json: str) -> None:
    """Print the counters once."""
    status = look_at(look)
    write_json(status.counters, json)
    if json != STDOUT:
        console().print(stats_table(status))


def watch_until_gone(look: Look, json: str) -> None:
    """Look every second until the topology has ended or Ctrl-C.

    Shows a table that moves, a table a second where there is no terminal, or one JSON document a line.
    """
    status: CounterStatus | None = look_at(look)
    before = None
    output = console()
    with contextlib.suppress(KeyboardInterrupt), Live(console=output, auto_refresh=False) as live:
        while status:
            if json == STDOUT:
                sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
                sys.stdout.flush()
            elif output.is_terminal:
                live.update(stats_table(status, before), refresh=True)
            else:
                output.print(stats_table(status, before))
            _pause()
            before, status = status, _still(look)


def _pause() -> None:
    time.sleep(WATCH_SECONDS)


def _still(look: Look) -> CounterStatus | None:
    try:
        return look_at(look)
    except VirtbedError:
        return None
