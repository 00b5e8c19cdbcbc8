"""Frames whose sender left a checksum or segmentation to the device (virtio_net_hdr), received by an 82540EM.

A physical NIC never sees such frames; a bridge in a VMM can bring them from a virtio guest. The receiver
gets what would have been on the wire.
"""

import pytest

from testbed.native import Burst, Pinned, Regions, SplitDevice
from testbed.spec import virtio, virtio_net
from testbed.spec.e1000 import mask
from testbed.spec.port_counters import PORT_COUNTERS
from tests.support.e1000_machine import MAC, PEER, PORT, E1000Machine, frame
from tests.support.packets import ACK, FIN, PSH, TCP, UDP, Packet

GPA = 0x8000_0000
BUFFER = 0x1000


class Sender:
    """A virtio transmit queue with one frame in it."""

    def __init__(self) -> None:
        self.memory = bytearray(0x2_0000)
        regions = Regions()
        regions.add(GPA, Pinned(self.memory))
        self.parts = virtio.split_parts(GPA, 8)
        counters = Pinned(bytearray(PORT_COUNTERS.size))
        self.queue = SplitDevice(regions, 8, *self.parts, counters, offload=True)

    def burst(self, data: bytes, **header: int) -> Burst:
        """Return a burst of this frame with this virtio_net_hdr."""
        content = virtio_net.NET_HDR.pack(num_buffers=0, **header) + data
        self.memory[BUFFER : BUFFER + len(content)] = content
        desc, avail, _ = (part - GPA for part in self.parts)
        self.memory[desc : desc + 16] = virtio.VIRTQ_DESC.pack(addr=GPA + BUFFER, len=len(content))
        self.memory[avail + 2 : avail + 4] = (1).to_bytes(2, "little")
        burst = Burst()
        assert self.queue.fetch(burst, 8) == 1
        burst.send_all_to(PORT)
        return burst


def receive(machine: E1000Machine, data: bytes, **header: int) -> list[bytes]:
    """Deliver a frame with an offload request; return what the driver finds."""
    if not machine.rx_size:
        machine.start_receive()
    sender = Sender()  # its memory is where the burst's frames lie
    machine.device.deliver(sender.burst(data, **header), 0, PORT)
    return [taken.data for taken in machine.take()]


def packet(payload: bytes, version: int = 4, protocol: int = TCP) -> Packet:
    return Packet(payload, MAC, PEER, version, protocol, flags=ACK | PSH | FIN)


def offload(p: Packet, gso_type: int = 0, gso_size: int = 0) -> dict[str, int]:
    return {
        "flags": virtio_net.HDR_F_NEEDS_CSUM,
        "gso_type": gso_type,
        "gso_size": gso_size,
        "hdr_len": p.header_bytes,
        "csum_start": p.transport_start,
        "csum_offset": p.checksum_offset,
    }


def with_ip_sum(p: Packet) -> bytes:
    """Return the frame as virtio has it: the IP header complete, the pseudo header's sum in the transport's
    field.
    """
    data = bytearray(p.for_checksum_offload())
    data[: p.transport_start] = p.build()[: p.transport_start]
    return bytes(data)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("length", [1, 30, 1400])
def test_checksum_is_completed(machine: E1000Machine, version: int, protocol: int, length: int) -> None:
    p = packet(bytes(range(length % 251)) * 1 + bytes(length - length % 251), version, protocol)
    assert receive(machine, with_ip_sum(p), **offload(p)) == [p.build().ljust(60, b"\0")]


def test_completed_checksum_is_found_good(machine: E1000Machine) -> None:
    machine.wr("RXCSUM", mask("RXCSUM", "IPOFLD", "TUOFLD"))
    machine.start_receive()
    p = packet(bytes(100))
    sender = Sender()
    machine.device.deliver(sender.burst(with_ip_sum(p), **offload(p)), 0, PORT)
    assert machine.take()[0].errors == 0


@pytest.mark.parametrize(("version", "kind"), [(4, virtio_net.GSO_TCPV4), (6, virtio_net.GSO_TCPV6)])
@pytest.mark.parametrize(("length", "size"), [(5000, 1000), (1000, 1000), (1001, 1000), (30000, 1400)])
def test_segments_are_cut(machine: E1000Machine, version: int, kind: int, length: int, size: int) -> None:
    p = packet(bytes(i * 5 & 0xFF for i in range(length)), version)
    assert receive(machine, with_ip_sum(p), **offload(p, kind, size)) == [
        s.ljust(60, b"\0") for s in p.segments(size)
    ]


def test_ecn_flag_of_the_kind_is_nothing_to_the_receiver(machine: E1000Machine) -> None:
    p = packet(bytes(3000))
    kind = virtio_net.GSO_TCPV4 | virtio_net.GSO_ECN
    assert receive(machine, with_ip_sum(p), **offload(p, kind, 1000)) == p.segments(1000)


def test_segments_wait_until_there_is_room_for_all(machine: E1000Machine) -> None:
    machine.start_receive(16, post=3)
    p = packet(bytes(5000))
    sender = Sender()
    burst = sender.burst(with_ip_sum(p), **offload(p, virtio_net.GSO_TCPV4, 1000))
    waits = machine.device.deliver(burst, 0, PORT)
    early = machine.take()
    machine.refill(2)
    assert (waits, early, machine.device.deliver(burst, 0, PORT)) == (0, [], 1)
    assert [taken.data for taken in machine.take()] == p.segments(1000)


def test_more_segments_than_the_ring_has_are_dropped(machine: E1000Machine) -> None:
    machine.start_receive(8)
    p = packet(bytes(5000))
    assert (receive(machine, with_ip_sum(p), **offload(p, virtio_net.GSO_TCPV4, 100)), machine.counts()) == (
        [], {"dropped.rx_too_small": 1},
    )  # fmt: skip


@pytest.mark.parametrize(
    "header",
    [
        {"flags": 1, "csum_start": 90, "csum_offset": 20},
        {"flags": 1, "csum_start": 0xFFFF, "csum_offset": 0xFFFF},
        {"gso_type": 1, "gso_size": 1000},
        {"flags": 1, "gso_type": 1, "gso_size": 0, "csum_start": 34, "csum_offset": 16},
        {"flags": 1, "gso_type": 3, "gso_size": 1000, "csum_start": 34, "csum_offset": 6},
        {"flags": 1, "gso_type": 77, "gso_size": 10},
        {"flags": 1, "gso_type": 1, "gso_size": 1000, "csum_start": 34, "csum_offset": 16},
    ],
)
def test_requests_that_make_no_sense_drop_the_frame(machine: E1000Machine, header: dict[str, int]) -> None:
    assert receive(machine, frame(100), **header) == []


def test_header_that_lies_about_its_length_drops_the_frame(machine: E1000Machine) -> None:
    data = bytearray(with_ip_sum(packet(bytes(100))))
    data[46] = 0xF0  # a TCP header of 60 bytes, then one that is longer than the frame
    short = bytes(data[:80])
    p = packet(b"")
    assert receive(machine, short, **offload(p, virtio_net.GSO_TCPV4, 10)) == []
