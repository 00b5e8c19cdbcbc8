"""Python functions in the chain: found by name, and harmless whatever they do."""

from pathlib import Path

import pytest

from testbed.errors import ConfigError
from testbed.native import FrameStore, Pinned
from testbed.net.interpose.call import Call, load_function
from testbed.net.interpose.counts import PortCounts
from testbed.spec.port_counters import PORT_COUNTERS
from tests.net.interpose import recorded_calls

HERE = "tests.net.interpose.recorded_calls"


class Called:
    """A call, what it counts and what it reports."""

    def __init__(self, name: str) -> None:
        self.page = Pinned(bytearray(PORT_COUNTERS.size))
        self.reports: list[tuple[str, str]] = []
        path = f"{HERE}:{name}"
        self.call = Call(
            path, load_function(path), PortCounts(self.page), lambda *told: self.reports.append(told)
        )
        self.burst = FrameStore()
        self.burst.load([bytes(60)] * 3)

    def count(self, name: str) -> int:
        return int(self.page.words(PORT_COUNTERS.offset(name), 8)[0])


def test_call_gets_the_burst_and_the_direction_and_may_drop_frames() -> None:
    called = Called("drop_first")
    recorded_calls.seen.clear()
    called.call.apply(called.burst, "tx")
    called.call.apply(called.burst, "rx")
    assert recorded_calls.seen == [(3, "tx"), (2, "rx")]
    assert called.burst.present() == [2]
    assert called.count("dropped_call") == 2


@pytest.mark.parametrize(
    ("name", "told", "present"),
    [
        ("drop_first_and_fail", "RuntimeError: no more tx", [1, 2]),
        ("leave", "SystemExit: 4", [0, 1, 2]),
    ],
)
def test_call_that_raises_is_counted_and_goes_no_further(name: str, told: str, present: list[int]) -> None:
    called = Called(name)
    called.call.apply(called.burst, "tx")
    assert called.count("call_errors") == 1
    assert called.burst.present() == present
    assert called.count("dropped_call") == 3 - len(present)
    assert [(reason, detail.endswith(told)) for reason, detail in called.reports] == [("call_error", True)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("no_such_module_at_all:f", "ModuleNotFoundError"),
        (f"{HERE}:nothing", "AttributeError"),
        (f"{HERE}:NOT_A_FUNCTION", "must be a function, not int"),
    ],
)
def test_call_of_what_is_not_there_is_told(path: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_function(path)


def test_call_finds_modules_beside_the_topology_file(tmp_path: Path) -> None:
    (tmp_path / "beside_the_topology.py").write_text("def look(burst, direction): return 7\n")
    function = load_function("beside_the_topology:look", str(tmp_path))
    assert function(FrameStore(), "tx") == 7
