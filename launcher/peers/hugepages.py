"""Huge pages for as long as they are needed, where this process may ask for them.

Reference: Linux Documentation/admin-guide/mm/hugetlbpage.rst. Not modelled: other sizes than the default,
NUMA nodes.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

COUNT_FILE: Final = Path("/proc/sys/vm/nr_hugepages")
_FREE: Final = "HugePages_Free:"


def free_pages(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return how many huge pages nobody uses."""
    lines = meminfo.read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(_FREE)), 0)


@contextlib.contextmanager
def hugepages(wanted: int, count_file: Path = COUNT_FILE) -> Iterator[bool]:
    """Provide so many free huge pages, and give back what was added; say whether there are enough."""
    free = free_pages()
    if free >= wanted or not os.access(count_file, os.W_OK):
        yield free >= wanted
        return
    before = int(count_file.read_text())
    try:
        count_file.write_text(str(before + wanted - free))
        yield free_pages() >= wanted
    finally:
        count_file.write_text(str(before))
