"""The vhost-user back end towards a front end that keeps no rule: refused with a reason, nobody else notices.

After every attack a front end that keeps the rules connects, and its frames pass; nothing that the attacker
sent stays open.
"""

import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.errors import MachineError
from testbed.spec import vhost_user as spec
from testbed.spec.vhost_user import Request
from testbed.virtio.vhost_user.message import FORMS
from testbed.vmm.external import RETRY_NS, ExternalGuest
from tests.support.files import no_descriptor_left
from tests.support.recorders import ManualClock
from tests.virtio.vhost_user_bench import (
    GPA,
    MEMORY_BYTES,
    RX,
    SIZE,
    TX,
    UVA,
    BackEndBench,
    FrontEnd,
    frame,
    memory_file,
    region_table,
    single_region,
    state,
)

_SLOW: Final = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
U64_MAX: Final = (1 << 64) - 1


def descriptors_open() -> int:
    """Return how many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[BackEndBench]:
    made = BackEndBench(tmp_path, packed=True, pairs=2)
    yield made
    made.close()


def assert_goes_on(bench: BackEndBench) -> None:
    """Fail where an honest front end finds anything wrong."""
    bench.serve()
    front = FrontEnd(bench)
    front.up()
    front.send(frame(7))
    bench.turn()
    assert front.received() == [frame(7)]
    front.close()
    os.close(front.descriptor)


@pytest.fixture
def attacker(bench: BackEndBench) -> Iterator[FrontEnd]:
    """Return a front end; when the test is over the next one must find everything in order."""
    front = FrontEnd(bench)
    yield front
    front.close()
    assert_goes_on(bench)
    os.close(front.descriptor)


def _break_transmit_ring(front: FrontEnd) -> None:
    """Make more available than the ring has entries: avail->idx."""
    front.memory.bytes_view()[0x1_0000 + 16 * SIZE + 2 : 0x1_0000 + 16 * SIZE + 4] = b"\xff\x7f"


def refusal(front: FrontEnd) -> list[str]:
    """Return why the back end hung up; fail where it did not."""
    assert front.refused
    return front.bench.faults.reasons


# Messages


@pytest.mark.parametrize(
    "header",
    [
        spec.HEADER.pack(request=Request.GET_FEATURES, flags=0),
        spec.HEADER.pack(request=Request.GET_FEATURES, flags=2),
        spec.HEADER.pack(request=Request.GET_FEATURES, flags=5),
        spec.HEADER.pack(request=Request.GET_FEATURES, flags=1, size=0xFFFF_FFFF),
        spec.HEADER.pack(request=0, flags=1),
        spec.HEADER.pack(request=Request.GET_CONFIG, flags=1),
        spec.HEADER.pack(request=0xFFFF_FFFF, flags=1),
    ],
    ids=["no version", "version 2", "a reply", "endless", "request 0", "not offered", "no request"],
)
def test_a_header_that_no_message_has_is_refused(attacker: FrontEnd, header: bytes) -> None:
    attacker.say_raw(header)
    assert refusal(attacker) == ["protocol"]


@pytest.mark.parametrize("request_", list(FORMS), ids=lambda request: request.name)
@pytest.mark.parametrize("size", [7, 4096])
def test_a_payload_of_the_wrong_size_is_refused(attacker: FrontEnd, request_: Request, size: int) -> None:
    attacker.say_raw(spec.HEADER.pack(request=request_, flags=1, size=size) + bytes(size))
    assert refusal(attacker) == ["protocol"]


@pytest.mark.parametrize("cut", [1, 11, 12, 13, 19])
def test_a_message_cut_short_is_forgotten(attacker: FrontEnd, cut: int) -> None:
    whole = spec.HEADER.pack(request=Request.SET_FEATURES, flags=1, size=8) + spec.U64.pack(value=1)
    attacker.say_raw(whole[:cut], [attacker.descriptor])
    attacker.socket.close()
    attacker.bench.serve()
    assert not attacker.bench.guest.connected
    assert attacker.bench.faults.reasons == []


def test_a_message_may_come_byte_by_byte(attacker: FrontEnd) -> None:
    for byte in spec.HEADER.pack(request=Request.GET_FEATURES, flags=1):
        attacker.say_raw(bytes([byte]))
    assert attacker.hear(Request.GET_FEATURES).number


def test_too_many_descriptors_are_closed_and_refused(attacker: FrontEnd) -> None:
    before = descriptors_open()
    attacker.say(Request.GET_FEATURES, b"", [attacker.descriptor] * 9)
    assert refusal(attacker) == ["protocol"]
    assert descriptors_open() <= before  # the back end's end of the socket went, too


def test_descriptors_spread_over_the_pieces_of_a_message_are_counted(attacker: FrontEnd) -> None:
    for byte in spec.HEADER.pack(request=Request.GET_FEATURES, flags=1)[:9]:
        attacker.say_raw(bytes([byte]), [attacker.descriptor])
    assert refusal(attacker) == ["protocol"]


@pytest.mark.parametrize(
    "request_",
    [r for r, form in FORMS.items() if form.descriptors_max == 0],
    ids=lambda request: request.name,
)
def test_descriptors_that_a_request_does_not_have_are_refused(attacker: FrontEnd, request_: Request) -> None:
    attacker.negotiate()
    before = descriptors_open()
    attacker.say(request_, bytes(min(FORMS[request_].sizes)), [attacker.descriptor])
    assert refusal(attacker)[:1] == ["protocol"]
    assert descriptors_open() <= before


@pytest.mark.parametrize(
    "request_", [r for r, form in FORMS.items() if form.descriptors_min], ids=lambda request: request.name
)
def test_a_request_without_its_descriptor_is_refused(attacker: FrontEnd, request_: Request) -> None:
    attacker.negotiate()
    attacker.say(request_, bytes(min(FORMS[request_].sizes)))
    assert refusal(attacker) == ["protocol"]


@pytest.mark.parametrize("request_", [Request.SET_VRING_CALL, Request.SET_VRING_ERR])
def test_only_an_eventfd_is_signalled(attacker: FrontEnd, request_: Request) -> None:
    reading, writing = os.pipe()
    attacker.say(request_, spec.U64.pack(value=0), [writing])
    os.close(reading)
    os.close(writing)
    assert refusal(attacker) == ["protocol"]


def test_a_call_that_is_refused_with_an_answer_leaves_the_one_before(attacker: FrontEnd) -> None:
    attacker.up()
    attacker.drivers[RX].arm()
    wrong = attacker.descriptor
    for request_ in (Request.SET_VRING_CALL, Request.SET_VRING_ERR):
        for index in (RX, TX):
            assert attacker.ask(request_, spec.U64.pack(value=index), [wrong], need=True).number == 1
    attacker.send(frame(1))
    attacker.bench.turn()
    assert attacker.received() == [frame(1)]
    assert os.eventfd_read(attacker.calls[RX]) == 1
    _break_transmit_ring(attacker)
    attacker.bench.turn()
    assert os.eventfd_read(attacker.errors[TX]) == 1


def test_a_file_is_no_kick(attacker: FrontEnd) -> None:
    attacker.negotiate()
    file = os.open(__file__, os.O_RDONLY)
    attacker.say(Request.SET_VRING_KICK, spec.U64.pack(value=0), [file])
    os.close(file)
    assert refusal(attacker) == ["protocol"]


@pytest.mark.parametrize("word", [0x100, 4, 0xFF, 0x104])
def test_a_descriptor_for_no_ring_or_announced_as_none_is_refused(attacker: FrontEnd, word: int) -> None:
    attacker.negotiate()
    attacker.say(Request.SET_VRING_CALL, spec.U64.pack(value=word), [attacker.calls[0]])
    assert refusal(attacker) == ["protocol"]


def test_a_full_eventfd_does_not_stop_the_back_end(attacker: FrontEnd) -> None:
    os.eventfd_write(attacker.calls[RX], U64_MAX - 1)
    attacker.up()
    attacker.drivers[RX].arm()
    attacker.send(frame(1))
    attacker.bench.turn()
    assert attacker.received() == [frame(1)]


def test_a_connection_for_which_nothing_is_left_is_taken_later_and_waited_for(
    bench: BackEndBench, tmp_path: Path
) -> None:
    clock, path = ManualClock(), str(tmp_path / "t")
    guest = ExternalGuest(bench.net, bench.descriptors, path, True, bench.faults, None, clock)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as front:
        front.connect(path)
        with no_descriptor_left():
            assert bench.descriptors.serve()
            assert not bench.descriptors.serve()  # it does not spin
            assert bench.faults.reasons == ["socket"]
            assert guest.deadline_ns() == clock.now_ns + RETRY_NS
        guest.tick()
        early = guest.connected
        clock.advance(RETRY_NS)
        guest.tick()
        assert bench.descriptors.serve()
        assert (early, guest.connected) == (False, True)
        assert guest.deadline_ns() is None
    guest.close()


def test_what_keeps_us_from_a_front_end_that_listens_is_told(bench: BackEndBench, tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "t" / "s"
    guest = ExternalGuest(bench.net, bench.descriptors, str(path), False, bench.faults, None, clock)
    path.parent.touch()
    clock.advance(RETRY_NS)
    guest.tick()
    assert bench.faults.reasons == ["socket"]
    assert guest.deadline_ns() == clock.now_ns + RETRY_NS
    with pytest.raises(MachineError, match="Not a directory"):
        ExternalGuest(bench.net, bench.descriptors, str(path), False, bench.faults)
    guest.close()


def test_a_second_front_end_is_turned_away(attacker: FrontEnd) -> None:
    attacker.up()
    second = FrontEnd(attacker.bench)
    assert second.refused
    attacker.send(frame(1))
    attacker.bench.turn()
    assert attacker.received() == [frame(1)]
    second.close()
    os.close(second.descriptor)


def test_features_that_were_not_offered_are_refused(attacker: FrontEnd) -> None:
    attacker.say(Request.SET_FEATURES, spec.U64.pack(value=U64_MAX))
    assert refusal(attacker) == ["protocol"]


def test_protocol_features_that_were_not_offered_are_refused(attacker: FrontEnd) -> None:
    attacker.say(Request.SET_PROTOCOL_FEATURES, spec.U64.pack(value=1 << spec.PROTOCOL_F_CONFIG))
    assert refusal(attacker) == ["protocol"]


@pytest.mark.parametrize(
    "request_",
    [Request.GET_QUEUE_NUM, Request.GET_MAX_MEM_SLOTS, Request.RESET_DEVICE, Request.GET_STATUS],
)
def test_a_request_without_its_protocol_feature_is_refused(attacker: FrontEnd, request_: Request) -> None:
    attacker.say(request_)
    assert refusal(attacker) == ["protocol"]


# Memory


@pytest.mark.parametrize(
    "region",
    [
        (GPA, MEMORY_BYTES + 1, UVA, 0),
        (GPA, MEMORY_BYTES, UVA, 1),
        (GPA, 1, UVA, MEMORY_BYTES),
        (GPA, 0, UVA, 0),
        (GPA, 1 << 63, UVA, 0),
        (U64_MAX, 4096, UVA, 0),
        (GPA, 4096, U64_MAX, 0),
        (GPA, 4096, UVA, U64_MAX),
    ],
)
def test_a_region_that_lies_about_its_size_is_refused(
    attacker: FrontEnd, region: tuple[int, int, int, int]
) -> None:
    attacker.negotiate()
    table, descriptors = region_table((*region, attacker.descriptor))
    assert attacker.ask(Request.SET_MEM_TABLE, table, descriptors, need=True).number == 1
    attacker.say(Request.SET_MEM_TABLE, table, descriptors)
    assert refusal(attacker) == ["protocol", "protocol"]


@pytest.mark.parametrize(
    "second", [(GPA + 4096, UVA + MEMORY_BYTES), (GPA + MEMORY_BYTES, UVA + 4096), (GPA, UVA)]
)
def test_regions_that_overlap_are_refused(attacker: FrontEnd, second: tuple[int, int]) -> None:
    attacker.negotiate()
    gpa, uva = second
    table, descriptors = region_table(
        (GPA, 8192, UVA, 0, attacker.descriptor), (gpa, 8192, uva, 0, attacker.descriptor)
    )
    assert attacker.ask(Request.SET_MEM_TABLE, table, descriptors, need=True).number == 1


@pytest.mark.parametrize("count", [0, 1, 3, 9, 0xFFFF_FFFF])
def test_a_table_must_have_as_many_regions_as_it_says(attacker: FrontEnd, count: int) -> None:
    attacker.negotiate()
    table, descriptors = region_table(
        *((GPA + i * 8192, 4096, UVA + i * 8192, 0, attacker.descriptor) for i in (0, 1))
    )
    lie = spec.REGIONS_HEADER.pack(count=count) + table[spec.REGIONS_HEADER.size :]
    attacker.say(Request.SET_MEM_TABLE, lie, descriptors)
    assert refusal(attacker) == ["protocol"]


def test_a_table_must_have_a_descriptor_for_each_region(attacker: FrontEnd) -> None:
    attacker.negotiate()
    table, descriptors = region_table((GPA, 4096, UVA, 0, attacker.descriptor))
    attacker.say(Request.SET_MEM_TABLE, table, descriptors * 2)
    assert refusal(attacker) == ["protocol"]


def test_what_is_no_file_is_not_mapped(attacker: FrontEnd) -> None:
    attacker.negotiate()
    table, _ = region_table((GPA, 4096, UVA, 0, 0))
    for descriptor in (attacker.kicks[0], attacker.socket.fileno()):
        assert attacker.ask(Request.SET_MEM_TABLE, table, [descriptor], need=True).number == 1
    read_only = os.open(__file__, os.O_RDONLY)
    assert attacker.ask(Request.SET_MEM_TABLE, table, [read_only], need=True).number == 1
    os.close(read_only)


def test_slots_come_to_an_end(attacker: FrontEnd) -> None:
    attacker.negotiate()
    answers = [
        attacker.ask(
            Request.ADD_MEM_REG,
            single_region(GPA + i * 8192, 4096, UVA + i * 8192),
            [attacker.descriptor],
            need=True,
        ).number
        for i in range(40)
    ]
    assert answers == [0] * 32 + [1] * 8


def test_a_file_cut_short_ends_the_session_and_nothing_else(attacker: FrontEnd) -> None:
    attacker.up()
    attacker.send(frame(1))
    attacker.memory.bytes_view()  # still mapped here: only the file is cut
    del attacker.drivers[RX], attacker.drivers[TX]
    os.ftruncate(attacker.descriptor, 0)
    attacker.bench.turn()
    attacker.bench.serve()
    assert refusal(attacker)[-1:] == ["protocol"]
    assert not attacker.bench.net.receiving


@pytest.mark.parametrize("left", [0x3000, 0x1_2000])
def test_a_file_cut_short_under_a_burst_is_survived(attacker: FrontEnd, left: int) -> None:
    """The rings or the frames are gone in the middle of it: what is read there is zeros."""
    attacker.up()
    attacker.send(frame(1), frame(2, 1500))
    os.ftruncate(attacker.descriptor, left)
    attacker.bench.turn()
    attacker.bench.serve()
    assert attacker.refused


def test_a_log_cut_short_is_survived(attacker: FrontEnd) -> None:
    attacker.up()
    log = memory_file(4096)
    attacker.ask(Request.SET_LOG_BASE, spec.LOG.pack(size=4096), [log])
    attacker.address(RX, flags=1)
    os.ftruncate(log, 0)
    attacker.send(frame(1))
    attacker.bench.turn()
    assert attacker.received() == [frame(1)]
    os.close(log)


# Rings


@pytest.mark.parametrize("size", [0, 3, 32769, 0xFFFF_FFFF])
def test_a_ring_of_a_size_that_no_ring_has_is_refused(attacker: FrontEnd, size: int) -> None:
    attacker.negotiate()
    attacker.share()
    attacker.say(Request.SET_VRING_NUM, state(TX, size))
    attacker.address(TX)
    attacker.say(Request.SET_VRING_KICK, spec.U64.pack(value=TX), [attacker.kicks[TX]])
    assert attacker.refused


@pytest.mark.parametrize(
    ("desc", "avail", "used"),
    [
        (UVA - 16, UVA, UVA),
        (UVA + MEMORY_BYTES - 16, UVA, UVA),
        (UVA, UVA + MEMORY_BYTES - 2, UVA),
        (UVA, UVA, UVA + MEMORY_BYTES),
        (UVA + 1, UVA, UVA),
        (0, 0, 0),
        (U64_MAX, U64_MAX, U64_MAX),
    ],
)
def test_a_ring_outside_memory_is_refused(attacker: FrontEnd, desc: int, avail: int, used: int) -> None:
    attacker.negotiate()
    attacker.share()
    attacker.say(Request.SET_VRING_NUM, state(TX, SIZE))
    attacker.say(Request.SET_VRING_ADDR, spec.VRING_ADDR.pack(index=TX, desc=desc, avail=avail, used=used))
    attacker.say(Request.SET_VRING_KICK, spec.U64.pack(value=TX), [attacker.kicks[TX]])
    assert attacker.refused


@pytest.mark.parametrize("base", [8, 0x7FFF, 0x8008, 0xFFFF])
def test_a_packed_base_outside_the_ring_is_refused(attacker: FrontEnd, base: int) -> None:
    features = 0x5_4000_0000  # VERSION_1, RING_PACKED, protocol features
    attacker.negotiate(features)
    attacker.share()
    attacker.lay_out(TX, features)
    attacker.say(Request.SET_VRING_NUM, state(TX, SIZE))
    attacker.say(Request.SET_VRING_BASE, state(TX, base))
    attacker.address(TX, packed=True)
    attacker.say(Request.SET_VRING_KICK, spec.U64.pack(value=TX), [attacker.kicks[TX]])
    assert attacker.refused


@pytest.mark.parametrize("index", [4, 255, 0xFFFF_FFFF])
@pytest.mark.parametrize(
    "request_",
    [Request.SET_VRING_NUM, Request.SET_VRING_BASE, Request.GET_VRING_BASE, Request.SET_VRING_ENABLE],
)
def test_a_ring_that_there_is_not_is_refused(attacker: FrontEnd, request_: Request, index: int) -> None:
    attacker.negotiate()
    attacker.say(request_, state(index, 1))
    assert refusal(attacker) == ["protocol"]


@pytest.mark.parametrize("request_", [Request.SET_VRING_NUM, Request.SET_VRING_BASE])
def test_a_ring_that_runs_is_not_changed(attacker: FrontEnd, request_: Request) -> None:
    attacker.up()
    assert attacker.ask(request_, state(TX, 4), need=True).number == 1
    attacker.send(frame(1))
    attacker.bench.turn()
    assert attacker.received() == [frame(1)]


def test_a_ring_that_runs_is_not_moved(attacker: FrontEnd) -> None:
    attacker.up()
    moved = spec.VRING_ADDR.pack(index=TX, desc=UVA, avail=UVA + 4096, used=UVA + 8192)
    assert attacker.ask(Request.SET_VRING_ADDR, moved, need=True).number == 1


def test_a_broken_ring_is_told_of_and_left_alone(attacker: FrontEnd) -> None:
    attacker.up()
    _break_transmit_ring(attacker)
    attacker.bench.turn()
    assert attacker.bench.faults.reasons == ["avail_jump"]
    assert os.eventfd_read(attacker.errors[TX]) == 1
    told = attacker.ask(Request.GET_VRING_BASE, state(TX, 0)).payload
    assert spec.VRING_STATE.unpack(told)["num"] == 0


@settings(max_examples=40, suppress_health_check=_SLOW)
@given(noise=st.binary(max_size=100), packed=st.booleans())
def test_in_flight_memory_may_say_anything(bench: BackEndBench, noise: bytes, packed: bool) -> None:
    """It is the front end's: what it says is checked before it is believed."""
    features = 0x1_4000_0000 | packed << 34
    front = FrontEnd(bench)
    front.negotiate(features)
    size = 4 * spec.RING_JOURNAL.size
    journal = memory_file(size)
    said = {"version": spec.JOURNAL_VERSION, "size": SIZE, "desc": UVA + 0x1_0000, "base": 0x8000 * packed}
    known = spec.RING_JOURNAL.pack(**said)[: spec.RING_JOURNAL.offset("before")]
    os.pwrite(journal, known + noise, TX * spec.RING_JOURNAL.size)
    front.say(
        Request.SET_INFLIGHT_FD, spec.INFLIGHT.pack(mmap_size=size, num_queues=4, queue_size=SIZE), [journal]
    )
    front.share()
    front.ring(RX, features)
    front.ring(TX, features)
    bench.turn()
    front.close()
    os.close(journal)
    os.close(front.descriptor)
    assert_goes_on(bench)


# Every order, and anything


def _say(request_: Request) -> Callable[[FrontEnd, random.Random], None]:
    def say(front: FrontEnd, choose: random.Random) -> None:
        form = FORMS[request_]
        size = choose.choice(sorted(form.sizes))
        words = [0, 1, 2, 3, 4, 8, GPA, UVA, MEMORY_BYTES, 4096, U64_MAX, 0x100, 0x8000]
        payload = b"".join(
            choose.choice(words).to_bytes(8, "little")[: choose.choice((4, 8))] for _ in range(size)
        )[:size]
        count = choose.randint(form.descriptors_min, form.descriptors_max)
        things = [front.descriptor, front.kicks[0], front.calls[1]]
        front.say_raw(
            spec.HEADER.pack(request=request_, flags=choose.choice((1, 9)), size=size) + payload,
            [choose.choice(things) for _ in range(count)],
        )

    return say


_STEPS: Final[dict[str, Callable[[FrontEnd, random.Random], None]]] = {
    **{request_.name: _say(request_) for request_ in FORMS},
    "negotiate": lambda front, _choose: front.negotiate(),
    "share": lambda front, _choose: front.share(),
    "ring rx": lambda front, _choose: front.announce(RX, packed=False, base=0),
    "ring tx": lambda front, _choose: front.announce(TX, packed=False, base=0),
    "stop tx": lambda front, _choose: front.say(Request.GET_VRING_BASE, state(TX, 0)),
    "turn": lambda front, _choose: front.bench.turn(),
}


@settings(max_examples=300, suppress_health_check=_SLOW)
@given(steps=st.lists(st.sampled_from(sorted(_STEPS)), min_size=1, max_size=25), seed=st.integers(0, 1 << 32))
def test_requests_in_any_order_harm_nobody(bench: BackEndBench, steps: list[str], seed: int) -> None:
    choose, before = random.Random(seed), descriptors_open()
    front = FrontEnd(bench)
    for index in (RX, TX):
        front.lay_out(index)
    front.drivers[RX].post_all()
    front.send(frame(1))
    for step in steps:
        _STEPS[step](front, choose)
    bench.turn()
    front.close()
    os.close(front.descriptor)
    del front
    assert_goes_on(bench)
    assert descriptors_open() <= before


@settings(max_examples=60, suppress_health_check=_SLOW)
@given(noise=st.binary(max_size=200))
def test_noise_is_refused_or_forgotten(bench: BackEndBench, noise: bytes) -> None:
    front = FrontEnd(bench)
    for at in range(0, len(noise), 7):
        front.say_raw(noise[at : at + 7])
    front.close()
    os.close(front.descriptor)
    assert_goes_on(bench)
