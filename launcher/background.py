"""A topology that runs without a terminal: how `virtbed up` starts its launcher, and that launcher's main.

The launcher gets a session of its own, so it outlives the terminal. It takes the plan, checked already, from
an inherited memory file and answers once through a pipe: up, or why not. Then its output goes to
`launcher.log` in the run directory. Reference: daemon(7), memfd_create(2). Not modelled: restart
after a reboot.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import uvloop
from rich.text import Text

from launcher import rundir
from launcher.forkclient import ROLES, environment
from launcher.live import PlainView
from launcher.output import write_json
from launcher.result import ExitCode, Result
from launcher.run import Run
from launcher.rundir import Holder
from launcher.table import console, problem_lines
from testbed.errors import ConfigError, VirtbedError
from testbed.messages.entries import Plan

LOG_NAME: Final = "launcher.log"
_OUTPUTS: Final = (1, 2)


class Up(msgspec.Struct, frozen=True, tag=True):
    """Every process is ready."""

    pid: int


class NotUp(msgspec.Struct, frozen=True, tag=True):
    """The topology is not up, and why."""

    problems: tuple[str, ...]
    exit_code: int


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the launcher in the background is told."""

    plan: Plan
    file: str = ""
    workloads: bool = True
    json: str = ""
    """Where to write the result when the topology has ended."""
    roles: Mapping[str, str] = msgspec.field(default_factory=lambda: dict(ROLES))


def start(order: Order) -> Up | NotUp:
    """Start a launcher in the background and return when its topology is up, or is not going to be."""
    reader, writer = os.pipe()
    orders = os.memfd_create("virtbed-order")
    with os.fdopen(reader, "rb") as answers:
        with os.fdopen(orders, "w+b") as file, os.fdopen(writer, "wb"):
            file.write(msgspec.json.encode(order))
            file.seek(0)
            _start_process(orders, writer)
        line = answers.readline()
    if not line:
        return NotUp(("the launcher in the background ended before its topology was up",), ExitCode.MACHINE)
    return msgspec.json.decode(line, type=Up | NotUp)


def _start_process(orders: int, answer: int) -> None:
    arguments = ["--order", str(orders), "--answer", str(answer)]
    subprocess.run(
        [sys.executable, "-P", "-m", "launcher.background", *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=(orders, answer),
        env=environment(),
        check=True,
    )


def _leave_terminal() -> None:
    """Go on in a child with a session of its own, on which no terminal and no parent has a hold."""
    if os.fork():
        os._exit(0)
    os.setsid()


class Announcer(PlainView):
    """Answers once, and lets go of the terminal when the topology is up."""

    def __init__(self, answer: BinaryIO, run_dir: Path, json: str) -> None:
        super().__init__(console())
        self._answer = answer
        self._run_dir = run_dir
        self._json = json

    def begin(self, run: Run) -> None:
        self._run = run

    def ready(self, processes: int, seconds: float) -> None:
        super().ready(processes, seconds)
        sys.stdout.flush()
        log = os.open(self._run_dir / LOG_NAME, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for descriptor in _OUTPUTS:
            os.dup2(log, descriptor)
        os.close(log)
        self.answer(Up(os.getpid()))

    async def end(self, result: Result) -> None:
        write_json(result, self._json)
        problems = tuple(Text.from_markup(line).plain for line in problem_lines(result))
        self.answer(NotUp(problems or ("it was stopped before it was up",), result.exit_code))

    def answer(self, answer: Up | NotUp) -> None:
        """Tell whoever started us, once; end the run when nobody waits for the answer any more."""
        if self._answer.closed:
            return
        try:
            with self._answer:
                self._answer.write(msgspec.json.encode(answer) + b"\n")
        except BrokenPipeError:
            self._run.stop("nobody waits for it any more")


async def _run(order: Order, answer: BinaryIO) -> Result:
    holder = Holder(order.plan.topology, os.getpid(), "up", time.time(), order.file)
    with rundir.claim(holder) as directory:
        announcer = Announcer(answer, directory.path, order.json)
        run = Run(order.plan, directory, announcer, workloads=order.workloads, stay=True, roles=order.roles)
        return await run.execute()


def main() -> int:
    """Run the topology that was ordered until it is taken down, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--order", type=int, required=True)
    parser.add_argument("--answer", type=int, required=True)
    arguments = parser.parse_args()
    _leave_terminal()
    with os.fdopen(arguments.order, "rb") as file:
        order = msgspec.json.decode(file.read(), type=Order)
    answer = os.fdopen(arguments.answer, "wb")
    try:
        return uvloop.run(_run(order, answer)).exit_code
    except VirtbedError as error:
        code = ExitCode.BAD_INPUT if isinstance(error, ConfigError) else ExitCode.MACHINE
        with answer:
            answer.write(msgspec.json.encode(NotUp(tuple(str(error).splitlines()), code)) + b"\n")
        return code


if __name__ == "__main__":
    sys.exit(main())
