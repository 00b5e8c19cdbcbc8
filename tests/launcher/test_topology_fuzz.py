"""Whatever a topology file holds, nothing but a ConfigError comes out."""

# ruff: noqa: E501 - a message stands on one line, as a person reads it

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.topology import Topology, parse_topology
from testbed.errors import ConfigError
from tests.support.topologies import CONFIGS


def outcome_of(content: object) -> Topology | tuple[str, ...]:
    try:
        return parse_topology(json.dumps(content), "f", CONFIGS)
    except ConfigError as error:
        return error.problems


VALID: dict[str, Any] = {
    "name": "t",
    "poll": "50us",
    "hosts": {"h0": {"poll": 0, "cpus": [0], "bridge": {"stall": "1s"}}, "h1": None},
    "guests": {
        "a": {"host": "h0", "memory": "64MiB", "cpus": "0-1", "nics": [{"kind": "virtio-net", "mtu": 1500}]},
        "b": {"host": "h0", "nics": [{"kind": "virtio-net", "mac": "02:00:00:00:00:01"}]},
        "g": {"host": "h1", "count": 3},
    },
    "workloads": [
        {"kind": "pktgen", "from": "a", "to": "b", "frame": [60, 61], "rate": "1Gbit", "duration": "5s"},
        [{"kind": "rr", "from": "a", "to": "b.nic0", "count": 5}, {"kind": "rr", "from": "g0", "to": "g1"}],
        {"kind": "replay", "from": "a", "to": "b", "pcap": "captures/none.pcap"},
    ],
}
WORDS = [
    "kind",
    "nics",
    "count",
    "virtio-net",
    "rr",
    "a",
    "g",
    "h0",
    "imix",
    "<<",
    "x-y",
    "pcap",
    "<virtio-net>",
]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for step, child in children for place in places(child, (*path, step)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    step, *rest = path
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    changed[step] = put(changed[step], tuple(rest), new)
    return changed


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_a_file_says_only_a_config_error_comes_out(data: st.DataObject) -> None:
    content: Any = VALID
    for _ in range(data.draw(st.integers(1, 3))):
        content = put(content, data.draw(st.sampled_from(places(content))), data.draw(ANYTHING))
    outcome = outcome_of(content)
    assert isinstance(outcome, Topology) or outcome
    assert isinstance(outcome, Topology) or all(re.match(r"f:([0-9]+:)? [^\n]+$", line) for line in outcome)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*VALID, "x-a", "zz"]), ANYTHING))
def test_arbitrary_data_is_never_a_traceback(content: dict[str, Any]) -> None:
    assert outcome_of(content)
