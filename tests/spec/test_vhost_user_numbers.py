"""The numbers of vhost-user, typed a second time from "Vhost-user Protocol" (QEMU documentation)."""

import pytest

from testbed.spec import vhost_user as spec
from testbed.spec.layout import Record
from testbed.spec.vhost_user import Request

RECORDS = [
    (spec.HEADER, 12, {"request": (0, 4), "flags": (4, 4), "size": (8, 4)}),
    (spec.U64, 8, {"value": (0, 8)}),
    (spec.VRING_STATE, 8, {"index": (0, 4), "num": (4, 4)}),
    (
        spec.VRING_ADDR,
        40,
        {"index": (0, 4), "flags": (4, 4), "desc": (8, 8), "used": (16, 8), "avail": (24, 8), "log": (32, 8)},
    ),
    (spec.REGIONS_HEADER, 8, {"count": (0, 4)}),
    (spec.REGION, 32, {"gpa": (0, 8), "size": (8, 8), "uva": (16, 8), "mmap_offset": (24, 8)}),
    (spec.LOG, 16, {"size": (0, 8), "offset": (8, 8)}),
    (
        spec.INFLIGHT,
        24,
        {"mmap_size": (0, 8), "mmap_offset": (8, 8), "num_queues": (16, 2), "queue_size": (18, 2)},
    ),
]
REQUESTS = {
    "GET_FEATURES": 1, "SET_FEATURES": 2, "SET_OWNER": 3, "RESET_OWNER": 4, "SET_MEM_TABLE": 5,
    "SET_LOG_BASE": 6, "SET_LOG_FD": 7, "SET_VRING_NUM": 8, "SET_VRING_ADDR": 9, "SET_VRING_BASE": 10,
    "GET_VRING_BASE": 11, "SET_VRING_KICK": 12, "SET_VRING_CALL": 13, "SET_VRING_ERR": 14,
    "GET_PROTOCOL_FEATURES": 15, "SET_PROTOCOL_FEATURES": 16, "GET_QUEUE_NUM": 17, "SET_VRING_ENABLE": 18,
    "SEND_RARP": 19, "NET_SET_MTU": 20, "SET_BACKEND_REQ_FD": 21, "IOTLB_MSG": 22, "SET_VRING_ENDIAN": 23,
    "GET_CONFIG": 24, "SET_CONFIG": 25, "CREATE_CRYPTO_SESSION": 26, "CLOSE_CRYPTO_SESSION": 27,
    "POSTCOPY_ADVISE": 28, "POSTCOPY_LISTEN": 29, "POSTCOPY_END": 30, "GET_INFLIGHT_FD": 31,
    "SET_INFLIGHT_FD": 32, "GPU_SET_SOCKET": 33, "RESET_DEVICE": 34, "VRING_KICK": 35,
    "GET_MAX_MEM_SLOTS": 36, "ADD_MEM_REG": 37, "REM_MEM_REG": 38, "SET_STATUS": 39, "GET_STATUS": 40,
}  # fmt: skip
PROTOCOL_FEATURES = {
    "MQ": 0, "LOG_SHMFD": 1, "RARP": 2, "REPLY_ACK": 3, "NET_MTU": 4, "BACKEND_REQ": 5, "CROSS_ENDIAN": 6,
    "CRYPTO_SESSION": 7, "PAGEFAULT": 8, "CONFIG": 9, "BACKEND_SEND_FD": 10, "HOST_NOTIFIER": 11,
    "INFLIGHT_SHMFD": 12, "RESET_DEVICE": 13, "INBAND_NOTIFICATIONS": 14, "CONFIGURE_MEM_SLOTS": 15,
    "STATUS": 16,
}  # fmt: skip


@pytest.mark.parametrize(("record", "size", "fields"), RECORDS, ids=lambda value: getattr(value, "name", ""))
def test_record_is_as_the_document_has_it(
    record: Record, size: int, fields: dict[str, tuple[int, int]]
) -> None:
    assert record.size == size
    assert {field.name: (field.offset, field.size) for field in record.fields} == fields


def test_requests_are_numbered_as_in_the_document() -> None:
    assert {request.name: int(request) for request in Request} == REQUESTS


def test_feature_bits_are_those_of_the_document() -> None:
    bits = {name: getattr(spec, f"PROTOCOL_F_{name}") for name in PROTOCOL_FEATURES}
    assert bits == PROTOCOL_FEATURES
    assert (spec.F_LOG_ALL, spec.F_PROTOCOL_FEATURES) == (26, 30)


def test_header_flags_and_words_are_those_of_the_document() -> None:
    masks = (spec.FLAGS_VERSION.mask, spec.FLAGS_REPLY.mask, spec.FLAGS_NEED_REPLY.mask, spec.VERSION)
    assert masks == (0x3, 0x4, 0x8, 1)
    assert (spec.VRING_FD_INDEX.mask, spec.VRING_FD_NONE.mask) == (0xFF, 0x100)
    assert (spec.LOG_PAGE_BYTES, spec.REGIONS_MAX, spec.DESCRIPTORS_MAX) == (0x1000, 8, 8)
    assert spec.VRING_ADDR_F_LOG.mask == 1


def test_packed_base_is_what_qemu_sends() -> None:
    """Both indexes 0, both wrap counters 1: 0x80008000."""
    base = spec.PACKED_BASE_AVAIL_WRAP.put(1) | spec.PACKED_BASE_USED_WRAP.put(1)
    assert base == 0x8000_8000
    assert (spec.PACKED_BASE_AVAIL.mask, spec.PACKED_BASE_USED.mask) == (0x7FFF, 0x7FFF_0000)
