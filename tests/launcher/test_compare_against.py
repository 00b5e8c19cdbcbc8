"""One comparison against another: what differs by more than it may, and what is worse."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from launcher.cli import app
from launcher.compare_against import BETTER_IS_MORE, against, read_comparison
from launcher.compare_result import SCHEMA, Comparison, Measured
from launcher.compare_ways import WAYS
from launcher.spread import Spread
from testbed.errors import ConfigError
from tests.launcher.comparisons import comparison

JUDGED_OF_A_WAY = 6 * 2 + 2 * 2
"""A rate and CPU time of each frame size at each place; a round trip and CPU time at two places."""


def at_speed(made: Comparison, factor: float, loop: float) -> Comparison:
    """Return it as a machine would find it that is `factor` times as fast, and `loop` times by the loop."""

    def scaled(measured: Measured) -> Measured:
        figures = dict(measured.figures)
        for name, better_is_more in BETTER_IS_MORE.items():
            if name in figures:
                times = factor if better_is_more else 1 / factor
                figures[name] = Spread.of(value * times for value in figures[name].values)
        return msgspec.structs.replace(measured, figures=figures)

    ways = {
        name: msgspec.structs.replace(way, measured=tuple(scaled(one) for one in way.measured))
        for name, way in made.ways.items()
    }
    speed = Spread.of(value * loop for value in made.machine_speed.values)
    return msgspec.structs.replace(made, ways=ways, machine_speed=speed)


def test_a_comparison_against_itself_differs_in_nothing() -> None:
    found = against(comparison(), comparison(), 0)
    assert len(found.all) == len(WAYS) * JUDGED_OF_A_WAY
    assert found.beyond == ()
    assert found.problems == ()
    assert found.machine == 1


def test_what_is_slower_by_more_than_it_may_is_a_problem_and_what_is_faster_is_told() -> None:
    slower = against(comparison(), comparison(factor=0.5), 20)
    passed = [name for name, way in WAYS.items() if way.method == "passthrough"]
    assert {one.way for one in slower.beyond} == set(passed)
    assert len(slower.beyond) == len(slower.problems) == len(passed) * JUDGED_OF_A_WAY
    assert "frames/s: was 3e+06, is 1.5e+06: 0.5 times that" in " ".join(slower.problems)
    faster = against(comparison(factor=0.5), comparison(), 20)
    assert len(faster.beyond) == len(slower.beyond)
    assert faster.problems == ()


@pytest.mark.parametrize(("percent", "differ"), [(24.9, True), (25.1, False)])
def test_how_much_is_too_much_is_the_greater_by_the_smaller(percent: float, differ: bool) -> None:
    found = against(comparison(), comparison(factor=0.8), percent)
    assert bool(found.beyond) == differ


def test_what_all_methods_have_in_common_is_the_machine_s_and_taken_off() -> None:
    before, after = comparison(), at_speed(comparison(), 0.7, loop=0.75)
    found = against(before, after, 20)
    assert found.machine == pytest.approx(0.7)
    assert found.beyond == ()
    assert found.problems == ()


def test_what_all_methods_have_in_common_may_not_be_slower_than_the_machine_is() -> None:
    found = against(comparison(), at_speed(comparison(), 0.7, loop=1), 20)
    assert found.beyond == ()
    assert (
        "all methods together are 0.7 times as fast, a fixed loop on this machine 1 times"
        in found.problems[0]
    )


def test_the_loop_says_how_fast_the_machine_is_where_a_method_is_missing() -> None:
    after = at_speed(comparison(), 0.7, loop=0.75)
    virtio = {name: way for name, way in after.ways.items() if way.method == "paravirtual"}
    found = against(comparison(), msgspec.structs.replace(after, ways=virtio), 20)
    assert found.machine == found.loop == pytest.approx(0.75)
    assert len(found.all) == len(virtio) * JUDGED_OF_A_WAY
    assert found.problems == ()


def written(file: Path, factor: float) -> str:
    file.write_bytes(msgspec.json.encode(comparison(factor)))
    return str(file)


def test_the_command_sets_two_files_against_each_other(tmp_path: Path) -> None:
    good, bad = written(tmp_path / "good.json", 1), written(tmp_path / "bad.json", 0.7)
    run = CliRunner().invoke
    same = run(app, ["compare", "--from", good, "--against", good])
    worse = run(app, ["compare", "--from", bad, "--against", good])
    allowed = run(app, ["compare", "--from", bad, "--against", good, "--within", "50"])
    better = run(app, ["compare", "--from", good, "--against", bad])
    assert [one.exit_code for one in (same, worse, allowed, better)] == [0, 1, 0, 0]
    assert "128 of 128 medians within 20 %" in same.output
    assert "64 of 128 medians within 20 %" in worse.output


def test_an_earlier_comparison_is_made_into_a_report_again(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = CliRunner().invoke(
        app, ["compare", "--from", written(tmp_path / "one.json", 1), "--html", str(report)]
    )
    assert done.exit_code == 0
    assert "Emulation, paravirtualization, passthrough" in report.read_text()


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not JSON"])
def test_a_file_that_is_no_comparison_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="must be what virtbed compare --json wrote"):
        read_comparison(file)


def test_a_comparison_of_another_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(comparison(), schema=SCHEMA - 1)))
    with pytest.raises(ConfigError, match=f"schema {SCHEMA}, not {SCHEMA - 1}"):
        read_comparison(file)
