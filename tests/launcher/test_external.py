"""Guests that are not ours and back ends that are not ours, in a topology file and in its plan."""

from pathlib import Path

import pytest

from launcher.capture_session import find_nic
from launcher.nics import VirtioNet
from launcher.planner import plan_topology
from launcher.topology import parse_topology
from testbed.errors import ConfigError
from testbed.messages.entries import GuestEntry, VirtioNetEntry, VmmEntry
from testbed.spec.vhost_user import RING_JOURNAL

HERE = Path("/lab")


def problems(text: str) -> str:
    """Return what is said about a file."""
    with pytest.raises(ConfigError) as raised:
        parse_topology(text, directory=HERE)
    return "\n".join(raised.value.problems)


def external(text: str) -> str:
    """Return what is said about an external guest with these keys."""
    return problems(f"name: x\nguests:\n  q: {{kind: external, {text}}}\n")


def test_an_external_guest_has_a_port_and_no_process() -> None:
    linux = "{kind: external, socket: run/q.sock, nics: [{kind: virtio-net, ring: packed}]}"
    text = f"name: x\nguests: {{a: {{}}, q: {linux}}}"
    plan = plan_topology(parse_topology(text, directory=HERE))
    assert [process.name for process in plan.processes] == ["vmm-h0", "a"]
    vmm = plan.processes[0].entry
    assert isinstance(vmm, VmmEntry)
    (entry,) = vmm.externals
    assert (entry.name, entry.socket, entry.listens) == ("q", "/lab/run/q.sock", True)
    assert (entry.nic.name, entry.nic.ring) == ("q.nic0", "packed")
    assert "q.nic0.frames_in" in plan.processes[0].counter_names
    assert not any(segment.name.startswith("q.") for segment in plan.segments)


def test_its_socket_is_in_the_run_directory_by_default() -> None:
    topology = parse_topology("name: x\nguests: {q: {kind: external}}", directory=HERE)
    assert topology.guests[0].external is not None
    assert topology.guests[0].external.socket == ""


@pytest.mark.parametrize(
    "key", ["memory: 64MiB", "vcpus: 2", "interrupts: direct", "iommu: smmu", "poll: 0", "cpus: [0]"]
)
def test_what_only_our_guests_have_is_refused(key: str) -> None:
    name = key.partition(":")[0]
    assert f"guests.q.{name}: cannot be given: an external guest is a process of somebody else" in external(
        key
    )


def test_a_socket_of_a_guest_of_ours_is_refused() -> None:
    assert "only `kind: external` has it" in problems("name: x\nguests: {a: {socket: s}}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nics: []", "must be one NIC"),
        ("nics: [{kind: virtio-net}, {kind: virtio-net}]", "must be one NIC"),
        ("nics: [{kind: e1000}]", "must be a virtio-net"),
        ("listens: false", "where the front end listens"),
        ("count: 2, socket: s", "one socket cannot be that of 2 guests"),
        (f"socket: {'s' * 120}", "at most 107 bytes"),
    ],
)
def test_what_an_external_guest_cannot_have_is_told(text: str, said: str) -> None:
    assert said in external(text)


@pytest.mark.parametrize("flow", ["from: q, to: a", "from: a, to: q"])
def test_no_flow_begins_or_ends_at_an_external_guest(flow: str) -> None:
    text = f"name: x\nguests: {{a: {{}}, q: {{kind: external}}}}\nworkloads: [{{kind: pktgen, {flow}}}]"
    assert "q is an external guest, whose frames nobody here can make or check" in problems(text)


def test_a_nic_may_have_its_back_end_in_another_process() -> None:
    text = "name: x\nguests: {a: {nics: [{kind: virtio-net, vhost-user: run/s}]}}\n"
    text += "workloads: [{kind: pktgen, from: a}]"
    topology = parse_topology(text, directory=HERE)
    nic = topology.guests[0].nics[0]
    assert isinstance(nic, VirtioNet)
    assert (nic.vhost_user, nic.backend) == ("/lab/run/s", "peer")
    plan = plan_topology(topology)
    guest = plan.processes[1].entry
    assert isinstance(guest, GuestEntry)
    assert isinstance(guest.nics[0], VirtioNetEntry)
    assert guest.nics[0].hidden
    assert plan.phases[0][0].comes_back


def test_a_nic_has_one_back_end() -> None:
    nic = "{kind: virtio-net, vhost-user: s, backend: echo}"
    assert "backend: is the vmm's" in problems(f"name: x\nguests: {{a: {{nics: [{nic}]}}}}")


def test_nothing_looks_at_frames_that_the_vmm_never_has() -> None:
    nic = "{kind: virtio-net, vhost-user: s, interpose: [{kind: capture, file: f}]}"
    assert "its back end is another process" in problems(f"name: x\nguests: {{a: {{nics: [{nic}]}}}}")


def test_frames_of_the_bridge_do_not_reach_it() -> None:
    text = "name: x\nguests: {a: {nics: [{kind: virtio-net, vhost-user: s}]}, b: {}}\n"
    assert "not the bridge" in problems(text + "workloads: [{kind: pktgen, from: b, to: a}]")


def test_a_vmm_that_is_started_again_leaves_a_record_of_every_ring() -> None:
    guest = "{kind: external, nics: [{kind: virtio-net, queue_pairs: 2}]}"
    text = f"name: x\nhosts: {{h0: {{restart: true}}}}\nguests: {{q: {guest}}}"
    plan = plan_topology(parse_topology(text, directory=HERE))
    vmm = plan.processes[0]
    assert isinstance(vmm.entry, VmmEntry)
    assert vmm.entry.restarts
    journal = next(segment for segment in vmm.segments if segment.name == "q.journal")
    assert journal.size_bytes == 4 * RING_JOURNAL.size
    assert journal in plan.segments


def test_a_vmm_with_guests_of_ours_cannot_be_started_again() -> None:
    text = "name: x\nhosts: {h0: {restart: true}}\nguests: {q: {kind: external}, a: {}}"
    assert "hosts.h0.restart: needs external guests only: a of host h0" in problems(text)


def test_its_frames_can_be_looked_at_by_its_name() -> None:
    plan = plan_topology(parse_topology("name: x\nguests: {a: {}, q: {kind: external}}", directory=HERE))
    vmm, nic = find_nic(plan, "q")
    assert (vmm, nic.name, nic.interposable) == ("vmm-h0", "q.nic0", True)
