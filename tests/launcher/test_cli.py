"""The commands as a person types them: what they print, where, and the exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import pytest

from launcher import background, cli, service
from launcher.background import NotUp, Order, Up
from launcher.bench_launch import measure_launch
from launcher.prepare import prepare
from launcher.result import Result
from launcher.rundir import Holder, claim
from testbed.messages.entries import Plan
from tests.support.plans import flow, plan
from tests.support.roles import ROLES

ROOT = Path(__file__).parents[2]
SMALL = """
name: small
guests: {a: {memory: 4MiB}, b: {memory: 4MiB}}
workloads:
  - {kind: pktgen, from: a, to: b, count: 100}
  - {kind: rr, from: b, to: a, count: 10}
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Virtbed(Protocol):
    def __call__(self, *arguments: object) -> Said: ...


@pytest.fixture
def virtbed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run_parent: Path) -> Virtbed:
    """The command line in this process, its processes those of the tests."""
    monkeypatch.setattr("launcher.forkclient.ROLES", ROLES)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["virtbed", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(int(end.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\nguests: {a: {memory: 4MB}}\nworkload: []\n")
    return file


def _start(plan: Plan, **options: object) -> Up | NotUp:
    return background.start(Order(plan=plan, roles=ROLES, **options))  # type: ignore[arg-type]


@pytest.fixture
def running(virtbed: Virtbed) -> Iterator[str]:
    """A topology in the background, its workloads over."""
    guests = plan(["a", "b"], [flow(1, "a", "b")])
    assert isinstance(_start(guests), Up)
    yield guests.topology
    virtbed("down", guests.topology)


def test_run_prints_progress_and_the_result(virtbed: Virtbed, small: Path) -> None:
    said = virtbed("run", small)

    assert said.code == 0
    assert said.out.splitlines()[0] == "small: starting 1 vmm and 2 guests"
    assert "phase 2 of 2: rr b->a" in said.out
    assert "small: good, 2 of 2 flows good" in said.out.splitlines()[-1]


def test_run_json_on_standard_output_is_only_json(virtbed: Virtbed, small: Path) -> None:
    said = virtbed("run", small, "--json", "-")
    result = msgspec.json.decode(said.out, type=Result)

    assert (result.topology, result.exit_code, len(result.flows)) == ("small", 0, 2)
    assert "phase 1 of 2" in said.err


def test_run_json_to_a_file_leaves_the_table(virtbed: Virtbed, small: Path, tmp_path: Path) -> None:
    said = virtbed("run", small, "--json", tmp_path / "result.json")

    assert json.loads((tmp_path / "result.json").read_text())["exit_code"] == 0
    assert "2 of 2 flows good" in said.out


def test_run_quiet_says_nothing_when_all_is_good(virtbed: Virtbed, small: Path) -> None:
    assert virtbed("run", small, "--quiet") == (0, "", "")


def test_run_of_a_file_with_mistakes_tells_all_and_starts_nothing(
    virtbed: Virtbed, bad: Path, run_parent: Path
) -> None:
    said = virtbed("run", bad)

    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 2
    assert all(line.startswith(f"virtbed: {bad}:") for line in said.err.splitlines())
    assert list(run_parent.iterdir()) == []


def test_check_tells_the_same_mistakes(virtbed: Virtbed, bad: Path) -> None:
    assert virtbed("check", bad) == virtbed("run", bad)


def test_check_of_a_good_file(virtbed: Virtbed, small: Path) -> None:
    said = virtbed("check", small)

    assert said == (0, f"{small}: good: 1 host, 2 guests, 2 flows in 2 phases\n", "")


@pytest.mark.parametrize("command", ["run", "check", "plan", "up"])
def test_a_file_that_is_not_there_is_bad_input(virtbed: Virtbed, command: str) -> None:
    said = virtbed(command, "/no/such.yaml")

    assert (said.code, said.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("where", ["/dev/full", "/proc/version"])
def test_json_that_cannot_be_written_in_the_end_is_told_behind_the_table(
    virtbed: Virtbed, small: Path, where: str
) -> None:
    said = virtbed("run", small, "--json", where)

    assert said.code == 3
    assert "a->b" in said.out
    assert said.err.splitlines()[-1].startswith(f"virtbed: {where} cannot be written: ")


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "a", "b"], ["nothing"], ["stats"], ["bench", "launch", "--guests", "1"]]
)
def test_wrong_usage_is_bad_input(virtbed: Virtbed, arguments: list[str]) -> None:
    assert virtbed(*arguments).code == 2


def test_json_that_could_not_be_written_is_told_before_anything_starts(virtbed: Virtbed, small: Path) -> None:
    said = virtbed("run", small, "--json", "/no/such/directory/result.json")

    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("virtbed: --json: must be a file that can be written")


def test_a_topology_that_runs_already_is_refused(virtbed: Virtbed, small: Path) -> None:
    with claim(Holder("small", os.getpid())):
        said = virtbed("run", small, "--quiet")

    assert said.code == 2
    assert said.err == (
        f"virtbed: topology small is already running (pid {os.getpid()}); end it with: virtbed down small\n"
    )


def test_a_parent_directory_open_to_others_is_the_machines_fault(
    virtbed: Virtbed, small: Path, run_parent: Path
) -> None:
    run_parent.chmod(0o755)

    assert virtbed("run", small, "--quiet").code == 3


def test_plan_shows_processes_and_flows(virtbed: Virtbed, small: Path) -> None:
    said = virtbed("plan", small)

    for shown in ("vmm-h0", "4MiB", "stage2 (read)", "pktgen a->b", "100 frames", "full speed"):
        assert shown in said.out


def test_plan_as_json_is_the_plan(virtbed: Virtbed, small: Path) -> None:
    said = virtbed("plan", small, "--json", "-")

    assert msgspec.json.decode(said.out, type=Plan) == prepare(small)


def test_schema_is_json(virtbed: Virtbed) -> None:
    assert json.loads(virtbed("schema").out)["type"] == "object"


def test_clean_says_what_it_removed(virtbed: Virtbed, run_parent: Path) -> None:
    dead = run_parent / "dead"
    dead.mkdir()
    (dead / "lock").touch()

    assert virtbed("clean").out == f"removed {dead}\n"
    assert virtbed("clean").out == "nothing to remove\n"


def test_nothing_runs(virtbed: Virtbed) -> None:
    assert virtbed("ps").out == "no topology is running\n"
    assert virtbed("ps", "--json", "-").out == "[]\n"


@pytest.mark.parametrize("command", ["ps", "stats", "down"])
def test_a_topology_that_does_not_run_is_bad_input(virtbed: Virtbed, command: str) -> None:
    said = virtbed(command, "small")

    assert said == (2, "", "virtbed: no topology small is running; running now: none\n")


def test_up_ps_stats_down(virtbed: Virtbed, small: Path) -> None:
    up = virtbed("up", small)
    listed = virtbed("ps")
    counters = json.loads(virtbed("stats", "small", "--json", "-").out)
    down = virtbed("down", "small", "--json", "-")

    assert up.code == 0
    assert "small is up (pid " in up.out
    assert listed.out.splitlines()[-1].split()[0] == "small"
    assert set(counters) == {"vmm-h0", "a", "b"}
    assert msgspec.json.decode(down.out, type=Result).exit_code == down.code == 0
    assert virtbed("ps").out == "no topology is running\n"


def test_ps_of_one_shows_its_processes(virtbed: Virtbed, running: str) -> None:
    shown = json.loads(virtbed("ps", running, "--json", "-").out)
    table = virtbed("ps", running).out

    assert [(p["name"], p["state"]) for p in shown["processes"]] == [
        ("h0", "ready"),
        ("a", "ready"),
        ("b", "ready"),
    ]
    assert all(process["pss_bytes"] > 0 for process in shown["processes"])
    assert "Processes" in table


def test_stats_are_those_above_zero_unless_all_are_asked_for(virtbed: Virtbed, running: str) -> None:
    some = json.loads(virtbed("stats", running, "a", "--json", "-").out)
    every = json.loads(virtbed("stats", running, "a", "--all", "--json", "-").out)

    assert (some, every) == ({"a": {"frames": 7}}, {"a": {"frames": 7, "exits": 0}})
    assert virtbed("stats", running).out.split()[-3:] == ["b", "frames", "7"]


def test_stats_of_a_process_that_there_is_not(virtbed: Virtbed, running: str) -> None:
    said = virtbed("stats", running, "c")

    assert (said.code, said.err) == (2, "virtbed: topology small has no process c; it has h0, a, b\n")


def _script_pauses(monkeypatch: pytest.MonkeyPatch, pauses: list[Callable[[], object]]) -> None:
    """Have the watch do these, the last first, where it would pause."""

    def pause() -> None:
        pauses.pop()()

    monkeypatch.setattr("launcher.stats._pause", pause)


def test_stats_are_watched_until_the_topology_has_ended(
    virtbed: Virtbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(_start(plan(["a", "b"])), Up)
    pauses: list[Callable[[], object]] = [
        lambda: service.ask("small", service.Down(), Result),
        lambda: None,
    ]
    _script_pauses(monkeypatch, pauses)
    said = virtbed("stats", "small", "a", "--watch", "--json", "-")
    looks = [json.loads(line) for line in said.out.splitlines()]

    assert said.code == 0
    assert [look["counters"] for look in looks] == [{"a": {"frames": 7}}] * 2
    assert looks[1]["at_ns"] > looks[0]["at_ns"]


def test_a_watched_table_has_rates(virtbed: Virtbed, running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    pauses: list[Callable[[], object]] = [interrupt, lambda: None]
    _script_pauses(monkeypatch, pauses)
    said = virtbed("stats", running, "a", "--watch")

    assert said.code == 0
    assert said.out.splitlines()[-1].split() == ["a", "frames", "7", "-"]


def test_virtual_functions_are_listed_and_changed(virtbed: Virtbed, running: str) -> None:
    shown = json.loads(virtbed("vf", "list", running, "--json", "-").out)
    table = virtbed("vf", "list", running).out
    changed = virtbed("vf", "set", running, "nic0", "0", "link", "down", "rate", "100Mbit")

    assert [(vf["number"], vf["guest"]) for nic in shown["nics"] for vf in nic["vfs"]] == [(0, "a")]
    assert "02:00:00:00:00:01" in table
    assert (changed.code, changed.out, changed.err) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nic0", "1", "link", "up"), "there is one VF"),
        (("nix0", "0", "link", "up"), "topology small has no NIC nix0 (did you mean nic0?)"),
        (("nic0", "0", "link", "sideways"), "link: is up or down, not sideways"),
    ],
)
def test_a_change_that_cannot_be_is_told(
    virtbed: Virtbed, running: str, words: tuple[str, ...], said: str
) -> None:
    result = virtbed("vf", "set", running, *words)

    assert (result.code, result.err) == (2, f"virtbed: {said}\n")


def test_down_prints_the_result_and_leaves_nothing(virtbed: Virtbed, run_parent: Path) -> None:
    assert isinstance(_start(plan(["a", "b"], [flow(1, "a", "b")])), Up)
    said = virtbed("down", "small")

    assert said.code == 0
    assert "small: good" in said.out.splitlines()[-1]
    assert list(run_parent.iterdir()) == []


def test_the_result_of_a_background_run_can_go_to_a_file(virtbed: Virtbed, tmp_path: Path) -> None:
    where = tmp_path / "result.json"
    assert isinstance(_start(plan(["a", "b"]), json=str(where)), Up)
    virtbed("down", "small")

    assert json.loads(where.read_text())["topology"] == "small"


def test_up_twice_is_refused(virtbed: Virtbed, running: str) -> None:
    again = _start(plan(["a", "b"]))

    assert isinstance(again, NotUp)
    assert again.exit_code == 2
    assert "already running" in again.problems[0]


def test_up_of_what_does_not_come_up_says_why(run_parent: Path) -> None:
    answer = _start(plan(["a", "raises"]))

    assert isinstance(answer, NotUp)
    assert answer.exit_code == 3
    assert answer.problems[-1].strip() == "RuntimeError: the guest's kernel is upside down"


def test_up_does_not_take_standard_output_for_its_result(virtbed: Virtbed, small: Path) -> None:
    assert virtbed("up", small, "--json", "-").code == 2


def test_launch_bench_measures_every_guest(run_parent: Path) -> None:
    measured = measure_launch(3, "4MiB", ROLES)

    assert (measured.guests, measured.verified_frames, measured.result.exit_code) == (3, 3, 0)
    assert 0 < measured.ready_ms["p50"] <= measured.ready_ms["p99"]
    assert 0 < measured.pss_bytes_per_guest["mean"] <= measured.pss_bytes_per_guest["max"]
    assert measured.seconds_to_all_ready <= measured.seconds_to_all_verified


def test_launch_bench_as_json(virtbed: Virtbed) -> None:
    measured = json.loads(virtbed("bench", "launch", "-n", 2, "--memory", "4MiB", "--json", "-").out)

    assert (measured["schema"], measured["guests"], measured["verified_frames"]) == (1, 2, 2)


def test_help_does_not_import_what_it_does_not_need() -> None:
    script = (
        "import sys, launcher.cli; "
        "print([m for m in ('numpy', 'zmq', 'pydantic', 'uvloop', 'yaml') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert ended.stdout == "[]\n"


def test_a_reader_that_goes_away_is_no_traceback(small: Path) -> None:
    command = f"{sys.executable} -m launcher schema | head -c 1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)

    assert ended.stderr == ""
