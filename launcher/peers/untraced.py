"""The testbed without its tracepoints, and the native steps of a forwarded frame timed in either, in turn.

It is built from the source tree in a copy of it (-DVIRTBED_NO_TRACE). Reference: testbed/native/trace.h,
scripts/profile_rings.py, which a worker of either tree is. Not modelled: other compilers and flags than those
of the build at hand.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

from launcher.peers.tied import tied
from testbed.errors import ConfigError, MachineError

ROOT: Final = Path(__file__).resolve().parents[2]
_STEPS: Final = "scripts/profile_rings.py"
_LEFT_OUT: Final = shutil.ignore_patterns(".git", "build", "*.so", "__pycache__", ".*_cache")


def build(tree: Path) -> None:
    """Copy the source tree and build it without tracepoints.

    Raises MachineError where there is no source tree, or it cannot be built.
    """
    if not (ROOT / "setup.py").exists():
        raise MachineError(f"bench trace builds the native code a second time: {ROOT} must be a source tree")
    shutil.copytree(ROOT, tree, ignore=_LEFT_OUT)
    flags = f"{os.environ.get('CFLAGS', '')} -DVIRTBED_NO_TRACE"
    command = tied([sys.executable, "setup.py", "-q", "build_ext", "--inplace"])
    built = subprocess.run(
        command,
        cwd=tree,
        env=_environment(ROOT) | {"CFLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise MachineError(f"the native code cannot be built without tracepoints: {built.stderr.strip()}")


class Worker:
    """A process that times the native steps of one tree; leave the context to end it."""

    def __init__(self, tree: Path, cpu: int) -> None:
        """Start it on a processor."""
        if not (tree / _STEPS).is_file():
            raise ConfigError(f"--without: must be a source tree of virtbed, built; {tree} has no {_STEPS}")
        command = tied([sys.executable, str(tree / _STEPS), "--turns", "--cpu", str(cpu)])
        self._process = subprocess.Popen(
            command,
            cwd=tree,
            env=_environment(tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._questions, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._questions.close()
        self._process.wait()
        self._answers.close()

    def frame_ns(self, ring: str, frame_bytes: int, seconds: float) -> float:
        """Return what all steps of a frame take that is forwarded from one queue to another.

        Raises MachineError when the worker ends.
        """
        turn = {"ring": ring, "frame_bytes": frame_bytes, "seconds": seconds}
        self._questions.write(json.dumps(turn) + "\n")
        self._questions.flush()
        answer = self._answers.readline()
        if not answer:
            raise MachineError(f"{_STEPS} ended with {self._process.wait()} instead of an answer")
        return float(sum(json.loads(answer).values()))


def _environment(tree: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree)}
