"""Blocks of a pcapng file, as we write them: little-endian, one section, one Ethernet interface each.

Reference: IETF draft-ietf-opsawg-pcapng, sections 4.1 (SHB), 4.2 (IDB), 4.3 (EPB), 3.5 (options). Every
block ends with its length once more; bodies and options are padded to 32 bits.
"""

from typing import Final

from testbed.spec.layout import Field, Record

SHB: Final = Record(
    "pcapng_shb", 24, "draft-ietf-opsawg-pcapng §4.1",
    Field("type", 0, 4), Field("length", 4, 4), Field("magic", 8, 4), Field("major", 12, 2),
    Field("minor", 14, 2), Field("section_length", 16, 8),
)  # fmt: skip
IDB: Final = Record(
    "pcapng_idb", 16, "draft-ietf-opsawg-pcapng §4.2",
    Field("type", 0, 4), Field("length", 4, 4), Field("link_type", 8, 2), Field("snap_length", 12, 4),
)  # fmt: skip
EPB: Final = Record(
    "pcapng_epb", 28, "draft-ietf-opsawg-pcapng §4.3",
    Field("type", 0, 4), Field("length", 4, 4), Field("interface", 8, 4), Field("time_high", 12, 4),
    Field("time_low", 16, 4), Field("captured_bytes", 20, 4), Field("original_bytes", 24, 4),
)  # fmt: skip
EPB_TAIL: Final = Record(
    "pcapng_epb_tail", 16, "draft-ietf-opsawg-pcapng §4.3: epb_flags, opt_endofopt, the length once more",
    Field("flags_code", 0, 2), Field("flags_length", 2, 2), Field("flags", 4, 4), Field("end", 8, 4),
    Field("length", 12, 4),
)  # fmt: skip
OPTION: Final = Record(
    "pcapng_option", 4, "draft-ietf-opsawg-pcapng §3.5", Field("code", 0, 2), Field("length", 2, 2)
)
LENGTH_BYTES: Final = 4
PADDED_TO: Final = 4

TYPE_SHB: Final = 0x0A0D0D0A
TYPE_IDB: Final = 1
TYPE_EPB: Final = 6
BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
VERSION_MAJOR: Final = 1
VERSION_MINOR: Final = 0
SECTION_LENGTH_UNKNOWN: Final = 0xFFFF_FFFF_FFFF_FFFF
LINK_ETHERNET: Final = 1
OPT_END: Final = 0
SHB_USERAPPL: Final = 4
IF_NAME: Final = 2
IF_TSRESOL: Final = 9
TSRESOL_NS: Final = 9
"""10^-9 seconds."""
EPB_FLAGS: Final = 2
EPB_INBOUND: Final = 1
EPB_OUTBOUND: Final = 2
"""Seen from the interface that the block names: outbound left it."""
