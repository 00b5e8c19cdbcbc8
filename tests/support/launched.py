"""A `virtbed run` of its own process, with real guests and vmm, that a test can watch, hurt and question."""

import subprocess
import sys
from pathlib import Path

import msgspec

from launcher.result import Result
from launcher.service import Ps, TopologyStatus, ask

ROOT = Path(__file__).parents[2]
ENDED_SECONDS = 60.0
"""A safety net only."""


class Launched:
    """`virtbed run` of a file; its lines are read as they come."""

    def __init__(self, topology: str, directory: Path) -> None:
        file, self._json = directory / "topology.yaml", directory / "result.json"
        file.write_text(topology)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "run", str(file), "--json", str(self._json)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def until(self, text: str) -> str:
        """Read its lines up to the first that has this text and return that."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if text in line:
                return line
        raise AssertionError(f"it ended without saying {text!r}: {self._process.communicate()[1]}")

    def status(self, topology: str) -> TopologyStatus:
        """Return what runs now."""
        return ask(topology, Ps(), TopologyStatus)

    def pid_of(self, topology: str, name: str) -> int:
        """Return the pid of a process of the topology; the fork server is the parent of them all."""
        pids = {process.name: process.pid for process in self.status(topology).processes}
        if name == "forkserver":
            status = Path(f"/proc/{next(iter(pids.values()))}/status").read_text()
            return int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])
        return pids[name]

    def end(self) -> int:
        """Wait for its end and return the exit code, negative for a signal; there must be no traceback."""
        _out, err = self._process.communicate(timeout=ENDED_SECONDS)
        assert "Traceback" not in err, err
        return self._process.returncode

    def result(self) -> Result:
        """Return the result that it wrote."""
        return msgspec.json.decode(self._json.read_bytes(), type=Result)
