"""An IOMMU in its own process: programmed over its window, asked over DMA rings, mediated and with ATS."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.errors import DeviceError
from testbed.memory.tables import TableBuilder
from testbed.native import WordChanges
from testbed.pci import smmu_entries as entries
from testbed.spec import dma_request as d
from testbed.spec import iommu_window
from tests.support.iommu_child import NAME, RAM, RAM_BYTES, IommuChild

STREAM, OTHER = 0x180, 0x182
GUEST = 0x4000_0000
PAGE = 4096


@pytest.fixture(scope="module", params=[False, True], ids=["mediated", "ats"])
def child(request: pytest.FixtureRequest) -> Iterator[IommuChild]:
    with tempfile.TemporaryDirectory(prefix="vb-") as directory:
        child = IommuChild(Path(directory), STREAM, OTHER, ats=request.param)
        child.driver.start()
        builder = TableBuilder(child.memory, child.frames, 2)
        builder.map(GUEST, RAM, RAM_BYTES // 2)
        child.driver.set_entry(STREAM, entries.stage2_entry(1, builder.root, request.param))
        yield child
        assert child.close() == 0


def _counter(child: IommuChild, name: str) -> int:
    return child.counters[name]


def test_bytes_reach_memory_and_device(child: IommuChild) -> None:
    sram = child.segments["nic0.sram"].view
    sram[:5] = b"hello"

    assert child.transfer(d.KIND_WRITE, GUEST + 100, 5) == d.STATUS_DONE
    assert child.transfer(d.KIND_READ, GUEST + 98, 9, 200) == d.STATUS_DONE

    assert child.memory.read(RAM + 100, 5) == b"hello"
    assert bytes(sram[200:209]) == b"\0\0hello\0\0"


def test_refused_write_is_an_event_of_its_stream_and_the_wire_tells(child: IommuChild) -> None:
    wire = WordChanges(
        child.segments[f"{NAME}.window"].pinned,
        iommu_window.WIRES_OFFSET + iommu_window.IOMMU_WIRES.offset("event_queue"),
    )
    before = child.memory.read(RAM + RAM_BYTES // 2, 8)

    assert child.transfer(d.KIND_WRITE, GUEST + RAM_BYTES // 2, 8) == d.STATUS_ABORT

    child.until(lambda: wire.ready)
    [event] = child.driver.take_events()
    assert (event.name, event.stream, event.write) == ("F_TRANSLATION", STREAM, True)
    assert child.memory.read(RAM + RAM_BYTES // 2, 8) == before


def test_function_without_entry_reaches_nothing(child: IommuChild) -> None:
    assert child.transfer(d.KIND_READ, GUEST, 8, stream=OTHER) == d.STATUS_ABORT
    assert {event.stream for event in child.driver.take_events()} == {OTHER}


def test_counters_tell_requests_bytes_and_faults(child: IommuChild) -> None:
    for _ in range(3):
        child.transfer(d.KIND_READ, GUEST + RAM_BYTES // 2, 8)
    child.driver.take_events()

    child.until(lambda: _counter(child, "nic0.vf0.refused") >= 3)
    child.until(lambda: _counter(child, "fault.F_TRANSLATION") >= 3)
    assert _counter(child, "dma.refused") >= _counter(child, "nic0.vf0.refused")


def test_stale_translation_is_not_used_once_the_driver_has_synced(child: IommuChild) -> None:
    ats = bool(child.client.watched)
    builder = TableBuilder(child.memory, child.frames, 2)
    builder.map(GUEST, RAM, PAGE)
    child.driver.set_entry(STREAM, entries.stage2_entry(2, builder.root, ats))
    if ats:
        child.driver.command(entries.invalidate_device(STREAM))
        child.driver.sync()
    assert child.transfer(d.KIND_READ, GUEST, 8) == d.STATUS_DONE

    builder.unmap(GUEST, PAGE)
    child.driver.invalidate_stage2(2, GUEST, PAGE)
    if ats:
        child.driver.command(entries.invalidate_device(STREAM, GUEST, PAGE))
    child.driver.sync()

    assert child.transfer(d.KIND_READ, GUEST, 8) == d.STATUS_ABORT
    child.driver.take_events()


def test_process_has_all_memory_that_devices_are_let_into(child: IommuChild) -> None:
    maps = Path(f"/proc/{child.process.pid}/maps").read_text()
    assert all(name in maps for name in ("a.ram", "h0.tables", "nic0.sram", "nic0.dma"))


def test_driver_gives_up_on_a_device_that_does_not_answer() -> None:
    with tempfile.TemporaryDirectory(prefix="vb-") as directory:
        child = IommuChild(Path(directory), STREAM, ats=True)
        child.driver.start()
        child.serve_device = lambda: None  # type: ignore[method-assign]
        child.driver.command(entries.invalidate_device(STREAM))
        with pytest.raises(DeviceError, match="does not answer"):
            child.driver.sync()
        assert child.close() == 0
