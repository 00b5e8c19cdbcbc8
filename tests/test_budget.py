"""The bucket of tokens against a plain account: what was granted, what is owed, when there is more."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from testbed.budget import TokenBucket

BURSTS = st.integers(1, 50)
TOKEN_NS = st.integers(1, 1000)
STEPS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40)), max_size=40)
"""Nanoseconds that pass, and tokens that are then spent."""
BEGIN_NS = 10**12


class Account:
    """The same kept exactly: a level that rises with time up to the burst."""

    def __init__(self, burst: int, token_ns: int) -> None:
        self.burst, self.token_ns, self.level, self.at_ns = burst, token_ns, Fraction(burst), BEGIN_NS

    def spend(self, tokens: int, now_ns: int) -> None:
        gained = Fraction(now_ns - self.at_ns, self.token_ns)
        self.level, self.at_ns = min(Fraction(self.burst), self.level + gained) - tokens, now_ns


@given(BURSTS, TOKEN_NS, STEPS)
def test_bucket_has_the_whole_tokens_of_an_exact_account(
    burst: int, token_ns: int, steps: list[tuple[int, int]]
) -> None:
    bucket, account, now_ns = TokenBucket(burst, token_ns), Account(burst, token_ns), BEGIN_NS
    bucket.spend(0, now_ns)
    for passed_ns, tokens in steps:
        now_ns += passed_ns
        account.spend(tokens, now_ns)
        bucket.spend(tokens, now_ns)
        # a full bucket forgets the part of a token that it had gained
        assert account.level - 1 < bucket.available(now_ns) <= account.level


@given(BURSTS, TOKEN_NS, STEPS)
def test_who_spends_only_what_is_there_gets_no_more_than_burst_and_time_give(
    burst: int, token_ns: int, steps: list[tuple[int, int]]
) -> None:
    bucket, now_ns, granted = TokenBucket(burst, token_ns), BEGIN_NS, 0
    for passed_ns, wanted in steps:
        now_ns += passed_ns
        tokens = min(wanted, bucket.available(now_ns))
        assert tokens >= 0
        bucket.spend(tokens, now_ns)
        granted += tokens
        assert granted <= burst + (now_ns - BEGIN_NS) // token_ns


@given(BURSTS, TOKEN_NS, st.integers(0, 200), st.integers(1, 60), st.integers(0, 5000))
def test_tokens_are_there_when_it_was_said_and_not_a_nanosecond_before(
    burst: int, token_ns: int, spent: int, wanted: int, passed_ns: int
) -> None:
    bucket, enough = TokenBucket(burst, token_ns), min(wanted, burst)
    bucket.spend(spent, BEGIN_NS)
    left = bucket.available(BEGIN_NS + passed_ns)
    due_ns = bucket.due_ns(wanted)
    assert (due_ns is None) == (left >= enough)
    if due_ns is not None:
        assert due_ns > BEGIN_NS + passed_ns
        assert bucket.available(due_ns - 1) == enough - 1
        assert bucket.available(due_ns) == enough
        assert bucket.due_ns(wanted) is None


def test_a_debt_is_paid_first() -> None:
    bucket = TokenBucket(4, 100)
    bucket.spend(10, BEGIN_NS)
    assert bucket.available(BEGIN_NS + 699) == 0
    assert bucket.due_ns() == BEGIN_NS + 700
    assert bucket.available(BEGIN_NS + 700) == 1
    assert bucket.available(BEGIN_NS + 10**9) == 4
