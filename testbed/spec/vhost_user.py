"""vhost-user: message header, requests, payloads, feature bits.

Reference: "Vhost-user Protocol" (QEMU documentation, docs/interop/vhost-user), sections named beside each
declaration. Numbers are in the machine's byte order: declared as little-endian, as every machine here is.
"""

from enum import IntEnum
from typing import Final

from testbed.spec.layout import Bits, Field, Record

# Header

HEADER: Final = Record(
    "vhost_user_header", 12, "vhost-user, Header",
    Field("request", 0, 4), Field("flags", 4, 4), Field("size", 8, 4, "bytes of payload"),
)  # fmt: skip
FLAGS_VERSION: Final = Bits("version", 0, 2)
FLAGS_REPLY: Final = Bits("reply", 2)
FLAGS_NEED_REPLY: Final = Bits("need_reply", 3, doc="answer with a u64, 0 for success (REPLY_ACK)")
VERSION: Final = 1
PAYLOAD_BYTES_MAX: Final = 4096
"""Our own limit: the longest payload that a request of this table has is a table of eight regions."""


class Request(IntEnum):
    """Front-end message types."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    CREATE_CRYPTO_SESSION = 26
    CLOSE_CRYPTO_SESSION = 27
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GPU_SET_SOCKET = 33
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40


# Payloads

U64: Final = Record("vhost_user_u64", 8, "vhost-user, A single 64-bit integer", Field("value", 0, 8))
VRING_STATE: Final = Record(
    "vhost_user_vring_state", 8, "vhost-user, A vring state description",
    Field("index", 0, 4), Field("num", 4, 4),
)  # fmt: skip
VRING_ADDR: Final = Record(
    "vhost_user_vring_addr", 40, "vhost-user, A vring address description",
    Field("index", 0, 4), Field("flags", 4, 4),
    Field("desc", 8, 8, "descriptor table, a front-end virtual address as the next two"),
    Field("used", 16, 8, "used ring; packed: device event suppression"),
    Field("avail", 24, 8, "available ring; packed: driver event suppression"),
    Field("log", 32, 8, "guest physical address by which writes to the used ring are logged"),
)  # fmt: skip
VRING_ADDR_F_LOG: Final = Bits("log", 0)
REGIONS_HEADER: Final = Record(
    "vhost_user_regions", 8, "vhost-user, Memory regions description", Field("count", 0, 4)
)
REGION: Final = Record(
    "vhost_user_region", 32, "vhost-user, Memory regions description",
    Field("gpa", 0, 8), Field("size", 8, 8), Field("uva", 16, 8, "front-end virtual address"),
    Field("mmap_offset", 24, 8, "where the region begins in the file"),
)  # fmt: skip
SINGLE_REGION_PADDING_BYTES: Final = 8
"""In front of the region of ADD_MEM_REG and REM_MEM_REG."""
LOG: Final = Record(
    "vhost_user_log", 16, "vhost-user, Log description", Field("size", 0, 8), Field("offset", 8, 8)
)
INFLIGHT: Final = Record(
    "vhost_user_inflight", 24, "vhost-user, Inflight description",
    Field("mmap_size", 0, 8), Field("mmap_offset", 8, 8),
    Field("num_queues", 16, 2), Field("queue_size", 18, 2),
)  # fmt: skip
VRING_FD_INDEX: Final = Bits("index", 0, 8)
"""Of the u64 that comes with a kick, call or error descriptor."""
VRING_FD_NONE: Final = Bits("invalid_fd", 8, doc="no descriptor comes along: poll instead")
PACKED_BASE_AVAIL: Final = Bits("avail", 0, 15)
"""Of a packed ring's SET_VRING_BASE: next available descriptor, its wrap counter, the same of used ones."""
PACKED_BASE_AVAIL_WRAP: Final = Bits("avail_wrap", 15)
PACKED_BASE_USED: Final = Bits("used", 16, 15)
PACKED_BASE_USED_WRAP: Final = Bits("used_wrap", 31)

# Limits

REGIONS_MAX: Final = 8
"""Of SET_MEM_TABLE: "region0 ... region7"."""
DESCRIPTORS_MAX: Final = 8
"""File descriptors of one message: one a region."""
LOG_PAGE_BYTES: Final = 0x1000
"""Migration: VHOST_LOG_PAGE."""

# Feature bits beside those of the device

F_LOG_ALL: Final = 26
F_PROTOCOL_FEATURES: Final = 30

PROTOCOL_F_MQ: Final = 0
PROTOCOL_F_LOG_SHMFD: Final = 1
PROTOCOL_F_RARP: Final = 2
PROTOCOL_F_REPLY_ACK: Final = 3
PROTOCOL_F_NET_MTU: Final = 4
PROTOCOL_F_BACKEND_REQ: Final = 5
PROTOCOL_F_CROSS_ENDIAN: Final = 6
PROTOCOL_F_CRYPTO_SESSION: Final = 7
PROTOCOL_F_PAGEFAULT: Final = 8
PROTOCOL_F_CONFIG: Final = 9
PROTOCOL_F_BACKEND_SEND_FD: Final = 10
PROTOCOL_F_HOST_NOTIFIER: Final = 11
PROTOCOL_F_INFLIGHT_SHMFD: Final = 12
PROTOCOL_F_RESET_DEVICE: Final = 13
PROTOCOL_F_INBAND_NOTIFICATIONS: Final = 14
PROTOCOL_F_CONFIGURE_MEM_SLOTS: Final = 15
PROTOCOL_F_STATUS: Final = 16

# What a back end remembers of a ring beyond its own end. The document leaves the content of the in-flight
# buffer to the back end ("can be implemented as"); this is ours.

JOURNAL_VERSION: Final = 0x7662_0001
"""None of the versions that the document gives: another back end sees that it cannot read this."""
JOURNAL_CHAINS: Final = 256
"""As many as a burst holds."""
RING_JOURNAL: Final = Record(
    "ring_journal", 64 + 4 * JOURNAL_CHAINS, "vhost-user, Inflight I/O tracking",
    Field("features", 0, 8), Field("version", 8, 4, "0: nothing is recorded"),
    Field("size", 12, 4, "of the ring"), Field("desc", 16, 8, "the ring's descriptor table"),
    Field("base", 24, 4, "as SET_VRING_BASE gave it"),
    Field("before", 28, 4, "place before the burst under way: index, wrap counter above it"),
    Field("after", 32, 4, "place behind that burst"),
    Field("chains", 36, 4, "of that burst; 0: none is under way"),
    Field("chain", 64, 4, "buffer id, and above it the ring slots that it takes", count=JOURNAL_CHAINS),
)  # fmt: skip
