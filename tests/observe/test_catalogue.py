"""What each process counts: no name twice, blocks of consecutive words, every reason declared."""

import ast
from pathlib import Path
from typing import Final

import testbed
from testbed.observe.catalogue import (
    GUEST_COUNTERS,
    NIC_COUNTERS,
    PORT_COUNTERS,
    PORT_DROP_REASONS,
    PORT_FAULT_REASONS,
    PORT_FRAME_COUNTERS,
    VMM_COUNTERS,
    guest_counter_names,
    vmm_counter_names,
)
from testbed.spec.port_counters import PORT_COUNTERS as RECORD
from testbed.spec.port_counters import fault_name

ROOT: Final = Path(testbed.__file__).parent


def test_catalogue_names_are_unique() -> None:
    for names in (guest_counter_names(3), vmm_counter_names(["a.nic0", "b.nic0"])):
        assert len(set(names)) == len(names)


def test_catalogue_guest_has_a_block_for_every_nic() -> None:
    names = guest_counter_names(2)
    assert names[: len(GUEST_COUNTERS)] == GUEST_COUNTERS
    blocks = [f"nic{nic}.{name}" for nic in range(2) for name in NIC_COUNTERS]
    assert list(names[len(GUEST_COUNTERS) :]) == blocks


def test_catalogue_vmm_has_a_block_for_every_port_as_native_code_counts() -> None:
    names = vmm_counter_names(["a.nic0", "b.nic1"])
    first = names.index("b.nic1.frames_in")
    assert first == len(VMM_COUNTERS) + len(PORT_COUNTERS)
    words = {name.removeprefix("b.nic1."): 8 * at for at, name in enumerate(names[first:])}
    members = {field.name: field.offset for field in RECORD.fields}
    assert words == {
        name.replace("dropped_", "dropped.").replace("fault_", "fault."): offset
        for name, offset in members.items()
    }


def test_catalogue_port_counters_are_frames_drops_and_faults() -> None:
    drops = [f"dropped.{reason}" for reason in PORT_DROP_REASONS]
    faults = [f"fault.{reason}" for reason in PORT_FAULT_REASONS]
    assert [*PORT_FRAME_COUNTERS, *drops, *faults] == list(PORT_COUNTERS)


def test_catalogue_fault_code_is_the_word_that_counts_it() -> None:
    for code, name in enumerate(PORT_COUNTERS):
        if name.startswith("fault."):
            assert fault_name(code) == name.removeprefix("fault.")


def _literals(package: str, method: str) -> set[str]:
    """Return every literal that modules of a package give to a method as its first argument."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_call and node.func.attr == method and node.args and isinstance(node.args[0], ast.Constant):  # type: ignore[attr-defined]
                found.add(node.args[0].value)  # type: ignore[attr-defined]
    return {name for name in found if isinstance(name, str)}


def test_catalogue_drop_reasons_of_the_code_are_declared() -> None:
    reasons = _literals("virtio", "count_dropped") | _literals("net", "count_dropped")
    assert reasons
    assert reasons <= set(PORT_DROP_REASONS)


def test_catalogue_fault_reasons_of_the_code_are_declared() -> None:
    reasons = _literals("virtio", "count_fault") | _literals("virtio", "_fault")
    assert reasons
    assert reasons <= set(PORT_FAULT_REASONS)
