"""NICs in a topology file: an e1000 of a guest; NICs of hosts, wires, functions and the ways over them."""

# ruff: noqa: E501 - a message stands on one line, as a person reads it

import pytest

from launcher.nics import E1000, Vf
from launcher.planner import plan_topology
from launcher.topology import parse_topology
from tests.support.topologies import mistakes


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("ring_size: 12", "ring_size: must be a multiple of 8, not 12"),
        ("ring_size: 4", "ring_size: must be a whole number from 8 to 4096, not 4"),
        ("frames_per_kick: 0", "frames_per_kick: must be a whole number from 1 to 4096, not 0"),
        ("mtu: 16271", "mtu: must be a whole number from 68 to 16270, not 16271"),
        ("reset: bios", 'reset: must be one of io, memory, not "bios"'),
        ("queue_pairs: 2", "queue_pairs: unknown key; the keys here are kind, mac, interpose, backend, mtu, ring_size, frames_per_kick, throttle, reset"),
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


def test_direct_interrupts_need_memory_for_their_tables() -> None:
    text = """name: t
hosts: {h0: {nics: {nic0: {vfs: 1}}}}
guests: {a: {memory: 4MiB, interrupts: WAY, nics: [{kind: vf, nic: nic0, ring_size: 984}]}}
"""
    assert parse_topology(text.replace("WAY", "list-registers")).guests[0].memory_bytes == 4 << 20
    (line,) = mistakes(text.replace("WAY", "direct"))
    assert "memory: must be at least 4.1MiB for the queues and buffers of its NICs, not 4MiB" in line


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


def test_a_flow_may_end_where_a_nic_takes_its_frames_off_a_wire() -> None:
    topology = parse_topology(HOSTS + "  - {kind: pktgen, from: p, to: nic1}")
    flow = topology.phases[0][0]
    assert (flow.name, flow.ends_at, flow.way, flow.verify) == (
        "pktgen p->nic1",
        "nic1",
        ("nic0", "nic1"),
        False,
    )
    entry = plan_topology(topology).phases[0][0]
    macs = {nic.mac for guest in topology.guests for nic in guest.nics}
    assert (entry.destination, entry.ends_on_wire) == ("nic1", True)
    assert entry.destination_mac not in macs | {nic.mac for host in topology.hosts for nic in host.nics}


@pytest.mark.parametrize(
    ("flow", "line"),
    [
        ("{kind: pktgen, from: p, to: nic0}", "to: no frame of p comes to nic0 by a wire: name a NIC at the far end of one"),
        ("{kind: pktgen, from: x, to: nic1}", "to: no frame of x comes to nic1 by a wire: name a NIC at the far end of one"),
        ("{kind: rr, from: p, to: nic1}", "to: there is no guest \"nic1\"; the guests are p, v, w, q, x, y"),
    ],
)  # fmt: skip
def test_flows_that_end_at_no_wire(flow: str, line: str) -> None:
    assert mistakes(HOSTS + f"  - {flow}") == [f"f:15: workloads[0].{line}"]


def test_two_flows_that_one_nic_would_count_do_not_run_at_the_same_time() -> None:
    both = "  - - {kind: pktgen, from: p, to: nic1}\n    - {kind: pktgen, from: v, to: nic1}"
    (line,) = mistakes(HOSTS + both)
    assert "cannot run at the same time as the flow on line 15: nic1 counts frames" in line
