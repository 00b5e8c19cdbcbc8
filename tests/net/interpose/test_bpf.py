"""The native BPF machine against the model: what it refuses, and what any program it accepts returns."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.native import BpfProgram, FrameStore
from tests.support import bpf_model

Instruction = tuple[int, int, int, int]
RETURN_1: Instruction = (0x06, 0, 0, 1)

LOADS = (0x00, 0x80, 0x01, 0x81, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xB1)
MEMORY = (0x60, 0x61, 0x02, 0x03)
ALU = tuple(4 | operation | source for operation in range(0, 0xB0, 0x10) for source in (0, 8))
JUMPS = tuple(5 | operation | source for operation in (0x10, 0x20, 0x30, 0x40) for source in (0, 8))
WORDS = st.one_of(st.integers(0, 80), st.integers(0, 0xFFFF_FFFF))


def instruction(left: int) -> st.SearchStrategy[Instruction]:
    """An instruction that may be run with `left` more behind it."""
    shifts = (0x64, 0x74, 0x34, 0x94)
    zero = st.just(0)
    ahead = st.integers(0, min(left - 1, 255))
    return st.one_of(
        st.tuples(st.sampled_from(LOADS), zero, zero, WORDS),
        st.tuples(st.sampled_from(MEMORY), zero, zero, st.integers(0, 15)),
        st.tuples(st.sampled_from([c for c in ALU if c not in (*shifts, 0x8C)]), zero, zero, WORDS),
        st.tuples(st.sampled_from(shifts), zero, zero, st.integers(1, 31)),
        st.tuples(st.sampled_from(JUMPS), ahead, ahead, WORDS),
        st.tuples(st.just(0x05), zero, zero, ahead),
        st.tuples(st.sampled_from((0x07, 0x87)), zero, zero, zero),
        st.tuples(st.sampled_from((0x06, 0x16)), zero, zero, WORDS),
    )


@st.composite
def programs(draw: st.DrawFn) -> list[Instruction]:
    length = draw(st.integers(1, 24))
    body = [draw(instruction(length - i)) for i in range(length)]
    return [*body, draw(st.sampled_from((RETURN_1, (0x16, 0, 0, 0))))]


def burst_of(*frames: bytes) -> FrameStore:
    store = FrameStore()
    store.load(frames)
    return store


@settings(max_examples=400, deadline=None)
@given(programs(), st.binary(max_size=80))
def test_bpf_any_accepted_program_returns_what_the_model_returns(
    program: list[Instruction], frame: bytes
) -> None:
    assert BpfProgram(program).run(burst_of(frame), 0) == bpf_model.run(program, frame)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF), st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFF_FFFF)
        ),
        min_size=1,
        max_size=12,
    ),
    st.binary(max_size=64),
)
def test_bpf_any_instructions_are_refused_or_end(program: list[Instruction], frame: bytes) -> None:
    try:
        checked = BpfProgram([*program, RETURN_1])
    except ValueError:
        return
    assert checked.run(burst_of(frame), 0) == bpf_model.run([*program, RETURN_1], frame)


@pytest.mark.parametrize(
    "program",
    [
        [(0x05, 0, 0, 1), RETURN_1],
        [(0x05, 0, 0, 0xFFFF_FFFF), RETURN_1],
        [(0x15, 1, 0, 0), RETURN_1],
        [(0x15, 0, 1, 0), RETURN_1],
        [(0x60, 0, 0, 16), RETURN_1],
        [(0x02, 0, 0, 16), RETURN_1],
        [(0x34, 0, 0, 0), RETURN_1],
        [(0x94, 0, 0, 0), RETURN_1],
        [(0x64, 0, 0, 32), RETURN_1],
        [(0x18, 0, 0, 0), RETURN_1],
        [(0x21, 0, 0, 0), RETURN_1],
        [(0x100, 0, 0, 0), RETURN_1],
        [(0x00, 0, 0, 0)],
    ],
)
def test_bpf_refuses_what_could_loop_read_outside_or_never_end(program: list[Instruction]) -> None:
    with pytest.raises(ValueError, match="instruction 0 of"):
        BpfProgram(program)


def test_bpf_refuses_no_program_and_one_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="1 to 4096"):
        BpfProgram([])
    with pytest.raises(ValueError, match="1 to 4096"):
        BpfProgram([RETURN_1] * 4097)


def test_bpf_removes_matching_or_other_frames_that_are_present() -> None:
    longer_than_60 = BpfProgram([(0x80, 0, 0, 0), (0x25, 0, 1, 60), RETURN_1, (0x06, 0, 0, 0)])
    burst = burst_of(bytes(60), bytes(61), bytes(62))
    assert longer_than_60.remove(burst, matching=True) == 2
    assert burst.present() == [0]
    assert longer_than_60.remove(burst, matching=False) == 1
    assert (burst.present(), burst.removed) == ([], 3)
