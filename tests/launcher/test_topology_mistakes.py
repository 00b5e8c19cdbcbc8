"""Every mistake in a topology file is told, with its line, the rule and the value."""

# ruff: noqa: E501 - a message stands on one line, as a person reads it

import pytest

from launcher.nics import VirtioNet
from launcher.topology import Topology, parse_topology
from launcher.topology_records import End
from tests.support.topologies import CONFIGS, PAIR, mistakes, pair

KINDS = "e1000, vf, virtio-net"
"""Of NICs."""


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
        ("iommu: smmuv3", 'iommu: must be one of none, smmu (did you mean smmu?), not "smmuv3"'),
        ("iommu: smmu", "iommu: smmu needs a NIC of `kind: vf`: what the vmm serves uses guest physical addresses"),
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
        ("{kind: pktgem, from: a, to: b}", '.kind: must be a kind that exists (attack, ipi, netns, pktgen, replay, rr, steer, storm, timer) (did you mean pktgen?), not "pktgem"'),
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
