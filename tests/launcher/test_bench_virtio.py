"""The benches of virtio and of rr: what they run, what they say, and that they leave nothing behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.bench_virtio import Settings, plan_for, topology
from launcher.peers import cpus_of, testpmd
from testbed.errors import ConfigError
from testbed.messages.entries import GuestEntry, VirtioNetEntry

ROOT = Path(__file__).parents[2]
NO_DPDK = shutil.which(testpmd.PROGRAM) is None and os.environ.get("CI") != "true"
needs_dpdk = pytest.mark.skipif(NO_DPDK, reason=f"{testpmd.PROGRAM} is not installed (Debian: dpdk-dev)")
SHORT = ("--seconds", "0.3", "--pairs", "1")

pytestmark = pytest.mark.usefixtures("run_parent")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def measured(*arguments: str) -> dict[str, Any]:
    done = bench(*arguments, *SHORT, "--json", "-")
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("path", ["sink", "echo", "forward"])
@pytest.mark.parametrize("ring", ["split", "packed"])
def test_each_path_is_measured(path: str, ring: str) -> None:
    figures = measured("virtio", "--path", path, "--ring", ring, "--frame", "200")

    rate = figures["frames_per_second"]
    assert 0 < rate["min"] == rate["median"] == rate["max"] == rate["values"][0]
    assert figures["bits_per_second"]["median"] == pytest.approx(rate["median"] * 200 * 8, rel=1e-3)
    assert (figures["settings"]["path"], figures["settings"]["ring"]) == (path, ring)
    assert figures["machine"]["cpus"] >= 1
    assert not {"ratio_to_peer", "ratio_to_limit", "latency_us"} & set(figures)


@pytest.mark.parametrize("path", ["sink", "echo", "forward"])
def test_each_path_has_a_limit(path: str) -> None:
    figures = measured("virtio", "--path", path, "--limit", "--no-verify")

    ratio = figures["frames_per_second"]["median"] / figures["limit_frames_per_second"]["median"]
    assert figures["ratio_to_limit"]["median"] == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize("path", ["sink", "forward"])
def test_several_queues_have_a_flow_each(path: str) -> None:
    figures = measured("virtio", "--path", path, "--queues", "2", "--no-verify")

    assert figures["frames_per_second"]["median"] > 0


def test_one_frame_in_flight_is_latency() -> None:
    figures = measured("virtio", "--path", "echo", "--in-flight", "1", "--limit", "--poll", "forever")

    latency = figures["latency_us"]
    assert 0 < latency["p50"]["median"] <= latency["p99"]["median"] <= latency["p999"]["median"]


def test_rr_is_measured_beside_bare_wake_ups() -> None:
    figures = measured("rr")

    ratio = figures["latency_us"]["p50"]["median"] / figures["wakeups_us"]["median"]
    assert figures["ratio_to_wakeups"]["median"] == pytest.approx(ratio, rel=1e-3)


def test_dma_requests_are_measured_beside_a_bare_ring() -> None:
    figures = measured("dma")

    ratio = figures["requests_per_second"]["median"] / figures["bare_per_second"]["median"]
    assert figures["ratio_to_bare"]["median"] == pytest.approx(ratio, rel=1e-3)
    assert 0 < figures["hit_ns"]["median"] <= figures["serve_ns"]["median"]
    assert figures["hit_ns"]["median"] <= figures["miss_ns"]["median"]


@needs_dpdk
@pytest.mark.parametrize("path", ["sink", "echo", "forward"])
def test_the_peer_runs_the_same_path(path: str) -> None:
    figures = measured("virtio", "--path", path, "--ring", "packed", "--peer", "dpdk")

    ratio = figures["frames_per_second"]["median"] / figures["peer_frames_per_second"]["median"]
    assert figures["ratio_to_peer"]["median"] == pytest.approx(ratio, rel=1e-3)


@needs_dpdk
def test_the_peer_has_one_frame_in_flight_too() -> None:
    figures = measured("virtio", "--path", "echo", "--in-flight", "1", "--peer", "dpdk")

    assert figures["peer_round_trip_us"]["median"] > 0


def test_bounds_decide_the_exit_code_and_a_table_is_printed() -> None:
    paths = ("virtio", "--path", "sink", *SHORT)
    kept = bench(*paths, "--at-least", "frames_per_second=1")
    not_kept = bench(*paths, "--at-most", "frames_per_second=1")

    assert kept.returncode == 0
    assert "Mframe/s" in kept.stdout
    assert not_kept.returncode == 1
    assert "frames_per_second must be at most 1, and its median is" in not_kept.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--at-least", "speed=1"), "--at-least: speed is not measured here"),
        (("--poll", "often"), "poll"),
        (("--frame", "10"), "frame size without FCS from 60 to 9014"),
        (("--frame", "9000"), "does not fit nic0 of guest sender"),
        (("--queue-size", "12"), "must be a power of two"),
        (("--in-flight", "1"), "--in-flight: must be 1, with --path echo"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_started(arguments: tuple[str, ...], line: str) -> None:
    done = bench("virtio", "--path", "sink", *arguments)

    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_peer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = bench("virtio", "--path", "sink", "--peer", "dpdk")

    assert done.returncode == 3
    assert "apt-get install dpdk dpdk-dev" in done.stderr


def test_the_topology_is_an_ordinary_one() -> None:
    plan = plan_for(Settings(path="echo", ring="packed", in_order=True, queues=2, poll="0"))
    guest = plan.processes[1].entry

    assert isinstance(guest, GuestEntry)
    nic = guest.nics[0]
    assert isinstance(nic, VirtioNetEntry)
    assert (guest.poll_ns, nic.backend, nic.queue_pairs) == (0, "echo", 2)
    assert [flow.comes_back for flow in plan.phases[0]] == [True, True]


@pytest.mark.parametrize(("pin", "told"), [(True, [[0], [1], [1]]), (False, [None, None, None])])
def test_processes_are_pinned_or_left_to_the_topology(
    pin: bool, told: list[list[int] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    written = topology(Settings(path="forward", pin=pin))

    places = [written["hosts"]["h0"], *written["guests"].values()]
    assert [place.get("cpus") for place in places] == told


@pytest.mark.parametrize(
    ("there", "places"),
    [({0}, [0, 0, 0]), ({0, 1}, [0, 1, 1]), ({2, 5, 7}, [2, 5, 7]), ({0, 1, 2, 3}, [0, 1, 2])],
)
def test_the_back_end_has_a_processor_for_itself(
    there: set[int], places: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: there)

    assert cpus_of("forward") == places
    assert cpus_of("sink") == cpus_of("echo") == places[:2]


def test_one_frame_in_flight_needs_an_echo() -> None:
    with pytest.raises(ConfigError, match="must be 1, with --path echo"):
        plan_for(Settings(path="forward", in_flight=1))


@needs_dpdk
@pytest.mark.parametrize("ring", ["split", "packed"])
def test_the_vhost_user_back_end_is_measured_beside_dpdks(ring: str) -> None:
    figures = measured("vhost-user", "--ring", ring)

    ratio = figures["frames_per_second"]["median"] / figures["peer_frames_per_second"]["median"]
    assert figures["ratio_to_peer"]["median"] == pytest.approx(ratio, rel=1e-3)
