"""The device as a whole: reset, the I/O window, access counting, what the bridge sees, packet buffer
allocation.
"""

import pytest

from testbed.native import Burst
from testbed.net.port import Port
from testbed.spec.e1000 import BAR_BYTES, PRESERVED_BY_RESET, REGISTERS, field, mask
from tests.support.e1000_machine import MAC, PEER, PORT, TX_BUFFERS, E1000Machine, frame

RST = mask("CTRL", "RST")
SEEN = ("CTRL", "STATUS", "EECD", "EERD", "IMS", "TDH", "TDT", "RDH", "RDT")


def run_traffic(machine: E1000Machine) -> None:
    machine.wr("VET", 0x8100)
    machine.wr("ITR", 100)
    machine.wr("TIDV", 8)
    machine.wr("IMS", 0x9D)
    machine.start_transmit()
    machine.start_receive()
    machine.send(machine.legacy(frame()))
    machine.fetch()
    machine.deliver(frame())


def state(machine: E1000Machine) -> dict[str, object]:
    """Return everything of the device that a driver can see."""
    device = machine.device
    return {
        "registers": {name: machine.rd(name) for name in SEEN},
        "stored": device.registers.snapshot(),
        "deadline": device.deadline_ns(),
        "line": machine.line.asserted,
        "receiving": device.receiving,
        "ready": (device.transmit.watched.ready, device.room[0].ready),
        "statistics": list(device.statistics.words),
        "mac": device.mac,
    }  # fmt: skip


def test_state_after_power_on_is_that_of_a_fresh_device(machine: E1000Machine) -> None:
    run_traffic(machine)
    machine.wr("RAL", 5, 3)
    machine.wr("MTA", 1, 7)
    machine.device.power_on()
    assert state(machine) == state(E1000Machine())


def test_reset_differs_only_in_what_the_manual_preserves(machine: E1000Machine) -> None:
    run_traffic(machine)
    machine.wr("CTRL", RST)
    fresh = state(E1000Machine())
    after = state(machine)
    stored = after.pop("stored")
    assert isinstance(stored, dict)
    fresh.pop("stored")
    assert after == fresh
    assert {name.partition("[")[0] for name in stored} <= set(PRESERVED_BY_RESET)


def test_reset_bit_clears_itself(machine: E1000Machine) -> None:
    machine.wr("CTRL", machine.rd("CTRL") | RST)
    assert machine.rd("CTRL") == REGISTERS["CTRL"].reset


def test_reset_in_mid_traffic_starts_clean(machine: E1000Machine) -> None:
    run_traffic(machine)
    for _ in range(20):
        machine.put_tx(machine.legacy(frame()))
    machine.kick()
    burst = Burst()
    machine.device.transmit.fetch(burst, 5)
    machine.wr("CTRL", RST)
    machine.device.transmit.complete(burst)
    run_traffic(machine)
    assert (machine.rd("TDH"), machine.rd("RDH"), machine.take()[0].data) == (1, 1, frame())


def test_reset_leaves_the_phy_and_the_link(machine: E1000Machine) -> None:
    machine.wr("MDIC", 1 << 26 | 1 << 21 | 16 << 16 | 0x0B60)
    machine.wr("CTRL", RST)
    machine.wr("MDIC", 2 << 26 | 1 << 21 | 16 << 16)
    assert (machine.rd("MDIC") & 0xFFFF, machine.rd("STATUS") & 2) == (0x0B60, 2)


def test_phy_reset_by_ctrl(machine: E1000Machine) -> None:
    machine.wr("MDIC", 1 << 26 | 1 << 21 | 16 << 16 | 0x0B60)
    machine.wr("CTRL", machine.rd("CTRL") | mask("CTRL", "PHY_RST"))
    machine.wr("MDIC", 2 << 26 | 1 << 21 | 16 << 16)
    assert machine.rd("MDIC") & 0xFFFF == 0x0068


def test_eeprom_reset_loads_the_address_again(machine: E1000Machine) -> None:
    machine.wr("RAL", 0x11223344, 0)
    machine.wr("RAH", mask("RAH", "AV") | 0x5566, 0)
    machine.wr("CTRL_EXT", mask("CTRL_EXT", "EE_RST"))
    assert (machine.device.mac, machine.rd("CTRL_EXT") & mask("CTRL_EXT", "EE_RST")) == (MAC, 0)


def test_without_a_valid_eeprom_there_is_no_station_address(machine: E1000Machine) -> None:
    machine.device.eeprom.words[0x0A] = 0xFFFF
    machine.wr("CTRL", RST)
    assert machine.rd("RAH", 0) & mask("RAH", "AV") == 0


def test_io_window_reaches_registers(machine: E1000Machine) -> None:
    io = machine.device.io
    io.write(0, 4, REGISTERS["ITR"].offset)
    io.write(4, 4, 0x1B2)
    assert (io.read(0, 4), io.read(4, 4), machine.rd("ITR")) == (REGISTERS["ITR"].offset, 0x1B2, 0x1B2)


def test_io_window_resets_the_device(machine: E1000Machine) -> None:
    run_traffic(machine)
    machine.device.io.write(0, 4, 0)
    machine.device.io.write(4, 4, 0x4140240)
    assert (machine.rd("TCTL"), machine.device.io.read(0, 4)) == (0, 0)


@pytest.mark.parametrize("size", [1, 2])
def test_io_window_ignores_narrow_writes(machine: E1000Machine, size: int) -> None:
    machine.device.io.write(0, size, 0xFF)
    assert machine.device.io.read(0, 4) == 0


@pytest.mark.parametrize("address", [BAR_BYTES, 0x80000, 0xFFFFF])
def test_io_window_beyond_the_registers_is_nothing(machine: E1000Machine, address: int) -> None:
    machine.device.io.write(0, 4, address)
    machine.device.io.write(4, 4, 0x12345678)
    assert machine.device.io.read(4, 4) == 0


def test_io_address_has_twenty_bits(machine: E1000Machine) -> None:
    machine.device.io.write(0, 4, 0xFFF0_0000 | 0xC4)
    assert machine.device.io.read(0, 4) == 0xC4


def test_odd_accesses_are_counted_apart(machine: E1000Machine) -> None:
    machine.device.write(0x00900, 4, 1)
    machine.device.read(0x00900, 4)
    machine.wr("STATUS", 1)
    machine.wr("WUC", 1)
    machine.device.write(REGISTERS["RCTL"].offset, 2, 1)
    counts = machine.device.registers.counts
    assert (counts.unknown, counts.read_only, counts.unimplemented, counts.partial) == (2, 1, 1, 1)


def test_partial_read_gives_part_of_the_register(machine: E1000Machine) -> None:
    assert [machine.device.read(REGISTERS["CTRL"].offset + n, 1) for n in range(4)] == [
        0x40,
        0x02,
        0x14,
        0x00,
    ]


def test_partial_read_of_icr_clears_it_all(machine: E1000Machine) -> None:
    machine.wr("ICS", 0x84)
    assert (machine.device.read(REGISTERS["ICR"].offset, 1), machine.rd("ICR")) == (0x84, 0)


def test_transmit_allocation_follows_the_receivers(machine: E1000Machine) -> None:
    machine.wr("PBA", 0x28)
    assert (field("PBA", "RXA").get(machine.rd("PBA")), field("PBA", "TXA").get(machine.rd("PBA"))) == (
        0x28,
        24,
    )


def test_bridge_is_told_once_for_each_change(machine: E1000Machine) -> None:
    before = machine.changes
    machine.start_receive()
    machine.wr("RCTL", machine.rd("RCTL"))
    machine.wr("RCTL", 0)
    assert machine.changes == before + 2


def test_as_a_port(machine: E1000Machine) -> None:
    port: Port = machine.device
    assert (port.name, port.mac, port.receiving) == ("n0", MAC, False)
    assert (len(port.sources), len(port.room), len(port.services)) == (1, 1, 0)


def test_bytes_copied_are_counted(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.deliver(frame(100), frame(40))
    assert machine.device.bytes_copied == 160


def test_interrupts_are_counted_as_calls(machine: E1000Machine) -> None:
    machine.wr("IMS", 0x80)
    machine.start_receive()
    machine.deliver(frame())
    assert (machine.counts()["calls"], machine.device.interrupts.rises) == (1, 1)


def test_two_devices_share_nothing() -> None:
    first, second = E1000Machine(), E1000Machine()
    run_traffic(first)
    assert state(second) == state(E1000Machine())


def test_frames_go_from_one_device_to_another(machine: E1000Machine) -> None:
    other = E1000Machine()
    other.start_receive()
    machine.start_transmit()
    sent = [frame(60 + n, MAC, PEER) for n in range(5)]
    for data in sent:
        machine.send(machine.legacy(data))
    burst = Burst()
    machine.device.transmit.fetch(burst, 256)
    burst.send_all_to(PORT)
    stored = other.device.deliver(burst, 0, PORT)
    machine.device.transmit.complete(burst)
    assert (stored, [taken.data for taken in other.take()]) == (5, sent)


def test_guest_may_change_a_frame_while_it_is_sent(machine: E1000Machine) -> None:
    machine.start_transmit()
    machine.send(machine.legacy(frame(100)))
    burst = Burst()
    machine.device.transmit.fetch(burst, 1)
    machine.poke(TX_BUFFERS, bytes(100))
    assert (burst.frame_length(0), burst.frame_bytes(0)) == (100, bytes(100))
