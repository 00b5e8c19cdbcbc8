"""What a device signals with: an interrupt is a value handed in, so a model never knows where it leads.

Level-triggered lines are asserted and deasserted; edges are pulsed; messages are sent. Recording
versions serve models that run alone.
"""

from typing import Protocol


class Line(Protocol):
    """A level-triggered interrupt line."""

    def set_level(self, asserted: bool) -> None:
        """Assert or deassert the line."""
        ...


class Edge(Protocol):
    """An edge-triggered interrupt line."""

    def pulse(self) -> None:
        """Give one edge."""
        ...


class Message(Protocol):
    """A message-signalled interrupt."""

    def send(self) -> None:
        """Send it once."""
        ...


class RecordingEdge:
    """An edge that counts its pulses."""

    def __init__(self) -> None:
        self.pulses = 0

    def pulse(self) -> None:
        """Count one."""
        self.pulses += 1


class RecordingLine:
    """A line that remembers its level and how often it rose."""

    def __init__(self) -> None:
        self.asserted = False
        self.rises = 0

    def set_level(self, asserted: bool) -> None:
        """Take the level."""
        self.rises += asserted and not self.asserted
        self.asserted = asserted
