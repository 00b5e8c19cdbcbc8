"""Interposers in the topology file: what they become in the plan, and every mistake with its line."""

from pathlib import Path

import pytest

from launcher.planner import plan_topology
from launcher.topology import parse_topology
from testbed.errors import ConfigError
from testbed.messages.entries import (
    CallEntry,
    CaptureEntry,
    FilterEntry,
    GuestEntry,
    InterposeEntry,
    MirrorEntry,
    RateEntry,
    VirtioNetEntry,
)


def text_of(*interposers: str, nic: str = "") -> str:
    lines = "".join(f"\n      - {interposer}" for interposer in interposers)
    guests = "name: t\nguests:\n  b: {}\n  a:\n    nics:\n"
    return f"{guests}    - kind: virtio-net{nic}\n      interpose:{lines}\n"


def planned(directory: Path, *interposers: str) -> tuple[InterposeEntry, ...]:
    plan = plan_topology(parse_topology(text_of(*interposers), directory=directory))
    entry = next(p.entry for p in plan.processes if p.name == "a")
    assert isinstance(entry, GuestEntry)
    [nic] = entry.nics
    assert isinstance(nic, VirtioNetEntry)
    assert nic.interposable
    return nic.interpose


def problems(text: str, directory: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_topology(text, directory=directory)
    return [problem.partition("guests.a.")[2] or problem for problem in caught.value.problems]


def test_interposers_become_entries_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "taps.py").write_text("")
    assert planned(
        tmp_path,
        "{kind: capture, file: a.pcapng, direction: tx}",
        "{kind: filter, drop: udp port 9 and len > 100}",
        "{kind: filter, pass: ip or arp, direction: rx}",
        "{kind: rate, limit: 1Gbit}",
        "{kind: rate, limit: 10, excess: hold, direction: tx}",
        "{kind: mirror, to: b.nic0}",
        "{kind: call, function: 'taps:look'}",
    ) == (
        CaptureEntry(file=str(tmp_path / "a.pcapng"), direction="tx"),
        FilterEntry(expression="udp port 9 and len > 100", drops="matching"),
        FilterEntry(expression="ip or arp", drops="others", direction="rx"),
        RateEntry(per_second=1e9, depth=1e7, unit="bits"),
        RateEntry(per_second=10, depth=1, unit="frames", excess="hold", direction="tx"),
        MirrorEntry(to="b.nic0"),
        CallEntry(function="taps:look", directory=str(tmp_path)),
    )


@pytest.mark.parametrize(
    ("interposer", "told"),
    [
        ("{kind: tap}", "[0].kind: must be a kind that exists (call, capture, filter, mirror, rate)"),
        ("{kind: capture}", "nics[0].interpose[0].file: is required, e.g. `file: a.pcapng`"),
        ("{kind: capture, file: no/a.pcapng}", "interpose[0].file: there is no directory"),
        ("{kind: capture, file: .}", "interpose[0].file: must be a file"),
        ("{kind: filter, drop: udp prot 9}", "drop: must be a pcap-filter expression: position 5: expected"),
        ("{kind: filter, pass: ''}", "interpose[0].pass: must be a text"),
        ("{kind: filter}", "interpose[0]: must have either drop or pass"),
        ("{kind: filter, drop: ip, pass: ip}", "interpose[0]: must have either drop or pass"),
        ("{kind: rate, limit: 1Gbyte}", "interpose[0].limit: must be a rate"),
        ("{kind: rate, limit: 1k, excess: hold}", "interpose[0].excess: hold needs `direction: tx`"),
        ("{kind: rate, limit: 1k, direction: out}", "direction: must be one of tx, rx, both"),
        ("{kind: mirror, to: bb}", "interpose[0].to: there is no guest"),
        ("{kind: mirror, to: b.nic1}", "interpose[0].to: guest b has nic0, not"),
        ("{kind: mirror, to: a}", "interpose[0].to: must be another NIC than a.nic0 itself"),
        ("{kind: call, function: look}", "function: must name a function as package.module:function"),
        ("{kind: call, function: 'no_such_taps:look'}", "function: there is no module no_such_taps"),
    ],
)  # fmt: skip
def test_interposer_mistake_is_told_once_with_its_place(tmp_path: Path, interposer: str, told: str) -> None:
    found = problems(text_of(interposer), tmp_path)
    assert len(found) == 1
    assert told in found[0]


def test_one_mistake_does_not_hide_another(tmp_path: Path) -> None:
    text = text_of("{kind: tap}", "{kind: mirror, to: a}", "{kind: filter, drop: frob}")
    assert len(problems(text, tmp_path)) == 3


def test_two_captures_never_share_a_file(tmp_path: Path) -> None:
    twice = text_of("{kind: capture, file: a.pcapng}", "{kind: capture, file: ./x/../a.pcapng}")
    assert "is written already on line 8" in problems(twice, tmp_path)[0]
    counted = text_of("{kind: capture, file: a.pcapng}").replace("  a:\n", "  a:\n    count: 3\n")
    found = problems(counted, tmp_path)
    assert len(found) == 1
    assert "is written already by several guests" in found[0]


def test_only_what_the_bridge_carries_can_be_interposed(tmp_path: Path) -> None:
    found = problems(text_of("{kind: capture, file: a.pcapng}", nic="\n      backend: sink"), tmp_path)
    assert "interpose: needs the bridge behind the NIC: a sink has its own way" in found[0]


def test_mirror_stays_on_its_host_and_on_the_bridge(tmp_path: Path) -> None:
    hosts = "name: t\nguests:\n  b: {host: x, nics: [{kind: virtio-net, backend: echo}]}\n  c: {host: y}\n"
    mirrors = "[{kind: mirror, to: b}, {kind: mirror, to: c}]"
    hosts += f"  a: {{host: x, nics: [{{kind: virtio-net, interpose: {mirrors}}}]}}\n"
    found = problems(hosts, tmp_path)
    assert "b.nic0 has no bridge behind it (echo)" in found[0]
    assert "c is on host y and a.nic0 on host x" in found[1]
