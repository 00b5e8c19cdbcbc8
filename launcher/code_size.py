"""How much code of the hypervisor's side each method has: lines that are neither blank nor comment.

On the way of a frame is what runs for frames and for a driver's register accesses; set-up is what runs before
the first frame, and when an operator changes something. The bridge and what every guest's exits need are in
neither, for all methods have them. Not modelled: docstrings are counted as lines.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from launcher.compare_ways import Method

ROOT: Final = Path(__file__).parents[1] / "testbed"
_COMMENT: Final = ("#", "//", "/*", "*")


@dataclass(frozen=True)
class Lines:
    """Lines of code of one method."""

    on_the_way: int
    set_up: int

    @property
    def total(self) -> int:
        """Both."""
        return self.on_the_way + self.set_up


_FILES: Final[dict[Method, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "emulated": (
        ("e1000/*.py", "spec/e1000*.py", "native/e1000_[!d]*", "native/e1000.pxi"),
        (),
    ),
    "paravirtual": (
        (
            *("virtio/device*.py", "virtio/mmio.py", "virtio/net*.py", "spec/virtio*.py"),
            *("native/split_device.*", "native/packed_device.*", "native/device_ring.pxi", "native/chain.h"),
        ),
        (),
    ),
    "passthrough": (
        (),
        (
            *("vmm/passthrough.py", "vmm/assignment.py", "vmm/host_iommu.py", "vmm/host_lpis.py"),
            *("vmm/direct.py", "vmm/its_driver.py", "vmm/vf_control.py", "vmm/pf_[!u]*.py"),
            *("pci/smmu_*.py", "pci/bar_window.py"),
        ),
    ),
}
"""By method, patterns of files below `testbed`: on the way, set-up."""


@cache
def code_size(method: Method) -> Lines:
    """Return the lines of one method."""
    on_the_way, set_up = _FILES[method]
    return Lines(_lines(on_the_way), _lines(set_up))


def _lines(patterns: Iterable[str]) -> int:
    files = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sum(is_code(line) for path in files for line in path.read_text().splitlines())


def is_code(line: str) -> bool:
    """Whether a line of source is neither blank nor comment alone."""
    line = line.strip()
    return bool(line) and not line.startswith(_COMMENT)
