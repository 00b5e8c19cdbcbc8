"""One direction of the wire between two NICs: the head of its shared memory and the header of each frame.

Reference: our own records. The ring's bytes follow the head; their number is a power of two. What a frame
costs on a wire beside its own bytes is IEEE 802.3 §4.4.2 (inter packet gap) and §3.1.1 (preamble, FCS).
"""

from typing import Final

from testbed.spec.layout import Field, Record

WIRE: Final = Record(
    "wire", 4096, "our own record: one direction of a wire",
    Field("to_receiver_rung", 0, 8), Field("to_receiver_armed", 8, 4), Field("to_receiver_sent", 16, 8),
    Field("to_sender_rung", 64, 8), Field("to_sender_armed", 72, 4), Field("to_sender_sent", 80, 8),
    Field("produced", 128, 8, "bytes put on the wire so far; the sender's"),
    Field("link", 136, 4, "the sender's end is up: LINK_*"),
    Field("sender_pid", 140, 4, "who watches over it sees at once that the sender died"),
    Field("sender_waits", 144, 4, "it found no room: ring its bell when there is some"),
    Field("consumed", 192, 8, "bytes taken off the wire so far; the receiver's"),
)  # fmt: skip
WIRE_FRAME: Final = Record(
    "wire_frame", 16, "our own record",
    Field("length", 0, 4, "without FCS; SKIP: the next frame is at the ring's beginning"),
    Field("due_ns", 8, 8, "CLOCK_MONOTONIC: when it has arrived; 0: at once"),
)  # fmt: skip
BELL_TO_RECEIVER: Final = WIRE.offset("to_receiver_rung")
BELL_TO_SENDER: Final = WIRE.offset("to_sender_rung")
SKIP: Final = 0xFFFF_FFFF
FRAME_BYTES_MAX: Final = 9740
LINK_ABSENT: Final = 0
"""Nobody has come to this end yet."""
LINK_DOWN: Final = 1
LINK_UP: Final = 2
OVERHEAD_BYTES: Final = 24
"""FCS 4, preamble and start 8, gap 12."""
RING_BYTES_MIN: Final = 65536


def wire_bytes(ring_bytes: int = 524288) -> int:
    """Return the size of a segment for one direction."""
    return WIRE.size + ring_bytes
