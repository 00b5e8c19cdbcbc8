"""Whether a plan fits a machine: one clear line with what is needed and what there is."""

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.capacity import Machine, Need, check_capacity
from launcher.planner import plan_topology
from launcher.topology import parse_topology
from launcher.units import GIB, MIB
from testbed.errors import ConfigError
from testbed.messages.entries import Plan

ROOMY = Machine(
    memory_available_bytes=16 * GIB,
    shm_free_bytes=8 * GIB,
    descriptors_max=4096,
    tasks_free=32768,
    cpus=frozenset({0, 1}),
)
RUN = Path("/run/virtbed/t")


def plan_of(guests: str) -> Plan:
    return plan_topology(parse_topology(f"name: big\nguests: {guests}\n"))


def refused(plan: Plan, machine: Machine, run: Path = RUN) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        check_capacity(plan, machine, run)
    return caught.value.problems


def test_a_small_topology_fits() -> None:
    check_capacity(plan_of("{a: {}, b: {cpus: 0-1}}"), ROOMY, RUN)


def test_ten_thousand_guests_are_refused_in_one_line() -> None:
    groups = ", ".join(f"g{i}-: {{count: 1000, host: h{i}}}" for i in range(10))
    (line,) = refused(plan_of(f"{{{groups}}}"), ROOMY)
    assert line.startswith("topology big: 10000 guests and 10 vmms do not fit this machine: they need 66")
    assert "of memory where 16GiB is available" in line
    assert "of shared memory where /dev/shm has 8GiB free" in line
    assert "6064 open files in one vmm where ulimit -Hn allows 4096" in line
    assert line.endswith("use fewer guests or less memory each")


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (replace(ROOMY, memory_available_bytes=64 * MIB), "of memory where 64MiB is available"),
        (replace(ROOMY, shm_free_bytes=64 * MIB), "of shared memory where /dev/shm has 64MiB free"),
        (replace(ROOMY, descriptors_max=70), "76 open files in one vmm where ulimit -Hn allows 70"),
        (replace(ROOMY, tasks_free=8), "9 processes and threads where 8 more are allowed"),
    ],
)
def test_what_is_short_is_named_and_nothing_else(machine: Machine, text: str) -> None:
    (line,) = refused(plan_of("{a: {}, b: {}}"), machine)
    assert line.split("they need ")[1].split(";")[0].endswith(text)
    assert line.count(" where ") == 1


def test_the_need_counts_ram_wholly_and_the_busiest_vmm() -> None:
    need = Need.of(plan_of("{a: {host: x}, b: {host: y, nics: []}, c: {host: y, memory: 4MiB}}"))
    assert need.guests == 3
    assert need.processes == 5
    assert need.segment_bytes >= 132 * MIB
    assert need.memory_bytes == need.segment_bytes + 5 * 4 * MIB
    assert need.vmm_descriptors == 64 + 2 * 6


def test_unlimited_tasks_are_enough() -> None:
    check_capacity(plan_of("{a: {}}"), replace(ROOMY, tasks_free=None), RUN)


def test_cpus_must_be_there() -> None:
    assert refused(plan_of("{a: {cpus: '1,5-6'}, b: {cpus: 6-7}}"), ROOMY) == (
        "cpus of a, b: must be among those that may be used here (0, 1), not 5, 6, 7",
    )


def test_socket_paths_must_fit_the_kernel_s_limit() -> None:
    plan = plan_of("{a: {}}")
    longest = 107 - 1 - len("vmm-h0") - 16
    check_capacity(plan, ROOMY, Path("/" + "r" * (longest - 1)))
    (line,) = refused(plan, ROOMY, Path("/" + "r" * longest))
    assert line.endswith(
        "the path of a socket must have at most 107 bytes, not 108: choose a shorter directory"
    )


def test_this_machine_can_be_measured() -> None:
    machine = Machine.measure()
    assert machine.memory_available_bytes > 0
    assert machine.descriptors_max > 0
    assert machine.cpus
