"""The statistics registers: what counts, clearing on read, sticking at the maximum."""

import pytest

from testbed.spec.e1000 import STATISTICS_NAMES, mask
from tests.support.e1000_machine import MAC, PEER, E1000Machine, frame

BROADCAST = b"\xff" * 6
MULTICAST = bytes.fromhex("01005e000001")


def read(machine: E1000Machine, *names: str) -> list[int]:
    return [machine.rd(name) for name in names]


def test_all_registers_read_zero_on_a_fresh_device(machine: E1000Machine) -> None:
    assert {machine.rd(name) for name in STATISTICS_NAMES} == {0}


def test_a_sent_frame_is_counted_with_its_fcs(machine: E1000Machine) -> None:
    machine.start_transmit()
    machine.send(machine.legacy(frame(90, PEER, MAC)))
    machine.fetch()
    assert read(machine, "GPTC", "TPT", "GOTCL", "TOTL", "PTC127") == [1, 1, 94, 94, 1]


def test_a_received_frame_is_counted_with_its_fcs(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.deliver(frame(110))
    assert read(machine, "GPRC", "TPR", "GORCL", "TORL", "PRC127") == [1, 1, 114, 114, 1]


def test_a_read_clears(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.deliver(frame())
    assert [machine.rd("GPRC"), machine.rd("GPRC")] == [1, 0]


def test_octets_are_cleared_by_reading_the_high_half(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.deliver(frame())
    assert read(machine, "TORL", "TORL", "TORH", "TORL") == [64, 64, 0, 0]


@pytest.mark.parametrize(
    ("length", "suffix"),
    [
        (60, "64"),
        (61, "127"),
        (123, "127"),
        (124, "255"),
        (252, "511"),
        (508, "1023"),
        (1020, "1522"),
        (1514, "1522"),
    ],
)
def test_size_classes_both_ways(machine: E1000Machine, length: int, suffix: str) -> None:
    machine.start_transmit()
    machine.start_receive()
    machine.send(machine.legacy(frame(length, PEER)))
    machine.fetch()
    machine.deliver(frame(length))
    assert read(machine, f"PTC{suffix}", f"PRC{suffix}") == [1, 1]


def test_broadcast_and_multicast_are_counted_apart(machine: E1000Machine) -> None:
    machine.start_transmit()
    machine.start_receive(rctl=mask("RCTL", "EN", "BAM", "MPE", "SECRC"))
    for destination in (BROADCAST, MULTICAST, MULTICAST):
        machine.send(machine.legacy(frame(60, destination)))
        machine.fetch()
        machine.deliver(frame(60, destination))
    assert read(machine, "BPTC", "MPTC", "BPRC", "MPRC") == [1, 2, 1, 2]


def test_frames_that_the_filter_rejects_are_not_counted(machine: E1000Machine) -> None:
    machine.start_receive(rctl=mask("RCTL", "EN", "SECRC"))
    machine.deliver(frame(60, PEER))
    assert (read(machine, "TPR", "GPRC"), machine.counts()["frames_rejected"]) == ([0, 0], 1)


def test_waiting_for_buffers_is_counted_once(machine: E1000Machine) -> None:
    machine.start_receive(8, post=0)
    for _ in range(3):
        machine.deliver(frame())
    assert read(machine, "RNBC", "MPC") == [1, 0]


def test_a_frame_whose_sender_gave_up_is_missed(machine: E1000Machine) -> None:
    machine.device.count_dropped("stalled", 2)
    assert (read(machine, "MPC", "TPR"), machine.rd("ICR")) == ([2, 2], mask("ICR", "RXO"))


def test_oversize_frames_are_counted_and_dropped(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.deliver(frame(1519))
    assert (read(machine, "ROC", "RLEC", "GPRC", "TPR"), machine.take()) == ([1, 1, 0, 1], [])


def test_counts_of_32_bits_stick_and_octets_do_not(machine: E1000Machine) -> None:
    machine.device.statistics.add("gprc", 2**33)
    machine.device.statistics.add("tor", 2**33)
    assert read(machine, "GPRC", "TORL", "TORH") == [0xFFFF_FFFF, 0, 2]


def test_counts_stick_at_64_bits(machine: E1000Machine) -> None:
    machine.device.statistics.add("tor", 2**64 - 1)
    machine.device.statistics.add("tor", 1)
    assert read(machine, "TORL", "TORH") == [0xFFFF_FFFF, 0xFFFF_FFFF]


def test_reset_clears(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.deliver(frame())
    machine.wr("CTRL", mask("CTRL", "RST"))
    assert machine.rd("GPRC") == 0


def test_a_write_is_read_only(machine: E1000Machine) -> None:
    machine.wr("GPRC", 5)
    assert (machine.rd("GPRC"), machine.device.registers.counts.read_only) == (0, 1)
