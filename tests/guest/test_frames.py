"""Headers of generated frames, read back by another implementation."""

import ipaddress

import dpkt
from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.workloads.frames import headers
from testbed.spec.flow import FRAME_BYTES_MAX, FRAME_BYTES_MIN, TAG_OFFSET
from tests.guest.rig_driver import DESTINATION_MAC, SOURCE_MAC, flow

BENCHMARK_NETWORK = ipaddress.ip_network("198.18.0.0/15")


def ip_sum(header: bytes) -> int:
    """Return the one's complement sum of a header (RFC 1071): 0xffff where its checksum is right."""
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, len(header), 2))
    return total % 0xFFFF or 0xFFFF


@given(st.integers(FRAME_BYTES_MIN, FRAME_BYTES_MAX), st.integers(1, 4095))
def test_headers_are_those_of_a_udp_datagram_that_fills_the_frame(frame_bytes: int, number: int) -> None:
    data = headers(flow(id=number), frame_bytes)
    assert len(data) == TAG_OFFSET == 42
    ethernet = dpkt.ethernet.Ethernet(data.ljust(frame_bytes, b"\0"))
    ip, udp = ethernet.data, ethernet.data.data
    assert (ethernet.src, ethernet.dst) == (SOURCE_MAC, DESTINATION_MAC)
    assert (ip.len, ip.ttl, udp.ulen, udp.dport, udp.sum) == (frame_bytes - 14, 64, frame_bytes - 34, 9, 0)
    assert 1024 <= udp.sport < 1 << 16
    assert ip_sum(data[14:34]) == 0xFFFF


def test_headers_addresses_are_the_benchmark_network_s() -> None:
    data = headers(flow(), 60)
    addresses = [ipaddress.ip_address(data[at : at + 4]) for at in (26, 30)]
    assert [str(address) for address in addresses] == ["198.18.0.1", "198.18.0.2"]
    assert all(address in BENCHMARK_NETWORK for address in addresses)


def test_headers_of_two_flows_differ_in_their_port() -> None:
    ports = {headers(flow(id=number), 60)[34:36] for number in range(1, 100)}
    assert len(ports) == 99
