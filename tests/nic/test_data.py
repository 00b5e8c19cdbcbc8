"""The registers of the queues on the engine: start and stop, heads and tails, doorbells, interrupts behind
the descriptors that they announce, queues that break a rule.
"""

import pytest

from testbed.native import NicEngine, Pinned
from testbed.nic.data import NicData
from testbed.spec import dma_request as dma
from testbed.spec import igb, igb_vf
from testbed.spec import igb_ring as ring
from testbed.spec.igb import mask
from testbed.spec.nic_counters import NIC_POOL
from tests.support.immediate_port import ImmediatePort
from tests.support.nic_bench import RING_SLOTS, Iommu, RxRing, Served, TxRing, frame
from tests.support.nic_machine import MAC, NicMachine
from tests.support.strict_memory import StrictMemory

ENABLE = mask("RXDCTL", "ENABLE")
OUT = bytes.fromhex("02ffffffff01")


class MessageIommu(Iommu):
    """Records MSIs among the requests."""

    def _do(self, row: dict[str, int]) -> int:
        if row["kind"] == dma.KIND_MSI:
            self.log.append(Served(row["stream"], row["kind"], row["iova"], row["length"]))
            return dma.STATUS_DONE
        return super()._do(row)


class DataMachine(NicMachine):
    """Control and data side, every function's memory the same."""

    def __init__(self, vfs: int = 0) -> None:
        super().__init__()
        self.memory = StrictMemory(4 << 20)
        self._free = self.memory.base
        self.reports: list[tuple[int, str]] = []
        sram = memoryview(bytearray(NicEngine.memory_bytes()))
        self.data_side = NicData(
            self.nic,
            Pinned(sram),
            Pinned(bytearray(8 * NIC_POOL.size)),
            0,
            lambda function, reason, _detail: self.reports.append((function, reason)),
            self.clock,
        )
        self.iommu = MessageIommu(self.memory, sram)
        self.data_side.attach_dma({f: self._port(f) for f in range(9)})
        if vfs:
            self.enable_vfs(vfs)

    def _port(self, function: int) -> ImmediatePort:
        ring_of = self.iommu.add(function)
        # what submit serves is what it has published: the same ring
        return ImmediatePort(ring_of, lambda: self.iommu.serve(function))

    def _send(self, function: int, address: int, data: int) -> None:
        super()._send(function, address, data)
        self.data_side.send(function, address, data)

    def _changed(self) -> None:
        super()._changed()
        if hasattr(self, "data_side"):
            self.data_side.changed()

    def take(self, size_bytes: int) -> int:
        at = self._free
        self._free += -(-size_bytes // 4096) * 4096
        return at

    def run(self) -> None:
        for _ in range(100):
            if not self.data_side.turn():
                return
        raise AssertionError("never at rest")

    def start(self, prefix: str, made: TxRing | RxRing, queue: int = 0) -> None:
        """Set a queue of the PF up as drivers do."""
        self.wr(f"{prefix}BAL", made.base & 0xFFFF_FFFF, queue)
        self.wr(f"{prefix}BAH", made.base >> 32, queue)
        self.wr(f"{prefix}LEN", made.size * 16, queue)
        self.wr("TXDCTL" if prefix == "TD" else "RXDCTL", ENABLE, queue)


@pytest.fixture
def machine() -> DataMachine:
    machine = DataMachine()
    machine.wr("CTRL", mask("CTRL", "SLU", "FD"))
    machine.wr("TCTL", mask("TCTL", "EN", "PSP"))
    machine.wr("RCTL", mask("RCTL", "EN", "BAM"))
    return machine


def transmit(machine: DataMachine, queue: int = 0) -> TxRing:
    tx = TxRing(machine, 64)  # type: ignore[arg-type]
    machine.start("TD", tx, queue)
    return tx


def test_queue_runs_from_enable_to_disable(machine: DataMachine) -> None:
    tx = transmit(machine, 2)
    tx.data(frame(OUT, MAC))
    machine.wr("TDT", tx.tail, 2)
    machine.run()
    assert (machine.rd("TDH", 2), machine.rd("TDT", 2)) == (1, 1)
    machine.wr("TXDCTL", 0, 2)
    tx.data(frame(OUT, MAC))
    machine.wr("TDT", tx.tail, 2)
    machine.run()
    assert (machine.rd("TDH", 2), machine.rd("TDT", 2)) == (1, 2)
    machine.wr("TXDCTL", ENABLE, 2)
    machine.run()
    assert machine.rd("TDH", 2) == 2


def test_writing_thresholds_does_not_start_a_running_queue_again(machine: DataMachine) -> None:
    tx = transmit(machine, 2)
    tx.data(frame(OUT, MAC))
    machine.wr("TDT", tx.tail, 2)
    machine.run()
    machine.wr("TXDCTL", ENABLE | 8, 2)
    machine.run()
    assert machine.rd("TDH", 2) == 1


def test_queue_zero_is_enabled_after_reset_and_takes_its_ring_later(machine: DataMachine) -> None:
    tx = TxRing(machine, 64)  # type: ignore[arg-type]
    assert machine.rd("TXDCTL", 0) & ENABLE
    machine.wr("TDBAL", tx.base, 0)
    machine.wr("TDLEN", tx.size * 16, 0)
    tx.data(frame(OUT, MAC))
    machine.wr("TDT", tx.tail, 0)
    machine.run()
    assert machine.rd("TDH", 0) == 1


def test_device_reset_forgets_every_queue(machine: DataMachine) -> None:
    tx = transmit(machine, 3)
    tx.data(frame(OUT, MAC))
    machine.wr("TDT", tx.tail, 3)
    machine.wr("CTRL", mask("CTRL", "RST"))
    machine.run()
    assert (machine.rd("TDH", 3), machine.rd("TDT", 3), machine.rd("TXDCTL", 3) & ENABLE) == (0, 0, 0)
    assert machine.iommu.log == []


def test_queue_that_breaks_a_rule_is_disabled_reported_and_told_by_an_interrupt(machine: DataMachine) -> None:
    machine.wr("IMS", mask("ICR", "DOUTSYNC"))
    transmit(machine, 5)
    machine.wr("TDT", 100, 5)
    machine.run()
    assert not machine.rd("TXDCTL", 5) & ENABLE
    assert machine.reports == [(0, "register")]
    assert machine.rd("ICR") & mask("ICR", "DOUTSYNC")
    machine.wr("TDT", 0, 5)
    machine.wr("TXDCTL", ENABLE, 5)
    machine.run()
    assert machine.rd("TXDCTL", 5) & ENABLE
    assert machine.reports == [(0, "register")]


def test_message_follows_the_descriptors_that_it_announces(machine: DataMachine) -> None:
    machine.enable_messages(0)
    machine.wr("GPIE", mask("GPIE", "MULTIPLE_MSIX", "EIAME"))
    machine.wr("IVAR", igb.REGISTERS.mask("IVAR", "TX_VALID") | 3 << 8, 0)
    machine.wr("EIMS", 1 << 3)
    tx = transmit(machine, 0)
    tx.data(frame(OUT, MAC))
    machine.wr("TDT", tx.tail, 0)
    machine.run()
    kinds = [served.kind for served in machine.iommu.log]
    assert kinds == [dma.KIND_READ, dma.KIND_READ, dma.KIND_WRITE, dma.KIND_MSI]
    assert machine.messages == [(0, 3)]


def test_messages_without_room_wait_in_order_and_the_same_one_once(machine: DataMachine) -> None:
    machine.iommu.paused.add(0)
    for data in range(RING_SLOTS):
        machine.data_side.send(0, 0x1000 + 4 * data, data)
    machine.data_side.turn()
    for data in (7, 8, 7, 7, 9):
        machine.data_side.send(0, 0x8000 + 4 * data, data)
        machine.data_side.turn()
    machine.iommu.paused.clear()
    machine.iommu.serve(0)
    machine.run()
    written = [served.iova for served in machine.iommu.log]
    assert written == [0x1000 + 4 * data for data in range(RING_SLOTS)] + [0x801C, 0x8020, 0x8024]
    assert machine.data_side.merged == 2


def test_doorbells_of_a_function_are_its_own_queues(machine: DataMachine) -> None:
    machine.enable_vfs(3)
    data = machine.data_side
    places = dict(data.doorbells(2))
    assert sorted(places) == sorted(
        igb_vf.REGISTERS[name].at(index) for name in ("TDT", "RDT") for index in range(2)
    )
    places[igb_vf.REGISTERS["TDT"].at(1)].value = 7
    assert machine.rd("TDT", igb.vf_queue(1, 1)) == 7
    assert machine.vrd(1, "TDT", 1) == 7
    machine.vwr(0, "RDT", 9, 0)
    assert dict(data.doorbells(1))[igb_vf.REGISTERS["RDT"].at(0)].value == 9
    assert len(data.doorbells(0)) == 2 * (igb.QUEUES + igb.ALIASED_QUEUES)


def test_queue_of_a_virtual_function_asks_as_that_function(machine: DataMachine) -> None:
    machine.enable_vfs(2)
    tx = TxRing(machine, 64)  # type: ignore[arg-type]
    for name, value in (("TDBAL", tx.base), ("TDLEN", tx.size * 16), ("TXDCTL", ENABLE)):
        machine.vwr(1, name, value)
    machine.wr("VFTE", 0xFF)
    tx.data(frame(OUT, MAC))
    machine.vwr(1, "TDT", tx.tail)
    machine.run()
    assert {served.stream for served in machine.iommu.log} == {0x102}


def test_buffer_size_comes_from_rctl_where_srrctl_has_none(machine: DataMachine) -> None:
    machine.wr("RCTL", mask("RCTL", "EN", "BAM") | 2 << 16)
    machine.wr("SRRCTL", igb.DESCTYPE_ONE_BUFFER << 25, 0)
    rx = RxRing(machine, 64, buffer_bytes=512)  # type: ignore[arg-type]
    machine.start("RD", rx, 0)
    rx.post(8)
    machine.wr("RDT", rx.tail, 0)
    machine.run()
    fetched = [served for served in machine.iommu.log if served.kind == dma.KIND_READ]
    assert [(served.iova, served.length) for served in fetched] == [(rx.base, 8 * ring.DESC_BYTES)]
