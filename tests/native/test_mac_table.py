"""The bridge's table against a dictionary: learning, fixed addresses, limits, ageing, and where each frame
goes.

Reference: IEEE 802.1Q §8.7 (learning), §8.8 (filtering database).
"""

import random
from dataclasses import dataclass, field

import pytest

from testbed.native import DROP, FLOOD, FrameStore, MacTable, Pinned
from testbed.spec.port_counters import PORT_COUNTERS

BROADCAST = b"\xff" * 6
FRAME_MAX = 1514
HOUR = 3600


def mac(number: int) -> bytes:
    """Return an individual address."""
    return b"\x02\0" + number.to_bytes(4, "big")


def frame(to: bytes, source: bytes, length: int = 60) -> bytes:
    return (to + source).ljust(length, b"\0")[:length]


class Bridge:
    """A table with its counters."""

    def __init__(
        self, *ports: int, size: int = 4096, learned_max: int = 1024, age_seconds: int = 300
    ) -> None:
        self.table = MacTable(size, learned_max, age_seconds)
        self.counters = Pinned(bytearray(PORT_COUNTERS.size))
        for port in ports:
            self.table.open_port(port, True)

    def send(self, source: int, *frames: bytes, now: int = 0) -> tuple[list[int], list[int], bool]:
        """Classify; return (destination of each frame, ports concerned, flood)."""
        store = FrameStore()
        store.load(list(frames))
        ports, flood = self.table.classify(store, source, now, self.counters, 0, FRAME_MAX)
        return [store.destination(i) for i in range(len(frames))], ports, flood

    def counter(self, name: str) -> int:
        return int(self.counters.words(PORT_COUNTERS.offset(name), 8)[0])


def test_unknown_address_is_flooded_and_its_answer_is_not() -> None:
    bridge = Bridge(1, 2)
    assert bridge.send(1, frame(mac(2), mac(1))) == ([FLOOD], [], True)
    assert bridge.send(2, frame(mac(1), mac(2))) == ([1], [1], False)
    assert bridge.send(1, frame(mac(2), mac(1))) == ([2], [2], False)
    assert (bridge.counter("frames_in"), bridge.counter("bytes_in")) == (3, 180)


@pytest.mark.parametrize("to", [BROADCAST, b"\x01\0\x5e\0\0\1", b"\x33\x33\0\0\0\1"])
def test_group_address_is_flooded(to: bytes) -> None:
    assert Bridge(1, 2).send(1, frame(to, mac(1))) == ([FLOOD], [], True)


def test_group_address_is_never_learned() -> None:
    bridge = Bridge(1, 2)
    bridge.send(1, frame(mac(2), BROADCAST))
    assert (len(bridge.table), bridge.table.find(BROADCAST)) == (0, -1)


def test_frame_for_its_own_port_is_dropped() -> None:
    bridge = Bridge(1, 2)
    bridge.send(1, frame(BROADCAST, mac(1)))
    assert bridge.send(1, *[frame(mac(1), mac(9))] * 3) == ([DROP] * 3, [], False)
    assert bridge.counter("dropped_same_port") == 3


def test_frame_for_a_closed_port_is_dropped() -> None:
    bridge = Bridge(1, 2)
    bridge.table.fix(mac(2), 2)
    bridge.table.open_port(2, False)
    assert bridge.send(1, *[frame(mac(2), mac(1))] * 2) == ([DROP] * 2, [], False)
    assert bridge.counter("dropped_no_receiver") == 2


@pytest.mark.parametrize(
    ("length", "reason"), [(13, "too_short"), (0, "too_short"), (FRAME_MAX + 1, "too_long")]
)
def test_frame_of_impossible_length_is_dropped_and_teaches_nothing(length: int, reason: str) -> None:
    bridge = Bridge(1, 2)
    assert bridge.send(1, frame(mac(2), mac(1), length)) == ([DROP], [], False)
    assert bridge.counter(f"dropped_{reason}") == 1
    assert len(bridge.table) == 0


@pytest.mark.parametrize("length", [14, FRAME_MAX])
def test_shortest_and_longest_frame_pass(length: int) -> None:
    assert Bridge(1, 2).send(1, frame(mac(2), mac(1), length))[0] == [FLOOD]


def test_fixed_address_is_not_learned_away() -> None:
    bridge = Bridge(1, 2)
    assert bridge.table.fix(mac(1), 1)
    bridge.send(2, frame(BROADCAST, mac(1)))
    assert bridge.table.find(mac(1)) == 1


def test_fixing_a_learned_address_takes_it_over() -> None:
    bridge = Bridge(1, 2, learned_max=1)
    bridge.send(1, frame(BROADCAST, mac(1)))
    assert bridge.table.fix(mac(1), 2)
    bridge.send(1, frame(BROADCAST, mac(5)))
    assert (bridge.table.find(mac(1)), bridge.table.find(mac(5))) == (2, 1)


def test_station_that_moves_is_learned_anew() -> None:
    bridge = Bridge(1, 2)
    bridge.send(1, frame(BROADCAST, mac(1)))
    bridge.send(2, frame(BROADCAST, mac(1)))
    assert bridge.table.find(mac(1)) == 2
    assert len(bridge.table) == 1


def test_learning_within_one_burst_counts_for_the_next_frame() -> None:
    bridge = Bridge(1, 2)
    bridge.table.fix(mac(2), 2)
    to_itself = frame(mac(1), mac(7))
    assert bridge.send(1, frame(mac(2), mac(1)), to_itself)[0] == [2, DROP]


def test_first_frame_s_source_is_learned_whatever_it_is() -> None:
    """All zeros is an address like any other to a bridge."""
    bridge = Bridge(1, 2)
    bridge.send(1, frame(BROADCAST, bytes(6)))
    assert bridge.table.find(bytes(6)) == 1


def test_port_learns_no_more_than_its_share() -> None:
    bridge = Bridge(1, 2, learned_max=3)
    bridge.send(1, *(frame(BROADCAST, mac(i)) for i in range(10)))
    bridge.send(2, frame(BROADCAST, mac(20)))
    assert [bridge.table.find(mac(i)) for i in range(10)] == [1] * 3 + [-1] * 7
    assert bridge.table.find(mac(20)) == 2


def test_station_cannot_move_to_a_port_that_has_its_share() -> None:
    bridge = Bridge(1, 2, learned_max=1)
    bridge.send(1, frame(BROADCAST, mac(1)))
    bridge.send(2, frame(BROADCAST, mac(2)))
    bridge.send(2, frame(BROADCAST, mac(1)))
    assert bridge.table.find(mac(1)) == 1


def test_full_table_learns_no_more_and_still_finds() -> None:
    bridge = Bridge(1, 2, size=64, learned_max=1000)
    bridge.send(1, *(frame(BROADCAST, mac(i)) for i in range(100)))
    known = [i for i in range(100) if bridge.table.find(mac(i)) == 1]
    assert len(known) == len(bridge.table) == 48
    assert not bridge.table.fix(mac(1000), 1)
    assert bridge.send(2, frame(mac(known[0]), mac(500)), frame(mac(99), mac(500)))[0] == [1, FLOOD]


def test_smallest_table_works() -> None:
    bridge = Bridge(1, 2, size=4)
    assert [bridge.table.fix(mac(i), 1) for i in range(4)] == [True, True, True, False]
    assert bridge.table.find(mac(3)) == -1


@pytest.mark.parametrize("size", [0, 2, 3, 100])
def test_table_size_that_is_no_power_of_two_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"power of two from 4 on, not {size}"):
        MacTable(size)


@pytest.mark.parametrize("port", [-1, 1024, 32767])
def test_port_number_out_of_range_is_refused(port: int) -> None:
    table = MacTable()
    store = FrameStore()
    store.load([frame(BROADCAST, mac(1))])
    with pytest.raises(ValueError, match="ports 0 to 1023"):
        table.open_port(port, True)
    with pytest.raises(ValueError, match="ports 0 to 1023"):
        table.fix(mac(1), port)
    with pytest.raises(ValueError, match="ports 0 to 1023"):
        table.classify(store, port, 0, Pinned(bytearray(PORT_COUNTERS.size)), 0, FRAME_MAX)


@pytest.mark.parametrize("address", [b"", bytes(5), bytes(7)])
def test_address_that_has_not_six_bytes_is_refused(address: bytes) -> None:
    with pytest.raises(ValueError, match=f"6 bytes, not {len(address)}"):
        MacTable().find(address)


def test_learned_address_is_forgotten_when_it_was_not_seen_for_the_age() -> None:
    bridge = Bridge(1, 2, age_seconds=300)
    bridge.table.fix(mac(3), 2)
    bridge.send(1, frame(BROADCAST, mac(1)), now=100)
    bridge.send(1, frame(BROADCAST, mac(2)), now=150)
    bridge.send(1, frame(BROADCAST, mac(1)), now=200)
    bridge.table.expire(400)
    assert bridge.table.find(mac(2)) == 1
    bridge.table.expire(451)
    assert [bridge.table.find(mac(i)) for i in (1, 2, 3)] == [1, -1, 2]
    bridge.table.expire(501)
    assert [bridge.table.find(mac(i)) for i in (1, 2, 3)] == [-1, -1, 2]


def test_ageing_survives_the_wrap_of_its_clock() -> None:
    bridge = Bridge(1, 2, age_seconds=300)
    bridge.send(1, frame(BROADCAST, mac(1)), now=0xFFFF_FFF0)
    bridge.table.expire(200)
    assert bridge.table.find(mac(1)) == 1
    bridge.table.expire(400)
    assert bridge.table.find(mac(1)) == -1


def test_dropped_port_is_forgotten_and_may_learn_again() -> None:
    bridge = Bridge(1, 2, learned_max=2)
    bridge.table.fix(mac(9), 1)
    bridge.send(1, frame(BROADCAST, mac(1)), frame(BROADCAST, mac(2)))
    bridge.send(2, frame(BROADCAST, mac(3)))
    bridge.table.drop_port(1)
    assert [bridge.table.find(mac(i)) for i in (1, 2, 3, 9)] == [-1, -1, 2, -1]
    bridge.send(1, frame(BROADCAST, mac(4)), frame(BROADCAST, mac(5)))
    assert [bridge.table.find(mac(i)) for i in (4, 5)] == [1, 1]


def test_more_ports_than_can_be_named_are_told_as_a_flood() -> None:
    bridge = Bridge(*range(101))
    for port in range(1, 101):
        bridge.table.fix(mac(port), port)
    destinations, ports, flood = bridge.send(0, *(frame(mac(i), mac(0)) for i in range(1, 101)))
    assert destinations == list(range(1, 101))
    assert flood or sorted(ports) == destinations
    assert bridge.send(0, *(frame(mac(i), mac(0)) for i in range(1, 11))) == (
        list(range(1, 11)), list(range(1, 11)), False,
    )  # fmt: skip


@dataclass
class Oracle:
    """The same table as a dictionary: address to (port, fixed, last seen)."""

    learned_max: int
    age_seconds: int
    limit: int
    entries: dict[bytes, tuple[int, bool, int]] = field(default_factory=dict)

    def learned(self, port: int) -> int:
        return sum(p == port and not fixed for p, fixed, _ in self.entries.values())

    def put(self, address: bytes, port: int, fixed: bool, now: int) -> None:
        known = self.entries.get(address)
        if known and known[1] and not fixed:
            return
        if known is None and len(self.entries) >= self.limit:
            return
        stays = known is not None and not known[1] and known[0] == port
        if not fixed and not stays and self.learned(port) >= self.learned_max:
            return
        self.entries[address] = (port, fixed, now)

    def destination(self, to: bytes, source: int, closed: set[int]) -> int:
        if to[0] & 1 or to not in self.entries:
            return FLOOD
        port = self.entries[to][0]
        return DROP if port == source or port in closed else port

    def keep(self, now: int) -> None:
        self.entries = {a: e for a, e in self.entries.items() if e[1] or now - e[2] <= self.age_seconds}

    def drop_port(self, port: int) -> None:
        self.entries = {a: e for a, e in self.entries.items() if e[0] != port}


def test_any_sequence_is_as_a_dictionary_would_have_it() -> None:
    for seed in range(120):
        rng = random.Random(seed)
        size, learned_max = rng.choice((8, 32, 128)), rng.choice((2, 5, 1000))
        bridge = Bridge(0, 1, 2, 3, size=size, learned_max=learned_max, age_seconds=50)
        oracle, closed, now = Oracle(learned_max, 50, size - size // 4), set[int](), 0
        addresses = [mac(rng.randrange(1 << 32)) for _ in range(rng.choice((5, 60)))]
        for _ in range(40):
            now += rng.choice((0, 1, 30))
            act(rng, bridge, oracle, addresses, closed, now)
            assert len(bridge.table) == len(oracle.entries), f"seed {seed}"
        found = {a: bridge.table.find(a) for a in addresses}
        assert found == {a: oracle.entries.get(a, (-1,))[0] for a in addresses}, f"seed {seed}"


def act(
    rng: random.Random, bridge: Bridge, oracle: Oracle, addresses: list[bytes], closed: set[int], now: int
) -> None:
    """Do one thing to both."""
    port, address = rng.randrange(4), rng.choice(addresses)
    what = rng.random()
    if what < 0.7:
        pairs = [
            (rng.choice([*addresses, BROADCAST]), rng.choice(addresses)) for _ in range(rng.randint(1, 9))
        ]
        expected = []
        for to, source in pairs:
            oracle.put(source, port, False, now)
            expected.append(oracle.destination(to, port, closed))
        assert bridge.send(port, *(frame(*pair) for pair in pairs), now=now)[0] == expected
    elif what < 0.8:
        bridge.table.fix(address, port)
        oracle.put(address, port, True, 0)
    elif what < 0.87:
        bridge.table.expire(now)
        oracle.keep(now)
    elif what < 0.94:
        bridge.table.drop_port(port)
        oracle.drop_port(port)
    else:
        bridge.table.open_port(port, port in closed)
        closed ^= {port}
