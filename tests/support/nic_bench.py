"""An 82576's data side alone: strict memory behind a slow, obvious IOMMU, rings written by hand, wires whose
other ends are the test's.
"""

from dataclasses import dataclass, field, replace

from testbed.native import DmaRequester, DoorbellWord, NicEngine, Pinned, WireReceiver, WireSender
from testbed.nic.switch_state import (
    FRAME_MAX_BYTES,
    Pool,
    QueueMode,
    Rss,
    SwitchState,
    UnicastFilter,
    VlanInsertion,
)
from testbed.spec import dma_request as dma
from testbed.spec import igb_ring as ring
from testbed.spec.igb_statistics import STATISTICS, VF_STATISTICS
from testbed.spec.nic_counters import NIC_POOL
from testbed.spec.wire import wire_bytes
from tests.support.recorders import ManualClock
from tests.support.strict_memory import OutsideMemoryError, StrictMemory

RING_SLOTS = 1024
STALL_NS = 50_000_000
WIRE_SOURCE = 8
TO_WIRE = 0x100


def mac_of(pool: int) -> bytes:
    """Return the address of a pool."""
    return bytes((2, 0, 0, 0, 0, pool))


def pool_state(index: int, **changes: object) -> Pool:
    """Return a pool that takes untagged frames, broadcast and nothing else."""
    pool = Pool(
        index=index, queues=(index, index + 8), receive=True, transmit=True, frame_max_bytes=FRAME_MAX_BYTES,
        accept_untagged=True, accept_broadcast=True, accept_multicast=False, accept_multicast_hash=False,
        accept_unicast_hash=False, strip_vlan=False, hide_vlan=False, rss=False, check_source_mac=False,
        check_source_vlan=False, local_loopback=False, insertion=VlanInsertion.BY_DESCRIPTOR, port_vlan=0,
    )  # fmt: skip
    return replace(pool, **changes)  # type: ignore[arg-type]


NO_RSS = Rss(bytes(40), bytes(128), False, False, False, False, False, False)


def switch_state(**changes: object) -> SwitchState:
    """Return eight pools with an address each, switched among themselves and to the wire."""
    state = SwitchState(
        link_up=True, receive=True, transmit=True, mode=QueueMode.POOLS, default_queue=0,
        pools=tuple(pool_state(i) for i in range(8)),
        unicast=tuple(UnicastFilter(mac_of(i), 1 << i) for i in range(8)),
        multicast_table=bytes(512), unicast_table=bytes(512), hash_shift=36, unicast_promiscuous=False,
        multicast_promiscuous=False, accept_broadcast=True, filter_vlans=False, vlan_table=bytes(512),
        vlans=(), default_pool=None, replicate=True, replicated_strip_vlan=False, loopback=True, mirrors=(),
        rss=NO_RSS, drop_queues=0, frame_max_bytes=FRAME_MAX_BYTES, pad_short=True, vlan_ether_type=0x8100,
        rates_bits_per_second=(None,) * 16,
    )  # fmt: skip
    return replace(state, **changes)  # type: ignore[arg-type]


@dataclass
class Served:
    """One request as the IOMMU met it."""

    stream: int
    kind: int
    iova: int
    length: int


@dataclass
class Iommu:
    """Serves the rings of all functions from one strict memory; what no region has is refused."""

    memory: StrictMemory
    sram: memoryview
    rings: dict[int, tuple[memoryview, DmaRequester]] = field(default_factory=dict)
    log: list[Served] = field(default_factory=list)
    paused: set[int] = field(default_factory=set)

    def add(self, function: int) -> DmaRequester:
        page = bytearray(dma.ring_bytes(RING_SLOTS) + 64)
        pinned = Pinned(page)
        skew = -pinned.address % 64
        requester = DmaRequester(pinned, skew, RING_SLOTS, 0x100 + function)
        self.rings[function] = (memoryview(page)[skew:], requester)
        return requester

    def serve(self, function: int, limit: int = 1 << 30) -> bool:
        """Do what was asked, in order, at most `limit` requests; say whether there was anything."""
        view, requester = self.rings[function]
        if function in self.paused:
            return False
        requester.submit()
        head = dma.DMA_RING_HEAD
        posted = head.unpack(view)["posted"]
        completed = begun = head.unpack(view)["completed"]
        while completed != posted and limit:
            base = head.size + completed % RING_SLOTS * dma.DMA_REQUEST.size
            status = self._do(dma.DMA_REQUEST.unpack(view, base))
            at = base + dma.DMA_REQUEST.offset("status")
            view[at : at + 4] = status.to_bytes(4, "little")
            completed, limit = (completed + 1) & 0xFFFF_FFFF, limit - 1
        at = head.offset("completed")
        view[at : at + 4] = completed.to_bytes(4, "little")
        return completed != begun

    def _do(self, row: dict[str, int]) -> int:
        self.log.append(Served(row["stream"], row["kind"], row["iova"], row["length"]))
        local = self.sram[row["buffer"] : row["buffer"] + row["length"]]
        assert local.nbytes == row["length"], "a request outside of device memory"
        try:
            if row["kind"] == dma.KIND_READ:
                local[:] = self.memory.read(row["iova"], row["length"])
            else:
                assert row["kind"] == dma.KIND_WRITE
                self.memory.write(row["iova"], bytes(local))
        except OutsideMemoryError:
            return dma.STATUS_ABORT
        return dma.STATUS_DONE


class TxRing:
    """A transmit ring written by hand, with a buffer of its own for every descriptor."""

    def __init__(self, bench: "NicBench", size: int, buffer_bytes: int = 2048) -> None:
        self.memory, self.size, self.buffer_bytes = bench.memory, size, buffer_bytes
        self.base = bench.take(size * ring.DESC_BYTES)
        self.buffers = bench.take(size * buffer_bytes)
        self.tail, self.word = 0, DoorbellWord()

    def place(self, index: int) -> int:
        return self.base + index % self.size * ring.DESC_BYTES

    def put(self, descriptor: bytes) -> int:
        """Write one descriptor at the tail; return its index."""
        at = self.tail
        self.memory.write(self.place(at), descriptor)
        self.tail = (at + 1) % self.size
        return at

    def data(self, data: bytes, total: int | None = None, flags: int | None = None, olinfo: int = 0) -> int:
        """Describe bytes with an advanced data descriptor."""
        address = self.buffers + self.tail * self.buffer_bytes
        self.memory.write(address, data)
        flags = ring.TX_EOP | ring.TX_IFCS | ring.TX_RS if flags is None else flags
        total = len(data) if total is None else total
        return self.put(self.descriptor(address, len(data), flags, olinfo | ring.TX_PAYLEN.put(total)))

    @staticmethod
    def descriptor(address: int, length: int, flags: int, olinfo: int) -> bytes:
        kind = ring.TX_DEXT | ring.TX_DTYP.put(ring.DTYP_DATA)
        return ring.TX_DATA.pack(address=address, cmd_type_len=length | kind | flags, olinfo_status=olinfo)

    def context(
        self, mac: int, ip: int, l4: int = 0, mss: int = 0, tucmd: int = 0, vlan: int = 0, idx: int = 0
    ) -> int:
        kind = ring.TX_DEXT | ring.TX_DTYP.put(ring.DTYP_CONTEXT)
        return self.put(
            ring.TX_CONTEXT.pack(
                vlan_macip_lens=ring.TX_IPLEN.put(ip) | ring.TX_MACLEN.put(mac) | ring.TX_VLAN.put(vlan),
                type_tucmd_mlhl=kind | tucmd,
                mss_l4len_idx=ring.TX_L4LEN.put(l4) | ring.TX_MSS.put(mss) | ring.TX_IDX.put(idx),
            )
        )

    def kick(self) -> None:
        self.word.value = self.tail

    def done(self, index: int) -> bool:
        row = ring.TX_DATA.unpack(self.memory.read(self.place(index), ring.DESC_BYTES))
        return bool(row["olinfo_status"] & ring.TX_DD)


class RxRing:
    """A receive ring written by hand."""

    def __init__(self, bench: "NicBench", size: int, buffer_bytes: int = 2048) -> None:
        self.memory, self.size, self.buffer_bytes = bench.memory, size, buffer_bytes
        self.base = bench.take(size * ring.DESC_BYTES)
        self.buffers = bench.take(size * buffer_bytes)
        self.next, self.tail, self.word = 0, 0, DoorbellWord()

    def place(self, index: int) -> int:
        return self.base + index % self.size * ring.DESC_BYTES

    def post(self, count: int) -> None:
        """Give free buffers to the device."""
        for _ in range(count):
            address = self.buffers + self.tail * self.buffer_bytes
            self.memory.write(self.place(self.tail), ring.RX_READ.pack(packet=address))
            self.tail = (self.tail + 1) % self.size
        self.word.value = self.tail

    def descriptor(self) -> dict[str, int] | None:
        """Return the next descriptor that was written back, or None."""
        row = ring.RX_WRITE_BACK.unpack(self.memory.read(self.place(self.next), ring.DESC_BYTES))
        return row if row["status"] & ring.RX_STATUS_DD else None

    def take(self) -> tuple[bytes, dict[str, int]] | None:
        """Return the next frame with its last descriptor, or None."""
        data = b""
        while (row := self.descriptor()) is not None:
            data += self.memory.read(self.buffers + self.next * self.buffer_bytes, row["length"])
            self.memory.write(self.place(self.next), bytes(ring.DESC_BYTES))
            self.next = (self.next + 1) % self.size
            if row["status"] & ring.RX_STATUS_EOP:
                return data, row
        assert not data, "a frame without its end"
        return None

    def take_all(self) -> list[bytes]:
        frames = []
        while (got := self.take()) is not None:
            frames.append(got[0])
        return frames


class NicBench:
    """Engine, memory and both wires."""

    def __init__(self, state: SwitchState | None = None, memory_bytes: int = 16 << 20) -> None:
        self.memory = StrictMemory(memory_bytes)
        self._free = self.memory.base
        self.clock = ManualClock()
        self.sram = memoryview(bytearray(NicEngine.memory_bytes()))
        self.statistics = memoryview(bytearray(STATISTICS.size))
        self.pools = memoryview(bytearray(8 * VF_STATISTICS.size))
        self.counters = memoryview(bytearray(8 * NIC_POOL.size))
        self.engine = NicEngine(
            Pinned(self.sram), Pinned(self.statistics), Pinned(self.pools), Pinned(self.counters), 0, STALL_NS
        )
        self.iommu = Iommu(self.memory, self.sram)
        for function in range(9):
            self.engine.attach_dma(function, self.iommu.add(function))
        out, into = Pinned(bytearray(wire_bytes(65536))), Pinned(bytearray(wire_bytes(65536)))
        self.engine.attach_wire(out, into)
        self.from_nic, self.to_nic = WireReceiver(out), WireSender(into)
        self.set_state(state or switch_state())

    def set_state(self, state: SwitchState) -> None:
        self.state = state
        self.engine.configure(state)

    def take(self, size_bytes: int) -> int:
        """Return aligned memory that nobody else has."""
        at = self._free
        self._free += -(-size_bytes // 4096) * 4096
        assert self._free <= self.memory.end
        return at

    def tx(
        self,
        queue: int,
        size: int = 64,
        buffer_bytes: int = 2048,
        function: int | None = None,
        head_address: int = 0,
    ) -> TxRing:
        made = TxRing(self, size, buffer_bytes)
        function = queue % 8 + 1 if function is None else function
        self.engine.start_transmit(queue, function, made.base, size, 0, made.word, head_address)
        return made

    def rx(
        self,
        queue: int,
        size: int = 64,
        buffer_bytes: int = 2048,
        post: int | None = None,
        function: int | None = None,
        legacy: bool = False,
    ) -> RxRing:
        made = RxRing(self, size, buffer_bytes)
        function = queue % 8 + 1 if function is None else function
        self.engine.start_receive(queue, function, made.base, size, 0, made.word, buffer_bytes, legacy)
        made.post(size - 1 if post is None else post)
        return made

    def wait_in_vain(self) -> None:
        """Let pass all the time that a frame may wait, with a look when the device asks for it."""
        until_ns = self.clock() + STALL_NS
        while until_ns > self.clock():
            self.clock.advance(min(self.engine.due_ns or until_ns, until_ns) - self.clock())
            self.run()

    def run(self) -> None:
        """Go on until nothing moves any more."""
        for _ in range(10_000):
            moved = self.engine.turn(self.clock())
            for function in self.iommu.rings:
                moved |= self.iommu.serve(function)
            self.engine.publish_wire()
            self.engine.release_wire()
            if not moved:
                return
        raise AssertionError("the engine never comes to rest")

    def on_wire(self) -> list[bytes]:
        frames = []
        while (frame := self.from_nic.take(self.clock())) is not None:
            frames.append(frame)
        return frames

    def count(self, pool: int, name: str) -> int:
        return NIC_POOL.unpack(self.counters, pool * NIC_POOL.size)[name]

    def statistic(self, name: str) -> int:
        return STATISTICS.unpack(self.statistics)[name]

    def pool_statistic(self, pool: int, name: str) -> int:
        return VF_STATISTICS.unpack(self.pools, pool * VF_STATISTICS.size)[name]


def frame(to: bytes, source: bytes, number: int = 0, size: int = 60, tag: int | None = None) -> bytes:
    """Return a frame of local experimental EtherType with a number in it."""
    head = to + source + (b"" if tag is None else b"\x81\x00" + tag.to_bytes(2, "big")) + b"\x88\xb5"
    body = number.to_bytes(4, "big") * (size // 4)
    return (head + body)[:size]
