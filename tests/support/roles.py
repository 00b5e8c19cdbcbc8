"""Roles for the launcher's tests: processes that obey the control messages without a device or a vCPU.

What a guest does beyond that is in its name: `raises`, `exits`, `hangs`, `babbles`, ... so that one topology
can hold several kinds.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import zmq

from testbed.messages.control import (
    Collect,
    Expect,
    Expecting,
    Failed,
    FromProcess,
    GuestReport,
    NicState,
    Ready,
    Received,
    Sent,
    SetVf,
    ShowVfs,
    Start,
    Stop,
    ToProcess,
    VfSet,
    VfState,
    VfStates,
)
from testbed.messages.entries import FlowEntry, ProcessPlan

ROLES: Final = {"vmm": "tests.support.roles:main", "guest": "tests.support.roles:main"}
FRAMES: Final = 1000
NIC: Final = NicState(
    name="nic0",
    link_up=True,
    vfs=(
        VfState(
            number=0,
            guest="a",
            mac="02:00:00:00:00:01",
            vlan=7,
            rate_bits_per_second=10**9,
            spoof_check=True,
            drop=False,
            trust=False,
            link=True,
            running=True,
            resets=1,
            messages=10,
            refused=0,
            throttled=0,
            spoof_events=0,
        ),
    ),
)
"""What a vmm says it has."""
SECONDS: Final = 0.5


class Peer:
    """One process: its socket, and the flows it knows."""

    def __init__(self, plan: ProcessPlan, run_dir: str) -> None:
        self.name = plan.name
        self.flows: dict[int, FlowEntry] = {}
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.set(zmq.IDENTITY, plan.name.encode())
        self._socket.connect(f"ipc://{run_dir}/control")

    def say(self, message: FromProcess) -> None:
        self._socket.send(msgspec.json.encode(message))

    def babble(self) -> None:
        self._socket.send(b"{not a message")

    def leave(self) -> None:
        """Close the socket once all that was said is on its way."""
        self._socket.close()
        zmq.Context.instance().term()

    def hear(self) -> ToProcess:
        message: ToProcess = msgspec.json.decode(self._socket.recv(), type=ToProcess)
        return message

    def answer(self, message: ToProcess) -> None:
        match message:
            case Expect(flow=flow):
                self.flows[flow.id] = flow
                self.say(Expecting(flow_id=flow.id))
            case Start(flow=flow):
                self._send(flow)
            case Collect(flow_id=flow_id, sent=sent):
                self._collect(self.flows[flow_id], sent)
            case ShowVfs(request_id=request_id):
                self.say(VfStates(request_id=request_id, nics=(NIC,)))
            case SetVf(request_id=request_id, number=number):
                self.say(VfSet(request_id=request_id, refused="" if number == 0 else "there is one VF"))

    def _send(self, flow: FlowEntry) -> None:
        sent = flow.count or FRAMES
        latency = {"p50": 20_000, "p99": 50_000, "p999": 90_000} if flow.kind == "rr" else None
        self.say(Sent(flow_id=flow.id, sent=sent, answered=sent, seconds=SECONDS, latency_ns=latency))

    def _collect(self, flow: FlowEntry, sent: int) -> None:
        lost = 3 if self.name.startswith("loses") else 0
        self.say(
            Received(
                flow_id=flow.id,
                received=sent - lost,
                reordered=0,
                corrupted=0,
                duplicated=0,
                bytes=(sent - lost) * 60,
                seconds=SECONDS,
            )
        )


def _count(plan: ProcessPlan, descriptors: dict[str, int]) -> None:
    """Count something in the process's own page, as a real process does."""
    os.pwrite(descriptors[f"{plan.name}.counters"], (7).to_bytes(8, "little"), 0)


def _before_ready(name: str, run_dir: str) -> None:
    if name.startswith("raises"):
        raise RuntimeError("the guest's kernel is upside down")
    if name.startswith("exits"):
        sys.exit(5)
    if name.startswith("hangs"):
        signal.pause()
    if name.startswith("lists"):
        _list_descriptors(name, run_dir)


def _list_descriptors(name: str, run_dir: str) -> None:
    """Write what this process has open where the test finds it."""
    lines = [f"{fd.name} {fd.readlink()}" for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    Path(run_dir, f"{name}.descriptors").write_text("\n".join(lines))


def _on(peer: Peer, message: ToProcess) -> None:
    """Do what the process's name says when it is to send."""
    if not isinstance(message, Start):
        return
    if peer.name.startswith("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if peer.name.startswith("fails"):
        peer.say(Failed(reason="the capture is unreadable"))
        peer.leave()
        sys.exit(3)
    if peer.name.startswith("babbles"):
        peer.babble()
        signal.pause()
    if peer.name.startswith("reports"):
        peer.say(GuestReport(guest=peer.name, device="reports.nic0", reason="ring_error", detail="loop"))
    if peer.name.startswith("sleeps"):
        signal.pause()


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Be a vmm or a guest."""
    _before_ready(plan.name, run_dir)
    _count(plan, descriptors)
    peer = Peer(plan, run_dir)
    peer.say(Ready(at_ns=time.monotonic_ns()))
    while not isinstance(message := peer.hear(), Stop):
        _on(peer, message)
        peer.answer(message)
    if plan.name.startswith("stays"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
