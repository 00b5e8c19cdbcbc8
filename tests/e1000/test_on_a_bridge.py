"""Drivers on 82540EM models, joined by the real bridge: a real capture, a virtio neighbour, back-pressure,
resets.
"""

from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest

from testbed.guest.drivers.e1000 import E1000DriverConfig
from testbed.net.bridge import Attachment, Bridge
from tests.net.ring_port import RingPort
from tests.net.ring_port import frame as ring_frame
from tests.support.e1000_guest import Guest
from tests.support.e1000_machine import E1000Machine, frame

CAPTURE = Path(__file__).parents[2] / "configs" / "captures" / "lan-mix.pcap"
STALL_NS = 1_000_000
MACS = (bytes.fromhex("020000000a01"), bytes.fromhex("020000000a02"))


class Network:
    """Two guests with an e1000 each on one bridge; `turn` is a step of the vmm's loop."""

    def __init__(self, config: E1000DriverConfig | None = None) -> None:
        self.guests = [Guest(config, mac) for mac in MACS]
        self.now_ns = 0
        self.bridge = Bridge(STALL_NS, clock=lambda: self.now_ns)
        self.attachments: list[Attachment] = []
        for guest in self.guests:
            device = guest.machine.device
            self.attachments.append(self.bridge.attach(device, guest.machine.counters, 0))
            guest.machine.on_changed = self.refresh
        self.refresh()

    def refresh(self) -> None:
        """Take notice of a device that changed, as the vmm does when it is told."""
        for attachment in self.attachments:
            self.bridge.refresh(attachment)

    def turn(self) -> bool:
        """Move what there is."""
        moved = self.bridge.retry()
        for attachment in self.attachments:
            for lane in attachment.lanes:
                if not lane.loaded and lane.ring.ready:
                    moved |= self.bridge.turn(lane)
        return moved

    def settle(self) -> None:
        """Turn until nothing moves."""
        while self.turn():
            pass


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    for guest in network.guests:
        guest.machine.close()


def carry(network: Network, sent: list[bytes], batch: int) -> list[bytes]:
    """Send frames from the first guest, and return what the second one got meanwhile."""
    first, second = network.guests
    got: list[bytes] = []
    at = 0
    while at < len(sent):
        at += first.send(sent[at : at + batch])
        network.turn()
        first.interrupt()
        got += second.interrupt()
    while network.turn():
        got += second.interrupt()
    return got + second.receive()


def test_a_real_capture_arrives_whole_and_in_order(network: Network) -> None:
    with CAPTURE.open("rb") as file:
        frames = [bytes(data) for _, data in dpkt.pcap.Reader(file)]
    wanted = [MACS[1] + MACS[0] + data[12:] for data in frames]
    got = carry(network, wanted, 50)
    assert (len(got), got) == (11058, [data.ljust(60, b"\0") for data in wanted])


def test_broadcast_reaches_the_neighbour_and_not_the_sender(network: Network) -> None:
    first, second = network.guests
    first.send([frame(60, b"\xff" * 6, MACS[0])])
    network.settle()
    assert (len(second.interrupt()), first.interrupt()) == (1, [])


def test_frames_for_somebody_else_are_filtered_by_the_receiver(network: Network) -> None:
    first, second = network.guests
    first.send([frame(60, bytes.fromhex("020000000aff"), MACS[0])])
    network.settle()
    assert (second.interrupt(), second.machine.counts()["frames_rejected"]) == ([], 1)


def test_full_receiver_holds_the_sender_back_and_nothing_is_lost(network: Network) -> None:
    first, second = network.guests
    sent = [frame(60 + n % 1000, MACS[1], MACS[0]) for n in range(200)]
    at = 0
    for _ in range(20):
        at += first.send(sent[at:])
        network.settle()
    held = at
    got = second.receive()
    while at < len(sent) or network.turn():
        at += first.send(sent[at:])
        network.settle()
        got += second.receive()
    assert (held < len(sent), got, second.machine.rd("MPC")) == (True, sent, 0)


def test_receiver_that_stalls_too_long_misses_frames(network: Network) -> None:
    first, second = network.guests
    for _ in range(4):
        first.send([frame(60, MACS[1], MACS[0])] * 63)
        network.settle()
    network.now_ns += 2 * STALL_NS
    network.settle()
    missed = second.machine.rd("MPC")
    assert (missed > 0, second.machine.counts()["dropped.stalled"] == missed) == (True, True)


def test_device_reset_in_mid_traffic_lets_the_others_go_on(network: Network) -> None:
    first, second = network.guests
    first.send([frame(60, MACS[1], MACS[0])] * 40)
    network.turn()
    second.driver.recover()
    again = [frame(70 + n, MACS[1], MACS[0]) for n in range(30)]
    network.settle()
    second.receive()
    assert carry(network, again, 10) == again


def test_sender_that_resets_with_frames_in_flight_can_send_again(network: Network) -> None:
    first, second = network.guests
    first.send([frame(60, MACS[1], MACS[0])] * 63)
    network.turn()
    first.driver.recover()
    second.interrupt()
    again = [frame(70 + n, MACS[1], MACS[0]) for n in range(30)]
    assert carry(network, again, 10)[-30:] == again


def test_link_that_goes_down_keeps_what_was_not_sent(network: Network) -> None:
    first, second = network.guests
    first.machine.device.set_link(False)
    sent = [frame(60 + n, MACS[1], MACS[0]) for n in range(10)]
    first.send(sent)
    network.settle()
    nothing = second.interrupt()
    first.machine.device.set_link(True)
    network.settle()
    assert (nothing, second.interrupt()) == ([], sent)


def test_virtio_neighbour_both_ways() -> None:
    guest, port = Guest(), RingPort(7)
    bridge = Bridge(STALL_NS)
    mine = bridge.attach(guest.machine.device, guest.machine.counters, 0)
    theirs = bridge.attach(port, port.counters, 0)
    for attachment in (mine, theirs):
        bridge.refresh(attachment)
    there = [ring_frame(port.mac, guest.driver.mac, n) for n in range(6)]
    back = [ring_frame(guest.driver.mac, port.mac, n) for n in range(6)]
    guest.send(there)
    bridge.turn(mine.lanes[0])
    port.send(*back)
    bridge.turn(theirs.lanes[0])
    assert (port.take(), guest.interrupt()) == (there, back)


def test_a_machine_alone_needs_no_bridge() -> None:
    assert E1000Machine().device.sources[0].watched.ready is False
