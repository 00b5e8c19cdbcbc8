"""Attacks as a person reads them: what was tried, what stopped it, what the others kept."""

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from launcher import figures
from launcher.result import INTERRUPTED, AttackResult

EVIDENCE_MAX = 6
"""Counters that are named, the largest first."""


def attack_table(attacks: Sequence[AttackResult], table: Table) -> Table:
    """Fill a table that has the columns of `COLUMNS` with attacks."""
    for attack in attacks:
        kept = [other.kept for other in attack.others]
        table.add_row(
            escape(attack.name),
            "\n".join(_evidence(attack)) or figures.NOTHING,
            figures.count(attack.attempts),
            f"[bold red]{attack.through:,}[/]" if attack.through else figures.NOTHING,
            f"{min(kept):.0%}" if kept else figures.NOTHING,
            "[green]stopped[/]" if attack.good else "[bold red]FAILED[/]",
        )
    return table


LEFT = ("attack", "counted by")
RIGHT = ("attempts", "through", "others\nkeep", "")


def _evidence(attack: AttackResult) -> Iterable[str]:
    ranked = sorted(attack.stopped_by.items(), key=lambda item: -item[1])
    return (f"{escape(name)} {value:,}" for name, value in ranked[:EVIDENCE_MAX])


def attack_line(attack: AttackResult) -> str:
    """Say the outcome of an attack in one line."""
    name = escape(attack.name)
    if not attack.good:
        return f"[red]{name} failed[/]: {escape(attack.wrong)}"
    kept = ", ".join(f"{escape(other.name)} keeps {other.kept:.0%}" for other in attack.others)
    told = f"{name}: [green]stopped[/], {attack.attempts:,} attempts, nothing through"
    return f"{told}, {kept}" if kept else told


def attack_problems(attacks: Iterable[AttackResult]) -> Iterable[str]:
    """Say what went wrong, a line for each attack."""
    for attack in attacks:
        if not attack.good and attack.failed != INTERRUPTED:
            yield f"attack [bold red]{escape(attack.name)}[/]: {escape(attack.wrong)}"
