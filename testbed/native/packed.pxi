"""Packed virtqueues: the device's and the driver's side."""

cdef extern from "packed_device.h":
    ctypedef struct packed_desc_t:
        uint64_t addr
    ctypedef struct packed_event_t:
        uint16_t desc
    cdef struct packed_device:
        regions* memory
        packed_desc_t* ring
        packed_event_t* driver_event
        packed_event_t* device_event
        uint32_t size
        cursor next, looked, used
        bint event_idx, indirect, merge, in_order, offload
        int fault
        port_counters_t* count
    uint32_t packed_device_fetch(packed_device*, burst*, uint32_t) nogil
    bint packed_device_complete(packed_device*, const burst*) nogil
    uint32_t packed_device_deliver(void*, const burst*, uint32_t, uint32_t, int32_t, uint64_t*) noexcept nogil
    bint packed_device_take_command(packed_device*, command*) nogil
    bint packed_device_answer_command(packed_device*, const command*, uint8_t) nogil
    bint packed_device_publish(void*) noexcept nogil
    bint packed_device_ready(void*) noexcept nogil
    bint packed_device_arm(void*) noexcept nogil
    void packed_device_disarm(void*) noexcept nogil

cdef extern from "packed_driver.h":
    cdef struct packed_driver:
        driver_buffers buffers
        packed_desc_t* ring
        packed_event_t* driver_event
        packed_event_t* device_event
        uint32_t size
        packed_desc_t* indirect
        bint event_idx
        bint broken
    void packed_driver_layout(packed_driver*, bint, uint64_t)
    void packed_driver_reclaim(packed_driver*) nogil
    uint32_t packed_driver_reserve(packed_driver*, burst*, uint32_t) nogil
    void packed_driver_send(packed_driver*, burst*) nogil
    uint32_t packed_driver_collect(packed_driver*, burst*, uint32_t) nogil
    void packed_driver_post(packed_driver*, const burst*) nogil
    void packed_driver_post_all(packed_driver*) nogil
    bint packed_driver_publish(packed_driver*) nogil
    bint packed_driver_ready(void*) noexcept nogil
    bint packed_driver_arm(void*) noexcept nogil
    void packed_driver_disarm(void*) noexcept nogil


cdef int _check_packed_size(uint32_t size) except -1:
    if not 0 < size <= VIRTIO_QUEUE_SIZE_MAX:
        raise ValueError(f"a packed queue's size is 1 to {VIRTIO_QUEUE_SIZE_MAX}, not {size}")
    return 0


cdef class PackedDevice(DeviceRing):
    """The device's side of one packed virtqueue. Addresses are guest physical; a part that is not mapped raises ValueError."""

    cdef packed_device q

    def __init__(self, Regions memory, uint32_t size, uint64_t desc, uint64_t driver_event, uint64_t device_event, Pinned counters,
                 Py_ssize_t counters_offset=0, bint event_idx=False, bint indirect=False, bint merge=False,
                 bint in_order=False, bint offload=False):
        _check_packed_size(size)
        self.memory, self.counters = memory, counters
        self.q.memory = &memory.m
        self.q.size = size
        self.q.event_idx, self.q.indirect, self.q.merge, self.q.in_order = event_idx, indirect, merge, in_order
        self.q.offload = offload
        self.q.count = <port_counters_t*>_at(counters, counters_offset, sizeof(port_counters_t))
        cdef uint8_t* d = regions_resolve(&memory.m, desc, size * sizeof(packed_desc_t))
        cdef uint8_t* e = regions_resolve(&memory.m, driver_event, sizeof(packed_event_t))
        cdef uint8_t* f = regions_resolve(&memory.m, device_event, sizeof(packed_event_t))
        if d is NULL or e is NULL or f is NULL:
            raise ValueError(f"a virtqueue of {size} entries at {desc:#x}, {driver_event:#x}, {device_event:#x} leaves the guest's memory")
        if <uint64_t>d % 16 or <uint64_t>e % 4 or <uint64_t>f % 4:
            raise ValueError(f"a virtqueue at {desc:#x}, {driver_event:#x}, {device_event:#x} is not aligned to 16, 4 and 4 bytes")
        self.q.ring = <packed_desc_t*>d
        self.q.driver_event, self.q.device_event = <packed_event_t*>e, <packed_event_t*>f
        self.q.next.wrap = self.q.looked.wrap = self.q.used.wrap = True
        self.to = delivery(&self.q, packed_device_deliver, packed_device_publish, &self.q.fault, 0)
        self.w = watched(&self.q, packed_device_ready, packed_device_arm, packed_device_disarm, True)

    cdef void fill(self, burst* b, uint32_t limit) noexcept nogil:
        packed_device_fetch(&self.q, b, limit)

    cdef bint give_back(self, const burst* b) noexcept nogil:
        return packed_device_complete(&self.q, b)

    cdef bint next_command(self, command* c) noexcept nogil:
        return packed_device_take_command(&self.q, c)

    cdef bint answer(self, const command* c, uint8_t status) noexcept nogil:
        return packed_device_answer_command(&self.q, c, status)

    @property
    def position(self):
        """Where the next available and the next used descriptor are, with their wrap counters: (offset, wrap), (offset, wrap)."""
        return (self.q.next.position, bool(self.q.next.wrap)), (self.q.used.position, bool(self.q.used.wrap))

    def resume(self, uint16_t next_offset, bint next_wrap, uint16_t used_offset, bint used_wrap):
        """Go on where another device left off; raises ValueError outside the ring."""
        if next_offset >= self.q.size or used_offset >= self.q.size:
            raise ValueError(f"a ring of {self.q.size} descriptors has no position {max(next_offset, used_offset)}")
        self.q.next.position, self.q.next.wrap = next_offset, next_wrap
        self.q.looked = self.q.next
        self.q.used.position, self.q.used.wrap = used_offset, used_wrap


cdef class PackedDriver(DriverRing):
    """The driver's side of one packed virtqueue and its buffers, in memory that the driver has mapped."""

    cdef packed_driver q

    def __init__(self, Pinned rings, uint64_t rings_gpa, uint32_t size, uint64_t desc, uint64_t driver_event, uint64_t device_event, Pinned slots,
                 uint64_t slots_gpa, uint32_t slot_bytes, bint device_writes, uint32_t parts=1, Pinned tables=None,
                 uint64_t tables_gpa=0, bint event_idx=False, bint merge=False, bint in_order=False):
        """`rings`, `slots` and `tables` (of indirect descriptors) are what is mapped at the addresses beside them."""
        _check_packed_size(size)
        self.rings, self.slots, self.tables = rings, slots, tables
        self.q.size, self.q.event_idx = size, event_idx
        self.q.ring = <packed_desc_t*>_at(rings, desc - rings_gpa, size * sizeof(packed_desc_t))
        self.q.driver_event = <packed_event_t*>_at(rings, driver_event - rings_gpa, sizeof(packed_event_t))
        self.q.device_event = <packed_event_t*>_at(rings, device_event - rings_gpa, sizeof(packed_event_t))
        self.own = &self.q.buffers
        _own_buffers(self.own, slots, slots_gpa, slot_bytes, size, parts, tables is not None, merge, in_order)
        self.q.indirect = <packed_desc_t*>_tables(tables, self.q.buffers.count * parts)
        packed_driver_layout(&self.q, device_writes, tables_gpa)
        self.w = watched(&self.q, packed_driver_ready, packed_driver_arm, packed_driver_disarm, True)

    cdef uint32_t open(self, burst* b, uint32_t want) noexcept nogil:
        return packed_driver_reserve(&self.q, b, want)

    cdef void hand_over(self, burst* b) noexcept nogil:
        packed_driver_send(&self.q, b)

    cdef void take_back(self) noexcept nogil:
        packed_driver_reclaim(&self.q)

    cdef uint32_t gather(self, burst* b, uint32_t limit) noexcept nogil:
        return packed_driver_collect(&self.q, b, limit)

    cdef void offer(self, const burst* b) noexcept nogil:
        packed_driver_post(&self.q, b)

    cdef void offer_all(self) noexcept nogil:
        packed_driver_post_all(&self.q)

    cdef bint show(self) noexcept nogil:
        return packed_driver_publish(&self.q)

    cdef bint is_broken(self) noexcept nogil:
        return self.q.broken
