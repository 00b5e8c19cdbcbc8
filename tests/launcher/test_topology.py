"""What a topology file says: defaults, names, flows, hosts, wires, the schema for editors."""

import json
from pathlib import Path

import pytest

from launcher.nics import VirtioNet
from launcher.rules import IMIX_BYTES
from launcher.schema import json_schema
from launcher.topology import load_topology, parse_topology
from launcher.units import Rate
from testbed.messages.entries import POLL_FOREVER
from tests.support.topologies import CONFIGS, PAIR, pair

SHIPPED = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("interrupts/*.yaml")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_loads_and_says_what_it_shows(path: Path) -> None:
    assert load_topology(path).name == path.stem
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Shows") for line in head)


def test_a_file_of_two_lines_has_the_defaults_of_the_design() -> None:
    topology = parse_topology(PAIR)
    (host,) = topology.hosts
    assert (host.name, host.poll_ns, host.cpus, host.stall_ns) == ("h0", 200_000, (), 10**9)
    a, b = topology.guests
    assert (a.name, a.host, a.memory_bytes, a.vcpus) == ("a", "h0", 64 << 20, 1)
    assert (a.interrupts, a.poll_ns, a.cpus) == ("list-registers", 200_000, ())
    (nic,) = a.nics
    assert isinstance(nic, VirtioNet)
    assert (nic.ring, nic.queue_size, nic.mtu, nic.segments) == ("split", 1024, 1500, 1)
    assert nic.indirect
    assert nic.event_idx
    assert nic.mrg_rxbuf
    assert nic.mac != b.nics[0].mac
    assert topology.phases == ()


def test_polls_are_inherited_and_zero_is_not_unset() -> None:
    text = "name: t\npoll: forever\nhosts: {h: {poll: 0}}\nguests: {a: {poll: 0}, b: , c: {poll: 2ms}}\n"
    topology = parse_topology(text)
    assert [guest.poll_ns for guest in topology.guests] == [0, POLL_FOREVER, 2_000_000]
    assert topology.hosts[0].poll_ns == 0


def test_hosts_are_those_that_guests_name() -> None:
    topology = parse_topology("name: t\nguests: {a: {host: y}, b: {host: x}, c: {host: y}}\n")
    assert [host.name for host in topology.hosts] == ["y", "x"]
    topology = parse_topology("name: t\nguests: {a: {host: y}, b: {}}\n")
    assert [guest.host for guest in topology.guests] == ["y", "y"]


def test_count_makes_equal_guests_with_addresses_of_their_own() -> None:
    topology = parse_topology("name: t\nguests: {g: {count: 200, memory: 4MiB}, last: {}}\n")
    assert [guest.name for guest in topology.guests] == [f"g{i}" for i in range(200)] + ["last"]
    assert len({guest.nics[0].mac for guest in topology.guests}) == 201


def test_generated_addresses_are_local_unicast_and_avoid_given_ones() -> None:
    first = parse_topology(PAIR).guests[0].nics[0].mac
    text = f"name: t\nguests: {{a: {{}}, b: {{nics: [{{kind: virtio-net, mac: '{first.upper()}'}}]}}}}\n"
    a, b = parse_topology(text).guests
    assert b.nics[0].mac == first
    assert a.nics[0].mac != first
    assert int(first[:2], 16) & 3 == 2


def test_flows_of_each_kind() -> None:
    workloads = """
  - {kind: pktgen, from: a, to: b.nic1, frame: imix, rate: 1Gbit, count: 10k, verify: false}
  - {kind: pktgen, from: a, to: b, frame: [60, 70], rate: 100k, duration: 5s}
  - [{kind: rr, from: a, to: b}, {kind: rr, from: b, to: a, frame: 100}]
  - {kind: replay, from: a, to: b, pcap: captures/lan-mix.pcap, loops: 2, timing: captured}
"""
    guests = "{a: {}, b: {nics: [{kind: virtio-net}, {kind: virtio-net}]}}"
    topology = parse_topology(f"name: t\nguests: {guests}\nworkloads:{workloads}", "f", CONFIGS)
    (imix,), (listed,), (there, back), (replay,) = topology.phases
    assert imix.name == "pktgen a->b.nic1"
    assert (imix.frame_bytes, imix.count, imix.duration_ns, imix.verify) == (IMIX_BYTES, 10_000, 0, False)
    assert imix.rate == Rate(bits_per_second=1e9)
    assert (listed.frame_bytes, listed.duration_ns) == ((60, 70), 5 * 10**9)
    assert (there.name, back.name) == ("rr a->b.nic0", "rr b.nic0->a")
    assert (there.frame_bytes, there.duration_ns, back.frame_bytes) == ((60,), 10**9, (100,))
    assert Path(replay.capture) == CONFIGS / "captures" / "lan-mix.pcap"
    assert (replay.loops, replay.captured_times) == (2, True)


def test_imix_is_seven_four_one() -> None:
    assert [IMIX_BYTES.count(size) for size in (60, 590, 1514)] == [7, 4, 1]


def test_equal_flows_get_names_of_their_own() -> None:
    topology = parse_topology(pair("[{kind: rr, from: a, to: b}, {kind: rr, from: a, to: b}]"))
    assert [flow.name for flow in topology.phases[0]] == ["rr a->b", "rr a->b #2"]


def test_merge_keys_and_extension_keys() -> None:
    text = (
        "name: t\nx-big: &big {memory: 1GiB, vcpus: 2}\nguests:\n  a: {<<: *big}\n  b: {<<: *big, vcpus: 4}\n"
    )
    assert [(g.memory_bytes, g.vcpus) for g in parse_topology(text).guests] == [(1 << 30, 2), (1 << 30, 4)]


def test_an_address_that_looks_like_a_number_is_an_address() -> None:
    nic = "{nics: [{kind: virtio-net, mac: 52:54:00:12:34:56}]}"
    assert parse_topology(f"name: t\nguests: {{a: {nic}}}\n").guests[0].nics[0].mac == "52:54:00:12:34:56"


# The schema for editors


def test_the_json_schema_names_every_key_and_kind() -> None:
    schema = json_schema()
    assert list(schema["properties"]) == ["name", "poll", "hosts", "guests", "wires", "workloads"]
    kinds = schema["properties"]["workloads"]["items"]["anyOf"][0]["discriminator"]["mapping"]
    assert set(kinds) == {"replay", "pktgen", "rr", "timer", "ipi", "steer", "storm", "netns", "attack"}
    assert schema["$defs"]["GuestSection"]["properties"]["memory"]["default"] == "64MiB"
    undescribed = [
        key
        for part in schema["$defs"].values()
        for key, it in part["properties"].items()
        if "description" not in it
    ]
    assert undescribed == []
    json.dumps(schema)
