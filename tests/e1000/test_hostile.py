"""Any register write of any size and alignment, and any descriptor, with traffic going: nothing raises,
nobody is harmed.
"""

from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.native import Burst, FrameStore
from testbed.spec.e1000 import BAR_BYTES, REGISTERS, mask
from tests.support.e1000_machine import (
    MAC,
    PORT,
    RAM_BYTES,
    RAM_GPA,
    RX_RING,
    TX_BUFFERS,
    TX_RING,
    E1000Machine,
    frame,
)

NAMES: Final = sorted(reg.name for reg in REGISTERS.registers if reg.name != "PBM")
RING_NAMES: Final = ("TDBAL", "TDBAH", "TDLEN", "TDH", "TDT", "RDBAL", "RDBAH", "RDLEN", "RDH", "RDT")
CONTROL_NAMES: Final = (
    "CTRL",
    "RCTL",
    "TCTL",
    "TXDCTL",
    "RXCSUM",
    "VET",
    "IMS",
    "ICS",
    "ITR",
    "RDTR",
    "TIDV",
    "MDIC",
    "EECD",
)

WORDS = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [0, 1, 8, 63, 64, 0xFFFF, 0x80, 0x400, RAM_GPA, TX_RING, RX_RING, RAM_GPA + RAM_BYTES - 128]
    ),
)
OFFSETS = st.one_of(
    st.integers(0, BAR_BYTES + 64),
    st.sampled_from([REGISTERS[name].offset for name in NAMES]),
    st.sampled_from([REGISTERS[name].offset for name in (*RING_NAMES, *CONTROL_NAMES)]),
)
ACCESSES = st.tuples(OFFSETS, st.integers(1, 8), st.one_of(WORDS, st.integers(0, 2**64 - 1)), st.booleans())


class Traffic:
    """Frames both ways, whatever state the device is in; what it takes and gives must be sound."""

    def __init__(self, machine: E1000Machine) -> None:
        self.machine = machine
        self.burst, self.store = Burst(), FrameStore()
        self.store.load([frame(60), frame(700), frame(1514, b"\xff" * 6)])
        self.store.send_all_to(PORT)

    def step(self, kick: bool) -> None:
        device = self.machine.device
        if kick:
            self.machine.wr("TDT", (self.machine.rd("TDT") + 1) % 64)
        count = device.transmit.fetch(self.burst, 256)
        lengths = [len(self.burst.frame_bytes(i)) for i in range(count)]
        assert all(length == self.burst.frame_length(i) for i, length in enumerate(lengths))
        device.transmit.complete(self.burst)
        assert 0 <= device.deliver(self.store, 0, PORT) <= 3
        self.machine.clock.now_ns += 1000
        device.on_timer(self.machine.clock.now_ns)


def start(machine: E1000Machine) -> Traffic:
    machine.start_transmit(tctl=mask("TCTL", "EN", "PSP"))
    machine.start_receive(rctl=mask("RCTL", "EN", "UPE", "MPE", "BAM"))
    for _ in range(64):
        machine.put_tx(machine.legacy(frame(100)))
    return Traffic(machine)


@settings(max_examples=80, deadline=None)
@given(st.lists(ACCESSES, min_size=1, max_size=60))
def test_random_accesses_of_every_size_with_traffic(accesses: list[tuple[int, int, int, bool]]) -> None:
    machine = E1000Machine()
    traffic = start(machine)
    for offset, size, value, kick in accesses:
        machine.device.write(offset, size, value)
        assert 0 <= machine.device.read(offset, size) < 1 << 8 * size
        traffic.step(kick)
    machine.close()


@pytest.mark.parametrize("seed", range(4))
def test_2_to_the_14_random_writes_with_traffic(seed: int) -> None:
    random = Random(seed)
    machine = E1000Machine()
    traffic = start(machine)
    for n in range(2**14):
        offset = random.choice((random.randrange(BAR_BYTES + 8), REGISTERS[random.choice(NAMES)].offset))
        machine.device.write(
            offset, random.choice((1, 2, 3, 4, 8)), random.getrandbits(random.choice((4, 16, 64)))
        )
        if n % 4 == 0:
            traffic.step(kick=True)
        if n % 500 == 0:
            traffic = start(machine)
    machine.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(RING_NAMES), WORDS, st.booleans()), min_size=1, max_size=60))
def test_random_ring_registers_with_traffic(writes: list[tuple[str, int, bool]]) -> None:
    machine = E1000Machine()
    traffic = start(machine)
    for name, value, kick in writes:
        machine.wr(name, value)
        traffic.step(kick)
    machine.close()


GPAS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(RAM_GPA, RAM_GPA + RAM_BYTES),
    st.sampled_from([0, TX_BUFFERS, TX_RING, RAM_GPA + RAM_BYTES - 1, RAM_GPA - 1, 2**64 - 1]),
)
DESCRIPTORS = st.tuples(GPAS, st.one_of(st.integers(0, 2**64 - 1), st.builds(
    lambda length, dtyp, cmd, high: length | dtyp << 20 | cmd << 24 | high << 32,
    st.one_of(st.integers(0, 2**20 - 1), st.integers(0, 3000)), st.integers(0, 2), st.integers(0, 255),
    st.integers(0, 2**32 - 1),
)))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(DESCRIPTORS, min_size=1, max_size=40), st.integers(1, 256), st.booleans())
def test_random_transmit_descriptors(descriptors: list[tuple[int, int]], limit: int, vlan: bool) -> None:
    machine = E1000Machine()
    machine.wr("VET", 0x8100)
    machine.wr("CTRL", machine.rd("CTRL") | (mask("CTRL", "VME") if vlan else 0))
    machine.start_transmit()
    for address, rest in descriptors:
        machine.put_tx(address.to_bytes(8, "little") + rest.to_bytes(8, "little"))
    machine.kick()
    burst = Burst()
    for _ in range(200):
        count = machine.device.transmit.fetch(burst, limit)
        assert all(len(burst.frame_bytes(i)) == burst.frame_length(i) for i in range(count))
        machine.device.transmit.complete(burst)
        if not count and not machine.device.transmit.watched.ready:
            break
    machine.close()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(GPAS, st.integers(0, 2**64 - 1)), min_size=16, max_size=16), st.integers(0, 2**27 - 1)
)
def test_random_receive_descriptors(descriptors: list[tuple[int, int]], rctl: int) -> None:
    machine = E1000Machine()
    machine.start_receive(16, rctl=rctl | mask("RCTL", "EN", "UPE"))
    for index, (address, rest) in enumerate(descriptors):
        machine.poke(RX_RING + 16 * index, address.to_bytes(8, "little") + rest.to_bytes(8, "little"))
    machine.deliver(frame(60), frame(1514), frame(9000), frame(300))
    machine.close()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(min_size=0, max_size=200), min_size=1, max_size=20),
    st.integers(0, 2**11 - 1),
    st.booleans(),
)
def test_random_frames(frames: list[bytes], rxcsum: int, vlan: bool) -> None:
    machine = E1000Machine()
    machine.wr("VET", 0x8100)
    machine.wr("RXCSUM", rxcsum)
    machine.wr("CTRL", machine.rd("CTRL") | (mask("CTRL", "VME") if vlan else 0))
    machine.start_receive(rctl=mask("RCTL", "EN", "UPE", "MPE"))
    assert machine.deliver(*frames) == len(frames)
    machine.close()


def test_ring_over_its_own_buffers(machine: E1000Machine) -> None:
    machine.start_transmit()
    machine.start_receive()
    machine.wr("RDBAL", TX_RING)  # frames and their descriptors are written over the transmit ring
    machine.deliver(*[frame()] * 10)
    machine.wr("TDT", 30)
    machine.fetch()
    assert machine.rd("TDH") <= 64


def test_mmio_of_the_vmm_survives_a_tail_written_for_every_frame(machine: E1000Machine) -> None:
    machine.start_transmit(8)
    for n in range(1000):
        machine.wr("TDT", n)
        machine.fetch()
    assert machine.counts()["fault.register"] <= 1000


@pytest.mark.parametrize("mss", [1, 2])
def test_segmentation_into_single_bytes_is_bounded_by_the_burst(machine: E1000Machine, mss: int) -> None:
    machine.start_transmit()
    machine.put_tx(bytes(8) + (0x30 << 24 | 4 << 24 | 60000 | mss << 48).to_bytes(8, "little"))
    machine.put_tx(TX_BUFFERS.to_bytes(8, "little") + (0x2F << 24 | 1 << 20 | 60000).to_bytes(8, "little"))
    machine.kick()
    burst = Burst()
    assert [machine.device.transmit.fetch(burst, 256), len(burst)] == [256, 256]


def test_receiver_that_points_at_its_own_ring(machine: E1000Machine) -> None:
    machine.start_receive()
    for index in range(64):
        machine.poke(RX_RING + 16 * index, RX_RING.to_bytes(8, "little") + bytes(8))
    assert machine.deliver(*[frame(200, MAC)] * 100) <= 100
