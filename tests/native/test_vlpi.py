"""Virtual LPIs between whoever makes them pending and whoever schedules the vPE: never lost, never doubled.

Poster and scheduler are two processes, as in the testbed.
"""

import mmap
from functools import partial
from typing import Final

import pytest

from testbed.native import (
    POST_ABSENT,
    POST_DELIVERED,
    POST_MISS,
    POST_WAKE,
    ItsCache,
    LpiPort,
    Pinned,
    SharedWords,
    VpePort,
)
from testbed.spec import lpi
from testbed.spec.vcpu_page import VCPU_PAGE
from tests.support.beside import beside

ROUNDS: Final = 100_000
ALL: Final = (1 << 64) - 1


class Bench:
    """A page, a table and two ports to them: the poster's and the scheduler's."""

    def __init__(self, memory: memoryview | None = None) -> None:
        memory = memory or memoryview(bytearray(2 * VCPU_PAGE.size))
        self.page, self.table = Pinned(memory[: VCPU_PAGE.size]), Pinned(memory[VCPU_PAGE.size :])
        self.words = SharedWords(self.page)
        self.poster, self.scheduler = VpePort(self.page, self.table), VpePort(self.page, self.table)

    def in_page(self) -> int:
        return self.words.load64(VCPU_PAGE.offset("vlpi_pending"))

    def take_word(self) -> int:
        return self.words.clear_bits64(VCPU_PAGE.offset("vlpi_pending"), ALL)

    def arm(self) -> None:
        self.words.store32(VCPU_PAGE.offset("to_vcpu_armed"), 1)


def test_post_goes_where_the_vpe_is() -> None:
    bench = Bench()
    assert bench.poster.post(3) == POST_ABSENT
    assert (bench.in_page(), SharedWords(bench.table).load64(0)) == (0, 8)
    assert not bench.scheduler.enter(0)
    assert (bench.in_page(), SharedWords(bench.table).load64(0)) == (8, 0)
    assert bench.poster.post(4) == POST_DELIVERED
    bench.arm()
    assert bench.poster.post(4) == POST_DELIVERED
    assert bench.poster.post(5) == POST_WAKE
    assert bench.poster.post(6) == POST_DELIVERED
    assert bench.scheduler.leave()
    assert (bench.in_page(), SharedWords(bench.table).load64(0)) == (0, 0x78)
    assert all(bench.poster.take(n) for n in (3, 4, 5, 6))
    assert not bench.poster.take(3)
    assert not bench.scheduler.leave()


def test_enter_wakes_a_sleeper_only_where_something_is_pending() -> None:
    bench = Bench()
    bench.arm()
    assert not bench.scheduler.enter(0)
    bench.scheduler.leave()
    bench.poster.post(lpi.VLPIS - 1)
    assert bench.scheduler.enter(0)
    bench.scheduler.leave()
    bench.arm()
    assert bench.scheduler.enter(0)


@pytest.mark.parametrize("n", [lpi.VLPIS, 0xFFFF_FFFF])
def test_number_out_of_range_is_refused(n: int) -> None:
    bench = Bench()
    for operation in (bench.poster.post, bench.poster.take, bench.poster.is_pending):
        with pytest.raises(ValueError, match="no number"):
            operation(n)
    with pytest.raises(ValueError, match="no number"):
        ItsCache().fill_virtual(0, 0, 0, n, bench.poster, 0)


def test_short_page_or_table_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        VpePort(Pinned(bytearray(4095)), Pinned(bytearray(lpi.VLPI_WORDS * 8)))
    with pytest.raises(ValueError, match="do not fit"):
        VpePort(Pinned(bytearray(4096)), Pinned(bytearray(lpi.VLPI_WORDS * 8 - 1)))
    with pytest.raises(ValueError, match="do not fit"):
        LpiPort(Pinned(bytearray(64)))


def test_nothing_is_lost_or_doubled_while_the_vpe_comes_and_goes() -> None:
    """Each number is posted again only once it was taken: every post is one take."""
    shared = mmap.mmap(-1, 3 * 4096)
    bench = Bench(memoryview(shared)[: 2 * 4096])
    stop = SharedWords(Pinned(memoryview(shared)[2 * 4096 :]))
    posted, taken = [0] * 64, [0] * 64

    def schedule() -> None:
        while not stop.load32(0):
            bench.scheduler.enter(0)
            bench.scheduler.leave()
        bench.scheduler.enter(0)

    def take() -> None:
        word = bench.take_word()
        for n in range(64):
            taken[n] += word >> n & 1

    with beside(schedule):
        for i in range(ROUNDS):
            n = i % 64
            if posted[n] == taken[n]:
                posted[n] += 1
                bench.poster.post(n)
            take()
        stop.store32(0, 1)
    take()

    assert taken == posted
    assert sum(posted) > ROUNDS // 64


def test_what_is_taken_back_while_the_vpe_comes_and_goes_is_pending_nowhere() -> None:
    shared = mmap.mmap(-1, 3 * 4096)
    bench = Bench(memoryview(shared)[: 2 * 4096])
    stop = SharedWords(Pinned(memoryview(shared)[2 * 4096 :]))

    def schedule() -> None:
        while not stop.load32(0):
            bench.scheduler.enter(0)
            bench.scheduler.leave()

    with beside(schedule):
        refused = sum(not (bench.poster.post(1) < 3 and bench.poster.take(1)) for _ in range(ROUNDS))
        stop.store32(0, 1)

    assert refused == 0
    assert not bench.poster.is_pending(1)


@pytest.mark.parametrize("word", ["vlpi_moves_begun", "vlpi_moves_done"])
def test_counts_that_a_guest_has_scribbled_on_hold_nobody_up_for_long(word: str) -> None:
    bench = Bench()
    bench.words.store32(VCPU_PAGE.offset(word), 7)
    for _ in range(300):
        bench.poster.post(3)
        assert bench.poster.take(3)
        assert not bench.poster.take(3)
    bench.scheduler.enter(0)
    bench.poster.post(5)
    assert bench.scheduler.leave()
    assert bench.poster.take(5)


def test_lpis_of_a_host() -> None:
    page = Pinned(bytearray(lpi.LPI_PAGE.size))
    port = LpiPort(page)
    assert not port.raise_lpi(0)
    SharedWords(page).store32(lpi.LPI_PAGE.offset("armed"), 1)
    assert port.raise_lpi(lpi.HOST_LPIS - 1)
    assert not port.raise_lpi(64)
    assert port.take(64)
    assert not port.take(64)
    assert port.take_all() == [0, lpi.HOST_LPIS - 1]
    assert port.take_all() == []


def test_cache_finds_what_was_filled_and_forgets_what_is_dropped() -> None:
    bench, cache = Bench(), ItsCache(16)
    bench.scheduler.enter(0)
    assert cache.post(1, 2) == POST_MISS
    cache.fill_virtual(1, 2, 7, 9, bench.poster, 8192)
    assert cache.post(1, 2) == POST_DELIVERED
    assert bench.take_word() == 1 << 9
    assert [cache.post(2, 1), cache.post(1, 0), cache.post(0, 2)] == [POST_MISS] * 3
    bench.scheduler.leave()
    assert cache.post(1, 2) == (POST_ABSENT, 7, 8192)
    drops = partial(cache.drop_event, 1, 2), partial(cache.drop_device, 1), partial(cache.drop_vpe, 7)
    for drop in (*drops, cache.drop_all):
        cache.fill_virtual(1, 2, 7, 9, bench.poster, lpi.INTID_NONE)
        cache.drop_collection(7)
        cache.drop_vpe(8)
        cache.drop_physical()
        cache.drop_device(2)
        cache.drop_event(1, 1)
        assert len(cache) == 1
        drop()
        assert cache.post(1, 2) == POST_MISS


def test_absent_vpes_doorbell_is_raised_at_its_processor() -> None:
    bench, cache, lpis = Bench(), ItsCache(16), Pinned(bytearray(4096))
    port = LpiPort(lpis)
    cache.fill_virtual(1, 2, 7, 9, bench.poster, 8192 + 70, port, 3)
    assert cache.post(1, 2) == POST_DELIVERED
    assert port.take_all() == [70]
    SharedWords(lpis).store32(lpi.LPI_PAGE.offset("armed"), 1)
    assert cache.post(1, 2) == (POST_WAKE, 3, -1)
    assert cache.post(1, 2) == POST_DELIVERED
    assert port.take_all() == [70]
    assert cache.counts == (3, 0, 0, 0, 3)
    cache.fill_virtual(1, 2, 7, 9, bench.poster, lpi.INTID_NONE)
    assert cache.post(1, 2) == POST_DELIVERED
    assert port.take_all() == []
    cache.drop_physical()
    assert len(cache) == 1
    cache.fill_virtual(1, 3, 7, 9, bench.poster, 8192 + 70, port, 3)
    cache.drop_physical()
    assert len(cache) == 1


def test_full_cache_replaces_entries_and_stays_right() -> None:
    bench, cache = Bench(), ItsCache(16)
    bench.scheduler.enter(0)
    for event in range(200):
        cache.fill_virtual(5, event, 1, event % 64, bench.poster, 0)
        assert cache.post(5, event) == POST_DELIVERED
        assert bench.take_word() == 1 << event % 64
    assert len(cache) == 16


def test_new_port_of_a_vpe_makes_the_old_ones_entries_stale() -> None:
    old, new, cache = Bench(), Bench(), ItsCache(16)
    cache.fill_virtual(1, 1, 7, 0, old.poster, 0)
    cache.fill_virtual(1, 2, 7, 1, new.poster, 0)

    assert cache.post(1, 1) == POST_MISS
    assert cache.post(1, 2) == (POST_ABSENT, 7, 0)
