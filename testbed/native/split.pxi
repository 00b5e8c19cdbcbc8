"""Virtqueues: the device's and the driver's side."""

cdef extern from "layouts.h":
    enum: VIRTIO_QUEUE_SIZE_MAX

cdef extern from "split_ring.h":
    ctypedef struct virtq_avail_t:
        uint16_t idx
    ctypedef struct virtq_used_t:
        uint16_t idx
    ctypedef struct virtq_used_elem_t:
        uint32_t id
    uint64_t split_desc_bytes(uint32_t)
    uint64_t split_avail_bytes(uint32_t)
    uint64_t split_used_bytes(uint32_t)
    uint16_t* split_avail_ring(uint8_t*)
    virtq_used_elem_t* split_used_ring(uint8_t*)
    uint16_t* split_avail_event(uint8_t*, uint32_t)

cdef extern from "split_device.h":
    cdef struct cursor:
        uint16_t position
        bint wrap
    cdef struct split_device:
        regions* memory
        virtq_desc_t* desc
        virtq_avail_t* avail
        uint16_t* avail_ring
        virtq_used_t* used
        virtq_used_elem_t* used_ring
        uint16_t* avail_event
        uint32_t size
        cursor next, looked
        uint16_t avail_seen, used_next, called
        bint event_idx, indirect, merge, in_order, offload
        int fault
        port_counters_t* count
    uint32_t split_device_fetch(split_device*, burst*, uint32_t) nogil
    bint split_device_complete(split_device*, const burst*) nogil
    uint32_t split_device_deliver(void*, const burst*, uint32_t, uint32_t, int32_t, uint64_t*) noexcept nogil
    bint split_device_take_command(split_device*, command*) nogil
    bint split_device_answer_command(split_device*, const command*, uint8_t) nogil
    bint split_device_publish(void*) noexcept nogil
    bint split_device_ready(void*) noexcept nogil
    bint split_device_arm(void*) noexcept nogil
    void split_device_disarm(void*) noexcept nogil

cdef extern from "split_driver.h":
    cdef struct split_driver:
        driver_buffers buffers
        virtq_desc_t* desc
        virtq_avail_t* avail
        uint16_t* avail_ring
        virtq_used_t* used
        virtq_used_elem_t* used_ring
        uint16_t* avail_event
        uint32_t size
        uint16_t avail_next, used_next, used_seen, kicked
        virtq_desc_t* indirect
        bint event_idx
        bint broken
    void split_driver_layout(split_driver*, bint, uint64_t)
    void split_driver_reclaim(split_driver*) nogil
    uint32_t split_driver_reserve(split_driver*, burst*, uint32_t) nogil
    void split_driver_send(split_driver*, burst*) nogil
    uint32_t split_driver_collect(split_driver*, burst*, uint32_t) nogil
    void split_driver_post(split_driver*, const burst*) nogil
    void split_driver_post_all(split_driver*) nogil
    bint split_driver_publish(split_driver*) nogil
    bint split_driver_ready(void*) noexcept nogil
    bint split_driver_arm(void*) noexcept nogil
    void split_driver_disarm(void*) noexcept nogil


cdef int _check_split_size(uint32_t size) except -1:
    if not 0 < size <= VIRTIO_QUEUE_SIZE_MAX or size & (size - 1):
        raise ValueError(f"a split queue's size is a power of two up to {VIRTIO_QUEUE_SIZE_MAX}, not {size}")
    return 0


cdef class SplitDevice(DeviceRing):
    """The device's side of one split virtqueue. Addresses are guest physical; a part that is not mapped raises ValueError."""

    cdef split_device q

    def __init__(self, Regions memory, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used, Pinned counters,
                 Py_ssize_t counters_offset=0, bint event_idx=False, bint indirect=False, bint merge=False,
                 bint in_order=False, bint offload=False):
        _check_split_size(size)
        self.memory, self.counters = memory, counters
        self.q.memory = &memory.m
        self.q.size = size
        self.q.event_idx, self.q.indirect, self.q.merge, self.q.in_order = event_idx, indirect, merge, in_order
        self.q.offload = offload
        self.q.count = <port_counters_t*>_at(counters, counters_offset, sizeof(port_counters_t))
        cdef uint8_t* d = regions_resolve(&memory.m, desc, split_desc_bytes(size))
        cdef uint8_t* a = regions_resolve(&memory.m, avail, split_avail_bytes(size))
        cdef uint8_t* u = regions_resolve(&memory.m, used, split_used_bytes(size))
        if d is NULL or a is NULL or u is NULL:
            raise ValueError(f"a virtqueue of {size} entries at {desc:#x}, {avail:#x}, {used:#x} leaves the guest's memory")
        if <uint64_t>d % 16 or <uint64_t>a % 2 or <uint64_t>u % 4:
            raise ValueError(f"a virtqueue at {desc:#x}, {avail:#x}, {used:#x} is not aligned to 16, 2 and 4 bytes")
        self.q.desc, self.q.avail, self.q.used = <virtq_desc_t*>d, <virtq_avail_t*>a, <virtq_used_t*>u
        self.q.avail_ring, self.q.used_ring = split_avail_ring(a), split_used_ring(u)
        self.q.avail_event = split_avail_event(u, size)
        self.to = delivery(&self.q, split_device_deliver, split_device_publish, &self.q.fault, 0)
        self.w = watched(&self.q, split_device_ready, split_device_arm, split_device_disarm, True)

    cdef void fill(self, burst* b, uint32_t limit) noexcept nogil:
        split_device_fetch(&self.q, b, limit)

    cdef bint give_back(self, const burst* b) noexcept nogil:
        return split_device_complete(&self.q, b)

    cdef bint next_command(self, command* c) noexcept nogil:
        return split_device_take_command(&self.q, c)

    cdef bint answer(self, const command* c, uint8_t status) noexcept nogil:
        return split_device_answer_command(&self.q, c, status)

    @property
    def position(self):
        """Free running index of the next available entry."""
        return self.q.next.position

    @position.setter
    def position(self, uint16_t value):
        self.q.next.position = self.q.looked.position = self.q.avail_seen = value
        self.q.used_next = self.q.called = value


cdef class SplitDriver(DriverRing):
    """The driver's side of one split virtqueue and its buffers, in memory that the driver has mapped."""

    cdef split_driver q

    def __init__(self, Pinned rings, uint64_t rings_gpa, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used, Pinned slots,
                 uint64_t slots_gpa, uint32_t slot_bytes, bint device_writes, uint32_t parts=1, Pinned tables=None,
                 uint64_t tables_gpa=0, bint event_idx=False, bint merge=False, bint in_order=False):
        """`rings`, `slots` and `tables` (of indirect descriptors) are what is mapped at the addresses beside them."""
        _check_split_size(size)
        self.rings, self.slots, self.tables = rings, slots, tables
        self.q.size, self.q.event_idx = size, event_idx
        self.q.desc = <virtq_desc_t*>_at(rings, desc - rings_gpa, split_desc_bytes(size))
        cdef uint8_t* a = _at(rings, avail - rings_gpa, split_avail_bytes(size))
        cdef uint8_t* u = _at(rings, used - rings_gpa, split_used_bytes(size))
        self.q.avail, self.q.used = <virtq_avail_t*>a, <virtq_used_t*>u
        self.q.avail_ring, self.q.used_ring = split_avail_ring(a), split_used_ring(u)
        self.q.avail_event = split_avail_event(u, size)
        self.own = &self.q.buffers
        _own_buffers(self.own, slots, slots_gpa, slot_bytes, size, parts, tables is not None, merge, in_order)
        self.q.indirect = <virtq_desc_t*>_tables(tables, self.q.buffers.count * parts)
        split_driver_layout(&self.q, device_writes, tables_gpa)
        self.w = watched(&self.q, split_driver_ready, split_driver_arm, split_driver_disarm, True)

    cdef uint32_t open(self, burst* b, uint32_t want) noexcept nogil:
        return split_driver_reserve(&self.q, b, want)

    cdef void hand_over(self, burst* b) noexcept nogil:
        split_driver_send(&self.q, b)

    cdef void take_back(self) noexcept nogil:
        split_driver_reclaim(&self.q)

    cdef uint32_t gather(self, burst* b, uint32_t limit) noexcept nogil:
        return split_driver_collect(&self.q, b, limit)

    cdef void offer(self, const burst* b) noexcept nogil:
        split_driver_post(&self.q, b)

    cdef void offer_all(self) noexcept nogil:
        split_driver_post_all(&self.q)

    cdef bint show(self) noexcept nogil:
        return split_driver_publish(&self.q)

    cdef bint is_broken(self) noexcept nogil:
        return self.q.broken
