"""`virtbed compare` with real processes, as short as can be; and a guest without the driver for its NIC."""

from pathlib import Path

import pytest

from launcher.compare import exit_problems, measure_ways, summed
from launcher.compare_result import Settings
from launcher.compare_ways import WAYS
from tests.support.launched import Launched

pytestmark = pytest.mark.usefixtures("run_parent")

NO_DRIVER = """
name: nodriver
guests:
  old: {memory: 16MiB, drivers: [e1000]}
  peer: {memory: 16MiB}
workloads:
  - {kind: pktgen, from: old, to: peer, count: 10}
"""


def test_a_short_comparison_has_every_figure_of_every_way() -> None:
    told: list[str] = []
    # counters of a busy process may be a few milliseconds old when a measurement ends: so medians, as always
    ways_compared = ("virtio-split", "vf-ats-direct")
    settings = Settings(seconds=0.05, repetitions=1, rounds=3, tries=2, ways=ways_compared)
    found = measure_ways(settings, told.append)
    ways = summed(found.samples)

    assert len(told) == 8
    assert len(found.speeds) == settings.passes == 6
    assert min(found.speeds) > 0
    assert exit_problems(ways) == []
    for name, way in ways.items():
        assert way.method == WAYS[name].method
        for measured in way.measured:
            assert measured.figures["cpu_ns"].median > 0
            assert measured.cpu_ns
    passed = ways["vf-ats-direct"].at("wire", "pktgen", 1514).figures
    assert passed["copies"].median >= 1
    assert passed["translations"].median > 0
    assert ways["virtio-split"].at("host", "rr", 60).figures["p50_us"].median > 0


def test_a_guest_without_the_driver_for_its_nic_says_so_and_does_not_come_up(tmp_path: Path) -> None:
    launched = Launched(NO_DRIVER, tmp_path)
    assert launched.end() == 3
    (died,) = launched.result().died
    assert died.reason == "old.nic0: no driver of guest old is for a NIC of kind virtio-net; it has e1000"
