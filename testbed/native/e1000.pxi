"""The 82540EM's rings: the device's transmit and receive units, and a driver's two rings."""

cdef extern from "e1000_ring.h":
    cdef struct e1000_ring:
        regions* memory
        uint64_t base
        uint32_t size, head, tail
        bint enabled
        int fault

cdef extern from "layouts.h":
    enum: E1000_RING_DESCRIPTORS_MAX
    ctypedef struct e1000_statistics_t:
        uint64_t mpc

cdef extern from "e1000_transmit.h":
    cdef struct e1000_transmit:
        e1000_ring ring
        uint32_t next, starved, low_threshold
        bint pad, vlan
        uint16_t vet
        port_counters_t* count
        e1000_statistics_t* stats
    void e1000_transmit_reset(e1000_transmit*)
    void e1000_transmit_head(e1000_transmit*, uint32_t)
    uint32_t e1000_transmit_fetch(e1000_transmit*, burst*, uint32_t) nogil
    uint32_t e1000_transmit_complete(e1000_transmit*) nogil
    bint e1000_transmit_ready(void*) noexcept nogil

cdef extern from "e1000_receive.h":
    cdef struct e1000_address:
        uint8_t mac[6]
        bint valid, source
    cdef struct e1000_filter:
        bint unicast_all, multicast_all, broadcast, vlan, cfi_check, cfi, discard_pause, pass_control
        uint8_t multicast_offset
        uint16_t vet, control_type
        uint8_t control_mac[6]
        e1000_address address[16]
        uint32_t mta[128]
        uint32_t vfta[128]
    cdef struct e1000_receive:
        e1000_ring ring
        e1000_filter filter
        uint32_t buffer_bytes, threshold_shift, small_bytes, wanted
        bint long_frames, strip_fcs, strip_tag, check_ip, check_tu, check_ipv6
        uint8_t packet_checksum_start
        uint64_t copied
        port_counters_t* count
        e1000_statistics_t* stats
    void e1000_receive_reset(e1000_receive*)
    void e1000_receive_tail(e1000_receive*, uint32_t)
    uint32_t e1000_receive_deliver(e1000_receive*, const burst*, uint32_t, int32_t, uint32_t*) nogil
    bint e1000_receive_ready(void*) noexcept nogil

cdef extern from "e1000_driver.h":
    const slot_tx_kind e1000_tx_kind
    const slot_rx_kind e1000_rx_kind


cdef class E1000Transmit(Watched):
    """The transmit unit. Ready while descriptors wait that can become frames."""

    cdef e1000_transmit q
    cdef Regions memory
    cdef Pinned counters, statistics

    def __init__(self, Regions memory, Pinned counters, Py_ssize_t counters_offset, Pinned statistics):
        self.memory, self.counters, self.statistics = memory, counters, statistics
        self.q.ring.memory = &memory.m
        self.q.count = <port_counters_t*>_at(counters, counters_offset, sizeof(port_counters_t))
        self.q.stats = <e1000_statistics_t*>_at(statistics, 0, sizeof(e1000_statistics_t))
        self.w = watched(&self.q, e1000_transmit_ready, e1000_transmit_ready, _nothing, True)
        e1000_transmit_reset(&self.q)

    def reset(self):
        """Forget ring, contexts and what is in flight."""
        e1000_transmit_reset(&self.q)

    def set_ring(self, uint64_t base, uint32_t descriptors):
        """Say where the ring is; it is looked up in memory when it is used."""
        self.q.ring.base, self.q.ring.size, self.q.ring.fault = base, descriptors, 0
        self.q.starved = 0xffffffff

    def configure(self, bint enabled, bint pad, bint vlan, uint16_t vet, uint32_t low_threshold):
        """Take what the control registers say. `enabled`: TCTL.EN, and the link is up."""
        self.q.ring.enabled, self.q.pad, self.q.vlan, self.q.vet = enabled, pad, vlan, vet
        self.q.low_threshold = low_threshold

    def set_tail(self, uint32_t value):
        """Take a write of TDT: the driver's kick."""
        self.q.ring.tail, self.q.ring.fault = value & 0xffff, 0
        self.q.count.kicks += 1

    @property
    def tail(self):
        return self.q.ring.tail

    @property
    def head(self):
        return self.q.ring.head

    @head.setter
    def head(self, uint32_t value):
        e1000_transmit_head(&self.q, value)

    def fetch(self, Burst to, uint32_t limit=256):
        """Turn descriptors into frames; return how many. What is in flight stays so until `complete`."""
        with nogil:
            e1000_transmit_fetch(&self.q, &to.b, limit)
        return to.b.frames_n

    def complete(self):
        """Write back everything fetched; return the events, bits TX_DONE, TX_DELAYED, TX_EMPTY, TX_LOW."""
        cdef uint32_t events
        with nogil:
            events = e1000_transmit_complete(&self.q)
        return events

    @property
    def in_flight(self):
        """Say whether descriptors were fetched and not completed."""
        return self.q.next != self.q.ring.head

    @property
    def fault(self):
        """Code of the fault that stopped the ring (a word of port_counters), or 0."""
        return self.q.ring.fault


cdef class E1000Receive(Watched):
    """The receive unit. Ready when a frame that waited for descriptors can be stored."""

    cdef e1000_receive q
    cdef Regions memory
    cdef Pinned counters, statistics

    def __init__(self, Regions memory, Pinned counters, Py_ssize_t counters_offset, Pinned statistics):
        self.memory, self.counters, self.statistics = memory, counters, statistics
        self.q.ring.memory = &memory.m
        self.q.buffer_bytes, self.q.threshold_shift = 2048, 1
        self.q.count = <port_counters_t*>_at(counters, counters_offset, sizeof(port_counters_t))
        self.q.stats = <e1000_statistics_t*>_at(statistics, 0, sizeof(e1000_statistics_t))
        self.w = watched(&self.q, e1000_receive_ready, e1000_receive_ready, _nothing, True)
        e1000_receive_reset(&self.q)

    def reset(self):
        """Forget the ring; the address tables stay."""
        e1000_receive_reset(&self.q)

    def set_ring(self, uint64_t base, uint32_t descriptors):
        """Say where the ring is; it is looked up in memory when it is used."""
        self.q.ring.base, self.q.ring.size, self.q.ring.fault = base, descriptors, 0

    def configure(self, bint enabled, uint32_t buffer_bytes, bint long_frames, bint strip_fcs, bint strip_tag,
                  uint32_t threshold_shift, uint32_t small_bytes):
        """Take what the control registers say. `enabled`: RCTL.EN, and the link is up."""
        self.q.ring.enabled, self.q.buffer_bytes = enabled, buffer_bytes if buffer_bytes else 2048
        self.q.long_frames, self.q.strip_fcs, self.q.strip_tag = long_frames, strip_fcs, strip_tag
        self.q.threshold_shift, self.q.small_bytes = threshold_shift, small_bytes

    def configure_checksums(self, uint8_t start, bint ip, bint tu, bint ipv6):
        """Take what RXCSUM says."""
        self.q.packet_checksum_start, self.q.check_ip, self.q.check_tu, self.q.check_ipv6 = start, ip, tu, ipv6

    def configure_filter(self, bint unicast_all, bint multicast_all, bint broadcast, uint8_t multicast_offset, bint vlan,
                         bint cfi_check, bint cfi, bint discard_pause, bint pass_control):
        """Take the filter bits of RCTL."""
        cdef e1000_filter* f = &self.q.filter
        f.unicast_all, f.multicast_all, f.broadcast, f.multicast_offset = unicast_all, multicast_all, broadcast, multicast_offset & 3
        f.vlan, f.cfi_check, f.cfi, f.discard_pause, f.pass_control = vlan, cfi_check, cfi, discard_pause, pass_control

    def configure_types(self, uint16_t vet, uint16_t control_type, const uint8_t[::1] control_mac not None):
        """Take VET, FCT and FCAH/FCAL."""
        if control_mac.shape[0] != 6:
            raise ValueError(f"a MAC address has six bytes, not {control_mac.shape[0]}")
        self.q.filter.vet, self.q.filter.control_type = vet, control_type
        memcpy(self.q.filter.control_mac, &control_mac[0], 6)

    def set_address(self, uint32_t index, const uint8_t[::1] mac not None, bint valid, bint source):
        """Take one receive address; `source`: compare it with the source address."""
        if index >= 16 or mac.shape[0] != 6:
            raise ValueError(f"there is no receive address {index} of {mac.shape[0]} bytes")
        memcpy(self.q.filter.address[index].mac, &mac[0], 6)
        self.q.filter.address[index].valid, self.q.filter.address[index].source = valid, source

    def set_multicast(self, uint32_t word, uint32_t value):
        """Take one word of the multicast table."""
        if word >= 128:
            raise ValueError(f"the multicast table has 128 words, not {word + 1}")
        self.q.filter.mta[word] = value

    def set_vlans(self, uint32_t word, uint32_t value):
        """Take one word of the VLAN table."""
        if word >= 128:
            raise ValueError(f"the VLAN table has 128 words, not {word + 1}")
        self.q.filter.vfta[word] = value

    def set_tail(self, uint32_t value):
        """Take a write of RDT."""
        e1000_receive_tail(&self.q, value & 0xffff)

    @property
    def tail(self):
        return self.q.ring.tail

    @property
    def head(self):
        return self.q.ring.head

    @head.setter
    def head(self, uint32_t value):
        self.q.ring.head, self.q.ring.fault = value, 0

    def deliver(self, Burst frames, uint32_t first, int32_t port):
        """Store the frames for `port` from index `first` on; return (index of the first that waits, events RX_*)."""
        cdef uint32_t stopped, events = 0
        with nogil:
            stopped = e1000_receive_deliver(&self.q, &frames.b, first, port, &events)
        return stopped, events

    @property
    def fault(self):
        """Code of the fault that stopped the ring (a word of port_counters), or 0."""
        return self.q.ring.fault

    @property
    def waiting(self):
        """Descriptors that the frame in front waits for, or 0."""
        return self.q.wanted

    @property
    def bytes_copied(self):
        return self.q.copied


cdef class E1000TxDriver(SlotTxDriver):
    """The transmit ring of an 82540EM's driver."""

    cdef slot_tx q

    def __init__(self, Pinned ring, Pinned slots, uint64_t slots_gpa, uint32_t size, uint32_t slot_bytes):
        _place_slots(&self.q.r, ring, slots, slots_gpa, size, slot_bytes, E1000_RING_DESCRIPTORS_MAX)
        self._open(&self.q, &e1000_tx_kind, ring, slots)


cdef class E1000RxDriver(SlotRxDriver):
    """The receive ring of an 82540EM's driver."""

    def __init__(self, Pinned ring, Pinned slots, uint64_t slots_gpa, uint32_t size, uint32_t slot_bytes):
        _place_slots(&self.q.r, ring, slots, slots_gpa, size, slot_bytes, E1000_RING_DESCRIPTORS_MAX)
        self._open(&e1000_rx_kind, ring, slots)


E1000_TX_DONE, E1000_TX_DELAYED, E1000_TX_EMPTY, E1000_TX_LOW = 1, 2, 4, 8
E1000_RX_DELIVERED, E1000_RX_THRESHOLD, E1000_RX_SMALL = 1, 2, 4
