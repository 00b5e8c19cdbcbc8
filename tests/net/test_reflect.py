"""Sink and echo over real rings: every frame once and in order, whatever happens between."""

import pytest

from testbed.guest.workloads.frames import headers
from testbed.messages.entries import FlowEntry
from testbed.native import Burst, FlowSink, FlowSource
from testbed.net.reflect import Echo, Sink
from testbed.spec.flow import MAGIC_DATA
from tests.net.ring_port import QUEUE_SIZE, RingPort, frame, mac
from tests.support.recorders import ManualClock
from tests.support.ring_model import ModelNetDriver

RECEIVE_SIZE = 2


def frames_of(port: RingPort, first: int, count: int) -> list[bytes]:
    return [frame(port.mac, port.mac, first + n) for n in range(count)]


def sink(port: RingPort, clock: ManualClock | None = None) -> Sink:
    made = Sink(port, port.counters, 0, clock or ManualClock())
    made.refresh()
    return made


def echo(port: RingPort) -> Echo:
    made = Echo(port, port.counters, 0)
    made.refresh()
    return made


def run_all(back_end: Sink | Echo) -> bool:
    """Do what the loop would: every active ring that has something."""
    moved = [action() for ring, action in tuple(back_end.work()) if ring.active and ring.ready]
    return any(moved)


def flow_frames(flow_id: int, count: int) -> list[bytes]:
    """Frames of a flow as a sender makes them."""
    entry = FlowEntry(
        id=flow_id, name="f", kind="pktgen", source="a", destination="b", frame_bytes=(60,),
        source_mac="02:00:00:00:00:01", destination_mac="02:00:00:00:00:02",
    )  # fmt: skip
    source = FlowSource(flow_id, MAGIC_DATA, (60,), [headers(entry, 60)])
    driver = RingPort(1).sender.side
    assert not isinstance(driver, ModelNetDriver)
    burst = Burst()
    made: list[bytes] = []
    while len(made) < count:
        driver.reserve(burst, 1)
        source.fill(burst)
        made.append(burst.frame_bytes(0))
        driver.release(burst, 0)
    return made


def test_a_sink_takes_and_gives_the_buffers_back() -> None:
    port, clock = RingPort(1), ManualClock()
    back_end = sink(port, clock)
    for round_number in range(3):
        port.sender.reclaim()
        assert port.send(*frames_of(port, 0, QUEUE_SIZE)) == QUEUE_SIZE
        clock.advance(10)
        assert run_all(back_end)
        assert back_end.frames == (round_number + 1) * QUEUE_SIZE

    assert not run_all(back_end)
    assert back_end.byte_count == 3 * QUEUE_SIZE * 60
    assert back_end.arrived_ns - back_end.first_ns == 20
    back_end.restart()
    assert (back_end.first_ns, back_end.arrived_ns) == (0, 0)


def test_a_sink_checks_the_flows_it_expects() -> None:
    port = RingPort(1)
    back_end = sink(port)
    flow = FlowSink(7, MAGIC_DATA)
    back_end.expect(flow)
    good = flow_frames(7, 4)
    torn = good[1][:50] + bytes([good[1][50] ^ 1]) + good[1][51:]
    port.send(good[0], torn, good[3], good[2], b"\0" * 60)
    run_all(back_end)

    assert (flow.received, flow.corrupted, flow.reordered) == (3, 1, 1)
    assert back_end.frames == 5
    back_end.forget(flow)
    port.sender.reclaim()
    port.send(good[0])
    run_all(back_end)
    assert flow.received == 3


def test_a_sink_drops_what_is_no_frame() -> None:
    port = RingPort(1)
    back_end = sink(port)
    port.send(b"short", *frames_of(port, 0, 2))
    run_all(back_end)

    assert (back_end.frames, port.counter("dropped_too_short"), port.completed) == (2, 1, 3)


def test_an_echo_returns_every_frame_in_order() -> None:
    port = RingPort(1)
    back_end = echo(port)
    sent = frames_of(port, 0, 5)
    port.send(*sent)
    run_all(back_end)

    assert port.take() == sent
    assert port.completed == 5


def test_an_echo_without_room_waits_and_looks_at_the_receive_ring_only() -> None:
    port = RingPort(1, RECEIVE_SIZE)
    back_end = echo(port)
    sent = frames_of(port, 0, 5)
    port.send(*sent)
    assert run_all(back_end)
    assert (port.queue.active, port.receive.active, port.completed) == (False, True, 0)
    assert not run_all(back_end)

    came = port.take()
    while run_all(back_end):
        came += port.take()
    assert came == sent
    assert (port.queue.active, port.receive.active, port.completed) == (True, False, 5)


def test_an_echo_whose_device_breaks_drops_its_burst_and_never_completes_it() -> None:
    port = RingPort(1, RECEIVE_SIZE)
    back_end = echo(port)
    port.send(*frames_of(port, 0, 5))
    run_all(back_end)
    waiting = [action for _, action in back_end.work()]
    port.fail()
    back_end.refresh()

    assert port.dropped == {"device_broken": 3}
    assert not any(action() for action in waiting)
    assert port.completed == 0


def test_an_echo_that_breaks_within_delivery_stops_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RingPort, "native", False)
    port = RingPort(1)
    back_end = echo(port)

    def break_down() -> None:
        port.fail()
        back_end.refresh()

    port.on_deliver = break_down
    port.send(*frames_of(port, 0, 3))
    assert run_all(back_end)

    assert port.completed == 0
    assert list(back_end.work()) == []


@pytest.mark.parametrize("make", [sink, echo])
def test_a_closed_back_end_does_nothing(make: object) -> None:
    port = RingPort(1)
    back_end = sink(port) if make is sink else echo(port)
    actions = [action for _, action in back_end.work()]
    back_end.close()
    port.send(*frames_of(port, 0, 2))

    assert not any(action() for action in actions)
    assert port.completed == 0


@pytest.fixture(autouse=True, params=[False, True], ids=["stepped", "native"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test twice: ports that are asked for each burst, and ports whose rings are moved natively."""
    monkeypatch.setattr(RingPort, "native", request.param)


def test_addresses_are_kept() -> None:
    port = RingPort(1)
    back_end = echo(port)
    port.send(frame(mac(9), mac(8)))
    run_all(back_end)

    assert port.take() == [frame(mac(9), mac(8))]
