"""Topology files in a few words, and the mistakes that a file has."""

from pathlib import Path

import pytest

from launcher.topology import parse_topology
from testbed.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
PAIR = "name: t\nguests: {a: {}, b: {}}\n"


def mistakes(text: str, directory: Path = CONFIGS) -> list[str]:
    """Return what is told of a file that is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_topology(text, "f", directory)
    return list(caught.value.problems)


def pair(workload: str, guests: str = "{a: {}, b: {}}") -> str:
    """Return a file of two guests and a workload."""
    return f"name: t\nguests: {guests}\nworkloads:\n  - {workload}\n"
