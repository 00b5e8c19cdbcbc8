"""A bucket of tokens that fills with time: how much of what is dear for others somebody may have done.

Reference: RFC 2697 §3 (a bucket of committed burst size), one colour. What a token stands for is the
spender's: a request that is refused, an access, a nanosecond of work. Whoever finds none waits, and nobody
else does. Not modelled: rates above one token a nanosecond.
"""


class TokenBucket:
    """Holds at most `burst` tokens, full to begin with, and gets one more after each `token_ns`.

    More may be spent than there is, for what something takes is often known only afterwards: the debt is
    paid before there are tokens again.
    """

    __slots__ = ("_filled_ns", "_left", "burst", "token_ns")

    def __init__(self, burst: int, token_ns: int) -> None:
        assert min(burst, token_ns) > 0, f"a bucket of {burst} tokens, one each {token_ns} ns"
        self.burst, self.token_ns = burst, token_ns
        self._left, self._filled_ns = burst, 0

    def available(self, now_ns: int) -> int:
        """Return how many tokens there are; negative: so many are owed."""
        gained = (now_ns - self._filled_ns) // self.token_ns
        if self._left + gained >= self.burst:
            self._left, self._filled_ns = self.burst, now_ns
        elif gained > 0:
            self._left, self._filled_ns = self._left + gained, self._filled_ns + gained * self.token_ns
        return self._left

    def spend(self, tokens: int, now_ns: int) -> None:
        """Take tokens, whether there are so many or not."""
        self.available(now_ns)
        self._left -= tokens

    def due_ns(self, wanted: int = 1) -> int | None:
        """Return when there will be `wanted` tokens (no more than `burst`); None: there were when it was last
        looked at.
        """
        missing = min(wanted, self.burst) - self._left
        return self._filled_ns + missing * self.token_ns if missing > 0 else None
