"""The lecture's table: what experiments come to, and where the cells say that they disagree."""

import pytest

from launcher.code_size import Lines, code_size, is_code
from launcher.compare_order import order_of
from launcher.compare_result import Cell, Lecture
from launcher.compare_ways import METHODS, Method
from launcher.experiments import Boot, Findings, Hardware, Interposed, refusal, topology
from launcher.lecture import make_lecture
from tests.launcher.comparisons import ways

SIZES: dict[Method, Lines] = {
    "emulated": Lines(2600, 0),
    "paravirtual": Lines(1300, 0),
    "passthrough": Lines(0, 2100),
}


def findings(*, hidden: int = 0) -> Findings:
    return Findings(
        boots={
            "emulated": Boot(True, ""),
            "paravirtual": Boot(False, "no driver"),
            "passthrough": Boot(False, "no driver"),
        },
        interposed={
            "emulated": Interposed(500, 500, 500),
            "paravirtual": Interposed(500, 500 - hidden, 500),
            "passthrough": Interposed(500, 0, 0, "never pass the vmm"),
        },
        hardware={
            "emulated": Hardware(True),
            "paravirtual": Hardware(True),
            "passthrough": Hardware(False, {"SR-IOV": "raise its vfs"}),
        },
    )


def table(*, factor: float = 1.0, hidden: int = 0) -> Lecture:
    measured = ways(factor)
    return make_lecture(measured, order_of(measured), findings(hidden=hidden), SIZES)


def cell(lecture: Lecture, row: str, method: Method) -> Cell:
    return next(each for each in lecture.rows if each.name == row).cells[method]


def test_every_cell_has_evidence_and_what_disagrees_says_why() -> None:
    for row in table().rows:
        assert set(row.cells) == set(METHODS)
        for one in row.cells.values():
            assert one.evidence
            assert one.agrees or one.why


def test_performance_is_the_measured_order_and_not_the_lectures() -> None:
    assert cell(table(), "performance", "passthrough").found == "good"
    slow = cell(table(factor=0.1), "performance", "passthrough")
    assert (slow.found, slow.agrees) == ("medium", False)


def test_virtio_needs_a_driver_and_no_other_change() -> None:
    found = cell(table(), "guest's kernel must be changed", "paravirtual")
    assert (found.found, found.agrees) == ("a driver", False)


def test_set_up_of_passthrough_is_counted_and_told() -> None:
    found = cell(table(), "complexity of the VMM", "passthrough")
    assert (found.found, found.agrees) == ("low", False)
    assert "2,100 lines" in found.why


def test_a_capture_that_misses_a_frame_is_no_interposition() -> None:
    assert cell(table(), "interposition", "paravirtual").found == "yes"
    assert cell(table(hidden=1), "interposition", "paravirtual").found == "no"


@pytest.mark.parametrize(
    ("line", "code"), [("x = 1", True), ("  # why", False), ("", False), (" * c", False)]
)
def test_blank_lines_and_comments_are_no_code(line: str, code: bool) -> None:
    assert is_code(line) == code


def test_nothing_of_passthrough_is_on_the_way_of_a_frame() -> None:
    sizes = {method: code_size(method) for method in METHODS}
    assert sizes["passthrough"].on_the_way == 0 < sizes["passthrough"].set_up
    assert sizes["emulated"].on_the_way > sizes["paravirtual"].on_the_way > 500


def test_a_function_is_refused_where_its_host_has_no_nic_and_a_capture_of_it_anywhere() -> None:
    file = topology("vf")
    assert refusal(file) == ""
    file["hosts"]["h0"] = {}
    assert "host h0 has no NIC" in refusal(file)
    captured = topology("vf", interpose=[{"kind": "capture", "file": "x.pcapng"}])
    assert "never pass the vmm" in refusal(captured)
