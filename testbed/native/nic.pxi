"""The data side of an 82576: the engine that moves frames, the state of its switch, and the wire."""

cdef extern from "layouts.h" nogil:
    enum: WIRE_FRAME_BYTES_MAX
    ctypedef struct igb_statistics_t:
        uint64_t tsctc
    ctypedef struct igb_pool_statistics_t:
        uint64_t vfgprc
    ctypedef struct nic_pool_counters_t:
        uint64_t tx_frames
    ctypedef struct wire_t:
        uint32_t link, sender_pid
    uint32_t WIRE_RING_BYTES_MIN

cdef extern from "nic_switch.h" nogil:
    enum: NIC_POOLS, NIC_QUEUES, NIC_WIRE, NIC_FROM_WIRE, NIC_ADDRESSES, NIC_VLANS, NIC_MIRRORS
    cdef struct nic_pool:
        bint receives, transmits, untagged, multicast_hash, unicast_hash, broadcast, multicast_all
        bint strip_vlan, hide_vlan, rss, check_mac, check_vlan, to_itself
        uint8_t vlan_action
        uint16_t port_vlan
        uint32_t frame_max
    cdef struct nic_address:
        uint64_t mac
        uint8_t pools
        bint source
    cdef struct nic_vlan:
        uint16_t id
        uint8_t pools
        bint valid, local
    cdef struct nic_mirror:
        bint pool_in, uplink, downlink, vlan
        uint8_t to, pools
        uint32_t vlans
    cdef struct nic_switch:
        bint link_up, receive, transmit, pooled, loopback, replicate, vlan_filter, unicast_all, multicast_all, broadcast
        bint has_default, replicated_strip_vlan, pad_short
        uint8_t default_pool, hash_shift
        uint16_t vet
        uint32_t frame_max, addresses_n
        nic_pool pools[8]
        nic_address addresses[24]
        nic_vlan vlans[32]
        nic_mirror mirrors[4]
        uint32_t mta[128]
        uint32_t uta[128]
        uint32_t vfta[128]
    cdef struct nic_header_t "nic_header":
        pass
    nic_header_t nic_header(const nic_switch*, const uint8_t*)
    uint32_t nic_decide(const nic_switch*, const nic_header_t*, uint32_t)
    bint nic_permits(const nic_switch*, const nic_header_t*, uint32_t)

cdef extern from "nic_rss.h" nogil:
    cdef struct nic_rss:
        bint on, pools, ipv4, tcp_ipv4, udp_ipv4, ipv6, tcp_ipv6, udp_ipv6
        uint8_t default_queue
        uint8_t key[40]
        uint8_t table[128]
    uint32_t toeplitz(const uint8_t*, const uint8_t*, uint32_t)

cdef extern from "nic_wire.h" nogil:
    cdef struct nic_wire:
        wire_t* shared
        uint64_t latency_ns, bits_per_second, loss, random, frames, bytes, lost
        bint refused, broken
    void wire_open(nic_wire*, wire_t*, uint64_t, bint)
    bint wire_put(nic_wire*, const uint8_t*, uint32_t, uint64_t)
    bint wire_publish(nic_wire*)
    const uint8_t* wire_peek(nic_wire*, uint32_t*, uint64_t, uint64_t*)
    void wire_take(nic_wire*, uint32_t)
    bint wire_release(nic_wire*)
    bint wire_incoming(void*) noexcept
    bint wire_room(void*) noexcept

cdef extern from "nic_engine.h" nogil:
    enum: NIC_FUNCTIONS
    cdef struct nic_ring:
        dma_requester_t* dma
        const doorbell_word_t* tail
        uint64_t base
        uint32_t size, head, owner
        bint enabled
        int fault
    cdef struct nic_transmit:
        nic_ring ring
        uint64_t head_address, bits_per_second, free_ns
    cdef struct nic_receive:
        nic_ring ring
        uint32_t buffer_bytes, dropped
        bint legacy, drop
    cdef struct nic_memo:
        uint32_t key
    cdef struct nic_unclaimed:
        uint64_t n, bytes, first_ns, last_ns
    cdef struct nic_offloads:
        bint check_ip, check_l4, packet_checksum_off
    cdef struct nic_engine:
        nic_switch sw
        nic_rss rss
        nic_offloads offloads
        nic_transmit tx[16]
        nic_receive rx[16]
        nic_wire out
        nic_wire in_ "in"
        bint wired
        uint32_t tx_used, rx_used
        nic_memo memos[64]
        dma_requester_t* dma[9]
        uint64_t stall_ns, due_ns
        nic_unclaimed unclaimed
        uint32_t tx_awaited, rx_awaited
        uint32_t tx_events, rx_events, faults, spoofing, dropping
        uint32_t spoofed[16]
        igb_statistics_t* stats
        igb_pool_statistics_t* pool_stats
        nic_pool_counters_t* count
    uint64_t nic_memory_bytes()
    void nic_engine_init(nic_engine*, uint8_t*)
    void nic_transmit_reset(nic_transmit*)
    void nic_receive_reset(nic_receive*)
    bint nic_turn(nic_engine*, uint64_t)
    bint nic_ready(void*) noexcept


cdef uint64_t _address_word(mac) except? 0:
    if len(mac) != 6:
        raise ValueError(f"a MAC address has six bytes, not {len(mac)}")
    return int.from_bytes(mac, "little")


cdef class NicSwitch:
    """The embedded switch's decision over a state that was compiled into tables; see nic_switch.h."""

    cdef nic_switch s
    cdef nic_rss rss

    def load(self, state):
        """Take a `SwitchState`."""
        cdef nic_switch* s = &self.s
        cdef const uint8_t[::1] table
        if len(state.pools) != NIC_POOLS or len(state.unicast) > NIC_ADDRESSES or len(state.vlans) > NIC_VLANS or len(state.mirrors) > NIC_MIRRORS:
            raise ValueError("the state has more than the device's tables hold")
        memset(s, 0, sizeof(nic_switch))
        s.link_up, s.receive, s.transmit, s.pooled = state.link_up, state.receive, state.transmit, state.pooled
        s.loopback, s.replicate, s.vlan_filter = state.loopback, state.replicate, state.filter_vlans
        s.unicast_all, s.multicast_all, s.broadcast = state.unicast_promiscuous, state.multicast_promiscuous, state.accept_broadcast
        s.has_default, s.default_pool = state.default_pool is not None, state.default_pool or 0
        s.replicated_strip_vlan, s.pad_short = state.replicated_strip_vlan, state.pad_short
        s.vet, s.frame_max = state.vlan_ether_type, state.frame_max_bytes
        s.hash_shift = state.hash_shift - 32
        for index, pool in enumerate(state.pools):
            self._load_pool(index, pool)
        for filtered in state.unicast:
            s.addresses[s.addresses_n].mac = _address_word(filtered.mac)
            s.addresses[s.addresses_n].pools, s.addresses[s.addresses_n].source = filtered.pools, filtered.source
            s.addresses_n += 1
        for vlan in state.vlans:
            s.vlans[<uint32_t>vlan.entry].id, s.vlans[<uint32_t>vlan.entry].pools = vlan.vlan, vlan.pools
            s.vlans[<uint32_t>vlan.entry].local, s.vlans[<uint32_t>vlan.entry].valid = vlan.local, True
        for index, rule in enumerate(state.mirrors):
            self._load_mirror(index, rule, state.vlans)
        table = state.multicast_table
        memcpy(s.mta, &table[0], sizeof(s.mta))
        table = state.unicast_table
        memcpy(s.uta, &table[0], sizeof(s.uta))
        table = state.vlan_table
        memcpy(s.vfta, &table[0], sizeof(s.vfta))

    cdef _load_pool(self, uint32_t index, pool):
        cdef nic_pool* p = &self.s.pools[index]
        p.receives, p.transmits, p.untagged, p.broadcast = pool.receive, pool.transmit, pool.accept_untagged, pool.accept_broadcast
        p.multicast_hash, p.unicast_hash = pool.accept_multicast_hash, pool.accept_unicast_hash
        p.multicast_all, p.strip_vlan, p.hide_vlan, p.rss = pool.accept_multicast, pool.strip_vlan, pool.hide_vlan, pool.rss
        p.check_mac, p.check_vlan, p.to_itself = pool.check_source_mac, pool.check_source_vlan, pool.local_loopback
        p.vlan_action, p.port_vlan, p.frame_max = pool.insertion.value, pool.port_vlan, pool.frame_max_bytes

    cdef _load_mirror(self, uint32_t index, rule, vlans):
        cdef nic_mirror* m = &self.s.mirrors[index]
        m.to, m.pools, m.uplink, m.downlink = rule.destination, rule.pools, rule.uplink, rule.downlink
        m.pool_in, m.vlan = rule.pools != 0, len(rule.vlans) != 0
        for vlan in vlans:
            if vlan.vlan in rule.vlans:
                m.vlans |= <uint32_t>1 << <uint32_t>vlan.entry

    def decide(self, const uint8_t[::1] frame not None, uint32_t source):
        """Return the destinations of a frame, pools in bits 0 to 7, the wire in bit 8; `source` 8: the wire."""
        cdef nic_header_t h
        if frame.shape[0] < 18 or source > NIC_FROM_WIRE:
            raise ValueError(f"{frame.shape[0]} bytes from {source} are no frame from a pool or the wire")
        h = nic_header(&self.s, &frame[0])
        return nic_decide(&self.s, &h, source)

    def permits(self, const uint8_t[::1] frame not None, uint32_t pool):
        """Say whether a pool may send a frame."""
        cdef nic_header_t h
        if frame.shape[0] < 18 or pool >= NIC_POOLS:
            raise ValueError(f"{frame.shape[0]} bytes from pool {pool} are no frame from a pool")
        h = nic_header(&self.s, &frame[0])
        return bool(nic_permits(&self.s, &h, pool))


def rss_toeplitz(const uint8_t[::1] key not None, const uint8_t[::1] data not None):
    """Return the Toeplitz hash of up to 36 bytes under a key of 40."""
    if key.shape[0] != 40 or not 0 < data.shape[0] <= 36:
        raise ValueError(f"a key has 40 bytes and an input up to 36, not {key.shape[0]} and {data.shape[0]}")
    return toeplitz(&key[0], &data[0], data.shape[0])


cdef class NicEngine(Watched):
    """Queues, switch and wire; ready when requests were completed or frames have come.

    Parameters
    ----------
    sram: the device memory of the NIC, `NicEngine.memory_bytes()` of it from its beginning are the engine's.
    statistics: an `igb_statistics` record. pools: eight `igb_pool_statistics`.
    counters: where, from `offset` on, eight `nic_pool_counters` lie.
    """

    cdef nic_engine* e
    cdef NicSwitch switch
    cdef list keep
    cdef dict tails

    def __cinit__(self):
        self.e = <nic_engine*>calloc(1, sizeof(nic_engine))
        if self.e is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.e)

    def __init__(self, Pinned sram not None, Pinned statistics not None, Pinned pools not None, Pinned counters not None, Py_ssize_t offset,
                 uint64_t stall_ns):
        nic_engine_init(self.e, _at(sram, 0, nic_memory_bytes()))
        self.e.stats = <igb_statistics_t*>_at(statistics, 0, sizeof(igb_statistics_t))
        self.e.pool_stats = <igb_pool_statistics_t*>_at(pools, 0, NIC_POOLS * sizeof(igb_pool_statistics_t))
        self.e.count = <nic_pool_counters_t*>_at(counters, offset, NIC_POOLS * sizeof(nic_pool_counters_t))
        self.e.stall_ns = stall_ns
        self.switch = NicSwitch()
        self.keep, self.tails = [sram, statistics, pools, counters], {}
        self.w = watched(self.e, nic_ready, nic_ready, _nothing, True)

    @staticmethod
    def memory_bytes():
        return nic_memory_bytes()

    def attach_dma(self, uint32_t function, DmaRequester ring not None):
        """Let a function reach memory."""
        if function >= NIC_FUNCTIONS:
            raise ValueError(f"there is no function {function}")
        self.e.dma[function] = &ring.ring
        self.keep.append(ring)

    def attach_wire(self, Pinned outgoing not None, Pinned incoming not None):
        """Plug the wire in, a segment each way."""
        _open_wire(&self.e.out, outgoing, True)
        _open_wire(&self.e.in_, incoming, False)
        self.keep += [outgoing, incoming]
        self.e.wired = True

    def shape_wire(self, uint64_t latency_ns, uint64_t bits_per_second, double loss, uint64_t seed):
        """Say what the wire does to frames that leave here: 0 bits/s is no limit; loss is a share of the frames."""
        _shape_wire(&self.e.out, latency_ns, bits_per_second, loss, seed)

    def configure(self, state):
        """Take a `SwitchState`."""
        cdef nic_rss* r = &self.e.rss
        cdef const uint8_t[::1] table
        cdef uint32_t queue
        self.switch.load(state)
        self.e.sw = self.switch.s
        memset(self.e.memos, 0, sizeof(self.e.memos))
        r.on, r.pools, r.default_queue = state.mode.name == "RSS", state.mode.name == "POOLS_RSS", state.default_queue
        r.ipv4, r.tcp_ipv4, r.udp_ipv4 = state.rss.ipv4, state.rss.tcp_ipv4, state.rss.udp_ipv4
        r.ipv6, r.tcp_ipv6, r.udp_ipv6 = state.rss.ipv6, state.rss.tcp_ipv6, state.rss.udp_ipv6
        table = state.rss.key
        memcpy(r.key, &table[0], sizeof(r.key))
        table = state.rss.table
        memcpy(r.table, &table[0], sizeof(r.table))
        for queue in range(<uint32_t>NIC_QUEUES):
            self.e.tx[queue].bits_per_second = state.rates_bits_per_second[queue] or 0

    def configure_offloads(self, bint check_ip, bint check_l4, bint packet_checksum_off):
        """Take what RXCSUM says: IPOFLD, TUOFLD, PCSD."""
        self.e.offloads = nic_offloads(check_ip, check_l4, packet_checksum_off)

    cdef int _set_ring(self, nic_ring* ring, uint32_t function, uint64_t base, uint32_t size, uint32_t head, DoorbellWord tail) except -1:
        if function >= NIC_FUNCTIONS or size > 65536 or (size and head >= size):
            raise ValueError(f"no queue of function {function} has {size} descriptors and its head at {head}")
        ring.owner, ring.base, ring.size, ring.head, ring.tail, ring.enabled = function, base, size, head, &tail.word, True
        self.tails[<uint64_t>ring] = tail
        return 0

    def start_transmit(self, uint32_t queue, uint32_t function, uint64_t base, uint32_t size, uint32_t head, DoorbellWord tail not None,
                       uint64_t head_address=0):
        """Turn a transmit queue on, `size` descriptors at `base`; `head_address`: where the head is written back, 0: DD is."""
        cdef nic_transmit* q = &self.e.tx[queue % NIC_QUEUES]
        self._set_ring(&q.ring, function, base, size, head, tail)
        q.head_address, q.free_ns = head_address, 0
        self.e.tx_used |= <uint32_t>1 << (queue % NIC_QUEUES)
        nic_transmit_reset(q)

    def stop_transmit(self, uint32_t queue):
        """Turn a transmit queue off; what it has sent goes its way."""
        self.e.tx[queue % NIC_QUEUES].ring.enabled = False
        nic_transmit_reset(&self.e.tx[queue % NIC_QUEUES])

    def start_receive(self, uint32_t queue, uint32_t function, uint64_t base, uint32_t size, uint32_t head, DoorbellWord tail not None,
                      uint32_t buffer_bytes, bint legacy=False):
        """Turn a receive queue on; buffers have `buffer_bytes`."""
        cdef nic_receive* q = &self.e.rx[queue % NIC_QUEUES]
        self._set_ring(&q.ring, function, base, size, head, tail)
        q.buffer_bytes, q.legacy = buffer_bytes, legacy
        self.e.rx_used |= <uint32_t>1 << (queue % NIC_QUEUES)
        nic_receive_reset(q)

    def stop_receive(self, uint32_t queue):
        """Turn a receive queue off."""
        self.e.rx[queue % NIC_QUEUES].ring.enabled = False
        nic_receive_reset(&self.e.rx[queue % NIC_QUEUES])

    def set_drop(self, uint32_t queue, bint drop):
        """Say whether a receive queue without descriptors drops at once or holds its senders back."""
        self.e.rx[queue % NIC_QUEUES].drop = drop

    def transmit_head(self, uint32_t queue):
        return self.e.tx[queue % NIC_QUEUES].ring.head

    def receive_head(self, uint32_t queue):
        return self.e.rx[queue % NIC_QUEUES].ring.head

    def transmit_fault(self, uint32_t queue):
        """Return why a transmit queue stopped (FAULT_*), 0 where it did not."""
        return self.e.tx[queue % NIC_QUEUES].ring.fault

    def receive_fault(self, uint32_t queue):
        return self.e.rx[queue % NIC_QUEUES].ring.fault

    def turn(self, uint64_t now_ns):
        """Do everything that can be done now; say whether anything moved."""
        cdef bint moved
        with nogil:
            moved = nic_turn(self.e, now_ns)
        return moved

    def await_events(self, uint32_t tx, uint32_t rx):
        """Say of which queues somebody is interrupted now, bit masks: a pump stops for no others."""
        self.e.tx_awaited, self.e.rx_awaited = tx, rx

    def take_events(self):
        """Return bit masks of queues since the last time: transmit and receive queues with descriptors written back, transmit queues
        with spoofed frames, receive queues that dropped frames, queues that stopped (transmit in the low 16 bits)."""
        cdef uint32_t tx = self.e.tx_events, rx = self.e.rx_events
        cdef uint32_t spoofing = self.e.spoofing, dropping = self.e.dropping, faults = self.e.faults
        self.e.tx_events = self.e.rx_events = self.e.spoofing = self.e.dropping = self.e.faults = 0
        return tx, rx, spoofing, dropping, faults

    def take_spoofed(self, uint32_t queue):
        """Return the frames that anti-spoofing dropped since the last time."""
        cdef uint32_t n = self.e.spoofed[queue % NIC_QUEUES]
        self.e.spoofed[queue % NIC_QUEUES] = 0
        return n

    def take_dropped(self, uint32_t queue):
        """Return the frames that a receive queue had no descriptor for since the last time."""
        cdef uint32_t n = self.e.rx[queue % NIC_QUEUES].dropped
        self.e.rx[queue % NIC_QUEUES].dropped = 0
        return n

    def to_submit(self):
        """Return the functions that have posted requests and not submitted them, a bit mask."""
        cdef uint32_t i, functions = 0
        for i in range(<uint32_t>NIC_FUNCTIONS):
            if self.e.dma[i] is not NULL and self.e.dma[i].next != self.e.dma[i].submitted:
                functions |= <uint32_t>1 << i
        return functions

    def publish_wire(self):
        """Let the other end see what was sent; True: ring it."""
        return self.e.wired and bool(wire_publish(&self.e.out))

    def release_wire(self):
        """Give back the room of what was received; True: the other end waits for it, ring it."""
        return self.e.wired and bool(wire_release(&self.e.in_))

    @property
    def due_ns(self):
        """When the next turn is needed though nothing comes, or None."""
        return self.e.due_ns or None

    @property
    def wire_counts(self):
        """Return (frames sent, bytes sent, frames received, bytes received) on the wire."""
        return self.e.out.frames, self.e.out.bytes, self.e.in_.frames, self.e.in_.bytes

    @property
    def unclaimed(self):
        """Return frames and bytes from the wire that nobody here takes, and when the first and the last came."""
        return self.e.unclaimed.n, self.e.unclaimed.bytes, self.e.unclaimed.first_ns, self.e.unclaimed.last_ns

    def mark_unclaimed(self):
        """Count them from 0 again."""
        memset(&self.e.unclaimed, 0, sizeof(self.e.unclaimed))

    @property
    def wire_lost(self):
        """Frames that the wire lost on their way from here."""
        return self.e.out.lost

    @property
    def wire_broken(self):
        return bool(self.e.in_.broken)


cdef int _open_wire(nic_wire* w, Pinned segment, bint sender) except -1:
    cdef int64_t ring_bytes = segment.size_bytes - <int64_t>sizeof(wire_t)
    if ring_bytes < WIRE_RING_BYTES_MIN or ring_bytes & (ring_bytes - 1):
        raise ValueError(f"a wire's ring has a power of two of bytes from {WIRE_RING_BYTES_MIN} on, not {ring_bytes}")
    wire_open(w, <wire_t*>segment.data, ring_bytes, sender)
    return 0


cdef int _shape_wire(nic_wire* w, uint64_t latency_ns, uint64_t bits_per_second, double loss, uint64_t seed) except -1:
    if not 0 <= loss <= 1:
        raise ValueError(f"loss is a share between 0 and 1, not {loss}")
    w.latency_ns, w.bits_per_second, w.random = latency_ns, bits_per_second, seed
    w.loss = <uint64_t>(loss * 4294967296.0)
    return 0


cdef class WireSender:
    """One end of one direction alone: for peers of a NIC that are no NIC."""

    cdef nic_wire wire
    cdef Pinned segment

    def __init__(self, Pinned segment not None, uint64_t latency_ns=0, uint64_t bits_per_second=0, double loss=0.0, uint64_t seed=0):
        self.segment = segment
        _open_wire(&self.wire, segment, True)
        _shape_wire(&self.wire, latency_ns, bits_per_second, loss, seed)

    def put(self, const uint8_t[::1] frame not None, uint64_t now_ns):
        """Put a frame on the wire and publish it; False where there is no room."""
        if frame.shape[0] > WIRE_FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {frame.shape[0]} bytes does not go on a wire")
        if not wire_put(&self.wire, &frame[0], frame.shape[0], now_ns):
            return False
        wire_publish(&self.wire)
        return True

    def has_room(self):
        """Say whether the longest frame would find room."""
        return bool(wire_room(&self.wire))

    @property
    def lost(self):
        return self.wire.lost


cdef class WireReceiver(Watched):
    """The other end of one direction; ready when a frame was published that it has not seen."""

    cdef nic_wire wire
    cdef Pinned segment

    def __init__(self, Pinned segment not None):
        self.segment = segment
        _open_wire(&self.wire, segment, False)
        self.w = watched(&self.wire, wire_incoming, wire_incoming, _nothing, True)

    def take(self, uint64_t now_ns):
        """Return the next frame that has arrived, or None."""
        cdef uint32_t length = 0
        cdef uint64_t due_ns = 0
        cdef const uint8_t* at = wire_peek(&self.wire, &length, now_ns, &due_ns)
        if at is NULL:
            return None
        frame = <bytes>at[:length]
        wire_take(&self.wire, length)
        wire_release(&self.wire)
        return frame

    @property
    def broken(self):
        """The other end wrote what no sender writes."""
        return bool(self.wire.broken)
