"""The account of a flow is exact, and the exit code follows from what happened."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.result import (
    INTERRUPTED,
    AttackResult,
    Died,
    FlowResult,
    OtherFlow,
    ProcessResult,
    Result,
    exit_code,
    failed_flow,
    flow_result,
    machine,
)
from testbed.messages.control import Received, Sent
from testbed.messages.entries import FlowEntry
from tests.support.plans import flow

DIED = Died(name="a", role="guest", pid=1, signal="SIGKILL")
COUNTS = st.integers(0, 10**12)


def _received(received: int = 90, corrupted: int = 0, **others: int) -> Received:
    counts = {"reordered": 0, "duplicated": 0, **others}
    return Received(
        flow_id=1, received=received, corrupted=corrupted, bytes=received * 60, seconds=2.0, **counts
    )


def _sent(sent: int = 100, answered: int = 0, latency_ns: dict[str, int] | None = None) -> Sent:
    return Sent(flow_id=1, sent=sent, answered=answered, seconds=4.0, latency_ns=latency_ns)


def _account(received: Received, entry: FlowEntry | None = None) -> FlowResult:
    return flow_result(entry or flow(1, "a", "b"), 1, _sent(), received)


def test_what_did_not_arrive_is_lost() -> None:
    assert _account(_received(90)).lost == 10


def test_what_arrived_corrupted_is_not_lost() -> None:
    account = _account(_received(90, corrupted=4))

    assert (account.lost, account.corrupted) == (6, 4)


def test_a_duplicate_does_not_make_a_loss_negative() -> None:
    account = _account(_received(105, duplicated=5))

    assert (account.lost, account.duplicated, account.good) == (0, 5, False)


@given(sent=COUNTS, received=COUNTS, corrupted=COUNTS)
def test_loss_is_never_negative_and_accounts_for_every_frame(
    sent: int, received: int, corrupted: int
) -> None:
    account = flow_result(flow(1, "a", "b"), 1, _sent(sent), _received(received, corrupted))

    assert account.lost >= 0
    assert account.lost + received + corrupted >= sent


@pytest.mark.parametrize("wrong", ["reordered", "duplicated"])
def test_a_flow_with_anything_wrong_is_not_good(wrong: str) -> None:
    assert not _account(_received(100, **{wrong: 1})).good
    assert _account(_received(100)).good


def test_rates_are_those_of_the_receiver() -> None:
    account = _account(_received(90))

    assert (account.frames_per_second, account.bits_per_second) == (45.0, 90 * 60 * 8 / 2)


def test_a_flow_of_one_frame_has_no_rate() -> None:
    entry = flow(1, "a", "b")
    one = Received(flow_id=1, received=1, reordered=0, corrupted=0, duplicated=0, bytes=60, seconds=0.0)

    assert flow_result(entry, 1, _sent(1), one).frames_per_second == 0.0


def test_request_response_counts_answers_and_the_senders_time() -> None:
    sent = _sent(100, answered=98, latency_ns={"p50": 20_500, "p99": 31_000})
    account = flow_result(flow(1, "a", "b", "rr"), 1, sent, _received(100))

    assert (account.sent, account.received, account.lost) == (100, 98, 2)
    assert account.frames_per_second == 98 / 4
    assert account.latency_us == {"p50": 20.5, "p99": 31.0}


def test_frame_size_is_the_mean_of_what_arrived() -> None:
    mixed = Received(flow_id=1, received=3, reordered=0, corrupted=0, duplicated=0, bytes=1000, seconds=1.0)

    assert flow_result(flow(1, "a", "b"), 1, _sent(3), mixed).frame_bytes == 333.3
    assert _account(_received(90)).frame_bytes == 60


def test_a_failed_flow_says_what_was_sent_before() -> None:
    account = failed_flow(flow(1, "a", "b"), 2, "b killed by SIGKILL", _sent(70))

    assert (account.sent, account.phase, account.good, account.frame_bytes) == (70, 2, False, 60)


GOOD = _account(_received(100))
LOSSY = _account(_received(99))
ENDED = failed_flow(flow(1, "a", "b"), 1, INTERRUPTED)


@pytest.mark.parametrize(
    ("flows", "died", "error", "ended_by", "code"),
    [
        ([], [], False, 0, 0),
        ([GOOD, GOOD], [], False, 0, 0),
        ([GOOD, LOSSY], [], False, 0, 1),
        ([ENDED], [], False, 0, 0),
        ([LOSSY], [DIED], False, 0, 3),
        ([], [], True, 0, 3),
        ([LOSSY], [DIED], False, 2, 130),
        ([GOOD], [], False, 15, 143),
    ],
)
def test_exit_code(flows: list[FlowResult], died: list[Died], error: bool, ended_by: int, code: int) -> None:
    assert exit_code(flows, died, error=error, ended_by=ended_by) == code


@pytest.mark.parametrize(
    ("died", "how"),
    [
        (DIED, "killed by SIGKILL"),
        (Died(name="a", role="guest", pid=1, code=5), "exited with code 5"),
        (Died(name="a", role="guest", pid=1, code=5, reason="no RAM"), "exited with code 5: no RAM"),
    ],
)
def test_how_a_process_died_is_a_phrase(died: Died, how: str) -> None:
    assert died.how == how


def test_json_has_the_names_of_the_schema() -> None:
    process = ProcessResult(name="a", role="guest", pid=1, cpu_seconds=0.5, pss_bytes=4096)
    result = Result(
        topology="t", seconds=1.0, exit_code=0, flows=(GOOD,), processes=(process,), machine=machine()
    )
    written = msgspec.json.decode(msgspec.json.encode(result))

    assert {"schema", "topology", "seconds", "flows", "processes", "counters", "machine"} <= set(written)
    assert written["schema"] == 1
    assert {"name", "role", "pid", "cpu_seconds", "pss_bytes"} == set(written["processes"][0])
    assert {
        "name", "kind", "from", "to", "frame_bytes", "sent", "received", "lost", "reordered", "corrupted",
        "frames_per_second", "bits_per_second", "latency_us",
    } <= set(written["flows"][0])  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


def _attack(**members: object) -> AttackResult:
    given: dict[str, object] = {"attempts": 10, "noticed": True, **members}
    return AttackResult(name="dma-vmm m", attack="dma-vmm", phase=1, source="m", function="nic0.vf0", **given)  # type: ignore[arg-type]


def _other(kept: float) -> OtherFlow:
    return OtherFlow(
        name="a->b",
        frames_per_second=kept,
        harmless_frames_per_second=1.0,
        quiet_frames_per_second=1.0,
        kept=kept,
    )


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ({}, ""),
        ({"attempts": 0}, "nothing was attempted"),
        ({"noticed": False}, "nothing noticed 10 attempts"),
        ({"through": 3, "noticed": False}, "3 attempts of 10 got through"),
        ({"recovered": False}, "the function does not come up again"),
        ({"failed": "nic0 killed by SIGKILL", "through": 1}, "nic0 killed by SIGKILL"),
        ({"others": (_other(0.4),)}, ""),
        ({"others": (_other(0.5),), "others_keep": 0.5}, ""),
        ({"others_keep": 0.5}, "no flow was measured beside it, so nobody knows what others kept"),
        (
            {"others": (_other(0.4),), "others_keep": 0.5},
            "others keep less than 50% of their throughput: a->b 40%",
        ),
    ],
)
def test_an_attack_is_good_where_it_was_noticed_and_came_to_nothing(
    members: dict[str, object], wrong: str
) -> None:
    attack = _attack(**members)
    assert (attack.wrong, attack.good) == (wrong, not wrong)
    assert exit_code([], [], error=False, attacks=[attack]) == bool(wrong)


def test_an_attack_that_a_person_ended_has_not_failed() -> None:
    assert exit_code([], [], error=False, attacks=[_attack(failed=INTERRUPTED)]) == 0
