"""Event records as images: bits typed from IHI 0070 §7.3, words from bit 0 up."""

import pytest

from testbed.iommu.events import Event, Request
from testbed.spec import smmu_queues as q

READ = Request(stream=0xABCD, address=0x1234_5678_9ABC_DEF0)
WRITE = Request(stream=0xABCD, address=0x1000, write=True, substream=0x12345, privileged=True)
HEAD = 0xABCD << 32
SUBSTREAM = 0x12345 << 12 | 1 << 11


def _words(event: Event) -> tuple[int, int, int, int]:
    image = event.pack()
    assert len(image) == 32
    return tuple(int.from_bytes(image[i : i + 8], "little") for i in range(0, 32, 8))  # type: ignore[return-value]


@pytest.mark.parametrize("code", [0x02, 0x04, 0x06, 0x0A])
def test_configuration_errors_carry_the_stream_only(code: int) -> None:
    assert _words(Event(code, READ)) == (HEAD | code, 0, 0, 0)
    assert _words(Event(code, WRITE)) == (HEAD | SUBSTREAM | code, 0, 0, 0)


def test_bad_substream_has_no_valid_flag() -> None:
    assert _words(Event(0x08, WRITE)) == (HEAD | 0x12345 << 12 | 0x08, 0, 0, 0)
    assert _words(Event(0x08, READ, substream=9)) == (HEAD | 9 << 12 | 0x08, 0, 0, 0)


@pytest.mark.parametrize("code", [0x03, 0x09])
def test_fetch_faults_carry_the_fetch_address(code: int) -> None:
    assert _words(Event(code, READ, fetch=0x12_3456_7898)) == (HEAD | code, 0, 0, 0x12_3456_7898)


def test_stage1_translation_fault() -> None:
    # RnW is bit 99, CLASS bits 105:104 (IN is 0b10), no IPA
    assert _words(Event(0x10, READ)) == (HEAD | 0x10, 1 << 35 | 2 << 40, READ.address, 0)


def test_stage2_fault_carries_the_page_of_the_ipa() -> None:
    event = Event(0x13, WRITE, stage2=True, fault_class=q.CLASS_IN, ipa=0x8000_1234)

    # PnU is bit 97, S2 bit 103; RnW clear for a write
    assert _words(event) == (HEAD | SUBSTREAM | 0x13, 1 << 33 | 1 << 39 | 2 << 40, 0x1000, 0x8000_1000)


def test_permission_fault_of_a_table_access_says_that_it_read() -> None:
    event = Event(0x13, WRITE, stage2=True, fault_class=q.CLASS_TTD, ipa=0x8000_1238)

    assert _words(event)[1] == 1 << 33 | 1 << 39 | 1 << 40 | 1 << 44


def test_walk_abort_carries_the_descriptors_address() -> None:
    event = Event(0x0B, READ, stage2=False, fault_class=q.CLASS_TTD, fetch=0x40_0000_0FF8)

    assert _words(event) == (HEAD | 0x0B, 1 << 35 | 1 << 40, READ.address, 0x40_0000_0FF8)


def test_stalled_record_carries_its_tag() -> None:
    event = Event(0x10, READ).stalled(0x0102)

    assert _words(event)[1] == 0x0102 | 1 << 31 | 1 << 35 | 2 << 40


def test_bad_ats_request_says_what_was_asked_for() -> None:
    event = Event(0x05, WRITE, span=3)

    # R bit 94, W bit 93, P bit 91, span bits 67:64
    assert _words(event) == (HEAD | SUBSTREAM | 0x05, 3 | 1 << 27 | 1 << 29 | 1 << 30, 0x1000, 0)


def test_forbidden_translated_transaction_says_its_direction() -> None:
    assert _words(Event(0x07, READ)) == (HEAD | 0x07, 1 << 35, READ.address, 0)
    assert _words(Event(0x07, WRITE))[1] == 0


def test_name_is_the_standards() -> None:
    assert Event(0x0B, READ).name == "F_WALK_EABT"
