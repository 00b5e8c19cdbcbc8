"""The steps of a way as lines for a person."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from launcher.explain import Explained
from launcher.explain_steps import Step
from launcher.table import new_table


def steps_table(title: str, steps: Sequence[Step]) -> RenderableType:
    """Return steps as a table."""
    table = new_table(title, ["", "us", "process", "what happens"], [])
    shown = ""
    for step in steps:
        process = "" if step.process == shown else escape(step.process)
        table.add_row(str(step.number), f"{step.us:,.1f}", process, Text(_said(step)))
        shown = step.process
    return table


def _said(step: Step) -> str:
    return f"{step.text}  (after {step.cause})" if step.cause else step.text


def explained_view(explained: Explained) -> RenderableType:
    """Return everything that is said of a way."""
    c = explained.counts
    numbers = (
        f"{explained.microseconds:,.0f} us; exits {c.exits} (forced {c.forced_exits}), doorbells rung "
        f"{c.doorbells}, wake-up messages {c.messages}, wake-ups {c.wakeups}, copies {c.copies}, "
        f"DMA requests {c.dma_requests}, translations {c.translations}"
    )
    return Group(steps_table(explained.title, explained.steps), Text(numbers))
