"""Real guests, vmm and launcher.

Traffic arrives, each process touches only what is its own, nothing is left.
"""

import os
import re
import signal
from pathlib import Path

import pytest

from launcher import background, service
from launcher.background import NotUp, Order, Up
from launcher.bench_launch import measure_launch
from launcher.planner import plan_topology
from launcher.result import Result
from launcher.rundir import wait_until_free
from launcher.topology import parse_topology
from tests.support.launched import ROOT, Launched

pytestmark = pytest.mark.usefixtures("run_parent")

CAPTURE = ROOT / "configs/captures/lan-mix.pcap"
CAPTURE_FRAMES = 11_058
ENDLESS = """
name: {name}
guests: {{a: {{memory: 16MiB}}, b: {{memory: 16MiB}}, c: {{memory: 16MiB}}, d: {{memory: 16MiB}}}}
workloads:
  - - {{kind: pktgen, from: a, to: b, duration: 60s, rate: 1000}}
    - {{kind: pktgen, from: c, to: d, count: 500, rate: 1000}}
"""
EVERY_KIND = f"""
name: kinds
guests: {{a: {{memory: 16MiB}}, b: {{memory: 16MiB}}}}
workloads:
  - {{kind: replay, from: a, to: b, pcap: {CAPTURE}}}
  - - {{kind: pktgen, from: a, to: b, count: 20000}}
    - {{kind: pktgen, from: b, to: a, frame: imix, count: 20000}}
  - {{kind: rr, from: a, to: b, count: 50}}
"""
BESIDE = """
name: beside
hosts: {h0: {nics: {nic0: {vfs: 2}}}}
guests:
  a: {memory: 16MiB, poll: 0, nics: [{kind: virtio-net}, {kind: vf, nic: nic0}]}
  b: {memory: 16MiB, poll: 0, nics: [{kind: e1000}, {kind: vf, nic: nic0}]}
workloads:
  - - {kind: rr, from: a.nic0, to: b.nic0, count: 50}
    - {kind: rr, from: b.nic0, to: a.nic0, count: 50}
    - {kind: pktgen, from: b.nic0, to: a.nic0, count: 5000}
    - {kind: pktgen, from: a.nic0, to: b.nic0, count: 5000}
    - {kind: rr, from: a.nic1, to: b.nic1, count: 50}
    - {kind: pktgen, from: b.nic1, to: a.nic1, count: 5000}
"""


def test_requests_are_answered_beside_floods_that_leave_no_buffer(tmp_path: Path) -> None:
    launched = Launched(BESIDE, tmp_path)
    code = launched.end()
    result = launched.result()

    assert [flow.name for flow in result.flows if not flow.good] == []
    assert (code, result.died, result.reports, result.error) == (0, (), (), None)


def test_every_kind_of_workload_arrives_whole(tmp_path: Path) -> None:
    launched = Launched(EVERY_KIND, tmp_path)
    code = launched.end()
    result = launched.result()

    assert (code, result.died, result.reports, result.error) == (0, (), (), None)
    assert [(flow.kind, flow.sent, flow.received) for flow in result.flows] == [
        ("replay", CAPTURE_FRAMES, CAPTURE_FRAMES),
        ("pktgen", 20_000, 20_000),
        ("pktgen", 20_000, 20_000),
        ("rr", 50, 50),
    ]
    assert all(flow.good for flow in result.flows)
    assert result.flows[-1].latency_us is not None
    assert all(process.cpu_seconds > 0 and process.pss_bytes for process in result.processes)


@pytest.mark.parametrize("victim", ["vmm-h0", "a", "b", "c", "forkserver"])
def test_whoever_is_killed_is_named_and_nothing_is_left(tmp_path: Path, victim: str) -> None:
    launched = Launched(ENDLESS.format(name="killed"), tmp_path)
    launched.until("phase 1 of 1")
    os.kill(launched.pid_of("killed", victim), signal.SIGKILL)
    if victim == "c":
        launched.until("c->d failed")
        os.kill(launched.pid, signal.SIGINT)
    code = launched.end()
    result = launched.result()

    assert code == result.exit_code == (130 if victim == "c" else 3)
    assert [(died.name, died.signal) for died in result.died] == [(victim, "SIGKILL")]
    failed = {flow.name: flow.failed for flow in result.flows}
    assert failed["pktgen a->b"] == ("interrupted" if victim == "c" else f"{victim} killed by SIGKILL")


def test_the_others_go_on_when_a_guest_is_killed(tmp_path: Path) -> None:
    launched = Launched(ENDLESS.format(name="bystanders"), tmp_path)
    launched.until("phase 1 of 1")
    os.kill(launched.pid_of("bystanders", "a"), signal.SIGKILL)
    launched.end()

    assert {flow.name: flow.received for flow in launched.result().flows if flow.good} == {"pktgen c->d": 500}


@pytest.mark.parametrize("stopped", [None, "b", "vmm-h0"])
def test_the_death_of_the_launcher_ends_everything(tmp_path: Path, stopped: str | None) -> None:
    launched = Launched(ENDLESS.format(name="orphans"), tmp_path)
    launched.until("phase 1 of 1")
    if stopped:
        os.kill(launched.pid_of("orphans", stopped), signal.SIGSTOP)
    os.kill(launched.pid, signal.SIGKILL)

    assert launched.end() == -signal.SIGKILL


def test_ctrl_c_of_a_terminal_is_an_orderly_stop(tmp_path: Path) -> None:
    launched = Launched(ENDLESS.format(name="ctrlc"), tmp_path)
    launched.until("c->d: 500 frames")
    os.killpg(launched.pid, signal.SIGINT)
    code = launched.end()
    result = launched.result()

    assert (code, result.interrupted, result.died) == (130, True, ())
    assert {flow.name: (flow.good, flow.failed) for flow in result.flows} == {
        "pktgen a->b": (False, "interrupted"),
        "pktgen c->d": (True, None),
    }


def test_ctrl_c_while_processes_start_is_an_orderly_stop(tmp_path: Path) -> None:
    launched = Launched(ENDLESS.format(name="early"), tmp_path)
    launched.until("starting 1 vmm")
    os.kill(launched.pid, signal.SIGINT)

    assert launched.end() == 130
    assert launched.result().died == ()


def test_two_topologies_run_at_the_same_time_and_a_name_once(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one = Launched(ENDLESS.format(name="one"), tmp_path / "1")
    one.until("phase 1 of 1")
    other = Launched(EVERY_KIND, tmp_path / "2")
    again = Launched(ENDLESS.format(name="one"), tmp_path)

    assert (other.end(), again.end()) == (0, 2)
    os.kill(one.pid, signal.SIGTERM)
    assert one.end() == 128 + signal.SIGTERM


def _shared_memory(pid: int) -> dict[str, str]:
    """Return the most rights that a process has to each of our segments that it maps, by inode."""
    mapped = re.findall(
        r"^\S+ (\S+) \S+ \S+ (\d+) +/dev/shm/virtbed-\S+ \(deleted\)$",
        Path(f"/proc/{pid}/maps").read_text(),
        re.MULTILINE,
    )
    return {inode: rights for rights, inode in sorted(mapped)}  # "r--s" is before "rw-s"


def _open_segments(pid: int) -> set[str]:
    descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    ours = [fd for fd in descriptors if "/dev/shm/virtbed-" in str(fd.readlink())]
    return {str(fd.stat().st_ino) for fd in ours}


def test_a_process_can_touch_only_what_is_its_own(tmp_path: Path) -> None:
    launched = Launched(ENDLESS.format(name="apart"), tmp_path)
    launched.until("phase 1 of 1")
    pids = {process.name: process.pid for process in launched.status("apart").processes}
    maps = {name: _shared_memory(pid) for name, pid in {**pids, "launcher": launched.pid}.items()}
    opened = {name: _open_segments(pid) for name, pid in pids.items()}
    os.kill(launched.pid, signal.SIGTERM)
    launched.end()

    guests = [maps[name] for name in "abcd"]
    # RAM, vCPU page, counters and trace ring; the tables of stage 2 are for the vmm to write.
    assert [sorted(guest.values()) for guest in guests] == [["r--s", "rw-s", "rw-s", "rw-s", "rw-s"]] * 4
    assert len({inode for guest in guests for inode in guest}) == 20
    of_launcher = maps["launcher"]  # counters to read, and the page of each trace ring that turns it on
    assert sorted(of_launcher.values()) == ["r--s"] * 5 + ["rw-s"] * 5
    assert all(
        sorted(of_launcher[inode] for inode in set(of_launcher) & set(guest)) == ["r--s", "rw-s"]
        for guest in guests
    )
    assert all(opened[name] <= set(maps[name]) for name in "abcd")


def test_up_runs_in_the_background_until_down() -> None:
    plan = plan_topology(parse_topology(EVERY_KIND))
    up = background.start(Order(plan=plan))
    assert isinstance(up, Up)
    session = os.getsid(up.pid)
    again = background.start(Order(plan=plan))
    result = service.ask("kinds", service.Down(), Result)
    wait_until_free("kinds")

    assert isinstance(again, NotUp)
    assert session == up.pid
    assert (result.died, result.error, result.exit_code) == ((), None, 0)


def test_guests_in_a_ring_each_pass_a_verified_frame() -> None:
    measured = measure_launch(12, "16MiB")

    assert (measured.guests, measured.verified_frames, measured.result.exit_code) == (12, 12, 0)
