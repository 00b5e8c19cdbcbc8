"""The topology file: defaults, every mistake with its line, and nothing but ConfigError ever comes out."""

# ruff: noqa: E501 - a message stands on one line, as a person reads it

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.nics import E1000, Vf, VirtioNet
from launcher.rules import IMIX_BYTES
from launcher.schema import json_schema
from launcher.topology import Topology, load_topology, parse_topology
from launcher.topology_records import End
from launcher.units import Rate
from testbed.errors import ConfigError
from testbed.messages.entries import POLL_FOREVER

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = "e1000, vf, virtio-net"
"""Of NICs."""
PAIR = "name: t\nguests: {a: {}, b: {}}\n"


def mistakes(text: str, directory: Path = CONFIGS) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_topology(text, "f", directory)
    return list(caught.value.problems)


def pair(workload: str, guests: str = "{a: {}, b: {}}") -> str:
    return f"name: t\nguests: {guests}\nworkloads:\n  - {workload}\n"


# What is read


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
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


# What is refused


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("guests: {a: {}}\n", "f:1: name: is required, e.g. `name: lab`"),
        ("name: t\n", "f:1: guests: is required, e.g. `guests: {a: {}, b: {}}`"),
        ("name: t\nguests: {}\n", "f:2: guests: must have at least one entry"),
        ("name: t\nguests: [a, b]\n", 'f:2: guests: must be a mapping (`key: value`), not ["a", "b"]'),
        (
            "name: T\nguests: {a: {}}\n",
            "f:1: name: a name must be a lower-case letter and up to 31 more of a-z, 0-9, _ and -, not \"T\"",
        ),
        (
            "name: t\nguests:\n  A: {}\n",
            "f:3: guests.A: a name must be a lower-case letter and up to 31 more of a-z, 0-9, _ and -, not \"A\"",
        ),
        (PAIR + "pol: 5us\n", "f:3: pol: unknown key (did you mean poll?)"),
        (PAIR + "zz: 5\n", "f:3: zz: unknown key; the keys here are name, poll, hosts, guests, wires, workloads"),
        (PAIR + "hosts: {h0: {brige: {}}}\n", "f:3: hosts.h0.brige: unknown key (did you mean bridge?)"),
        (
            PAIR + "poll: 5\n",
            "f:3: poll: must be forever, 0 or a duration with a unit (ns us ms s min) such as 5s, not 5",
        ),
        ("name: t\nguests: {a: 3}\n", "f:2: guests.a: must be a mapping (`key: value`), not 3"),
        ("name: t\nguests: {a: {}, a: {}}\n", "f:2: guests.a: is given twice, first on line 2"),
        (PAIR + "workloads: {}\n", "f:3: workloads: must be a list (`[...]`), not an empty mapping"),
        (PAIR + "workloads: [[]]\n", "f:3: workloads[0]: must have at least one entry"),
        (PAIR + "workloads: [5]\n", "f:3: workloads[0]: must be a mapping (`key: value`), not 5"),
        ("name: t\nguests: {launcher: {}}\n", "f:2: guests.launcher: the name launcher is that of the launcher itself: choose another"),
    ],
)  # fmt: skip
def test_top_level_mistakes(text: str, line: str) -> None:
    assert mistakes(text) == [line]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("memory: 64", "memory: must be a size with a unit (KiB MiB GiB KB MB GB) such as 64MiB, not 64"),
        ("memory: 5MiB", 'memory: must be a multiple of 2MiB, not "5MiB"'),
        ("memory: 2MiB", 'memory: must be at least 4MiB, not "2MiB"'),
        ("memory: 65GiB", 'memory: must be at most 64GiB, not "65GiB"'),
        ("vcpus: 9", "vcpus: must be a whole number from 1 to 8, not 9"),
        ("vcpus: true", "vcpus: must be a whole number from 1 to 8, not true"),
        ("vcpus: '2'", 'vcpus: must be a whole number from 1 to 8, not "2"'),
        ("interrupts: drect", 'interrupts: must be one of list-registers, direct (did you mean direct?), not "drect"'),
        ("cpus: 3-1", 'cpus: must be CPU numbers such as [0, 1] or 0-1, not "3-1"'),
        ("cpus: [0, -1]", "cpus: must be CPU numbers such as [0, 1] or 0-1, not [0, -1]"),
        ("count: 0", "count: must be a whole number from 1 to 100000, not 0"),
        ("nics: 1", "nics: must be a list (`[...]`), not 1"),
        ("nics: [{}]", f"nics[0].kind: is required: must be a kind that exists ({KINDS})"),
        ("nics: [{kind: rtl8139}]", f'nics[0].kind: must be a kind that exists ({KINDS}), not "rtl8139"'),
        ("nics: [{kind: virtio}]", f'nics[0].kind: must be a kind that exists ({KINDS}) (did you mean virtio-net?), not "virtio"'),
        ("nics: [{kind: [virtio-net]}]", f'nics[0].kind: must be a kind that exists ({KINDS}), not ["virtio-net"]'),
        ("nics: [virtio-net]", 'nics[0]: must be a mapping (`key: value`), not "virtio-net"'),
    ],
)  # fmt: skip
def test_guest_mistakes(keys: str, line: str) -> None:
    assert mistakes(f"name: t\nguests:\n  a: {{{keys}}}\n") == [f"f:3: guests.a.{line}"]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("ring: torn", 'ring: must be one of split, packed, not "torn"'),
        ("queue_size: 12", "queue_size: must be a power of two from 2 to 32768, not 12"),
        ("queue_size: 65536", "queue_size: must be a power of two from 2 to 32768, not 65536"),
        ("mtu: 67", "mtu: must be a whole number from 68 to 65535, not 67"),
        ("mtu: 1500B", 'mtu: must be a whole number from 68 to 65535, not "1500B"'),
        ("indirect: yes", 'indirect: must be true or false, not "yes"'),
        ("segments: 5", "segments: must be a whole number from 1 to 4, not 5"),
        ("segments: 4, queue_size: 2", "segments: must not be more than the queue_size 2, not 4"),
        ("mac: 1", "mac: must be a MAC address such as 02:00:00:00:00:01, not 1"),
        ("mac: 01:00:5e:00:00:01", 'mac: must be a unicast address (first octet even), not the multicast "01:00:5e:00:00:01"'),
        ("mac: 00-00-00-00-00-00", 'mac: must not be the null address "00-00-00-00-00-00"'),
        ("queue_sise: 8", "queue_sise: unknown key (did you mean queue_size?)"),
        ("mq: 8", "mq: unknown key; the keys here are kind, mac, interpose, backend, ring, queue_size, queue_pairs, mtu, indirect, event_idx, mrg_rxbuf, in_order, segments, vhost-user"),
    ],
)  # fmt: skip
def test_nic_mistakes(keys: str, line: str) -> None:
    text = f"name: t\nguests:\n  a:\n    nics:\n      - {{kind: virtio-net, {keys}}}\n"
    assert mistakes(text) == [f"f:5: guests.a.nics[0].{line}"]


@pytest.mark.parametrize(
    ("workload", "line"),
    [
        ("{kind: pktgem, from: a, to: b}", '.kind: must be a kind that exists (netns, pktgen, replay, rr) (did you mean pktgen?), not "pktgem"'),
        ("{kind: rr, from: a}", ".to: is required, e.g. `to: b`: a has the bridge behind it, no sink or echo"),
        ("{kind: rr, form: a, to: b}", ".form: unknown key (did you mean from?)"),
        ("{kind: replay, from: a, to: b}", ".pcap: is required, e.g. `pcap: capture.pcap`"),
        ("{kind: rr, from: a, to: 3}", ".to: must be a text, not 3"),
                ("{kind: rr, from: a, to: xyz}", '.to: there is no guest "xyz"; the guests are a, b'),
        ("{kind: rr, from: a, to: b.nic1}", '.to: guest b has nic0, not "nic1"'),
        ("{kind: rr, from: a, to: b.}", '.to: guest b has nic0, not ""'),
        ("{kind: rr, from: a, to: a}", '.to: must be another NIC than `from`, not "a"'),
        ("{kind: rr, from: a, to: a.nic0}", '.to: must be another NIC than `from`, not "a.nic0"'),
        ("{kind: rr, from: a, to: b, frame: 59}", ".frame: must be a frame size without FCS from 60 to 9014, a list of them or imix, not 59"),
        ("{kind: rr, from: a, to: b, frame: [60, x]}", '.frame: must be a frame size without FCS from 60 to 9014, a list of them or imix, not "x"'),
        ("{kind: rr, from: a, to: b, frame: []}", ".frame: must be a frame size without FCS from 60 to 9014, a list of them or imix, not an empty list"),
        ("{kind: rr, from: a, to: b, frame: 1515}", ".frame: a frame of 1515 bytes does not fit nic0 of guest a: its mtu 1500 allows at most 1514"),
        ("{kind: rr, from: a, to: b, duration: 1s, count: 3}", ".count: give duration or count, not both"),
        ("{kind: rr, from: a, to: b, rate: 1k}", ".rate: unknown key; the keys here are kind, from, to, frame, duration, count"),
        ("{kind: rr, from: a, to: b, duration: 0s}", '.duration: must be at least 1ms, not "0s"'),
        ("{kind: pktgen, from: a, to: b, rate: 0}", ".rate: must be a rate above 0 (leave it out to send at full speed), not 0"),
        ("{kind: replay, from: a, to: b, pcap: x.pcap}", '.pcap: "x.pcap": there is no such file'),
        ("{kind: replay, from: a, to: b, pcap: captures}", '.pcap: "captures": is not a file'),
        ("{kind: replay, from: a, to: b, pcap: quickstart.yaml}", '.pcap: "quickstart.yaml": is not a capture (pcap or pcapng)'),
        ("{kind: replay, from: a, to: b, pcap: captures/lan-mix.pcap, timing: slow}", '.timing: must be one of full-speed, captured, not "slow"'),
        ("{kind: replay, from: a, to: b, pcap: captures/lan-mix.pcap, loops: 0}", ".loops: must be a whole number from 1 to 1000000000, not 0"),
    ],
)  # fmt: skip
def test_workload_mistakes(workload: str, line: str) -> None:
    assert mistakes(pair(workload)) == [f"f:4: workloads[0]{line}"]


def reflecting(workload: str) -> str:
    return f"""
name: lab
guests:
  s: {{nics: [{{kind: virtio-net, backend: sink}}]}}
  e: {{nics: [{{kind: virtio-net, backend: echo}}]}}
  b: {{}}
workloads:
  - {workload}
"""


def test_a_flow_without_a_receiver_ends_at_what_is_behind_its_sender() -> None:
    text = reflecting("[{kind: pktgen, from: s}, {kind: rr, from: e}]")
    flows = parse_topology(text).phases[0]

    assert [(flow.source, flow.destination, flow.name) for flow in flows] == [
        (End("s", 0), End("s", 0), "pktgen s->sink"),
        (End("e", 0), End("e", 0), "rr e->echo"),
    ]


@pytest.mark.parametrize(
    ("workload", "line"),
    [
        ("{kind: pktgen, from: b}", "[0].to: is required, e.g. `to: b`: b has the bridge behind it, no sink or echo"),
        ("{kind: pktgen, from: b, to: s}", "[0].to: s has a sink behind it, not the bridge: no frame of another NIC reaches it"),
        ("{kind: pktgen, from: e, to: b}", "[0].from: e has an echo behind it, not the bridge: leave `to` out"),
        ("{kind: rr, from: s}", "[0].kind: rr needs answers, and s has a sink behind it: give it an echo"),
        (
            "[{kind: pktgen, from: s}, {kind: replay, from: s, pcap: captures/lan-mix.pcap}]",
            "[0][1]: cannot run at the same time as the flow on line 8: the sink behind s counts every frame for a replay",
        ),
    ],
)  # fmt: skip
def test_mistakes_about_what_is_behind_a_nic(workload: str, line: str) -> None:
    assert mistakes(reflecting(workload)) == [f"f:8: workloads{line}"]


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """
name: Lab
pol: 3us
hosts:
  h0: {bridge: {stall: 10}}
guests:
  a: {memory: 64, nics: [{kind: virtio-net}, {kind: rtl8139}]}
  b: {host: h2}
workloads:
  - {kind: pktgen, from: a, to: c, frame: 30}
  - [{kind: rr, from: a, to: b}, {kind: rr, from: b, to: b, duration: 5}]
"""
    told = [line.split(": ", 2)[:2] for line in mistakes(text)]
    assert told == [
        ["f:2", "name"],
        ["f:3", "pol"],
        ["f:5", "hosts.h0.bridge.stall"],
        ["f:7", "guests.a.nics[1].kind"],
        ["f:7", "guests.a.memory"],
        ["f:8", "guests.b.host"],
        ["f:10", "workloads[0].frame"],
        ["f:10", "workloads[0].to"],
        ["f:11", "workloads[1][1].duration"],
        ["f:11", "workloads[1][1].to"],
    ]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (pair("{kind: rr, from: a, to: b, frame: 9000}", "{a: {nics: [{kind: virtio-net, mtu: 9k}]}, b: {}}"), 2),
        (pair("{kind: rr, from: a, to: B}", "{a: {}, B: {}}"), 1),
        (pair("{kind: rr, from: a.nic1, to: b}", "{a: {nics: [{kind: virtio-net}, {kind: vf}]}, b: {}}"), 1),
        ("name: t\nhosts: [h0, h1]\nguests: {a: {host: h0}, b: {host: h1}}\n", 1),
        (pair("{kind: rr, from: a5, to: b}", "{a: {count: many}, b: {}}"), 1),
        (pair("{kind: rr, from: a, to: a, duration: 3, fram: 60}"), 3),
    ],
)  # fmt: skip
def test_nothing_is_said_about_what_hangs_on_a_mistake(text: str, count: int) -> None:
    assert len(mistakes(text)) == count


def test_names_are_unique_over_hosts_guests_and_processes() -> None:
    text = "name: t\nhosts:\n  h:\nguests:\n  h: {}\n  vmm-h: {}\n  g1: {}\n  g: {count: 2}\n"
    assert mistakes(text) == [
        "f:5: guests.h: guest cannot have the name h: it is that of host h (line 3)",
        "f:6: guests.vmm-h: guest cannot have the name vmm-h: it is that of the vmm of host h (line 3)",
        "f:8: guests.g: guest cannot have the name g1: it is that of guest g1 (line 7)",
    ]
    assert mistakes("name: t\nguests: {h0: {}}\n") == [
        "f:2: guests.h0: guest cannot have the name h0: it is that of host h0, the default host"
    ]


def test_count_that_makes_a_name_too_long_or_too_many() -> None:
    name = "g" * 31
    (line,) = mistakes(f"name: t\nguests: {{{name}: {{count: 11}}}}\n")
    assert "would have a name of 33 characters, more than 32" in line
    (line,) = mistakes("name: t\nguests: {a: {count: 100000}, b: {count: 1}}\n")
    assert line == "f:2: guests: must be at most 100000 guests in all, not 100001"


def test_a_guest_with_nearly_that_name_is_suggested() -> None:
    (line,) = mistakes(pair("{kind: rr, from: cleint, to: server}", "{client: {}, server: {}}"))
    assert line == 'f:4: workloads[0].from: there is no guest "cleint" (did you mean client?)'


def test_a_group_is_not_a_guest() -> None:
    assert mistakes(pair("{kind: rr, from: g, to: b}", "{g: {count: 3}, b: {}}")) == [
        "f:4: workloads[0].from: g is 3 guests: name one of g0 to g2"
    ]


def test_addresses_are_unique() -> None:
    nic = "{nics: [{kind: virtio-net, mac: 02:00:00:00:00:0a}]}"
    assert mistakes(f"name: t\nguests:\n  a: {nic}\n  b: {nic.replace('0a', '0A')}\n") == [
        "f:4: guests.b.nics[0].mac: must be unique, but 02:00:00:00:00:0a is also given on line 3"
    ]
    shared = nic.replace("{nics", "{count: 2, nics", 1)
    (line,) = mistakes(f"name: t\nguests:\n  a: {shared}\n")
    assert "one address cannot be that of 2 guests: leave mac out, not 02:00:00:00:00:0a" in line


def test_memory_must_hold_the_queues_and_their_buffers() -> None:
    guest = "name: t\nguests:\n  a:\n    nics: [{kind: virtio-net, queue_size: 32768}]\n"
    (line,) = mistakes(guest)
    rule = "must be at least 101.6MiB for the queues and buffers of its NICs, not 64MiB"
    assert line == f"f:3: guests.a.memory: {rule}"
    nic = parse_topology(guest + "    memory: 128MiB\n").guests[0].nics[0]
    assert isinstance(nic, VirtioNet)
    assert nic.queue_size == 32768


def test_hosts_must_exist_and_be_named_where_there_are_several() -> None:
    hosts = "name: t\nhosts: {left: {}, right: {}}\nguests:\n  "
    assert mistakes(hosts + "a: {host: rigth}\n") == [
        'f:4: guests.a.host: there is no host "rigth" (did you mean right?)'
    ]
    assert mistakes(hosts + "a: {}\n") == [
        "f:4: guests.a: host is required where there are several: one of left, right"
    ]


def test_flows_between_hosts_need_a_wire() -> None:
    (line,) = mistakes(pair("{kind: rr, from: a, to: b}", "{a: {host: x}, b: {host: y}}"))
    assert line == (
        "f:4: workloads[0].to: a is on host x and b on host y, and no wire joins them: "
        "give both hosts a NIC with the same `wire`"
    )


def test_two_replays_between_the_same_nics_cannot_be_told_apart() -> None:
    replay = "{kind: replay, from: a, to: b, pcap: captures/lan-mix.pcap}"
    (line,) = mistakes(pair(f"\n    - {replay}\n    - {replay}"))
    assert line.startswith("f:6: workloads[0][1]: cannot run at the same time as the replay on line 5")
    back = replay.replace("from: a, to: b", "from: b, to: a")
    assert isinstance(parse_topology(pair(f"[{replay}, {back}]"), "f", CONFIGS), Topology)


def test_a_guest_without_a_nic_sends_nothing() -> None:
    (line,) = mistakes(pair("{kind: rr, from: a, to: b}", "{a: {nics: []}, b: {}}"))
    assert line == "f:4: workloads[0].from: guest a has no NIC to send from"


# Anything at all


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


# The schema for editors


def test_the_json_schema_names_every_key_and_kind() -> None:
    schema = json_schema()
    assert list(schema["properties"]) == ["name", "poll", "hosts", "guests", "wires", "workloads"]
    kinds = schema["properties"]["workloads"]["items"]["anyOf"][0]["discriminator"]["mapping"]
    assert set(kinds) == {"replay", "pktgen", "rr", "netns"}
    assert schema["$defs"]["GuestSection"]["properties"]["memory"]["default"] == "64MiB"
    undescribed = [
        key
        for part in schema["$defs"].values()
        for key, it in part["properties"].items()
        if "description" not in it
    ]
    assert undescribed == []
    json.dumps(schema)


def test_a_bridge_and_a_receiver_have_their_limits() -> None:
    text = "name: t\nguests: {g: {count: 1025}}\n"
    (line,) = mistakes(text)
    assert line == (
        "f:2: guests: the NICs of host h0 must be at most 1024, the ports of one bridge: "
        "spread the guests over hosts, not 1025 on one"
    )
    flows = ", ".join(["{kind: rr, from: a, to: b}"] * 4096)
    (line,) = mistakes(f"name: t\nguests: {{a: , b: }}\nworkloads: [{flows}]\n")
    assert line == "f:3: workloads: must be at most 4095 flows in all, not 4096"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("ring_size: 12", "ring_size: must be a multiple of 8, not 12"),
        ("ring_size: 4", "ring_size: must be a whole number from 8 to 4096, not 4"),
        ("frames_per_kick: 0", "frames_per_kick: must be a whole number from 1 to 4096, not 0"),
        ("mtu: 16271", "mtu: must be a whole number from 68 to 16270, not 16271"),
        ("reset: bios", 'reset: must be one of io, memory, not "bios"'),
        ("queue_pairs: 2", "queue_pairs: unknown key; the keys here are kind, mac, interpose, backend, mtu, ring_size, frames_per_kick, reset"),
    ],
)  # fmt: skip
def test_e1000_mistakes(keys: str, line: str) -> None:
    text = f"name: t\nguests:\n  a:\n    nics:\n      - {{kind: e1000, {keys}}}\n"
    assert mistakes(text) == [f"f:5: guests.a.nics[0].{line}"]


def test_an_e1000_has_its_defaults_and_needs_memory_for_its_buffers() -> None:
    guests = "name: t\nguests: {a: {memory: MEMORY, nics: [{kind: e1000, ring_size: 4096}]}}"
    nic = parse_topology(guests.replace("MEMORY", "64MiB")).guests[0].nics[0]
    assert isinstance(nic, E1000)
    assert (nic.mtu, nic.frames_per_kick, nic.backend, nic.reset) == (1500, 256, "bridge", "io")
    (line,) = mistakes(guests.replace("MEMORY", "8MiB"))
    assert "memory: must be at least 16.6MiB for the queues and buffers of its NICs, not 8MiB" in line


HOSTS = """name: t
hosts:
  h0: {nics: {nic0: {vfs: 2, wire: w0}}, bridge: {uplink: nic0}}
  h1: {nics: {nic1: {wire: w0}}}
  h2: {nics: {nic2: {}}}
wires: {w0: {latency: 10us, rate: 1Gbit, loss: 0.01}}
guests:
  p: {host: h0}
  v: {host: h0, nics: [{kind: vf, nic: nic0}]}
  w: {host: h1, nics: [{kind: vf, nic: nic1, vlan: 7, rate: 100Mbit, spoof_check: false}]}
  q: {host: h1}
  x: {host: h2, nics: [{kind: vf, nic: nic2}]}
  y: {host: h2}
workloads:
"""


def test_wires_uplinks_and_functions_are_resolved() -> None:
    topology = parse_topology(HOSTS + "  - {kind: pktgen, from: p, to: w}")
    assert [host.uplink for host in topology.hosts] == ["nic0", "", ""]
    (wire,) = topology.wires
    assert (wire.ends, wire.latency_ns, wire.bits_per_second, wire.loss) == (
        ("nic0", "nic1"),
        10_000,
        10**9,
        0.01,
    )
    nic = topology.guests[2].nics[0]
    assert isinstance(nic, Vf)
    assert (nic.nic, nic.number, nic.settings.vlan, nic.settings.rate_bits_per_second) == (
        "nic1",
        0,
        7,
        10**8,
    )
    assert topology.phases[0][0].way == ("nic0", "nic1")
    macs = [nic.mac for host in topology.hosts for nic in host.nics]
    assert len(set(macs)) == 3


@pytest.mark.parametrize("ends", ["p, to: w", "p, to: v", "w, to: v", "w, to: p"])
def test_frames_find_a_way_over_bridges_nics_and_wires(ends: str) -> None:
    parse_topology(HOSTS + f"  - {{kind: pktgen, from: {ends}}}")


@pytest.mark.parametrize(
    ("ends", "line"),
    [
        ("x, to: y", "x is on nic2 of host h2 and y on host h2, and nothing joins these: make the NIC the bridge's uplink"),
        ("q, to: w", "q is on host h1 and w on nic1 of host h1, and nothing joins these: make the NIC the bridge's uplink"),
        ("v, to: x", "v is on nic0 of host h0 and x on nic2 of host h2, and no wire joins them: give both hosts a NIC with the same `wire`"),
    ],
)  # fmt: skip
def test_flows_without_a_way_are_refused(ends: str, line: str) -> None:
    assert mistakes(HOSTS + f"  - {{kind: pktgen, from: {ends}}}") == [f"f:15: workloads[0].to: {line}"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("h1: {nics: {nic1: {wire: w0}}}", "h1: {nics: {nic1: {}}}", "f:3: hosts.h0.nics.nic0.wire: wire w0 must join exactly two NICs, not only nic0"),
        ("nic2: {}", "nic2: {wire: w0}", "f:5: hosts.h2.nics.nic2.wire: wire w0 must join exactly two NICs, not nic0, nic1 and nic2"),
        ("wires: {w0:", "wires: {w7: {}, w0:", "f:6: wires.w7: joins no NICs: name it as `wire` of two, or leave it out"),
        ("uplink: nic0", "uplink: nic9", 'f:3: hosts.h0.bridge.uplink: host h0 has no NIC "nic9" (did you mean nic0?)'),
        ("kind: vf, nic: nic0", "kind: vf, nic: nic1", 'f:9: guests.v.nics[0].nic: host h0 has no NIC "nic1" (did you mean nic0?)'),
        ("  v: {host", "  v: {count: 3, host", "f:9: guests.v.nics[0].nic: nic0 has 2 virtual functions, and guests want more: raise its vfs"),
        ("nic2: {}", "nic0: {}", "f:5: hosts.h2.nics.nic0: a NIC of host h2 cannot have the name nic0: it is that of a NIC of host h0 (line 3)"),
        ("vfs: 2", "vfs: 8", "f:3: hosts.h0.nics.nic0.vfs: must be a whole number from 0 to 7, not 8"),
        ("loss: 0.01", "loss: 2", "f:6: wires.w0.loss: must be a number from 0 to 1, not 2"),
        ("rate: 100Mbit", "rate: 100k", "f:10: guests.w.nics[0].rate: must be in bits a second, e.g. 100Mbit: the NIC counts no frames"),
        ("nic: nic0}]", "nic: nic0, interpose: [{kind: capture, file: a.pcapng}]}]", "f:9: guests.v.nics[0].interpose: a vf's frames never pass the vmm, so nothing of it can see them; use virtio-net or e1000"),
    ],
)  # fmt: skip
def test_mistakes_about_nics_of_hosts(old: str, new: str, line: str) -> None:
    assert old in HOSTS
    told = mistakes(HOSTS.replace(old, new).replace("workloads:\n", ""))
    assert line in told


def test_a_nic_of_a_host_that_is_not_there_is_told_with_what_to_do() -> None:
    (line,) = mistakes("name: t\nguests: {a: {nics: [{kind: vf, nic: nic0}]}}\n")
    assert line.startswith('f:2: guests.a.nics[0].nic: host h0 has no NIC "nic0": give it one')


def test_no_copy_can_be_mirrored_to_a_function() -> None:
    text = HOSTS.replace(
        "p: {host: h0}", "p: {host: h0, nics: [{kind: virtio-net, interpose: [{kind: mirror, to: v}]}]}"
    )
    (line,) = mistakes(text.replace("workloads:\n", ""))
    assert line.endswith("to: v.nic0 has no bridge behind it (vf): no copy can reach it")
