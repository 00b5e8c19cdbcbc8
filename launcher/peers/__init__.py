"""What the testbed is measured against, each with processes of its own: DPDK, a bare ring, bare wake-ups."""

from typing import Literal

Shape = Literal["sink", "echo", "forward"]
"""The path of a frame: to the back end (two processes), there and back (two), to another guest (three)."""
