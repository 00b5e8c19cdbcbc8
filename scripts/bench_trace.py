#!/usr/bin/env python3
"""What tracepoints cost while tracing is off: forwarding with them compiled in, against compiled out.

Builds the native extension a second time, without tracepoints (-DVIRTBED_NO_TRACE), in a copy of the tree,
then runs `scripts/profile_rings.py` of both in turn. A run's figure is the nanoseconds that all native steps
of a forwarded frame take, 60 bytes, both ends in one process: whole topologies scatter by more than there is
to be seen. The cost is by the medians over runs, for each ring format. Exits with 1 where it is 2 % or more
of any. Not modelled: tracing that is on.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
COST_MAX: Final = 0.02
CASE: Final = "alone forward"
RINGS: Final = ("split 60", "packed 60")
LEFT_OUT: Final = shutil.ignore_patterns(".git", "build", "*.so", "__pycache__", ".mypy_cache", ".ruff_cache")


def build_without(tree: Path) -> None:
    """Copy the tree and build it without tracepoints."""
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    flags = f"{os.environ.get('CFLAGS', '')} -DVIRTBED_NO_TRACE"
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env=os.environ | {"CFLAGS": flags}, check=True)


def frame_ns(tree: Path, seconds: float) -> dict[str, float]:
    """Return by ring format what a forwarded frame takes."""
    command = [sys.executable, "scripts/profile_rings.py", "--seconds", str(seconds), "--json"]
    told = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout
    case = json.loads(told)[CASE]
    return {ring: sum(case[ring].values()) for ring in RINGS}


def measure(without: Path, runs: int, seconds: float) -> dict[str, float]:
    """Measure in turn, print every figure, and return the cost by ring format."""
    figures: dict[tuple[Path, str], list[float]] = defaultdict(list)
    for run in range(runs):
        for tree in (ROOT, without) if run % 2 else (without, ROOT):
            for ring, figure in frame_ns(tree, seconds).items():
                figures[tree, ring].append(figure)
    costs = {}
    for ring in RINGS:
        off, out = (statistics.median(figures[tree, ring]) for tree in (ROOT, without))
        costs[ring] = off / out - 1
        for tree, what in ((ROOT, "compiled in, off"), (without, "compiled out")):
            print(f"{ring:10} {what:17}", *(f"{figure:7.2f}" for figure in figures[tree, ring]), "ns a frame")
        print(f"{ring:10} tracing off costs {costs[ring]:+.2%}")
    return costs


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each case in a run")
    parser.add_argument("--without", type=Path, help="a tree that was built without tracepoints before")
    parser.add_argument("--keep", type=Path, help="only build such a tree there")
    options = parser.parse_args()
    if options.keep:
        build_without(options.keep)
        return 0
    with tempfile.TemporaryDirectory(prefix="virtbed-no-trace-") as directory:
        without = options.without
        if without is None:
            build_without(without := Path(directory) / "tree")
        costs = measure(without, options.runs, options.seconds)
    return int(max(costs.values()) >= COST_MAX)


if __name__ == "__main__":
    sys.exit(main())
