"""The frames of a capture, ready to be sent by one guest and recognized by another.

Reference: pcap and pcapng as dpkt reads them. Frames keep their content but for the MAC addresses: the source
becomes the sender's, a unicast destination the receiver's, so that bridges learn and forward as they should;
and a NIC on the way may pad short ones.
Both ends read the file and so agree on every byte. Not modelled: link types other than Ethernet.
"""

from array import array
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from struct import error as StructError

from testbed.errors import ConfigError
from testbed.messages.entries import FlowEntry
from testbed.native import frame_digest
from testbed.net.mac import parse_mac
from testbed.spec.flow import ETHERNET

_MAC_BYTES = 6
_GROUP_BIT = 1
_BROADCAST = b"\xff" * _MAC_BYTES
_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True)
class CapturedFrames:
    """The frames of one loop of a replay."""

    content: bytes
    """All frames end to end."""
    offsets: "array[int]"
    """Where each begins, and the end: n + 1 unsigned 32-bit numbers."""
    digests: "array[int]"
    """n unsigned 32-bit numbers."""
    times_ns: "array[int]"
    """Since the first frame; never falling."""

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.digests)

    @property
    def groups(self) -> list[bytes]:
        """The group addresses to which its frames go, broadcast apart."""
        frames = memoryview(self.content)
        targets = {bytes(frames[at : at + _MAC_BYTES]) for at in self.offsets[:-1]}
        return sorted(mac for mac in targets if mac[0] & _GROUP_BIT and mac != _BROADCAST)

    @property
    def longest_bytes(self) -> int:
        """Length of the longest frame, without FCS."""
        return max(end - begin for begin, end in pairwise(self.offsets))


def load_captured(flow: FlowEntry) -> CapturedFrames:
    """Read a flow's capture; ConfigError where it cannot be read or has a frame that cannot be sent."""
    source, destination = parse_mac(flow.source_mac), parse_mac(flow.destination_mac)
    frames, times = [], []
    for seconds, data in _read(flow.capture):
        if len(data) < ETHERNET.size:
            raise ConfigError(f"{flow.capture}: a frame of {len(data)} bytes is less than an Ethernet header")
        to = data[:_MAC_BYTES] if data[0] & _GROUP_BIT else destination
        frames.append((to + source + data[2 * _MAC_BYTES :]).ljust(flow.padded_bytes, b"\0"))
        times.append(int(seconds * _NS_PER_SECOND))
    if not frames:
        raise ConfigError(f"{flow.capture}: is a capture without a single frame")
    return CapturedFrames(
        content=b"".join(frames),
        offsets=array("I", accumulate((len(frame) for frame in frames), initial=0)),
        digests=array("I", map(frame_digest, frames)),
        times_ns=array("q", accumulate((at_ns - times[0] for at_ns in times), max)),
    )


def _read(path: str) -> list[tuple[float, bytes]]:
    import dpkt  # only a guest that replays needs it; every other starts without

    try:
        with Path(path).open("rb") as file:
            return list(dpkt.pcap.UniversalReader(file))
    except (OSError, ValueError, StructError, dpkt.Error) as error:
        raise ConfigError(f"{path}: cannot be read as a capture: {error}") from error
