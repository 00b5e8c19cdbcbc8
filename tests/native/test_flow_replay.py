"""A replayed capture: each frame is found again by its digest, also where frames are alike and the capture is
looped.
"""

import random
from collections.abc import Sequence

import pytest

from testbed.native import FlowSink, Inspector
from tests.support.transit import SOURCE_MAC, Mischief, Slots, captured, counts, inspect, replay, replay_sink


def test_replay_sends_the_capture_again_and_again() -> None:
    frames = captured(random.Random(1), 10)
    source = replay(frames)
    assert Slots().frames(source, 35) == (frames * 4)[:35]
    assert source.sequence == 35


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.95])
@pytest.mark.parametrize("loops", [1, 3])
def test_untouched_replay_is_sound(alike: float, loops: int) -> None:
    frames = captured(random.Random(3), 400, alike)
    inspector, sink = replay_sink(frames, loops)
    assert inspect(inspector, frames * loops) == [400 * loops, 0, 0, 0]
    assert counts(sink) == (400 * loops, 0, 0, 0)


def test_every_kind_of_mischief_on_a_replay_is_counted_exactly() -> None:
    """Frames of one flow, none like another: all is known of each."""
    for seed in range(60):
        rng = random.Random(seed)
        frames = captured(rng, rng.choice((30, 300)))
        mischief = Mischief(rng, frames)
        for act in rng.sample((mischief.lose, mischief.double, mischief.shuffle), rng.randint(1, 3)):
            act()
        inspector, sink = replay_sink(one_flow(frames))
        inspect(inspector, [one_flow(frames)[n] for n in mischief.order])
        assert counts(sink) == mischief.expected(), f"seed {seed}"


def one_flow(frames: Sequence[bytes]) -> list[bytes]:
    """Return the frames with one and the same EtherType: they hash alike, so all are held to one order."""
    return [frame[:12] + b"\x88\xb5" + frame[14:] for frame in frames]


def test_corrupted_replayed_frame_is_counted() -> None:
    frames = captured(random.Random(5), 50)
    inspector, sink = replay_sink(frames)
    frames[7] = frames[7][:-1] + bytes((frames[7][-1] ^ 1,))
    inspect(inspector, frames)
    assert counts(sink) == (49, 0, 0, 1)


@pytest.mark.parametrize("loops", [1, 2, 5])
@pytest.mark.parametrize("distance", [1, 2, 7])
def test_one_late_frame_of_a_replay_is_one_however_often_it_is_looped(loops: int, distance: int) -> None:
    """The same frame comes again a loop later: it must not be taken for that one."""
    frames = one_flow(captured(random.Random(7), 200))
    sent = frames * loops
    sent.insert(100 + distance, sent.pop(100))
    inspector, sink = replay_sink(frames, loops)
    inspect(inspector, sent)
    assert counts(sink) == (200 * loops, 1, 0, 0)


@pytest.mark.parametrize("loops", [1, 2, 5])
def test_one_double_frame_of_a_replay_is_one_however_often_it_is_looped(loops: int) -> None:
    frames = one_flow(captured(random.Random(8), 200))
    sent = frames * loops
    sent.insert(103, sent[100])
    inspector, sink = replay_sink(frames, loops)
    inspect(inspector, sent)
    assert counts(sink) == (200 * loops, 0, 1, 0)


@pytest.mark.parametrize("lost", [1, 10, 90])
@pytest.mark.parametrize("loops", [1, 3])
def test_burst_of_loss_in_a_replay_is_loss_alone(lost: int, loops: int) -> None:
    frames = one_flow(captured(random.Random(9), 200))
    sent = frames * loops
    del sent[50 : 50 + lost]
    inspector, sink = replay_sink(frames, loops)
    inspect(inspector, sent)
    assert counts(sink) == (200 * loops - lost, 0, 0, 0)


def test_late_frame_is_not_taken_for_a_later_one_like_it() -> None:
    frames = one_flow(captured(random.Random(10), 300))
    frames[250] = frames[20]
    sent = list(frames)
    sent.insert(23, sent.pop(20))
    inspector, sink = replay_sink(frames)
    inspect(inspector, sent)
    assert counts(sink) == (300, 1, 0, 0)


def test_loss_among_frames_that_are_alike_is_counted_exactly() -> None:
    """Which of several equal frames was lost cannot be told, how many can."""
    for seed in range(40):
        rng = random.Random(seed)
        frames = one_flow(captured(rng, 200, 0.5))
        kept = [f for f in frames if rng.random() > 0.1]
        inspector, sink = replay_sink(frames)
        inspect(inspector, kept)
        assert sink.received + sink.duplicated == len(kept), f"seed {seed}"
        assert sink.corrupted == 0


def test_replay_without_digests_or_source_is_refused() -> None:
    with pytest.raises(ValueError, match="digests of 4 bytes"):
        FlowSink(1, 0, digests=b"", total=1, source_mac=SOURCE_MAC)
    with pytest.raises(ValueError, match="source address of 6"):
        FlowSink(1, 0, digests=bytes(4), total=1)


def test_replays_beyond_their_number_are_refused() -> None:
    inspector = Inspector()
    sinks = [
        FlowSink(i, 0, digests=bytes(4), total=1, source_mac=bytes((2, 0, 0, 0, 0, i))) for i in range(65)
    ]
    for sink in sinks[:64]:
        inspector.add(sink)
    with pytest.raises(ValueError, match="at most 64 replays"):
        inspector.add(sinks[64])
    inspector.remove(sinks[0])
    inspector.add(sinks[64])


@pytest.mark.parametrize("twin", [400, 3900])
def test_flows_that_overtake_each_other_are_sound_although_frames_are_alike(twin: int) -> None:
    frames = captured(random.Random(11), 4000)
    frames[twin] = frames[5]
    one, other = ([frame for frame in frames if frame[20] % 2 == side] for side in (0, 1))
    sent = one[:300] + other[:900] + one[300:] + other[900:]
    inspector, sink = replay_sink(frames)
    inspect(inspector, sent)
    assert (sink.received, sink.duplicated, sink.corrupted) == (4000, 0, 0)
