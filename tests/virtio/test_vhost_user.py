"""The vhost-user back end towards a front end that keeps the rules: rings, frames, reconnects, the log.

Reference: "Vhost-user Protocol". The orders of messages are those that QEMU and DPDK were seen to send.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.native import Burst, Pinned
from testbed.spec import vhost_user as spec
from testbed.spec import virtio
from testbed.spec import virtio_net as net
from testbed.spec.vhost_user import Request
from tests.virtio.vhost_user_bench import (
    FEATURES,
    GPA,
    MEMORY_BYTES,
    PROTOCOL,
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

PACKED = FEATURES | 1 << virtio.F_RING_PACKED
FORMATS = {
    "split": FEATURES,
    "split-events": FEATURES | 1 << virtio.F_EVENT_IDX,
    "split-in-order": FEATURES | 1 << virtio.F_IN_ORDER,
    "packed": PACKED,
    "packed-events": PACKED | 1 << virtio.F_EVENT_IDX,
    "packed-in-order": PACKED | 1 << virtio.F_IN_ORDER,
}
MakeBench = Callable[..., BackEndBench]


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    """Return a maker of benches; each is closed afterwards."""
    made: list[BackEndBench] = []

    def make(journal: Pinned | None = None) -> BackEndBench:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(BackEndBench(directory, packed=True, in_order=True, pairs=2, journal=journal))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: MakeBench) -> BackEndBench:
    return make_bench()


@pytest.fixture
def front_end(bench: BackEndBench) -> Iterator[FrontEnd]:
    front = FrontEnd(bench)
    yield front
    front.close()


def numbers(front: FrontEnd, request: Request) -> int:
    """Return the number that a request without a payload is answered with."""
    return front.ask(request).number


# What is offered


def test_features_are_the_devices_and_none_of_the_front_ends(front_end: FrontEnd) -> None:
    features = numbers(front_end, Request.GET_FEATURES)
    for bit in (spec.F_PROTOCOL_FEATURES, spec.F_LOG_ALL, virtio.F_VERSION_1, net.F_MRG_RXBUF, net.F_MQ):
        assert features >> bit & 1
    for bit in (net.F_MAC, net.F_STATUS, net.F_CTRL_VQ, net.F_MTU, net.F_SPEED_DUPLEX):
        assert not features >> bit & 1


def test_protocol_features_never_have_config(front_end: FrontEnd) -> None:
    offered = numbers(front_end, Request.GET_PROTOCOL_FEATURES)
    assert offered == PROTOCOL | 1 << spec.PROTOCOL_F_MQ
    assert not offered >> spec.PROTOCOL_F_CONFIG & 1


def test_queue_pairs_and_slots_are_told(front_end: FrontEnd) -> None:
    front_end.negotiate(protocol=PROTOCOL | 1 << spec.PROTOCOL_F_MQ)
    assert numbers(front_end, Request.GET_QUEUE_NUM) == 2
    assert numbers(front_end, Request.GET_MAX_MEM_SLOTS) == 32


def test_status_is_kept(front_end: FrontEnd) -> None:
    front_end.negotiate()
    assert front_end.ask(Request.SET_STATUS, spec.U64.pack(value=0xF), need=True).number == 0
    assert numbers(front_end, Request.GET_STATUS) == 0xF


def test_a_reply_is_given_only_where_it_was_negotiated(front_end: FrontEnd) -> None:
    front_end.negotiate(protocol=0)
    front_end.say(Request.SET_VRING_NUM, state(0, SIZE))
    front_end.say_raw(
        spec.HEADER.pack(request=Request.SET_VRING_NUM, flags=9, size=8) + state(0, SIZE)
    )  # asks for one
    assert numbers(front_end, Request.GET_FEATURES)  # and this is the first answer that comes


# Frames


@pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)
def test_frames_come_back_whole_and_in_order(bench: BackEndBench, front_end: FrontEnd, features: int) -> None:
    front_end.up(features)
    for lap in range(5):
        frames = [frame(lap * SIZE + i) for i in range(SIZE - 2)]
        front_end.send(*frames)
        bench.turn()
        assert front_end.received() == frames
        assert front_end.drivers[TX].reclaim() == SIZE
    assert bench.faults.reasons == []


def test_the_driver_is_called_where_it_asks_for_it(bench: BackEndBench, front_end: FrontEnd) -> None:
    front_end.up()
    front_end.drivers[TX].disarm()
    front_end.drivers[RX].arm()
    front_end.send(frame(1))
    bench.turn()
    assert os.eventfd_read(front_end.calls[RX]) == 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(front_end.calls[TX])


def test_a_kick_wakes_whoever_sleeps(bench: BackEndBench, front_end: FrontEnd) -> None:
    front_end.up()
    bench.serve()
    assert not bench.descriptors.serve()
    os.eventfd_write(front_end.kicks[TX], 1)
    assert bench.descriptors.serve()
    assert not bench.descriptors.serve()
    os.eventfd_write(front_end.kicks[TX], 1)  # nobody read the first one
    assert bench.descriptors.serve()


def test_ring_asks_for_kicks_before_its_owner_sleeps(bench: BackEndBench, front_end: FrontEnd) -> None:
    front_end.up()
    tx = bench.net.sources[0].watched
    assert tx is not None
    tx.disarm()
    assert not front_end.send(frame(1))
    assert tx.arm()
    bench.turn()
    tx.arm()
    assert front_end.send(frame(2))


# Ring states


def test_calls_and_enables_before_anything_else_are_taken(bench: BackEndBench, front_end: FrontEnd) -> None:
    """QEMU sends them before SET_FEATURES, and again at each write of the status."""
    for _ in range(2):
        for index in (RX, TX):
            word = spec.U64.pack(value=index)
            front_end.say(Request.SET_VRING_CALL, word, [front_end.calls[index]])
            front_end.say(Request.SET_VRING_ERR, word, [front_end.errors[index]])
            front_end.say(Request.SET_VRING_ENABLE, state(index, 1))
    front_end.up()
    front_end.send(frame(1))
    bench.turn()
    assert front_end.received() == [frame(1)]


def test_frames_of_a_disabled_ring_are_dropped(bench: BackEndBench, front_end: FrontEnd) -> None:
    front_end.up()
    front_end.say(Request.SET_VRING_ENABLE, state(TX, 0))
    front_end.send(frame(1), frame(2))
    bench.turn()
    assert bench.count("dropped_disabled") == 2
    assert front_end.drivers[TX].reclaim() == SIZE
    front_end.say(Request.SET_VRING_ENABLE, state(TX, 1))
    front_end.send(frame(3))
    bench.turn()
    assert front_end.received() == [frame(3)]


def test_nothing_is_put_into_a_disabled_receive_ring(bench: BackEndBench, front_end: FrontEnd) -> None:
    front_end.up()
    front_end.say(Request.SET_VRING_ENABLE, state(RX, 0))
    assert not bench.net.receiving
    front_end.say(Request.SET_VRING_ENABLE, state(RX, 1))
    assert bench.net.receiving


def test_without_protocol_features_rings_start_enabled(bench: BackEndBench, front_end: FrontEnd) -> None:
    features = 1 << virtio.F_VERSION_1
    front_end.say(Request.SET_OWNER)
    front_end.say(Request.SET_FEATURES, spec.U64.pack(value=features))
    front_end.share()
    for index in (RX, TX):
        front_end.lay_out(index)
        front_end.say(Request.SET_VRING_NUM, state(index, SIZE))
        front_end.address(index)
        front_end.say(Request.SET_VRING_KICK, spec.U64.pack(value=index), [front_end.kicks[index]])
    front_end.drivers[RX].post_all()
    front_end.send(frame(1))
    bench.turn()
    assert front_end.received() == [frame(1)]


@pytest.mark.parametrize("features", [FEATURES, PACKED], ids=["split", "packed"])
def test_stopped_rings_go_on_where_they_stood(
    bench: BackEndBench, front_end: FrontEnd, features: int
) -> None:
    front_end.up(features)
    frames = [frame(i) for i in range(SIZE)]
    for i in range(3):
        front_end.send(*frames[: 3 + i])
        bench.turn()
        assert front_end.received() == frames[: 3 + i]
        bases = []
        for index in (RX, TX):
            told = front_end.ask(Request.GET_VRING_BASE, state(index, 0)).payload
            bases.append(spec.VRING_STATE.unpack(told)["num"])
        front_end.send(frame(99))
        bench.turn()
        assert front_end.received() == []  # stopped
        for index, base in enumerate(bases):
            front_end.announce(index, packed=features == PACKED, base=base)
        bench.turn()
        assert front_end.received() == [frame(99)]


def test_base_of_a_split_ring_is_the_index_and_of_a_packed_one_has_both_counters(
    make_bench: MakeBench,
) -> None:
    for features, expected in ((FEATURES, 3), (PACKED, 0x8003_8003)):
        bench = make_bench()
        front = FrontEnd(bench)
        front.up(features)
        front.send(frame(1), frame(2), frame(3))
        bench.turn()
        told = front.ask(Request.GET_VRING_BASE, state(TX, 0)).payload
        assert spec.VRING_STATE.unpack(told) == {"index": TX, "num": expected}
        front.close()


def test_a_packed_ring_starts_with_either_form_of_base(bench: BackEndBench, front_end: FrontEnd) -> None:
    """DPDK gives 0x8000, QEMU both wrap counters: 0x80008000."""
    front_end.negotiate(PACKED)
    front_end.share()
    front_end.ring(RX, PACKED, base=0x8000_8000)
    front_end.ring(TX, PACKED, base=0x8000)
    front_end.drivers[RX].post_all()
    front_end.send(frame(1))
    bench.turn()
    assert front_end.received() == [frame(1)]


def test_what_is_out_is_given_back_when_the_ring_stops(bench: BackEndBench, front_end: FrontEnd) -> None:
    """A receiver without buffers holds the sender's burst; GET_VRING_BASE may not leave it out."""
    front_end.negotiate()
    front_end.share()
    front_end.ring(RX)  # and posts nothing
    front_end.ring(TX)
    front_end.send(frame(1), frame(2))
    bench.turn()
    assert front_end.drivers[TX].reclaim() == SIZE - 2
    told = front_end.ask(Request.GET_VRING_BASE, state(TX, 0)).payload
    assert spec.VRING_STATE.unpack(told)["num"] == 2
    assert front_end.drivers[TX].reclaim() == SIZE


def test_reset_device_stops_every_ring(bench: BackEndBench, front_end: FrontEnd) -> None:
    front_end.up()
    front_end.say(Request.RESET_DEVICE)
    assert not bench.net.sources
    assert not bench.net.receiving
    front_end.ring(RX, base=0)
    front_end.ring(TX, base=0)
    assert bench.net.receiving


def test_two_pairs_share_the_frames(bench: BackEndBench, front_end: FrontEnd) -> None:
    features = FEATURES | 1 << net.F_MQ
    front_end.up(features)
    front_end.ring(2, features)
    front_end.ring(3, features)
    assert len(bench.net.sources) == 2
    assert len(bench.net.room) == 2
    front_end.say(Request.SET_VRING_ENABLE, state(2, 0))
    assert len(bench.net.room) == 1


# Memory


def test_regions_come_and_go_while_rings_run(bench: BackEndBench, front_end: FrontEnd) -> None:
    front_end.up()
    other, far = memory_file(), (GPA + 2 * MEMORY_BYTES, MEMORY_BYTES, UVA + 2 * MEMORY_BYTES)
    try:
        add = front_end.ask(Request.ADD_MEM_REG, single_region(*far), [other], need=True)
        remove = front_end.ask(Request.REM_MEM_REG, single_region(*far), need=True)
        again = front_end.ask(Request.REM_MEM_REG, single_region(*far), need=True)
    finally:
        os.close(other)
    assert (add.number, remove.number, again.number) == (0, 0, 1)
    front_end.send(frame(1))
    bench.turn()
    assert front_end.received() == [frame(1)]


def test_a_region_given_for_every_pair_of_queues_is_there_until_taken_away_for_every_one(
    bench: BackEndBench, front_end: FrontEnd
) -> None:
    front_end.up()
    other, far = memory_file(), (GPA + 2 * MEMORY_BYTES, MEMORY_BYTES, UVA + 2 * MEMORY_BYTES)
    where = single_region(*far)
    try:
        answers = [front_end.ask(Request.ADD_MEM_REG, where, [other], need=True) for _ in range(3)]
        answers += [front_end.ask(Request.REM_MEM_REG, where, need=True) for _ in range(4)]
    finally:
        os.close(other)
    assert [answer.number for answer in answers] == [0, 0, 0, 0, 0, 0, 1]
    front_end.send(frame(1))
    bench.turn()
    assert front_end.received() == [frame(1)]


def test_a_new_memory_table_leaves_rings_where_they_stood(bench: BackEndBench, front_end: FrontEnd) -> None:
    front_end.up()
    for content in range(SIZE):
        front_end.send(frame(content))
        bench.turn()
        front_end.share()
        assert front_end.received() == [frame(content)]


def test_a_region_may_begin_inside_its_file(bench: BackEndBench) -> None:
    descriptor = memory_file(MEMORY_BYTES + 3 * 4096)
    front = FrontEnd(bench)
    front.negotiate()
    table, descriptors = region_table((GPA, MEMORY_BYTES, UVA, 3 * 4096, descriptor))
    assert front.ask(Request.SET_MEM_TABLE, table, descriptors, need=True).number == 0
    front.close()
    os.close(descriptor)


# Dirty pages


@pytest.mark.parametrize("features", [FEATURES, PACKED], ids=["split", "packed"])
def test_every_page_that_is_written_is_logged(
    bench: BackEndBench, front_end: FrontEnd, features: int
) -> None:
    front_end.up(features)
    log = memory_file(4096)
    base = front_end.ask(Request.SET_LOG_BASE, spec.LOG.pack(size=4096), [log])
    assert base.number == 0
    front_end.say(Request.SET_FEATURES, spec.U64.pack(value=features | 1 << spec.F_LOG_ALL))
    for index in (RX, TX):
        front_end.address(index, packed=features == PACKED, flags=1)
    before = bytes(front_end.memory.bytes_view())
    front_end.send(frame(1), frame(2, 1500))
    sent = bytes(front_end.memory.bytes_view())
    bench.turn()
    after = bytes(front_end.memory.bytes_view())
    written = {
        (GPA + at) // 4096
        for at in range(0, MEMORY_BYTES, 4096)
        if sent[at : at + 4096] != after[at : at + 4096]
    }
    bits = int.from_bytes(os.pread(log, 4096, 0), "little")
    logged = {page for page in range(8 * 4096) if bits >> page & 1}
    os.close(log)
    assert before != sent
    assert written
    assert written <= logged
    assert len(logged) <= len(written) + 4  # and little besides


# One after another


def test_the_next_front_end_finds_everything_fresh(bench: BackEndBench) -> None:
    for features in (FEATURES, PACKED, FEATURES):
        front = FrontEnd(bench)
        front.up(features)
        front.send(frame(1))
        bench.turn()
        assert front.received() == [frame(1)]
        front.close()
        assert not bench.net.receiving
    assert bench.faults.reasons == []


@pytest.mark.parametrize("laps", [0, 1, 2, 3])
def test_a_packed_ring_that_was_cleared_meanwhile_begins_anew(make_bench: MakeBench, laps: int) -> None:
    """DPDK clears its packed rings when its back end comes back; QEMU leaves them, with the same base."""
    journal = Pinned(bytearray(4 * spec.RING_JOURNAL.size))
    dead = make_bench(journal)
    first = FrontEnd(dead)
    first.up(PACKED)
    for content in range(laps * SIZE + 3):
        first.send(frame(content))
        dead.turn()
        assert first.received() == [frame(content)]

    for cleared in (False, True):
        bench = make_bench(journal)
        again = FrontEnd(bench, first.descriptor)
        again.drivers = first.drivers
        if cleared:
            again.memory.bytes_view()[:] = bytes(MEMORY_BYTES)
            again.lay_out(RX, PACKED).post_all()
            again.lay_out(TX, PACKED)
        again.negotiate(PACKED)
        again.share()
        for index in (RX, TX):
            again.announce(index, packed=True, base=0x8000)
        for content in range(SIZE + 1):
            again.send(frame(content))
            bench.turn()
            assert again.received() == [frame(content)], cleared
        again.socket.detach()  # killed: no word of it reaches the other side
    first.close()


def test_a_front_end_that_gives_base_0_again_goes_on_at_its_used_index(bench: BackEndBench) -> None:
    """DPDK does when its back end comes back, with a split ring that has moved on."""
    first = FrontEnd(bench)
    first.up()
    first.send(frame(1), frame(2), frame(3))
    bench.turn()
    assert len(first.received()) == 3
    first.close()
    again = FrontEnd(bench, first.descriptor)
    again.drivers = first.drivers
    again.negotiate()
    again.share()
    for index in (RX, TX):
        again.announce(index, packed=False, base=0)
    again.send(frame(4))
    bench.turn()
    assert again.received() == [frame(4)]
    again.close()


@pytest.mark.parametrize("features", [FEATURES, PACKED], ids=["split", "packed"])
@pytest.mark.parametrize("given_by", ["front end", "launcher"])
def test_a_frame_that_may_have_been_passed_on_is_not_passed_on_again(
    make_bench: MakeBench, features: int, given_by: str
) -> None:
    """The back end is gone between a frame's way out and its buffer's way back."""
    journal = Pinned(bytearray(4 * spec.RING_JOURNAL.size)) if given_by == "launcher" else None
    dead = make_bench(journal)
    front = FrontEnd(dead)
    front.negotiate(features)
    inflight = None
    if given_by == "front end":
        asked = spec.INFLIGHT.pack(num_queues=4, queue_size=SIZE)
        told = front.ask(Request.GET_INFLIGHT_FD, asked)
        inflight = (told.payload, told.descriptors)
    front.share()
    front.ring(RX, features)
    front.ring(TX, features)
    front.drivers[RX].post_all()
    front.send(frame(1))
    dead.turn()
    front.send(frame(2), frame(3))
    dead.net.sources[0].fetch(Burst(), 256)  # and no more is heard of it

    bench = make_bench(journal)
    early = FrontEnd(bench)  # a connection that ends before it starts a ring tells nothing of the rings
    early.negotiate(features)
    early.close()
    again = FrontEnd(bench, front.descriptor)
    again.drivers = front.drivers
    again.negotiate(features)
    if inflight is not None:
        again.say(Request.SET_INFLIGHT_FD, *inflight)
    again.share()
    base = 0x8000 if features == PACKED else 0
    for index in (RX, TX):
        again.announce(index, packed=features == PACKED, base=base)
    again.send(frame(4))
    bench.turn()
    assert again.received() == [frame(1), frame(4)]
    assert again.drivers[TX].reclaim() == SIZE
    assert bench.faults.reasons == []
    again.close()
    front.close()
