#!/usr/bin/env python3
"""What tracepoints cost while tracing is off: forwarding with them compiled in, against compiled out.

Builds the native extension a second time, without tracepoints (-DVIRTBED_NO_TRACE), in a copy of the tree,
then runs `virtbed bench virtio --path forward` in both in turn. Prints frames a second of every run and the
cost by the medians. Exits with 1 where it is 2 % or more.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COST_MAX = 0.02
LEFT_OUT = shutil.ignore_patterns(".git", "build", "*.so", "__pycache__", ".mypy_cache", ".ruff_cache")


def build_without(tree: Path) -> None:
    """Copy the tree and build it without tracepoints."""
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    flags = f"{os.environ.get('CFLAGS', '')} -DVIRTBED_NO_TRACE"
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env=os.environ | {"CFLAGS": flags}, check=True)


def frames_per_second(tree: Path, options: argparse.Namespace) -> float:
    """Forward frames for a while; return the rate."""
    command = [sys.executable, "-m", "launcher", "bench", "virtio", "--path", "forward", "--pairs", "1"]
    command += ["--seconds", str(options.seconds), "--ring", options.ring, "--json", "-"]
    told = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout
    return rate_of(json.loads(told))


def rate_of(result: dict[str, Any]) -> float:
    """Return the median rate of a bench's result."""
    return float(result["frames_per_second"]["median"])


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--ring", choices=["split", "packed"], default="split")
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
        rates: dict[Path, list[float]] = {ROOT: [], without: []}
        for pair in range(options.pairs):
            for tree in (ROOT, without) if pair % 2 else (without, ROOT):
                rates[tree].append(frames_per_second(tree, options))
    off, out = (statistics.median(rates[tree]) for tree in (ROOT, without))
    cost = 1 - off / out
    for tree, what in ((ROOT, "compiled in, off"), (without, "compiled out")):
        print(f"{what:18}", *(f"{rate:14,.0f}" for rate in rates[tree]))
    print(f"tracing off costs {cost:+.2%} of {out:,.0f} frames a second")
    return int(cost >= COST_MAX)


if __name__ == "__main__":
    sys.exit(main())
