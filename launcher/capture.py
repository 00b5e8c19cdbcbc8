"""Looks at a capture before anything is started: is it one, and can its frames be sent as they are?

Reference: pcap and pcapng as dpkt reads them (IETF drafts gharris-opsawg-pcap and tuexen-opsawg-pcapng).
Only lengths and the link type are looked at. Not modelled: pcapng simple packet blocks, which do not say
what was cut off, are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import calcsize, unpack
from struct import error as StructError
from typing import Any, BinaryIO, Final

import dpkt

from testbed.errors import ConfigError
from testbed.spec.flow import ETHERNET

_PCAP_MAGICS: Final = frozenset(magic.to_bytes(4, "big") for magic in dpkt.pcap.MAGIC_TO_PKT_HDR)
_PCAPNG_MAGIC: Final = dpkt.pcapng.PCAPNG_BT_SHB.to_bytes(4, "big")
_BLOCK_BYTES_MAX: Final = 1 << 26

_Lengths = tuple[int, int]
"""Bytes captured and bytes that the frame had."""


@dataclass(frozen=True)
class Capture:
    """What a capture holds."""

    frames: int
    longest_bytes: int
    """Its longest frame, without FCS."""


def inspect_capture(path: Path) -> Capture:
    """Read the lengths of a whole capture.

    Raises ConfigError (the rule it breaks, without the path) where it cannot be replayed.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError("is not a file")
        with path.open("rb") as file:
            return _count(_lengths(file))
    except FileNotFoundError:
        raise ConfigError("there is no such file") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    except (dpkt.Error, StructError, ValueError) as error:
        raise ConfigError(f"is a damaged capture: {str(error) or type(error).__name__}") from None


def _count(lengths: Iterator[_Lengths]) -> Capture:
    frames = longest_bytes = 0
    for frames, (captured, original) in enumerate(lengths, start=1):
        if captured < original:
            raise ConfigError(
                f"frame {frames} was cut to {captured} of its {original} bytes (snap length): "
                "capture whole frames"
            )
        if captured < ETHERNET.size:
            raise ConfigError(f"frame {frames} has {captured} bytes, less than an Ethernet header")
        longest_bytes = max(longest_bytes, captured)
    if not frames:
        raise ConfigError("is a capture without a single frame")
    return Capture(frames, longest_bytes)


def _lengths(file: BinaryIO) -> Iterator[_Lengths]:
    magic = file.read(4)
    file.seek(0)
    if magic in _PCAP_MAGICS:
        return _pcap_lengths(file, dpkt.pcap.MAGIC_TO_PKT_HDR[int.from_bytes(magic, "big")])
    if magic == _PCAPNG_MAGIC:
        return _pcapng_lengths(file)
    raise ConfigError("is not a capture (pcap or pcapng)")


def _pcap_lengths(file: BinaryIO, header_type: Any) -> Iterator[_Lengths]:
    _check_link(dpkt.pcap.Reader(file).datalink())
    while header := file.read(header_type.__hdr_len__):
        if len(header) < header_type.__hdr_len__:
            raise ConfigError("is a damaged capture: it ends inside a frame")
        record = header_type(header)
        _skip(file, record.caplen)
        yield record.caplen, record.len


def _pcapng_lengths(file: BinaryIO) -> Iterator[_Lengths]:
    """Walk the blocks in the byte order of the section header; every interface must be Ethernet."""
    ng = dpkt.pcapng
    section = ng.SectionHeaderBlock()
    section.unpack_hdr(file.read(section.__hdr_len__))
    little = section.bom == ng.BYTE_ORDER_MAGIC_LE
    file.seek(0)
    ng.Reader(file)
    file.seek(0)
    packets = {
        ng.PCAPNG_BT_EPB: ng.EnhancedPacketBlockLE if little else ng.EnhancedPacketBlock,
        ng.PCAPNG_BT_PB: ng.PacketBlockLE if little else ng.PacketBlock,
    }
    interface = ng.InterfaceDescriptionBlockLE if little else ng.InterfaceDescriptionBlock
    for number, (kind, block) in enumerate(_blocks(file, "<II" if little else ">II")):
        if kind == ng.PCAPNG_BT_IDB:
            _check_link(interface(block).linktype)
        elif kind == ng.PCAPNG_BT_SPB or (kind == ng.PCAPNG_BT_SHB and number):
            what = "several sections" if number and kind == ng.PCAPNG_BT_SHB else "simple packet blocks"
            raise ConfigError(f"is a pcapng with {what}, which cannot be replayed: write it anew as pcap")
        elif kind in packets:
            packet = packets[kind](block)
            yield packet.caplen, packet.pkt_len


def _blocks(file: BinaryIO, header_format: str) -> Iterator[tuple[int, bytes]]:
    header_bytes = calcsize(header_format)
    while header := file.read(header_bytes):
        kind, length_bytes = unpack(header_format, header)
        if not header_bytes < length_bytes <= _BLOCK_BYTES_MAX:
            raise ConfigError(f"is a damaged capture: a block of {length_bytes} bytes")
        block = header + file.read(length_bytes - header_bytes)
        if len(block) < length_bytes:
            raise ConfigError("is a damaged capture: it ends inside a block")
        yield kind, block


def _skip(file: BinaryIO, length_bytes: int) -> None:
    if length_bytes > _BLOCK_BYTES_MAX or len(file.read(length_bytes)) < length_bytes:
        raise ConfigError("is a damaged capture: it ends inside a frame")


def _check_link(link_type: int) -> None:
    if link_type != dpkt.pcap.DLT_EN10MB:
        raise ConfigError(f"has link type {link_type}, not Ethernet ({dpkt.pcap.DLT_EN10MB})")
