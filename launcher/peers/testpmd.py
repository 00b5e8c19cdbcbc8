"""One dpdk-testpmd process: started, spoken to by its prompt, ended.

Reference: DPDK 22.11, "Testpmd Application User Guide" (run-time functions) and "EAL parameters". Its
standard output is a pseudo-terminal, or it would keep its answers in a buffer. Not modelled: what else
testpmd can do.
"""

import contextlib
import os
import pty
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher.forkclient import environment
from launcher.peers.tied import tied
from testbed.errors import MachineError

PROGRAM: Final = "dpdk-testpmd"
ANSWER_SECONDS: Final = 20.0
"""How long an answer is waited for: three processes that never yield leave little time for a prompt."""
LEAVE_SECONDS: Final = 5.0
PROMPT: Final = r"testpmd> "
MBUFS: Final = 16384
_STATS: Final = r"(?s)RX-packets: (\d+).*?TX-packets: (\d+).*?Tx-pps.*?\n"
_READ_BYTES: Final = 65536
_SAID_LINES: Final = 8


@dataclass(frozen=True)
class Stats:
    """A port's counters at a time."""

    at_ns: int
    received: int
    sent: int


class Testpmd:
    """A running testpmd; close it."""

    def __init__(
        self, name: str, directory: Path, eal: Sequence[str], devices: Sequence[str], options: Sequence[str]
    ) -> None:
        """Start it; its files are in `directory`. Use `ready` before anything else."""
        self.name = name
        self._said, self._new = "", threading.Condition()
        self._output, terminal = pty.openpty()
        command = [PROGRAM, "--no-pci", "--no-telemetry", f"--file-prefix=virtbed-{os.getpid()}-{name}", *eal]
        command += [f"--vdev={device}" for device in devices]
        command += ["--", "--interactive", f"--total-num-mbufs={MBUFS}", "--no-mlockall", *options]
        with os.fdopen(terminal, "wb") as theirs:
            self._process = subprocess.Popen(
                tied(command),
                stdin=subprocess.PIPE,
                stdout=theirs,
                stderr=theirs,
                env={**environment(), "RUNTIME_DIRECTORY": str(directory)},
                cwd=directory,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready(self) -> None:
        """Wait for its prompt. Raises MachineError with what it said instead."""
        self._expect(PROMPT)

    def start(self, how: str = "") -> None:
        """Forward frames from now on."""
        self._say(f"start {how}".rstrip())

    def stop(self) -> None:
        """Forward nothing any more."""
        self._say("stop")
        self._expect(r"(?m)^Done\.$")

    def forward(self, mode: str) -> None:
        """Do something else with frames from the next start on."""
        self._say(f"set fwd {mode}")
        self._expect(rf"Set {mode.split()[0]} packet forwarding mode")

    def keep_trying(self, times: int) -> None:
        """Have a mode with retries try so often, a microsecond apart, before it drops a frame."""
        self._say(f"set burst tx delay 1 retry {times}")
        self._expect(PROMPT)

    def work(self, seconds: float) -> None:
        """Let it do what it does for a time. Raises MachineError as soon as it ends."""
        with self._new:
            if self._new.wait_for(lambda: not self._reader.is_alive(), seconds):
                raise self._failed(f"ended within {seconds:g} s")

    def stats(self, port: int = 0) -> Stats:
        """Return a port's counters."""
        self._say(f"show port stats {port}")
        found, at_ns = self._expect(_STATS)
        return Stats(at_ns, int(found[1]), int(found[2]))

    def close(self) -> None:
        """Have it leave in order, and end it if it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"stop\nquit\n")
            self._process.stdin.close()
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        os.close(self._output)

    def _say(self, command: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed(f"ended before `{command}`") from None

    def _expect(self, pattern: str) -> tuple[re.Match[str], int]:
        """Return what it says that matches, and when; what came before is forgotten."""
        deadline = time.monotonic() + ANSWER_SECONDS
        with self._new:
            while not (found := re.search(pattern, self._said)):
                left = deadline - time.monotonic()
                if not self._reader.is_alive():
                    raise self._failed(f"ended before it said {pattern!r}")
                if left <= 0:
                    raise self._failed(f"did not say {pattern!r} within {ANSWER_SECONDS:g} s")
                self._new.wait(min(left, 1.0))
            self._said = self._said[found.end() :]
        return found, time.monotonic_ns()

    def _failed(self, what: str) -> MachineError:
        lines = "\n  ".join(self._said.splitlines()[-_SAID_LINES:])
        return MachineError(f"{PROGRAM} {self.name} {what}; it said:\n  {lines}")

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._output, _READ_BYTES)
            except OSError:  # EIO: nobody has the terminal any more
                data = b""
            with self._new:
                self._said += data.decode(errors="replace").replace("\r", "")
                self._new.notify_all()
            if not data:
                return
