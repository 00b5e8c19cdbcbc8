"""Virtqueues: the device's and the driver's side."""

cdef extern from "layouts.h":
    enum: VIRTIO_QUEUE_SIZE_MAX
    ctypedef struct virtio_net_hdr_t:
        uint8_t flags

cdef extern from "split_ring.h":
    ctypedef struct virtq_desc_t:
        uint64_t addr
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
        bint event_idx, indirect, merge, in_order
        int fault
        port_counters_t* count
    uint32_t split_device_fetch(split_device*, burst*, uint32_t) nogil
    bint split_device_complete(split_device*, const burst*) nogil
    uint32_t split_device_deliver(split_device*, const burst*, uint32_t, uint32_t, int32_t, uint64_t*) noexcept nogil
    bint split_device_take_command(split_device*, command*) nogil
    bint split_device_answer_command(split_device*, const command*, uint8_t) nogil
    bint split_device_publish(split_device*) nogil
    bint split_device_ready(void*) noexcept nogil
    bint split_device_arm(void*) noexcept nogil
    void split_device_disarm(void*) noexcept nogil

cdef extern from "split_driver.h":
    cdef struct driver_buffers:
        uint8_t* host
        uint64_t gpa
        uint32_t slot_bytes, count, parts
        uint32_t free_n
        bint merge, in_order
    bint buffers_init(driver_buffers*)
    void buffers_destroy(driver_buffers*)
    void buffers_untake(driver_buffers*, uint32_t) nogil
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


cdef void _own_buffers(driver_buffers* b, Pinned slots, uint64_t gpa, uint32_t slot_bytes, uint32_t size, uint32_t parts, bint indirect,
                       bint merge, bint in_order) except *:
    """Lay equal buffers into `slots`: as many as the ring's descriptors suffice for. Every descriptor of one has a byte at least."""
    if not 0 < parts <= size or slot_bytes < sizeof(virtio_net_hdr_t) + parts:
        raise ValueError(f"buffers of {slot_bytes} bytes in {parts} parts do not go into a ring of {size} descriptors")
    b.count = size if indirect else size // parts
    b.host = _at(slots, 0, <Py_ssize_t>b.count * slot_bytes)
    b.gpa, b.slot_bytes, b.parts, b.merge, b.in_order = gpa, slot_bytes, parts, merge, in_order
    if not buffers_init(b):
        raise MemoryError


cdef uint8_t* _tables(Pinned tables, Py_ssize_t descriptors) except? NULL:
    """Return where indirect tables of so many descriptors are, NULL where there are none."""
    return NULL if tables is None else _at(tables, 0, descriptors * sizeof(virtq_desc_t))


cdef int _check_split_size(uint32_t size) except -1:
    if not 0 < size <= VIRTIO_QUEUE_SIZE_MAX or size & (size - 1):
        raise ValueError(f"a split queue's size is a power of two up to {VIRTIO_QUEUE_SIZE_MAX}, not {size}")
    return 0


cdef class SplitDevice(DeviceRing):
    """The device's side of one split virtqueue. Addresses are guest physical; a part that is not mapped raises ValueError."""

    cdef split_device q
    cdef Regions memory
    cdef Pinned counters
    cdef command* pending

    def __init__(self, Regions memory, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used, Pinned counters,
                 Py_ssize_t counters_offset=0, bint event_idx=False, bint indirect=False, bint merge=False,
                 bint in_order=False):
        _check_split_size(size)
        self.memory, self.counters = memory, counters
        self.q.memory = &memory.m
        self.q.size = size
        self.q.event_idx, self.q.indirect, self.q.merge, self.q.in_order = event_idx, indirect, merge, in_order
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
        self.w = watched(&self.q, split_device_ready, split_device_arm, split_device_disarm, True)

    def fetch(self, Burst to, uint32_t limit=256):
        """Take available transmit chains into `to`; return how many frames. A broken queue gives 0 and sets `fault`."""
        with nogil:
            split_device_fetch(&self.q, &to.b, limit)
        return to.b.frames_n

    def complete(self, Burst done):
        """Give the chains of a fetched burst back; True: the driver wants a call."""
        cdef bint call
        with nogil:
            call = split_device_complete(&self.q, &done.b)
        return call

    cdef uint32_t run(self, const burst* b, uint32_t first, uint32_t end, int32_t port) noexcept nogil:
        return split_device_deliver(&self.q, b, first, end, port, &self.copied)

    def take_command(self):
        """Return the bytes of the next command of a control queue, None where there is none; answer it before the next."""
        if self.pending is NULL:
            self.pending = <command*>calloc(1, sizeof(command))
            if self.pending is NULL:
                raise MemoryError
        if not split_device_take_command(&self.q, self.pending):
            return None
        return <bytes>self.pending.bytes[:self.pending.len]

    def answer_command(self, uint8_t status):
        """Write the answer to the command that was taken; True: the driver wants a call. ValueError where none was."""
        _check_taken(self.pending)
        cdef bint call = split_device_answer_command(&self.q, self.pending, status)
        self.pending.status = NULL
        return call

    def __dealloc__(self):
        free(self.pending)

    def publish(self):
        """Show the driver what was used; True: it wants a call."""
        return split_device_publish(&self.q)

    @property
    def fault(self):
        """Code of the fault that broke the queue (a word of port_counters), or 0."""
        return self.q.fault

    @property
    def position(self):
        """Free running index of the next available entry."""
        return self.q.next.position

    @position.setter
    def position(self, uint16_t value):
        self.q.next.position = self.q.looked.position = self.q.avail_seen = value
        self.q.used_next = self.q.called = value


cdef class SplitDriver(Watched):
    """The driver's side of one split virtqueue and its buffers, in memory that the driver has mapped."""

    cdef split_driver q
    cdef Pinned rings, slots, tables

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
        _own_buffers(&self.q.buffers, slots, slots_gpa, slot_bytes, size, parts, tables is not None, merge, in_order)
        self.q.indirect = <virtq_desc_t*>_tables(tables, self.q.buffers.count * parts)
        split_driver_layout(&self.q, device_writes, tables_gpa)
        self.w = watched(&self.q, split_driver_ready, split_driver_arm, split_driver_disarm, True)

    def __dealloc__(self):
        buffers_destroy(&self.q.buffers)

    def reserve(self, Burst to, uint32_t want=256):
        """Open up to `want` free buffers as frames to fill; return how many there are."""
        with nogil:
            split_driver_reserve(&self.q, &to.b, want)
        return to.b.frames_n

    def send(self, Burst filled):
        """Make the frames of a reserved and filled burst available; True: the device wants a kick."""
        with nogil:
            split_driver_send(&self.q, &filled.b)
        return split_driver_publish(&self.q)

    def release(self, Burst reserved, uint32_t first=0):
        """Take back the reserved frames from `first` on that will not be sent; only the last reservation can be taken back."""
        if first < reserved.b.frames_n:
            buffers_untake(&self.q.buffers, reserved.b.frames_n - first)
            reserved.b.frames_n = first

    def collect(self, Burst to, uint32_t limit=256):
        """Take received frames into `to`; return how many. Their buffers stay theirs until `post`."""
        with nogil:
            split_driver_collect(&self.q, &to.b, limit)
        return to.b.frames_n

    def post(self, Burst emptied):
        """Make the buffers of a collected burst available again; True: the device wants a kick."""
        with nogil:
            split_driver_post(&self.q, &emptied.b)
        return split_driver_publish(&self.q)

    def post_all(self):
        """Make every free buffer available; True: the device wants a kick."""
        split_driver_post_all(&self.q)
        return split_driver_publish(&self.q)

    def reclaim(self):
        """Take back the buffers of frames that were sent; return how many buffers are free."""
        split_driver_reclaim(&self.q)
        return self.q.buffers.free_n

    @property
    def buffers(self):
        return self.q.buffers.count

    @property
    def free(self):
        return self.q.buffers.free_n

    @property
    def broken(self):
        """The device gave back what it never had: nothing from it can be trusted."""
        return self.q.broken
