"""Network namespaces of guests: programs run in them, and nothing of them outlives the topology."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from launcher import service
from launcher.netns_programs import inhabitants
from launcher.rundir import wait_until_free
from tests.support.launched import ROOT, Launched
from tests.support.peers import needs_namespaces

pytestmark = [pytest.mark.usefixtures("run_parent"), needs_namespaces]

LAB = """
name: lab
guests: {a: {memory: 16MiB}, b: {memory: 16MiB, nics: [{kind: e1000}]}, c: {memory: 16MiB}}
workloads:
  - {kind: netns, guest: a, address: 10.0.0.1/24}
  - {kind: netns, guest: b, address: 10.0.0.2/24}
"""
WITH_FLOW = LAB.replace("c: {memory: 16MiB}", "c: {memory: 16MiB}, d: {memory: 16MiB}").replace(
    "workloads:", "workloads:\n  - {kind: pktgen, from: c, to: d, count: 100}"
)
ENDED_SECONDS = 20.0
"""A safety net only."""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "launcher", *arguments]


def execute(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run `virtbed exec lab ...` to its end."""
    return subprocess.run(
        command("exec", "lab", *arguments), cwd=ROOT, input=text, capture_output=True, text=True, check=False
    )


def up(tmp_path: Path) -> Launched:
    """Return the topology once it runs; it stays, having namespaces and no flow."""
    launched = Launched(LAB, tmp_path)
    launched.until("ready in")
    return launched


def namespace_of(guest: str) -> int:
    at = service.ask("lab", service.Enter(guest), service.NamespaceAt)
    assert not at.problem
    return at.inode


def references(inodes: set[int]) -> list[str]:
    """Return what still leads to the namespaces: processes in them, descriptors of them."""
    targets = {f"net:[{inode}]" for inode in inodes}
    links = [*Path("/proc").glob("[0-9]*/ns/net"), *Path("/proc").glob("[0-9]*/fd/*")]
    return [str(link) for link in links if _target(link) in targets]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def daemon(guest: str) -> psutil.Process:
    """Start a program that leaves its parent and stays in the namespace."""
    started = execute(guest, "--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
    return psutil.Process(int(started.stdout))


def assert_emptied(inodes: set[int], programs: list[psutil.Process]) -> None:
    _gone, alive = psutil.wait_procs(programs, timeout=ENDED_SECONDS)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert references(inodes) == []


def test_a_program_has_the_network_of_its_guest_and_our_input_output_and_exit_code(tmp_path: Path) -> None:
    launched = up(tmp_path)
    address = execute("a", "--", "ip", "-o", "addr", "show", "eth0")
    link = execute("b", "ip", "-o", "link", "show", "eth0")
    piped = execute("a", "--", "sh", "-c", "cat; echo heard >&2; exit 7", text="said")
    ping = execute("a", "--", "ping", "-q", "-c", "20", "-i", "0.002", "10.0.0.2")
    plan = {p.name for p in launched.status("lab").processes}
    os.kill(launched.pid, signal.SIGINT)

    assert launched.end() == 130
    assert (address.returncode, "10.0.0.1/24" in address.stdout) == (0, True)
    assert "mtu 1500" in link.stdout
    assert (piped.returncode, piped.stdout, piped.stderr) == (7, "said", "heard\n")
    assert "20 received" in ping.stdout
    assert plan == {"vmm-h0", "a", "b", "c"}


def test_ctrl_c_ends_the_program_and_not_the_topology(tmp_path: Path) -> None:
    launched = up(tmp_path)
    sleeper = subprocess.Popen(
        command("exec", "lab", "a", "--", "sh", "-c", "echo runs; exec sleep 1000"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "runs\n"
        os.killpg(sleeper.pid, signal.SIGINT)

    assert sleeper.returncode == -signal.SIGINT
    assert execute("a", "true").returncode == 0
    os.kill(launched.pid, signal.SIGTERM)
    launched.end()


def test_what_cannot_be_run_is_told(tmp_path: Path) -> None:
    launched = up(tmp_path)
    cases = {
        ("c", "true"): (2, "guest c has no network namespace (only a, b): give it the workload"),
        ("d", "true"): (2, "topology lab has no guest d"),
        ("a", "--"): (2, "exec needs a program to run"),
        ("a", "no-such-program"): (127, "no-such-program: No such file or directory"),
        ("a", "/etc/passwd"): (126, "/etc/passwd: Permission denied"),
    }
    ended = {arguments: execute(*arguments) for arguments in cases}
    os.kill(launched.pid, signal.SIGTERM)
    launched.end()

    for arguments, (code, told) in cases.items():
        assert (ended[arguments].returncode, told in ended[arguments].stderr) == (code, True), arguments
    assert execute("a", "true").returncode == 2  # it runs no more


@pytest.mark.parametrize("victim", ["nobody", "launcher", "forkserver", "vmm-h0", "a"])
def test_programs_and_namespaces_go_with_the_topology_whoever_is_killed(tmp_path: Path, victim: str) -> None:
    launched = up(tmp_path)
    inodes = {namespace_of(guest) for guest in "ab"}
    programs = [daemon("a"), daemon("b")]
    inside = sorted(inhabitants(inodes))
    if victim == "a":
        os.kill(launched.pid_of("lab", "a"), signal.SIGKILL)
        launched.until("a (guest")
        devices = [execute(guest, "ip", "-o", "link").stdout for guest in "ab"]
        assert ["eth0" in device for device in devices] == [False, True]
        victim = "nobody"
    if victim in ("nobody", "launcher"):
        os.kill(launched.pid, signal.SIGINT if victim == "nobody" else signal.SIGKILL)
    else:
        os.kill(launched.pid_of("lab", victim), signal.SIGKILL)
    launched.end()
    wait_until_free("lab")

    assert inside == sorted(process.pid for process in programs)
    assert_emptied(inodes, programs)


def test_flows_end_a_run_that_has_namespaces_too(tmp_path: Path) -> None:
    launched = Launched(WITH_FLOW, tmp_path)
    assert launched.end() == 0
    result = launched.result()
    assert ([flow.received for flow in result.flows], result.died) == ([100], ())


def test_a_deleted_device_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    launched = up(tmp_path)
    execute("a", "ip", "link", "del", "eth0")
    launched.until("a.nic0: tap_gone")
    states = {process.name: process.state for process in launched.status("lab").processes}
    os.kill(launched.pid, signal.SIGTERM)
    launched.end()

    assert set(states.values()) == {"ready"}


@pytest.mark.parametrize("how", ["run", "up"])
def test_without_the_right_to_make_namespaces_nothing_is_started(tmp_path: Path, how: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(LAB)
    powerless = ["setpriv", "--bounding-set", "-sys_admin,-net_admin", *command(how, str(file))]
    ended = subprocess.run(powerless, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 3
    assert "workloads of kind netns need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)" in ended.stderr
    assert ended.stdout == ""
