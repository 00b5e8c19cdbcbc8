"""Pumps: how long native work goes on, what stops it, whom it rings; tails that are written natively."""

import pytest

from testbed.memory.host import HostMemory
from testbed.native import (
    BarCompleter,
    BarRequester,
    Bell,
    Burst,
    DmaRequester,
    DmaServer,
    DoorbellWord,
    FlowSource,
    IgbTxDriver,
    Iotlb,
    NicPump,
    Pinned,
    ServePump,
    TailDoorbell,
    WordChanges,
)
from testbed.spec import bar_window
from testbed.spec import dma_request as d
from testbed.spec.igb_ring import TX_DD
from testbed.spec.vcpu_page import BELL
from tests.support.nic_bench import NicBench, frame, mac_of

SLOTS, STREAM, BUDGET_NS = 8, 0x100, 50_000_000
STRANGER = bytes.fromhex("02ffffffff01")


def ring_page() -> tuple[Pinned, int]:
    page = Pinned(bytearray(d.ring_bytes(SLOTS) + 64))
    return page, -page.address % 64


class Served:
    """A device with rings of bypassed streams, and what serves them."""

    def __init__(self, rings: int) -> None:
        self.buffer, self.host = Pinned(bytearray(4096)), HostMemory(())
        self.bells = Pinned(bytearray(64))
        self.bell = Bell(self.bells)
        cache = Iotlb()
        self.pump, self.requesters, self.servers = ServePump(), [], []
        device = self.pump.add_device(self.bell)
        for n in range(rings):
            cache.add_context(STREAM + n, None, 0, 0, bypass=True)
            page, offset = ring_page()
            self.requesters.append(DmaRequester(page, offset, SLOTS, STREAM + n))
            server = DmaServer(page, offset, SLOTS, STREAM + n, self.buffer, self.host.host_map, cache)
            self.servers.append(server)
            self.pump.add(device, server)

    def post(self, ring: int, kind: int = d.KIND_WRITE, length: int = 0) -> None:
        assert self.requesters[ring].post(kind, 0, length, 0) is not None
        self.requesters[ring].submit()


def test_every_ring_is_served_and_the_device_rung_once_a_round() -> None:
    served = Served(3)
    for ring in (0, 0, 2):
        served.post(ring)
    assert served.pump.run(True, BUDGET_NS, 0) == (True, (), None)
    assert [server.served for server in served.servers] == [2, 0, 1]
    assert served.pump.asked(0) == served.bell.rung == 2
    assert served.pump.run(True, BUDGET_NS, 0) == (False, (), None)


def test_a_device_that_sleeps_is_named_and_the_pump_stops_for_it() -> None:
    served = Served(1)
    armed = BELL.offset("armed")
    served.bells.bytes_view()[armed : armed + 4] = (1).to_bytes(4, "little")
    served.post(0)
    assert served.pump.run(True, BUDGET_NS, BUDGET_NS) == (True, (0,), None)


def test_a_request_that_needs_a_decision_stops_the_pump_and_is_left() -> None:
    served = Served(2)
    served.post(0, d.KIND_MSI)
    served.post(1)
    served.pump.run(True, BUDGET_NS, BUDGET_NS)
    assert [server.served for server in served.servers] == [0, 1]
    assert served.servers[0].serve(8) == (0, 2)


def test_a_ring_that_is_not_active_waits() -> None:
    served = Served(1)
    served.servers[0].active = False
    served.post(0)
    assert served.pump.run(True, BUDGET_NS, 0) == (False, (), None)
    assert served.servers[0].served == 0


def test_what_else_is_ready_stops_a_pump() -> None:
    served = Served(1)
    page = Pinned(bytearray(8))
    other = WordChanges(page, 0)
    served.pump.stop_for(other)
    page.bytes_view()[0:4] = (1).to_bytes(4, "little")
    assert served.pump.run(True, 10 * 10**9, 10 * 10**9) == (False, (), None)


class Nic:
    """The NIC of a bench with its requests served natively, as with ATS, or shown by a bell."""

    def __init__(self) -> None:
        self.bench = NicBench()
        self.pump = NicPump(self.bench.engine)
        self.words = Pinned(bytearray(256))
        self.bells = [Bell(self.words, 64 * n) for n in range(3)]
        for function in self.bench.iommu.rings:
            self.pump.add_port(function, self.bells[0])
        self.pump.add_wire(self.bells[1], self.bells[2])


@pytest.fixture
def nic() -> Nic:
    return Nic()


def test_requests_are_shown_and_frames_go_out_in_rounds(nic: Nic) -> None:
    tx = nic.bench.tx(1)
    sent = frame(STRANGER, mac_of(1))
    tx.data(sent)
    tx.kick()
    for _ in range(4):
        nic.pump.run(BUDGET_NS, 0)
        for function in nic.bench.iommu.rings:
            nic.bench.iommu.serve(function)
    nic.pump.run(BUDGET_NS, 0)
    assert nic.bench.on_wire() == [sent]
    ports, receiver, _ = nic.pump.asked
    assert (ports, receiver) == (nic.bells[0].rung, nic.bells[1].rung)
    assert ports >= 3  # descriptor, data, write-back
    assert receiver == 1


def test_events_stop_the_pump_only_where_they_are_awaited(nic: Nic) -> None:
    nic.bench.rx(1)
    nic.bench.engine.await_events(0, 0)
    for awaited in (0, 2):
        nic.bench.run()
        nic.bench.engine.take_events()
        nic.bench.engine.await_events(0, awaited)
        assert nic.bench.to_nic.put(frame(mac_of(1), STRANGER), nic.bench.clock())
        assert nic.pump.run(BUDGET_NS, 0)
        assert nic.bench.engine.take_events()[1] == 2


def test_tails_behind_a_window_are_taken_and_other_accesses_are_left(nic: Nic) -> None:
    window = Pinned(bytearray(bar_window.BAR_WINDOW.size))
    requester, completer = BarRequester(window), BarCompleter(window)
    word = DoorbellWord()
    completer.add_doorbell(7, 0x100, word)
    nic.pump.add_window(completer)
    tail = TailDoorbell(requester, 7, 0x100, nic.bells[2])
    assert requester.post(7, 0x100, 5)
    nic.pump.run(BUDGET_NS, 0)
    assert (word.value, completer.ready) == (5, False)
    assert requester.post(7, 0x200, 1)
    assert requester.post(7, 0x100, 6)
    nic.pump.run(10 * 10**9, 10 * 10**9)
    assert word.value == 5
    assert completer.take() == (7, 0x200, 1)
    assert completer.take() is None
    assert word.value == 6
    assert isinstance(tail, TailDoorbell)


class Ring:
    """A driver's transmit ring with its tail behind a window."""

    SIZE = 64

    def __init__(self) -> None:
        self.memory, slots = Pinned(bytearray(16 * self.SIZE)), Pinned(bytearray(128 * self.SIZE))
        self.tx = IgbTxDriver(self.memory, slots, 0x1000, self.SIZE, 128)
        self.window = Pinned(bytearray(bar_window.BAR_WINDOW.size))
        self.completer, self.word = BarCompleter(self.window), DoorbellWord()
        self.completer.add_doorbell(7, 0x100, self.word)
        self.bell = Bell(Pinned(bytearray(64)))
        self.tail = TailDoorbell(BarRequester(self.window), 7, 0x100, self.bell)
        self.source, self.burst = FlowSource(1, 1, [60], [bytes(42)]), Burst()

    def report(self) -> None:
        """Write every descriptor with RS back."""
        view = self.memory.bytes_view()
        for at in range(0, 16 * self.SIZE, 16):
            word = int.from_bytes(view[at + 8 : at + 16], "little")
            view[at + 8 : at + 16] = (word | TX_DD << 32).to_bytes(8, "little")


def test_frames_are_sent_natively_and_the_tail_is_written_each_step() -> None:
    ring = Ring()
    assert ring.tx.transmit(ring.source, ring.burst, 40, 1, 16, ring.tail) == (40, 2400, 1, False, None)
    assert ring.completer.take() is None
    assert (ring.word.value, ring.bell.rung) == (40, 1)
    # as many as there are slots
    assert ring.tx.transmit(ring.source, ring.burst, 40, 1, 16, ring.tail)[0] == 23


def test_without_a_tail_the_caller_is_told_what_to_write() -> None:
    ring = Ring()
    assert ring.tx.transmit(ring.source, ring.burst, 5, 1, 256) == (5, 300, 0, False, 5)


def test_crumbs_are_left_but_what_can_be_had_back_is_no_crumb() -> None:
    ring = Ring()
    ring.tx.transmit(ring.source, ring.burst, 50, 1, 256, ring.tail)
    assert ring.tx.transmit(ring.source, ring.burst, 64, 32, 256, ring.tail)[0] == 0
    ring.report()
    assert ring.tx.transmit(ring.source, ring.burst, 64, 32, 256, ring.tail)[0] == 63
