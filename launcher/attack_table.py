"""Attacks as a person reads them: what was tried, what stopped it, what it took, what the others kept.

What it took is the share of its time that the NIC or the IOMMU, whichever gave more, worked for the
attacker's registers, refusals and misses. What the others keep is in terms of their speed beside the same
guest as busy with what is its own, and, behind the stroke, beside the same guest asleep.
"""

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
        table.add_row(
            escape(attack.name),
            "\n".join(_evidence(attack)) or figures.NOTHING,
            figures.count(attack.attempts),
            f"[bold red]{attack.through:,}[/]" if attack.through else figures.NOTHING,
            f"{max(attack.given.values()):.1%}" if attack.given else figures.NOTHING,
            _kept(attack),
            "[green]stopped[/]" if attack.good else "[bold red]FAILED[/]",
        )
    return table


LEFT = ("attack", "counted by")
RIGHT = ("attempts", "through", "takes", "others keep\nof busy / idle", "")


def _kept(attack: AttackResult) -> str:
    """Return what that flow keeps that keeps least."""
    least = min(attack.others, key=lambda other: other.kept, default=None)
    return figures.NOTHING if least is None else f"{least.kept:.0%} / {least.kept_of_quiet:.0%}"


def _evidence(attack: AttackResult) -> Iterable[str]:
    ranked = sorted(attack.stopped_by.items(), key=lambda item: -item[1])
    return (f"{escape(name)} {value:,}" for name, value in ranked[:EVIDENCE_MAX])


def attack_line(attack: AttackResult) -> str:
    """Say the outcome of an attack in one line."""
    name = escape(attack.name)
    if not attack.good:
        return f"[red]{name} failed[/]: {escape(attack.wrong)}"
    told = [f"{name}: [green]stopped[/], {attack.attempts:,} attempts, nothing through"]
    told += [f"{share:.1%} of {process}'s time" for process, share in attack.given.items()]
    told += [f"{escape(other.name)} keeps {other.kept:.0%}" for other in attack.others]
    return ", ".join(told)


def attack_problems(attacks: Iterable[AttackResult]) -> Iterable[str]:
    """Say what went wrong, a line for each attack."""
    for attack in attacks:
        if not attack.good and attack.failed != INTERRUPTED:
            yield f"attack [bold red]{escape(attack.name)}[/]: {escape(attack.wrong)}"
