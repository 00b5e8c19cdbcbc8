"""The frames of a capture, ready to be sent by one guest and recognized by another.

Reference: pcap and pcapng as dpkt reads them. Frames keep their content but for the MAC addresses: the source becomes the sender's, a unicast destination
the receiver's, so that bridges learn and forward as they should. Both ends read the file and so agree on every byte.
"""

from dataclasses import dataclass
from pathlib import Path

import dpkt
import numpy as np
import numpy.typing as npt

from testbed.errors import ConfigError
from testbed.messages.entries import FlowEntry
from testbed.native import frame_digest
from testbed.net.mac import parse_mac

_MAC_BYTES = 6
_GROUP_BIT = 1
_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True)
class CapturedFrames:
    """`content`: all frames end to end; `offsets`: n + 1 unsigned 32-bit offsets; `digests`: n unsigned 32-bit; `times_ns`: n, from 0."""

    content: bytes
    offsets: npt.NDArray[np.uint32]
    digests: npt.NDArray[np.uint32]
    times_ns: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.digests)


def load_captured(flow: FlowEntry) -> CapturedFrames:
    """Read a flow's capture; ConfigError where it has no frame that can be sent."""
    source, destination = parse_mac(flow.source_mac), parse_mac(flow.destination_mac)
    frames, times = [], []
    with Path(flow.capture).open("rb") as file:
        for seconds, data in dpkt.pcap.UniversalReader(file):
            to = data[:_MAC_BYTES] if data[0] & _GROUP_BIT else destination
            frames.append(to + source + data[2 * _MAC_BYTES :])
            times.append(int(seconds * _NS_PER_SECOND))
    if not frames:
        raise ConfigError(f"{flow.capture}: is a capture without a single frame")
    offsets = np.concatenate(([0], np.cumsum([len(f) for f in frames]))).astype(np.uint32)
    digests = np.array([frame_digest(f) for f in frames], dtype=np.uint32)
    times_ns = np.maximum.accumulate(np.array(times, dtype=np.int64) - times[0])
    return CapturedFrames(b"".join(frames), offsets, digests, times_ns)
