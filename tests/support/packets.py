"""IPv4 and IPv6 packets with TCP and UDP, built slowly and plainly: the oracle of checksums and segmentation.

Reference: RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 1071.
"""

from dataclasses import dataclass, replace
from typing import Final

TCP: Final = 6
UDP: Final = 17
FIN: Final = 0x01
PSH: Final = 0x08
ACK: Final = 0x10
V4: Final = (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
V6: Final = (bytes.fromhex("fe80" + "00" * 13 + "01"), bytes.fromhex("fe80" + "00" * 13 + "02"))
_VLAN_TYPE: Final = b"\x81\x00"


def ones_complement(data: bytes) -> int:
    """Return the one's complement sum of 16-bit big-endian words."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    """Return the Internet checksum."""
    return ones_complement(data) ^ 0xFFFF


@dataclass(frozen=True)
class Packet:
    """A TCP or UDP packet in an Ethernet frame; `build` gives its bytes with every checksum right."""

    payload: bytes
    destination: bytes
    source: bytes
    version: int = 4
    protocol: int = TCP
    sequence: int = 1000
    flags: int = ACK
    identification: int = 7
    tag: bytes = b""
    options: bytes = b""
    """Of TCP, a multiple of four bytes."""

    @property
    def network_start(self) -> int:
        """Where the IP header begins."""
        return 14 + len(self.tag)

    @property
    def transport_start(self) -> int:
        """Where the TCP or UDP header begins."""
        return self.network_start + (20 if self.version == 4 else 40)

    @property
    def header_bytes(self) -> int:
        """Length of all headers."""
        return self.transport_start + (20 + len(self.options) if self.protocol == TCP else 8)

    @property
    def checksum_offset(self) -> int:
        """Where the checksum lies in the transport header."""
        return 16 if self.protocol == TCP else 6

    def _transport(self, value: int) -> bytes:
        ports = (1234).to_bytes(2, "big") + (80).to_bytes(2, "big")
        if self.protocol == UDP:
            return ports + (8 + len(self.payload)).to_bytes(2, "big") + value.to_bytes(2, "big")
        words = (5 + len(self.options) // 4) << 12 | self.flags
        head = ports + (self.sequence & 0xFFFFFFFF).to_bytes(4, "big") + (77).to_bytes(4, "big")
        tail = words.to_bytes(2, "big") + b"\x10\x00" + value.to_bytes(2, "big") + b"\0\0"
        return head + tail + self.options

    def pseudo(self, length: int) -> bytes:
        """Return the pseudo header for a transport length (0: as a driver leaves it for segmentation)."""
        source, destination = V4 if self.version == 4 else V6
        if self.version == 4:
            return source + destination + bytes([0, self.protocol]) + length.to_bytes(2, "big")
        return source + destination + length.to_bytes(4, "big") + bytes([0, 0, 0, self.protocol])

    def _network(self, length: int, header_checksum: int | None = None) -> bytes:
        if self.version == 6:
            return b"\x60\0\0\0" + length.to_bytes(2, "big") + bytes([self.protocol, 64]) + b"".join(V6)
        head = (
            b"\x45\0" + (20 + length).to_bytes(2, "big") + self.identification.to_bytes(2, "big") + b"\x40\0"
        )
        rest = b"".join(V4)
        if header_checksum is None:
            header_checksum = checksum(head + bytes([64, self.protocol, 0, 0]) + rest)
        return head + bytes([64, self.protocol]) + header_checksum.to_bytes(2, "big") + rest

    def _ethernet(self) -> bytes:
        return self.destination + self.source + self.tag + (b"\x08\x00" if self.version == 4 else b"\x86\xdd")

    def build(self) -> bytes:
        """Return the frame, all checksums right."""
        body = self._transport(0) + self.payload
        value = checksum(self.pseudo(len(body)) + body)
        if self.protocol == UDP and value == 0:
            value = 0xFFFF
        body = self._transport(value) + self.payload
        return self._ethernet() + self._network(len(body)) + body

    def for_checksum_offload(self) -> bytes:
        """Return the frame as a stack leaves it for insertion: the pseudo header's sum in the field, IP sum
        zero.
        """
        body = self._transport(0) + self.payload
        partial = ones_complement(self.pseudo(len(body)))
        body = self._transport(partial) + self.payload
        return self._ethernet() + self._network(len(body), 0) + body

    def for_segmentation(self) -> bytes:
        """Return the frame as a driver leaves it for TCP segmentation (8254x SDM §3.5.5)."""
        partial = ones_complement(self.pseudo(0))
        frame = bytearray(self._ethernet() + self._network(0, 0) + self._transport(partial) + self.payload)
        length_at = self.network_start + (2 if self.version == 4 else 4)
        frame[length_at : length_at + 2] = b"\0\0"
        return bytes(frame)

    def segments(self, size: int) -> list[bytes]:
        """Return the frames of `size` bytes of payload each that a sender without offload would send."""
        pieces = [self.payload[i : i + size] for i in range(0, len(self.payload), size)]
        frames = []
        for n, piece in enumerate(pieces):
            last = n == len(pieces) - 1
            flags = self.flags if last else self.flags & ~(FIN | PSH)
            sequence, identification = self.sequence + n * size, (self.identification + n) & 0xFFFF
            part = replace(self, payload=piece, flags=flags, sequence=sequence, identification=identification)
            frames.append(part.build())
        return frames


def vlan(tci: int) -> bytes:
    """Return an 802.1Q tag."""
    return _VLAN_TYPE + tci.to_bytes(2, "big")
