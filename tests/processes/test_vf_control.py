"""`virtbed vf` on a topology that runs: who has which function, and traffic that follows the settings."""

from pathlib import Path

import pytest

from launcher.result import Result
from launcher.service import Down, ask
from launcher.vf_requests import Changed, ChangeVf, ListVfs, VfList
from testbed.messages.control import VfChanges, VfState
from tests.support.launched import Launched

pytestmark = pytest.mark.usefixtures("run_parent")

LOOKS_MAX = 3000
TOPOLOGY = """
name: functions
hosts:
  h0:
    nics: {nic0: {vfs: 3}}
guests:
  a: {host: h0, memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
  b: {host: h0, memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
workloads:
  - {kind: rr, from: a, to: b, count: 1}
  - {kind: pktgen, from: a, to: b, frame: 60, duration: 60s, rate: 1000}
"""


def function(number: int) -> VfState:
    (nic,) = ask("functions", ListVfs(), VfList).nics
    return nic.vfs[number]


def change(number: int, **changes: object) -> str:
    order = ChangeVf("nic0", number, VfChanges(**changes))  # type: ignore[arg-type]
    return ask("functions", order, Changed).problem


def test_functions_of_a_running_topology_are_shown_and_changed(tmp_path: Path) -> None:
    launched = Launched(TOPOLOGY, tmp_path)
    launched.until("phase 2")
    (nic,) = ask("functions", ListVfs(), VfList).nics
    assert [(vf.guest, vf.running) for vf in nic.vfs] == [("a", True), ("b", True), ("", False)]
    assert change(0, rate_bits_per_second=10**8) == ""
    assert change(3, link=False) == "nic0 has VFs 0 to 2, not 3"
    assert change(2, mac="01:00:00:00:00:01").startswith("a VF's MAC address")
    resets = function(1).resets
    assert [change(1, link=False), function(1).running, function(1).link] == ["", False, False]
    assert change(1, link=True) == ""
    # its driver begins anew when it is told
    assert any(function(1).running for _ in range(LOOKS_MAX))
    assert function(1).resets > resets
    assert function(0).rate_bits_per_second == 10**8
    ask("functions", Down(), Result)
    launched.end()
